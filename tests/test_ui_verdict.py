"""The verdict and the decision log on a page."""

import io
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from kitchens import small_kitchen
from panels import settled
from streamlit.testing.v1 import AppTest

import soupviz as sv
from soupviz.analysis import crossfit, decisions, verdicts
from soupviz.analysis.decision_summary import summary
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.pictures.verdict import differences
from soupviz.scoring.service import Scores
from soupviz.tasks.classes.class_metrics import ACCURACY
from soupviz.ui import verdict
from soupviz.ui.verbatim import verbatim


def a_panel() -> None:
    import streamlit as st

    from soupviz.kitchen import Kitchen
    from soupviz.ui import verdict
    from soupviz.ui.soup import decisions

    if "opened" not in st.session_state:
        st.session_state["opened"] = Kitchen.load(st.session_state["file"])
    opened = st.session_state["opened"]
    for split in opened.splits.reporting:
        opened.splits.load(split)
    run = opened.store.run(st.session_state["run"])
    verdict.draw(opened, run)
    decisions.draw(opened, run)


def opened_on(file: Path, key: str, **state: Any) -> AppTest:
    app = AppTest.from_function(a_panel, default_timeout=60)
    app.session_state["file"], app.session_state["run"] = str(file), key
    for name, value in state.items():
        app.session_state[name] = value
    app.run()
    assert not app.exception
    return app


def texts(app: AppTest) -> str:
    return "\n".join(element.value for element in [*app.markdown, *app.caption, *app.info])


def button(app: AppTest, label: str) -> Any:
    return next(one for one in app.button if one.label == label)


@pytest.fixture
def kitchen(tmp_path: Path) -> Kitchen:
    kitchen = Kitchen.load(small_kitchen(tmp_path, num_examples=240, scale=0.35, num_ingredients=4))
    for split in kitchen.splits.reporting:
        kitchen.splits.load(split)
    return kitchen


def test_what_is_missing_is_scored_with_its_progress_and_cancel_in_every_session(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    soup, go, half = sv.uniform(kitchen), threading.Event(), threading.Event()
    score_all = Scores.score_all

    def slowly(self: Scores, wanted: Any, progress: Any) -> None:
        score_all(self, wanted[:2], progress)
        half.set()
        while not go.wait(0.005):
            progress(1, 2, "the rest")
        score_all(self, wanted, progress)

    monkeypatch.setattr(Scores, "score_all", slowly)
    app = opened_on(kitchen.file, soup.key)
    button(app, "Score what is missing on held_out and test").click().run()
    assert half.wait(20)
    for session in (app, opened_on(kitchen.file, soup.key)):  # a reload is a session of its own
        session.run()
        assert session.get("progress") and button(session, "Cancel")
        assert not [one for one in session.button if one.label.startswith("Score what")]
    go.set()
    settled(app)
    assert "Not judged yet" not in texts(app) and not app.get("progress")


def test_the_panel_says_what_is_missing_scores_it_and_then_judges(kitchen: Kitchen) -> None:
    soup = sv.uniform(kitchen)
    app = opened_on(kitchen.file, soup.key)
    assert "**Not judged yet**: no ingredient is scored on held_out." in texts(app)
    app = settled(button(app, "Score what is missing on held_out and test").click().run())
    found = verdicts.verdict_of(kitchen, soup)
    first, _, rest = found.sentence.partition(": ")
    assert f"**{first}**: {rest}" in texts(app)
    assert not [one for one in app.button if one.label.startswith("Score what")]
    shown = app.dataframe[0].value
    names = [name.partition(":")[0] for name in shown["model"]]
    assert names == ["this soup", "best ingredient", "ensemble of all 4", "uniform soup of all 4"]
    assert list(shown["passes"]) == [1, 1, 4, 1]
    assert found.uniform is not None
    assert shown["test"].iloc[3] == pytest.approx(100 * found.uniform.values["test"].value)
    assert [one.label for one in app.metric][:2] == ["held_out (selects)", "test (reports)"]
    assert any(one.label.startswith("test, against m_") for one in app.metric)


def test_a_button_cross_fits_and_its_result_is_told(kitchen: Kitchen) -> None:
    soup = sv.greedy(kitchen, complete=True)
    app = opened_on(kitchen.file, soup.key)
    assert "was not estimated yet" in texts(app)
    app = settled(button(app, "Cross-fit").click().run())
    found = crossfit.known(kitchen, soup.recipe)
    assert found is not None
    assert verdicts.verdict_of(kitchen, soup).optimism in texts(app)
    assert "Cross-fit" not in [one.label for one in app.button]


def test_what_cannot_be_cross_fitted_says_why(kitchen: Kitchen) -> None:
    ends = {"a": "m_0", "b": "m_1", "mix_a": [["m_0", 1.0]], "mix_b": [["m_1", 1.0]], "alpha": 0.5}
    soup = sv.cook(kitchen, {"method": "interpolation"} | ends)
    app = opened_on(kitchen.file, soup.key)
    assert verbatim("its place was named, not searched for") in texts(app)
    assert "Cross-fit" not in [one.label for one in app.button]
    assert not app.get("download_button")  # and it has no decisions


def test_the_log_is_filtered_by_outcome_and_by_name(kitchen: Kitchen) -> None:
    soup = sv.greedy(kitchen, complete=True)
    found = decisions.log(kitchen, soup.recipe, soup.trajectory)
    app = opened_on(kitchen.file, soup.key)
    assert summary(kitchen.task, kitchen.objective, found, soup.recipe) in texts(app)

    def shown() -> list[str]:
        return list(next(one for one in app.dataframe if "outcome" in one.value).value["candidate"])

    assert shown() == [one.candidate for one in found]
    app.get("button_group")[0].set_value(["rejected"]).run()
    assert shown() == [one.candidate for one in found if one.outcome == "rejected"]
    app.get("button_group")[0].set_value([]).run()
    app.text_input[0].set_value("M_2").run()
    assert shown() == ["m_2"]


def test_what_is_selected_is_told_and_stands_out_in_the_picture(kitchen: Kitchen) -> None:
    soup = sv.greedy(kitchen, complete=True)
    app = opened_on(kitchen.file, soup.key, **{f"decision of {soup.key}": 2})
    one = decisions.log(kitchen, soup.recipe, soup.trajectory)[2]
    assert app.info[0].value == f"**{one.candidate}** {one.sentence}."


def test_what_was_rejected_early_can_be_scored_whole(tmp_path: Path) -> None:
    file = small_kitchen(tmp_path, num_examples=900, scale=0.5, num_ingredients=4, batch_size=50)
    kitchen = Kitchen.load(file)
    soup = sv.greedy(kitchen)
    early = sum(step.accuracy is None for step in soup.trajectory)
    assert early
    app = opened_on(file, soup.key)
    app = settled(button(app, f"Score the {early} rejected early whole").click().run())
    table = next(one.value for one in app.dataframe if "outcome" in one.value)
    assert table["p"][1:].notna().all()


def test_the_saved_log_reads_back(kitchen: Kitchen) -> None:
    soup = sv.greedy(kitchen, complete=True)
    table = decisions.frame(kitchen.task, kitchen.objective, decisions.log(kitchen, soup.recipe, soup.trajectory))
    again = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    assert list(again["sentence"]) == list(table["sentence"])


def test_yardsticks_leave_empty_what_is_not_known(kitchen: Kitchen) -> None:
    kitchen.scores.of_ingredients("held_out")
    found = verdicts.verdict_on(kitchen, "soup", mean_of(kitchen.names))
    table = verdict.yardsticks(kitchen, found)
    assert table["test"].isna().all()
    assert table["held_out"].notna().tolist() == [False, True, False, False]


def test_the_picture_of_differences_has_one_row_for_each_yardstick() -> None:
    row = {"name": "a", "kind": "best", "difference": 0.3, "low": -0.6, "high": 1.2}
    data, spec = differences([row, row | {"name": "all", "kind": "ensemble"}], "test", ACCURACY)
    assert list(data["name"]) == ["a", "all"]
    assert "test" in str(spec["layer"][1]["encoding"]["x"]["title"])
    titles = [layer["encoding"]["x"]["axis"]["title"] for layer in spec["layer"][1:]]
    assert titles[0] == titles[1]  # or both would stand below the axis
