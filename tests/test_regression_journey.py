"""A regression on the command line and on the pages that search: RMSE falls, in its own words and units."""

from pathlib import Path

import pytest
from kitchens import json_of, regression_kitchen, run_command
from panels import settled
from streamlit.testing.v1 import AppTest
from test_pages import errors, fresh_server, page, settle, trusted  # noqa: F401 - a fixture

import soupviz as sv
from soupviz.analysis import curve_sets, decisions
from soupviz.analysis.curve_sets import CurveSet
from soupviz.analysis.decision_summary import summary
from soupviz.pictures import curves as curve_pictures
from soupviz.pictures import search
from soupviz.soups import curves, menu
from soupviz.tasks.regression import MAE, R2, RMSE
from soupviz.ui.path import Choice, best_alpha
from soupviz.ui.path import Path as Line
from soupviz.ui.soup import panels, soups


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return regression_kitchen(tmp_path / "k", scale=0.2)


def found_in(at: AppTest) -> str:
    """All that a page says."""
    parts = [*at.markdown, *at.caption, *at.header, *at.metric, *at.info, *at.success]
    return " ".join(f"{getattr(part, 'label', '')} {part.value}" for part in parts)


# The command line


def test_scores_have_the_metrics_of_the_task_the_objective_first(file, capsys):
    found = json_of(capsys, "score", file)["ingredients"]["m_0"]
    assert (found["metric"], found["num_units"]) == ("rmse", 120)
    assert list(found["metrics"]) == ["rmse", "mae", "r2"]
    assert found["value"] == found["metrics"]["rmse"]
    assert not {"accuracy", "correct", "loss"} & found.keys()
    _, out, err = run_command(capsys, "score", file)
    assert all(word in out for word in ("RMSE", "MAE", "R²")) and "accuracy" not in out + err


def test_greedy_lowers_the_rmse_step_by_step(file, capsys):
    found = json_of(capsys, "soup", file, "--recipe", "greedy")
    assert found["recipe"]["objective"] == "rmse"
    best = [step["best_value"] for step in found["trajectory"]]
    assert best == sorted(best, reverse=True)
    scores = json_of(capsys, "score", file)["ingredients"]
    assert best[0] == min(score["value"] for score in scores.values())
    for step in found["trajectory"][1:]:
        assert step["accepted"] is (step["value"] is not None and step["value"] == step["best_value"])
    assert found["scores"]["held_out"]["value"] == best[-1]


def test_a_curve_has_its_value_and_every_metric(file, capsys):
    points = json_of(capsys, "interpolate", file, "m_0", "m_1", "--points", "3")["points"]
    assert list(points[0]) == ["alpha", "value", "rmse", "mae", "r2", "num_units"]
    assert all(point["value"] == point["rmse"] for point in points)
    _, out, _ = run_command(capsys, "interpolate", file, "m_0", "m_1", "--points", "3")
    assert "RMSE" in out and "%" not in out


def test_a_sweep_and_the_menu_rank_by_the_lowest(file, capsys, monkeypatch):
    chosen = [{"method": "uniform"}, {"method": "greedy"}, {"method": "weighted"}, {"method": "pruned"}]
    monkeypatch.setattr(menu, "DEFAULTS", chosen)
    _, out, _ = run_command(capsys, "sweep", file, "--alphas", "0.2,mean")
    assert "alpha sweep: RMSE" in out
    found = json_of(capsys, "menu", file, "--budget", 20)
    values = [soup["scores"]["held_out"]["value"] for soup in found["soups"]]
    assert len(values) == 4 and values == sorted(values)
    assert all("ece" not in soup and "fixed" not in soup["compared"] for soup in found["soups"])
    scores = json_of(capsys, "score", file)["ingredients"]
    assert found["best"] == min(scores, key=lambda name: scores[name]["value"])


# The log of a search


def test_a_decision_tells_units_that_are_better_and_the_gap_in_rmse(file):
    kitchen = sv.Kitchen.load(file)
    soup = sv.greedy(kitchen, complete=True)
    start, *others = found = decisions.log(kitchen, soup.recipe, soup.trajectory)
    assert start.sentence.startswith(f"start: {start.candidate} has RMSE ")
    for one in others:
        assert one.better + one.worse <= 120 and one.margin is None
        assert 0 < one.p_value <= 1
        assert (one.outcome == "accepted") == (one.difference < 0)
        assert f"is better on {one.better}, is worse on {one.worse} of 120: RMSE " in one.sentence
    lost = [one for one in others if one.outcome == "rejected"]
    nearest = min(lost, key=lambda one: one.difference)
    told = summary(kitchen.task, RMSE, found, soup.recipe)
    assert f"The nearest of the rejected, {nearest.candidate}, was" in told and "of RMSE worse" in told


def test_what_was_given_up_could_at_best_have_had_its_bound(tmp_path):
    kitchen = sv.Kitchen.load(regression_kitchen(tmp_path, scale=0.5, num_examples=900, batch_size=50))
    soup = sv.greedy(kitchen, alpha=0.9)
    early = [one for one in decisions.log(kitchen, soup.recipe, soup.trajectory) if one.is_bound]
    assert early
    for one in early:
        assert one.p_value is None and one.value is None and one.num_scored < 900
        assert f"with all others perfect its RMSE could at best be {one.bound:.4g}" in one.sentence
    data, spec = search.trajectory(soup.trajectory, RMSE)
    assert any(text.startswith("at least ") for text in data["value"])
    assert "triangle-up" in str(spec) and "lower is better" in str(spec)


# Curves


def test_the_best_of_a_curve_is_the_lowest_and_a_barrier_rises(file):
    kitchen = sv.Kitchen.load(file)
    ends = ((("m_0", 1.0),), (("m_1", 1.0),))
    curve_set = CurveSet({"m_0 → m_1": ends}, curves.grid(5), ["held_out"], ["average"])
    metrics = curve_sets.drawn_metrics(kitchen)
    assert metrics == (RMSE, MAE)
    readings = curve_sets.survey(kitchen, curve_set)
    (line,) = curve_sets.lines(readings, metrics).values()
    values = [each.values["rmse"] for each in line.readings]
    assert curve_sets.best(line).values["rmse"] == min(values)
    assert line.barriers["rmse"].height == curves.barrier(curves.grid(5), values)
    for each in line.readings:
        low, high = each.intervals["rmse"]
        assert low < each.values["rmse"] < high
    found = curve_sets.lines(readings, metrics)
    drawn = curve_pictures.curves(
        found, pairs=list(curve_set.pairs), statistics=["average"], metric=RMSE, split="held_out"
    )  # fmt: skip
    assert drawn[0]["value"].dropna().tolist() == values


def test_a_barrier_of_what_is_raised_falls_below_the_chord():
    found = curves.barrier_of([0.0, 0.5, 1.0], [0.9, 0.5, 0.7], R2)
    assert (found.alpha, found.height, found.chord) == (0.5, pytest.approx(0.3), pytest.approx(0.8))
    assert curves.barrier_of([0.0, 0.5, 1.0], [0.5, 0.9, 0.7], R2).height == 0.0


def test_the_alpha_component_knows_units_and_direction(file):
    kitchen = sv.Kitchen.load(file)
    line = Line(*(Choice(name, "ingredient", ((name, 1.0),)) for name in ("m_0", "m_1")), [0.0, 0.5, 1.0], "average")
    scores = {("held_out", alpha): kitchen.scores.score(line.mix(alpha)) for alpha in line.alphas}
    data = line.picture((RMSE, MAE), scores, None)
    assert [one["title"] for one in data["metrics"]] == ["RMSE, lower is better", "MAE, lower is better"]
    assert not any(one["isShare"] or one["isHigherBetter"] for one in data["metrics"])
    assert (
        data["best"] == best_alpha(RMSE, scores) == min(line.alphas, key=lambda a: scores["held_out", a].shown("rmse"))
    )


# Pages


def test_the_ingredients_page_shows_rmse_and_its_best_is_the_lowest(file):
    at = page("ingredients.py", trusted(file))
    assert errors(at) == []
    kitchen = sv.Kitchen.load(file)
    scores = kitchen.scores.of_ingredients()
    table = at.dataframe[0].value
    assert {"held_out", "MAE", "R²"} <= set(table) and "loss" not in table
    assert table["held_out"].tolist() == pytest.approx([score.shown("rmse") for score in scores.values()])
    best = min(scores, key=lambda name: scores[name].value)
    assert at.metric[0].delta == best
    said = found_in(at)
    assert "RMSE on held_out, the split that selects, lower is better." in said
    assert "accuracy" not in said.lower()


def a_search() -> None:
    import streamlit as st

    from soupviz.kitchen import Kitchen
    from soupviz.recipes import parse
    from soupviz.ui.soup import decisions, panels, soups

    if "opened" not in st.session_state:
        st.session_state["opened"] = Kitchen.load(st.session_state["file"])
    opened = st.session_state["opened"]
    (run,) = [run for run in opened.store.runs() if run.key == st.session_state["run"]]
    for split in opened.splits.reporting:
        opened.splits.load(split)
    decisions.draw(opened, run)
    panels.draw(opened, run)
    soups.alpha_sweep(opened, parse(run.recipe))


def test_a_search_is_told_in_rmse_and_what_the_task_lacks_in_a_sentence(file, monkeypatch):
    monkeypatch.setattr(soups, "SWEPT", (0.1, 0.5))
    kitchen = sv.Kitchen.load(file)
    soup = sv.greedy(kitchen, alpha=0.1, complete=True)
    app = AppTest.from_function(a_search, default_timeout=60)
    app.session_state["file"], app.session_state["run"] = str(file), soup.key
    app.session_state["panel"] = panels.SLICES
    settled(app.run())
    said = found_in(app)
    assert "has no slices, and the task regression has no classes" in said
    assert "Best by RMSE: alpha = " in said and "with RMSE " in said
    assert "accuracy" not in said.lower()
    log = next(frame.value for frame in app.dataframe if "outcome" in frame.value)
    assert {"better", "worse"} <= set(log)
    assert log["held_out"].tolist() == pytest.approx([step.value for step in soup.trajectory])
    assert [list(group.options) for group in app.get("button_group") if group.key == "panel"] in (
        [],
        [["Slices", "Calibration"]],
    )


def test_alpha_and_curves_draw_rmse(file):
    at = page("alpha.py", trusted(file))
    assert errors(at) == []
    assert "RMSE barrier" in [one.label for one in at.metric]
    at = page("curves.py", file)
    at.selectbox(key="points").set_value(5).run()
    next(button for button in at.button if button.label == "Compute the curves").click().run()
    settle(at)
    assert errors(at) == [] and not at.exception
    assert "accuracy" not in found_in(at).lower()
    assert len(at.dataframe[0].value) and "test there" in at.dataframe[0].value
