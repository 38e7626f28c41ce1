"""The Soup page shows the soup that is open, and looking at it cooks nothing."""

from pathlib import Path

import pytest
from kitchens import small_kitchen
from streamlit.testing.v1 import AppTest
from test_pages import ROOT, fresh_server, page, press, settle, trusted  # noqa: F401 - fresh_server is a fixture

from soupviz.analysis.grids import only_in_grids
from soupviz.kitchen import Kitchen
from soupviz.recipes import parse
from soupviz.soups.cooking import cook
from soupviz.ui.soup import soups


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return trusted(small_kitchen(tmp_path / "small", num_ingredients=3, num_examples=40))


def linked(file: Path, **query: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.switch_page("pages/soup.py")
    for name, value in {"kitchen": str(file), **query}.items():
        at.query_params[name] = value
    return settle(at.run())


def chosen(at: AppTest, label: str) -> object:
    return next(one.value for one in [*at.selectbox, *at.slider, *at.multiselect] if one.label.startswith(label))


def titles(file: Path) -> list[str]:
    return [run.title for run in Kitchen.load(file).store.runs()]


@pytest.mark.parametrize(
    ("parameters", "shown"),
    [
        ({"method": "greedy", "alpha": "mean", "objective": "loss"}, {"Recipe": "greedy, mean", "Objective": "loss"}),
        ({"method": "greedy", "alpha": 0.35}, {"Recipe": "greedy, alpha", "alpha": 0.35}),
        ({"method": "uniform", "members": ["m_0", "m_2"]}, {"Recipe": "uniform", "Ingredients": ["m_0", "m_2"]}),
    ],
)
def test_it_is_opened_with_the_settings_of_the_soup_in_the_link(file: Path, parameters, shown) -> None:
    kitchen = Kitchen.load(file)
    soup = cook(kitchen, parse(parameters))
    cook(kitchen, parse({"method": "uniform"}))
    at = linked(file, soup=soup.key[:12])
    assert {label: chosen(at, label) for label in shown} == shown
    assert at.query_params["soup"] == soup.key[:12]
    assert "Verdict" in [one.value for one in at.header]


def test_going_there_cooks_nothing_and_what_is_computed_ahead_is_no_soup_of_the_users(file, monkeypatch) -> None:
    monkeypatch.setattr(soups, "SWEPT", (0.5, 0.2))
    at = page("ingredients.py", file)
    at.switch_page("pages/soup.py")
    settle(at.run())
    assert titles(file) == []
    at.selectbox(key="recipe").set_value(soups.BY_ALPHA)
    settle(at.run())
    press(at, "Cook")
    settle(at)
    kitchen = Kitchen.load(file)
    hidden = only_in_grids(kitchen)
    assert [run.title for run in kitchen.store.runs() if run.key not in hidden] == ["greedy (alpha = 0.1)"]


def test_a_soup_that_is_not_there_is_told(file: Path) -> None:
    at = linked(file, soup="deadbeef0000")
    assert any("no soup 'deadbeef0000'" in one.value.replace("\\", "") for one in at.warning)


def test_a_link_that_chooses_a_recipe_is_believed(file: Path) -> None:
    soup = cook(Kitchen.load(file), parse({"method": "uniform"}))
    assert chosen(linked(file, soup=soup.key[:12], recipe="greedy, mean"), "Recipe") == "greedy, mean"


def visited(at: AppTest, soup: str) -> AppTest:
    """The Soup page, come to from another on which a soup was opened."""
    at.switch_page("pages/compare.py")
    settle(at.run())
    at.session_state["soup"] = at.query_params["soup"] = soup[:12]
    at.switch_page("pages/soup.py")
    return settle(at.run())


def test_another_soup_that_is_opened_elsewhere_is_shown_with_its_own_ingredients(file: Path) -> None:
    kitchen = Kitchen.load(file)
    first = cook(kitchen, parse({"method": "uniform", "members": ["m_0", "m_2"]}))
    second = cook(kitchen, parse({"method": "greedy"}))
    at = visited(linked(file, soup=first.key[:12]), second.key)
    assert (chosen(at, "Recipe"), chosen(at, "Ingredients")) == ("greedy, mean", [])
    assert at.query_params["soup"] in (second.key[:12], [second.key[:12]])


def test_a_soup_whose_alpha_has_no_place_on_the_slider_is_told_and_the_page_goes_on(file: Path) -> None:
    soup = cook(Kitchen.load(file), parse({"method": "greedy", "alpha": 0.02}))
    at = linked(file, soup=soup.key[:12])
    assert not at.exception and any("alpha = 0.02" in one.value.replace("\\", "") for one in at.info)
    at.selectbox(key="recipe").set_value("uniform")
    assert chosen(settle(at.run()), "Recipe") == "uniform"


def test_looking_at_the_best_soup_selects_no_ingredients(file: Path) -> None:
    cook(Kitchen.load(file), parse({"method": "uniform", "members": ["m_0", "m_2"]}))
    at = page("soup.py", file)
    at.switch_page("pages/ingredients.py")
    assert "Cook with all" in [button.label for button in settle(at.run()).button]


def test_settings_in_the_address_are_believed(file: Path) -> None:
    soup = cook(Kitchen.load(file), parse({"method": "uniform"}))
    assert chosen(linked(file, soup=soup.key[:12], alpha="0.35"), "alpha") == 0.35
