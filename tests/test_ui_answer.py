"""What the first page answers, the steps that follow from it, and the places that the pages belong to."""

import re
from pathlib import Path

import pytest
from documents import ROOT
from kitchens import small_kitchen
from test_pages import fresh_server, page, press, settle, trusted  # noqa: F401 - fresh_server is a fixture
from test_ui_history import links, shown

import soupviz as sv
from soupviz.analysis.verdicts import of_the_best, verdict_of
from soupviz.kitchen import Kitchen
from soupviz.recipes import parse
from soupviz.ui import answer
from soupviz.ui.navigation import PLACES


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return trusted(small_kitchen(tmp_path / "small", num_ingredients=3, num_examples=40))


def test_every_page_is_a_view_of_one_place() -> None:
    views = [view for _, views in PLACES.values() for view in views]
    assert sorted(views) == sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
    assert len(PLACES) == 6


def test_a_page_links_every_place_and_the_other_views_of_its_own(file: Path) -> None:
    found = links(page("alpha.py", file))
    assert {*PLACES, "Recipe", "Alpha", "Layers", "Grid"} <= found.keys()
    assert found["Soup"]["page"] == found["Alpha"]["page"] == "alpha"  # a place leads to where one is in it
    assert found["Explore"]["page"] == "curves"
    assert not {"Verdicts", "Scores"} & found.keys()


def test_before_there_is_a_soup_one_button_makes_one(file: Path) -> None:
    at = page("ingredients.py", file)
    assert not {"Why these?", "Is it real?", "Take it with me"} & links(at).keys()
    assert [button.label for button in at.button if button.proto.type == "primary"] == ["Cook with all"]
    press(at, "Cook with all")
    assert Kitchen.load(file).store.runs()[0].title == "greedy (alpha = mean)"
    assert {"Why these?", "Is it real?", "Take it with me"} <= links(at).keys()
    at.switch_page("pages/soup.py")
    settle(at.run())
    assert "Verdict" in shown(at)
    assert any("Why these?](#decisions)" in text.value for text in at.markdown)


def test_a_soup_that_was_cooked_on_the_dashboard_is_judged_at_once(file: Path) -> None:
    press(page("ingredients.py", file), "Cook with all")
    kitchen = Kitchen.load(file)
    kitchen.splits.load("held_out"), kitchen.splits.load("test")
    run = kitchen.store.runs()[0]
    assert not verdict_of(kitchen, run).sentence.startswith("Not judged")


def test_the_first_page_opens_with_the_best_soup_against_the_best_checkpoint(file: Path) -> None:
    kitchen = Kitchen.load(file)
    soup = sv.greedy(kitchen, alpha=0.3)
    assert len(soup.mix) > 1
    kitchen.scores.score_all(of_the_best(kitchen))
    at = page("ingredients.py", file)
    [told] = [text.value for text in at.markdown if text.value.startswith("**greedy")]
    verdict = verdict_of(kitchen, soup)
    assert verdict.best is not None
    values = [soup.scores["test"].value, verdict.best.values["test"].value]
    assert re.findall(r"(\d+\.\d) %", told) == [f"{100 * float(value):.1f}" for value in values]
    assert verdict.best.name in told.replace("\\", "")
    assert re.search(r"p [=<] \d", told)
    found = links(at)
    assert found["Is it real?"]["page"] == "compare"
    assert found["Why these?"] | {"recipe": "greedy, alpha", "alpha": "0.3"} == found["Why these?"]
    [run] = kitchen.store.runs()
    assert all(run.key.startswith(found[step]["soup"]) for step in ("Why these?", "Is it real?", "Take it with me"))


def test_what_is_not_judged_yet_says_why(file: Path) -> None:
    sv.uniform(Kitchen.load(file))
    at = page("ingredients.py", file)
    [told] = [text.value for text in at.markdown if text.value.startswith("**average")]
    assert "Not judged yet" in told


def test_an_ensemble_cannot_be_taken_along(file: Path) -> None:
    sv.cook(Kitchen.load(file), parse({"method": "ensemble"}))
    found = links(page("ingredients.py", file))
    assert "Is it real?" in found
    assert "Take it with me" not in found


def test_the_demo_shows_a_soup_that_nobody_had_to_cook(cache_with_demo: Path) -> None:
    at = page("ingredients.py")
    settle(at)
    assert any(text.value.startswith("**greedy") and "better, p" in text.value for text in at.markdown)
    assert "Open my own checkpoints" in links(at)


def test_the_answer_is_markdown_with_names_as_they_are(file: Path) -> None:
    kitchen = Kitchen.load(file)
    sv.greedy(kitchen)
    [run] = kitchen.store.runs()
    kitchen.store.name_run(run.key, "*<b>mine</b>*")
    [run] = kitchen.store.runs()
    kitchen.splits.load("held_out"), kitchen.splits.load("test")
    assert "<b>" not in answer.told(kitchen, run, verdict_of(kitchen, run)).replace("\\<", "")


def test_held_out_is_dealt_in_two_where_its_want_of_a_test_split_is_told(tmp_path: Path) -> None:
    data = {"held_out": {"format": "arrays", "path": "held_out.safetensors"}}
    file = trusted(small_kitchen(tmp_path / "one", num_ingredients=2, num_examples=40, data=data))
    at = page("ingredients.py", file)
    assert any("no test split" in one.value for one in at.info)
    next(button for button in at.button if button.label == "Split held_out in two").click()
    settle(at.run())
    assert any("now has a test split" in one.value for one in at.success)
    assert not any("no test split" in one.value for one in at.info)
    assert len(Kitchen.load(file).splits.load("test")) == 20
