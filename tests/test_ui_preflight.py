"""Preflight of many ingredients: what n - 1 midpoints tell, before all pairs are measured."""

import pytest
from kitchens import small_kitchen
from panels import settled
from streamlit.testing.v1 import AppTest

import soupviz as sv
from soupviz.analysis import regime
from soupviz.ui.preflight import first


def midpoints() -> None:
    import streamlit as st

    from soupviz.kitchen import Kitchen
    from soupviz.ui.preflight import first

    if "opened" not in st.session_state:
        st.session_state["opened"] = Kitchen.load(st.session_state["file"])
    first.draw(st.session_state["opened"], "content")


@pytest.fixture
def app(tmp_path, monkeypatch):
    monkeypatch.setattr(first, "MANY", 5)
    found = AppTest.from_function(midpoints, default_timeout=60)
    found.session_state["file"] = str(small_kitchen(tmp_path / "k", num_ingredients=5, num_examples=60))
    return found


def test_the_midpoints_with_the_best_are_offered_first_and_tell_the_regime(app):
    app.run()
    kitchen = app.session_state["opened"]
    assert app.button[0].label == "First the 4 midpoints with the best"
    assert "9 evaluations" in app.caption[0].value
    app.button[0].click()
    app.run()
    settled(app)
    expected = regime.measure(kitchen)
    assert expected.best in app.info[0].value.replace("\\", "")
    assert sorted(app.dataframe[0].value["ingredient"]) == sorted(set(kitchen.names) - {expected.best})
    assert (
        kitchen.store.count_scores("held_out", 60, kitchen.splits.load("held_out").fingerprint, "float32", "cpu") == 9
    )


def test_of_few_pairs_all_are_measured_at_once(tmp_path):
    app = AppTest.from_function(midpoints, default_timeout=60)
    app.session_state["file"] = str(small_kitchen(tmp_path / "k", num_ingredients=3, num_examples=60))
    app.run()
    assert not app.button and not app.caption


def test_what_the_regime_takes_is_known_before(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path / "k", num_ingredients=4, num_examples=60))
    kitchen.splits.load("held_out")
    assert len(regime.wanted(kitchen)) == 4 + 3
    kitchen.score()
    wanted = regime.wanted(kitchen)
    regime.measure(kitchen)
    known = kitchen.scores.summaries([(mix, how) for mix, _, how in wanted], "held_out")
    assert None not in known
