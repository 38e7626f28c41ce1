"""The History page: finding, opening, repeating, changing, pinning, naming, deleting, two side by side."""

from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from kitchens import BATCHNORM, change_yaml, small_kitchen
from streamlit.testing.v1 import AppTest
from test_links import opened, query
from test_pages import as_read, fresh_server, press, settle, trusted  # noqa: F401 - fresh_server is a fixture

import soupviz as sv
from soupviz.kitchen import Kitchen
from soupviz.recipes import MENU, Greedy, Interpolation, parse
from soupviz.store.database import Store
from soupviz.store.runs import Run
from soupviz.ui.history import one_run, runs


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A kitchen with a greedy soup (1), an average (2) and a failed run (3)."""
    file = trusted(small_kitchen(tmp_path / "small", num_ingredients=3, num_examples=40))
    kitchen = Kitchen.load(file)
    sv.greedy(kitchen, alpha=0.1), sv.uniform(kitchen)
    kitchen.store.begin_run("f" * 64, "greedy, later", {"method": "greedy", "order": "random"})
    kitchen.store.end_run("f" * 64, "failed", error="no such thing")
    return file


def store(file: Path) -> Store:
    return Kitchen.load(file).store


def table(at: AppTest) -> list[int]:
    """The numbers of the runs in the list."""
    return at.dataframe[0].value["no"].tolist()


def shown(at: AppTest) -> str:
    kinds = (at.markdown, at.caption, at.warning, at.error, at.info, at.header)
    return as_read(" ".join(str(element.value) for kind in kinds for element in kind))


def links(at: AppTest) -> dict[str, dict[str, str]]:
    """The links of a page by their labels: where each leads, and what its address says."""
    protos = [element.proto for element in at.get("page_link")]
    return {
        proto.label: {"page": proto.page} | dict(parse_qsl(proto.query_string, keep_blank_values=True))
        for proto in protos
    }


def test_the_list_has_every_run_with_state_result_and_device(file: Path) -> None:
    rows = opened("history", file).dataframe[0].value
    assert rows["no"].tolist() == [3, 2, 1]
    assert rows["state"].tolist() == ["failed", "finished", "finished"]
    result = store(file).runs()[0].result or {}
    assert rows["held_out"].iloc[2] == pytest.approx(100 * result["scores"]["held_out"]["accuracy"])
    assert rows["device"].iloc[2] == "cpu, float32"


def test_the_list_is_searched_and_filtered(file: Path) -> None:
    store(file).pin_run(store(file).runs()[1].key)
    at = opened("history", file)
    assert table(at) == [2, 3, 1]
    at.text_input(key="find").set_value("greedy").run()
    assert table(at) == [3, 1]
    at.selectbox(key="state").select("finished").run()
    assert table(at) == [1]
    at.text_input(key="find").set_value("").run()
    at.toggle(key="pinned").set_value(True).run()
    assert table(at) == [2]


def test_nothing_cooked_says_where_to_cook(tmp_path: Path) -> None:
    at = opened("history", trusted(small_kitchen(tmp_path / "new", num_examples=40)))
    assert "Nothing was cooked here yet" in shown(at)
    assert not at.dataframe


def test_a_soup_is_opened_on_compare(file: Path) -> None:
    run = store(file).runs()[0]
    link = links(opened("history", file, runs="1"))["Open on Compare"]
    assert link["page"] == "compare"
    at = opened("compare", file, soup=link["soup"])
    assert run.name in shown(at)
    assert query(at, "soup") == run.key[:12]


def test_a_failed_run_tells_why_and_cannot_be_opened_but_cooked_again(file: Path) -> None:
    at = opened("history", file, runs="3")
    assert "Failed: no such thing" in shown(at)
    assert "Open on Compare" not in links(at)
    press(at, "Cook again")
    assert not at.exception
    assert "Cooked #4 greedy" in shown(at).replace("**", "")


def test_one_parameter_is_changed_and_the_variant_stands_beside_its_origin(file: Path) -> None:
    at = opened("history", file, runs="1")
    changed = next(box for box in at.selectbox if box.label == "Parameter")
    changed.select("alpha").run()
    value = next(box for box in at.text_input if box.label == "New value")
    value.set_value("2").run()
    assert "alpha" in as_read(at.error[0].value)
    next(box for box in at.text_input if box.label == "New value").set_value("0.3").run()
    press(at, "Cook the variant")
    assert [run.name for run in store(file).runs()][-1] == "greedy (alpha = 0.3)"
    press(at, "Compare it with #1")
    assert query(at, "runs") == "1,4"
    assert " beside " in shown(at)


def test_a_name_stands_on_every_page_until_it_is_emptied(file: Path) -> None:
    at = opened("history", file, runs="2")
    next(box for box in at.text_input if box.label == "Name").set_value("For the paper")
    settle(at)
    assert at.dataframe[0].value["name"].tolist()[1] == "For the paper"
    assert "For the paper" in opened("compare", file).dataframe[0].value["model"].tolist()
    next(box for box in at.text_input if box.label == "Name").set_value("")
    settle(at)
    assert store(file).runs()[1].name == "average"


def test_pinning_puts_a_run_first_and_keeps_it_selected(file: Path) -> None:
    at = press(opened("history", file, runs="1"), "Pin")
    assert table(at) == [1, 3, 2]
    assert query(at, "runs") == "1"
    press(at, "Unpin")
    assert table(at) == [3, 2, 1]


def test_a_deleted_run_is_gone_from_the_list_and_the_link_and_comes_back_with_undo(file: Path) -> None:
    before = store(file).runs()
    at = opened("history", file, runs="1", soup=before[0].key[:12])
    next(button for button in at.button if button.label == "Delete").click()
    settle(at)
    assert table(at) == [3, 2]
    assert (query(at, "runs"), query(at, "soup")) == (None, None)
    scores = store(file).size()["scores"]
    assert scores > 0
    press(at, "Undo")
    assert store(file).runs() == before
    assert table(at) == [3, 2, 1]


def test_deleting_many_spares_what_is_pinned(file: Path) -> None:
    kept = store(file).runs()[1]
    store(file).pin_run(kept.key)
    at = press(opened("history", file), "unpinned runs in the list")
    assert [run.key for run in store(file).runs()] == [kept.key]
    press(at, "Undo")
    assert len(store(file).runs()) == 3


def test_a_run_that_goes_while_the_list_is_looked_at_is_told_and_its_deletion_here_is_not(file: Path) -> None:
    at = opened("history", file)
    [_, average, _] = store(file).runs()
    store(file).forget_run(average.key)
    at.run()  # what the browser's timer, or a click, asks for
    assert table(at) == [3, 1]
    assert f"Deleted meanwhile, not here: “{average.name}”." in shown(at)
    at.run()
    assert "Deleted meanwhile" not in shown(at)
    other = opened("history", file, runs="3")
    press(other, "Delete")
    assert table(other) == [1] and "Deleted meanwhile" not in shown(other)


def test_the_list_is_drawn_anew_once_others_have_changed_the_store(file: Path) -> None:
    app = AppTest.from_function(a_watched_list, default_timeout=60)
    app.session_state["file"] = str(file)
    app.run()
    times = app.session_state["drawn"]
    app.session_state["meanwhile"] = True
    app.run()
    assert app.session_state["drawn"] == times + 2
    assert not app.exception


def a_watched_list() -> None:
    import streamlit as st

    from soupviz.analysis.history import entries
    from soupviz.kitchen import Kitchen
    from soupviz.ui.history import meanwhile

    if "opened" not in st.session_state:
        st.session_state["opened"] = Kitchen.load(st.session_state["file"])
    opened = st.session_state["opened"]
    st.session_state["drawn"] = st.session_state.get("drawn", 0) + 1
    found = entries(opened)
    if st.session_state.pop("meanwhile", False):  # after the list was drawn, before the next look
        opened.store.pin_run(opened.store.runs()[0].key, True)
    meanwhile.watch(opened, found)


def test_what_is_no_soup_of_this_kitchen_is_deleted_at_once(file: Path) -> None:
    change_yaml(file, lambda document: document["ingredients"].remove("m_2.safetensors"))
    sv.uniform(Kitchen.load(file))
    at = opened("history", file)
    assert at.dataframe[0].value["state"].tolist() == ["finished", "failed", "of other data", "of other data"]
    press(at, "Delete what is no soup")
    assert [run.id for run in store(file).runs()] == [4]


def test_a_run_of_other_data_says_why(file: Path) -> None:
    change_yaml(file, lambda document: document["ingredients"].remove("m_2.safetensors"))
    assert "m_2 is no longer in this kitchen" in shown(opened("history", file, runs="2"))


def test_two_soups_are_tested_against_each_other_on_every_split(file: Path) -> None:
    at = opened("history", file, runs="1,2")
    scores = next(frame.value for frame in at.dataframe if "verdict" in frame.value)
    assert scores["split"].tolist() == ["held_out", "test"]
    differences = scores["b"] - scores["a"]
    assert (differences - scores["difference"]).abs().max() == pytest.approx(0)
    recipes = next(frame.value for frame in at.dataframe if "differs" in frame.value)
    assert recipes["field"].iloc[0] == "method"
    parts = next(frame.value for frame in at.dataframe if "decision a" in frame.value)
    assert sorted(parts["ingredient"]) == ["m_0", "m_1", "m_2"]
    assert at.get("vega_lite_chart") or at.get("arrow_vega_lite_chart")


def test_a_run_of_other_data_beside_a_soup_has_no_test_but_what_was_kept(file: Path) -> None:
    change_yaml(file, lambda document: document["ingredients"].remove("m_2.safetensors"))
    sv.uniform(Kitchen.load(file))
    at = opened("history", file, runs="2,4")
    assert "Only soups of this kitchen as it is can be tested" in shown(at)
    assert not any("verdict" in frame.value for frame in at.dataframe)


def test_settings_are_loaded_into_the_page_that_makes_such_a_soup(file: Path) -> None:
    link = links(opened("history", file, runs="3"))["Load its settings"]
    assert link.pop("page") == "soup"
    assert link["members"] == "", "all: what was chosen before is let go"
    at = opened("soup", file, **link)
    assert at.selectbox(key="order").value == "random"


def test_settings_of_every_recipe_are_those_that_differ_from_the_usual(tmp_path: Path) -> None:
    kitchen = Kitchen.load(small_kitchen(tmp_path / "s", num_ingredients=2, num_examples=20))
    for kind in MENU.values():
        page, settings, left = one_run.settings(kitchen, kind()) or ("", {}, [])
        assert (page, left) == ("soup", [])
        assert settings == {"recipe": "greedy, mean" if kind is Greedy else kind.label, "members": ""}
    page, settings, left = one_run.settings(kitchen, Greedy(alpha=0.3, seed=2)) or ("", {}, [])
    assert (settings["recipe"], settings["alpha"], settings["seed"]) == ("greedy, alpha", "0.3", "2")
    wise = parse({"method": "wise_ft", "alpha": 0.37})
    assert (one_run.settings(kitchen, wise) or ("", {}, []))[2] == ["alpha = 0.37"]
    between = Interpolation(a="m_0", b="m_1", mix_a=(("m_0", 1.0),), mix_b=(("m_1", 1.0),), alpha=0.25)
    page, settings, _ = one_run.settings(kitchen, between) or ("", {}, [])
    assert page == "alpha"
    assert {name: settings[name] for name in ("a", "b", "alpha")} == {"a": "m_0", "b": "m_1", "alpha": "0.25"}


def test_statistics_are_changed_only_where_the_model_keeps_some(tmp_path: Path) -> None:
    file = trusted(small_kitchen(tmp_path / "b", source=BATCHNORM, shape=(3, 8, 8), num_ingredients=2, num_examples=20))
    sv.uniform(Kitchen.load(file))
    at = opened("history", file, runs="1")
    assert next(box for box in at.selectbox if box.label == "Parameter").options == ["batchnorm"]
    next(box for box in at.selectbox if box.label == "New value").select("first").run()
    press(at, "Cook the variant")
    assert store(file).runs()[-1].recipe["batchnorm"] == "first"


def test_of_a_kept_mix_alpha_can_be_changed_but_not_what_its_ends_are_called(file: Path) -> None:
    between = Interpolation(a="m_0", b="m_1", mix_a=(("m_0", 1.0),), mix_b=(("m_1", 1.0),), alpha=0.25)
    sv.cook(Kitchen.load(file), between)
    at = opened("history", file, runs="4")
    assert next(box for box in at.selectbox if box.label == "Parameter").options == ["alpha"]
    assert "mix_a" in at.table[0].value.to_string()


def test_a_method_of_another_version_is_called_by_its_own_word() -> None:
    run = Run(1, "k", "old", "finished", {"method": "gone"}, None, None, 0.0, 0.0, "old")
    assert runs.method_of(run) == "gone"
    assert runs.told(run) == "method=gone"
