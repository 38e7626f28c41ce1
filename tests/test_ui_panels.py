"""The panels of a finished soup: slices, calibration, BatchNorm."""

from pathlib import Path
from typing import Any

import pytest
from kitchens import BATCHNORM, small_kitchen
from panels import settled
from streamlit.testing.v1 import AppTest

import soupviz as sv
from soupviz.soups.soup import recall
from soupviz.tasks.wording import of_score
from soupviz.ui import tables
from soupviz.ui.soup import panels


def a_panel() -> None:
    import streamlit as st

    from soupviz.kitchen import Kitchen
    from soupviz.ui.soup import panels

    if "opened" not in st.session_state:
        st.session_state["opened"] = Kitchen.load(st.session_state["file"])
    opened = st.session_state["opened"]
    for split in opened.splits.reporting:
        opened.splits.load(split)
    panels.draw(opened, opened.store.runs()[0])


def opened_on(file: Path, panel: str) -> AppTest:
    app = AppTest.from_function(a_panel, default_timeout=60)
    app.session_state["file"] = str(file)
    app.session_state["panel"] = panel
    app.run()
    assert not app.exception
    return app


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 8, 8), num_ingredients=3, num_examples=80, train=64)
    kitchen = sv.Kitchen.load(file)
    kitchen.scores.of_ingredients("test")
    sv.uniform(kitchen)
    return file


def test_no_panel_is_open_until_one_is_asked_for(file: Path) -> None:
    app = AppTest.from_function(a_panel, default_timeout=60)
    app.session_state["file"] = str(file)
    app.run()
    assert not app.dataframe
    assert not app.button


def test_slices_show_every_class_before_and_after(file: Path) -> None:
    app = opened_on(file, panels.SLICES)
    shown = app.dataframe[0].value
    kitchen = sv.Kitchen.load(file)
    labels = kitchen.splits.load("test").labels.bincount().tolist()
    assert dict(zip(shown["slice"], shown["examples"], strict=True)) == {str(k): n for k, n in enumerate(labels) if n}
    assert ((shown["after"] - shown["before"]) - shown["difference"]).abs().max() == pytest.approx(0, abs=1e-9)


def test_calibration_is_fitted_when_asked_and_tells_each_split(file: Path) -> None:
    app = opened_on(file, panels.CALIBRATION)
    app.button[0].click().run()
    settled(app)
    assert list(app.dataframe[0].value["split"]) == ["held_out", "test"]
    assert float(app.metric[0].value) > 0


def test_batchnorm_shows_the_score_of_each_aggregation(file: Path) -> None:
    app = opened_on(file, panels.BATCHNORM)
    app.button[0].click().run()
    settled(app)
    shown = app.dataframe[0].value
    assert list(shown["statistics"]) == ["average", "first", "recalibrate"]
    kitchen = sv.Kitchen.load(file)
    soup = recall(kitchen, kitchen.store.runs()[0])
    for aggregation, told in zip(shown["statistics"], shown["test"], strict=True):
        assert told == of_score(kitchen.objective, kitchen.scores.score(soup.mix, "test", aggregation))


def test_a_table_of_aggregations_is_there_only_when_something_is_known(file: Path) -> None:
    kitchen: Any = sv.Kitchen.load(file)
    kitchen.splits.load("held_out"), kitchen.splits.load("test")
    assert tables.aggregations(kitchen, (("m_0", 0.5), ("m_1", 0.5)), ["average", "first"]) is None
