"""A link reopens what it was copied from: kitchen, page, soup, ingredients, and the page's own choices."""

from pathlib import Path
from typing import Any

import pytest
from kitchens import small_kitchen
from streamlit.testing.v1 import AppTest
from test_pages import ROOT, as_read, fresh_server, settle, trusted  # noqa: F401 - fresh_server is a fixture

import soupviz as sv
from soupviz.kitchen import Kitchen
from soupviz.store.runs import Run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A kitchen with two soups: the average of all, and of m_0 and m_1."""
    file = trusted(small_kitchen(tmp_path / "small", num_ingredients=3, num_examples=40))
    kitchen = Kitchen.load(file)
    kitchen.scores.of_ingredients("test")
    sv.uniform(kitchen), sv.uniform(kitchen, ["m_0", "m_1"])
    return file


def runs_of(file: Path) -> list[Run]:
    return Kitchen.load(file).store.runs()


def opened(page: str, file: Path, **query: str) -> AppTest:
    """A page as a new browser opens it by a link."""
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.switch_page(f"pages/{page}.py")
    for name, value in ({"kitchen": str(file)} | query).items():
        at.query_params[name] = value
    at.run()
    settle(at)
    assert not at.exception, at.exception[0].stack_trace
    return at


def query(at: AppTest, name: str) -> Any:
    """What the address has under a name."""
    value = at.query_params.get(name)
    return value[0] if isinstance(value, list) else value


def warnings(at: AppTest) -> list[str]:
    return [as_read(warning.value) for warning in at.warning]


@pytest.mark.parametrize("page", ["ingredients", "soup", "compare", "history"])
def test_ingredients_that_were_chosen_are_chosen_again_on_every_page(page: str, file: Path) -> None:
    at = opened(page, file, members="m_0,m_2")
    assert at.session_state["members"] == ["m_0", "m_2"]
    assert query(at, "members") == "m_0,m_2"
    assert warnings(at) == []


def test_a_name_with_a_comma_is_chosen_again_by_its_link(tmp_path: Path) -> None:
    named = {"lr=0.1,wd=0": "m_0.safetensors", "lr=0.2,wd=0": "m_1.safetensors", "plain": "m_2.safetensors"}
    at = opened("ingredients", trusted(small_kitchen(tmp_path, ingredients=named)), members="lr=0.1,wd=0")
    assert at.session_state["members"] == ["lr=0.1,wd=0"]
    assert warnings(at) == []


def test_ingredients_of_a_link_are_the_pool_of_the_soup_page(file: Path) -> None:
    at = opened("soup", file, members="m_0,m_2")
    assert at.multiselect(key="pool").value == ["m_0", "m_2"]
    at.multiselect(key="pool").set_value(["m_1"])
    settle(at)
    assert query(at, "members") == "m_1"
    at.multiselect(key="pool").set_value([])
    settle(at)
    assert query(at, "members") is None


def test_a_link_to_all_ingredients_lets_those_go_that_were_chosen(file: Path) -> None:
    at = opened("history", file, members="m_0,m_2")
    at.switch_page("pages/soup.py")
    at.query_params["members"] = ""
    settle(at)
    assert at.multiselect(key="pool").value == at.session_state["members"] == []


def test_a_link_may_name_the_folder_of_a_kitchen(file: Path) -> None:
    at = opened("soup", file.parent, members="m_0,m_2")
    assert at.multiselect(key="pool").value == ["m_0", "m_2"]
    assert query(at, "kitchen") == str(file)


def test_an_ingredient_that_the_kitchen_lacks_is_named(file: Path) -> None:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    settle(opened("ingredients", file))  # so that the next one finds it open, and warns in its first run
    at.query_params["kitchen"], at.query_params["members"] = str(file), "m_0,gone"
    at.run()
    assert warnings(at) == ["The link chooses ingredients that this kitchen lacks: gone."]
    assert at.session_state["members"] == ["m_0"]


def test_a_recipe_and_its_parameters_are_set_again(file: Path) -> None:
    at = opened("soup", file, alpha="0.35", order="random", seed="4")
    assert at.slider(key="alpha").value == 0.35
    assert at.selectbox(key="order").value == "random"
    assert at.number_input(key="seed").value == 4
    assert "random" in " ".join(caption.value for caption in at.main.caption)


def test_an_objective_is_set_again_by_its_name_and_by_its_label(file: Path) -> None:
    for named in ("macro_f1", "macro F1"):
        assert opened("soup", file, objective=named).selectbox(key="objective").value == "macro_f1"


def test_a_path_and_the_alpha_on_it_are_open_again(file: Path) -> None:
    at = opened("alpha", file, a="m_1", b="m_0", points="11", alpha="0.3")
    assert (at.selectbox(key="a").value, at.selectbox(key="b").value) == ("m_1", "m_0")
    assert at.selectbox(key="points").value == 11
    assert any("alpha 0.3" in button.label for button in at.button)


@pytest.mark.parametrize("number", [0, 1])
def test_the_soup_of_a_link_is_the_one_that_compare_and_export_show(number: int, file: Path) -> None:
    run = runs_of(file)[number]
    assert run.name in [heading.value for heading in opened("compare", file, soup=run.key[:12]).header]
    at = opened("export", file, soup=run.key[:12])
    assert next(box for box in at.selectbox if box.label == "Soup").value == run.key


def test_the_checkpoint_that_was_looked_at_is_looked_at_again(file: Path) -> None:
    at = opened("compare", file, soup=runs_of(file)[0].key[:12], picked="m_1")
    assert [heading.value for heading in at.header][-1] == "m_1"
    assert query(at, "picked") == "m_1"


def test_a_checkpoint_that_is_not_there_is_told(file: Path) -> None:
    assert "The link looks at gone, which is not among" in warnings(opened("compare", file, picked="gone"))[0]


@pytest.mark.parametrize("page", ["compare", "export"])
def test_an_unknown_soup_is_told_and_not_exchanged_in_silence(page: str, file: Path) -> None:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    opened("ingredients", file)
    at.switch_page(f"pages/{page}.py")
    at.query_params["kitchen"], at.query_params["soup"] = str(file), "feedbeef1234"
    at.run()
    (told,) = warnings(at)
    assert "no soup 'feedbeef1234'" in told
    assert "Shown instead: “average" in told


def test_a_soup_that_no_longer_stands_is_told_with_the_reason(file: Path) -> None:
    old = next(run for run in runs_of(file) if "m_2" in (run.result or {})["coefficients"])
    text = file.read_text(encoding="utf-8").replace("- m_2.safetensors\n", "")
    file.write_text(text, encoding="utf-8")
    told = warnings(opened("compare", file, soup=old.key[:12]))[0]
    assert "m_2 is no longer in this kitchen" in told and "Shown instead: “average of 2”" in told


def test_a_run_that_failed_is_no_soup_to_be_opened(file: Path) -> None:
    store = Kitchen.load(file).store
    store.begin_run("f" * 64, "greedy", {"method": "greedy"})
    store.end_run("f" * 64, "failed", error="no")
    assert "“greedy”, a run that is failed" in warnings(opened("compare", file, soup="f" * 12))[0]


def test_an_unknown_kitchen_is_told(file: Path) -> None:
    at = opened("compare", file.parent / "elsewhere.yaml")
    assert "elsewhere.yaml" in as_read(at.error[0].value)


def test_filters_and_selected_runs_of_the_history_are_there_again(file: Path) -> None:
    at = opened("history", file, runs="1,2", find="average")
    assert at.text_input(key="find").value == "average"
    assert query(at, "runs") == "1,2"
    assert any(" beside " in heading.value for heading in at.header)
