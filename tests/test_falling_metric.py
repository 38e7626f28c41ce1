"""Verdicts, Compare, History, Shift, the report and the card under RMSE, which falls: directions, units, sentences."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import MLP, build_model, regression_kitchen, write_arrays
from safetensors.torch import load_file
from streamlit.testing.v1 import AppTest
from test_pages import ROOT, as_read, errors, fresh_server, settle, trusted  # noqa: F401 - fixtures

import soupviz as sv
from soupviz.analysis import crossfit, curve_sets, history, robustness, wording
from soupviz.analysis.verdicts import best_on_held_out, by_merit, verdict_of
from soupviz.mixing.averaging import mean_of
from soupviz.reports import figures, page
from soupviz.soups import comparing
from soupviz.soups.soup import mix_in
from soupviz.tasks.judging import score_of
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.paired import NOT_FINITE, compare
from soupviz.tasks.regression import RMSE, Regression
from soupviz.tasks.score import Score
from soupviz.ui.compare import entries as comparison
from soupviz.ui.compare import picture, table


@pytest.fixture
def no_examples(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Whoever unpacks what the store has of each unit fails the test."""
    unpacked = "soupviz.store.database.unpack"
    return lambda: monkeypatch.setattr(unpacked, lambda _blob: pytest.fail("units were unpacked"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four ingredients, the first nearest to what is right; two soups; all of it scored on test and on one shift."""
    folder = tmp_path_factory.mktemp("falling") / "k"
    file = regression_kitchen(folder, num_ingredients=4, scale=0.05, shifts=["blur"])
    inputs = load_file(folder / "blur.safetensors")["inputs"]
    (folder / "blur.safetensors").unlink()
    with torch.no_grad():
        labels = build_model(MLP, classes=1)(inputs)
    write_arrays(folder / "blur.safetensors", inputs, labels + 0.2 * torch.randn(labels.shape))
    kitchen = sv.Kitchen.load(file)
    sv.greedy(kitchen)
    sv.uniform(kitchen)
    for split in kitchen.splits.reporting:
        kitchen.scores.of_ingredients(split)
        kitchen.scores.score((("base", 1.0),), split)
    return file


@pytest.fixture
def file(built: Path, tmp_path: Path) -> Path:
    return trusted(shutil.copytree(built.parent, tmp_path / "k") / built.name)


@pytest.fixture
def kitchen(file: Path) -> sv.Kitchen:
    opened = sv.Kitchen.load(file)
    for split in opened.splits.reporting:
        opened.splits.load(split)
    return opened


def opened_page(name: str, file: Path, **query: str) -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.query_params["kitchen"] = str(file)
    for key, value in query.items():
        at.query_params[key] = value
    at.switch_page(f"pages/{name}.py")
    settle(at.run())
    assert not at.exception, at.exception[0].stack_trace
    assert errors(at) == []
    return at


def texts(at: AppTest) -> str:
    return "\n".join(str(one.value) for kind in ("markdown", "caption", "header", "metric") for one in at.get(kind))


def by_rmse(kitchen: sv.Kitchen, split: str) -> list[str]:
    scores = kitchen.scores.of_ingredients(split)
    return sorted(kitchen.names, key=lambda name: scores[name].shown("rmse"))


def test_the_best_ingredient_is_the_one_with_the_least_error(kitchen: sv.Kitchen) -> None:
    assert by_merit(kitchen) == by_rmse(kitchen, "held_out")
    assert best_on_held_out(kitchen) == by_rmse(kitchen, "held_out")[0]


def test_the_verdict_counts_less_as_better_in_the_metrics_own_unit(kitchen: sv.Kitchen) -> None:
    good = (("base", 1.0),)  # what the labels come from
    worst = by_rmse(kitchen, "held_out")[-1]
    score, rival = kitchen.scores.score(good, "test"), kitchen.scores.score(((worst, 1.0),), "test")
    found = compare(kitchen.task, kitchen.objective, score, rival)
    assert found.judgement == "better"
    assert found.difference < 0 and found.low < found.difference < found.high < 0
    assert found.difference == pytest.approx(score.shown("rmse") - rival.shown("rmse"))
    assert compare(kitchen.task, kitchen.objective, rival, score).judgement == "worse"
    assert compare(kitchen.task, kitchen.objective, score, score).judgement == "the same on every example"


def test_the_sentence_of_a_verdict_names_the_metric_and_no_points(kitchen: sv.Kitchen) -> None:
    for run in kitchen.store.runs():
        found = verdict_of(kitchen, run)
        assert "points" not in found.sentence
        assert found.metric == "rmse"
        difference = found.best.differences["test"] if found.best else None
        if difference and difference.difference:
            assert " RMSE on test against " in found.sentence
            assert ("+" if difference.difference > 0 else "−") in found.sentence
    assert found.ensemble is not None and found.uniform is not None


def test_a_single_value_has_about_the_interval_of_a_bootstrap_and_it_is_kept(
    kitchen: sv.Kitchen, no_examples: Callable[[], None]
) -> None:
    run = kitchen.store.runs()[0]
    first = verdict_of(kitchen, run)
    one = first.values["test"]
    squared = kitchen.scores.score(mix_in(run), "test").outcomes["squared"][:, 0]
    draws = np.random.default_rng(1).integers(0, len(squared), (4000, len(squared)))
    expected = np.quantile(np.sqrt(squared[draws].mean(axis=1)), [0.025, 0.975])
    assert (one.low, one.high) == pytest.approx(expected, rel=0.04)
    assert one.right is None
    no_examples()
    assert verdict_of(kitchen, run) == first


def test_a_score_has_the_same_interval_in_the_verdict_on_compare_on_a_curve_and_on_the_card(
    kitchen: sv.Kitchen, tmp_path: Path
) -> None:
    soup = sv.uniform(kitchen)
    found = verdict_of(kitchen, soup).values["test"]
    place = curve_sets.Place("a", "average", "test", 1.0)
    assert curve_sets.Reading.of(place, soup.scores["test"], kitchen).intervals["rmse"] == (found.low, found.high)
    [row] = [one for one in comparison.entries(kitchen, kitchen.store.runs(), "test") if one.id == soup.key]
    assert row.interval == (found.low, found.high)
    *_, card = sv.export(soup, tmp_path / "soup.safetensors")
    assert f"| {found.low:.4g} to {found.high:.4g} |" in card.read_text(encoding="utf-8")
    text = page.report(soup, tmp_path / "report.html").read_text(encoding="utf-8")
    assert wording.between(RMSE, found.low, found.high) in text


def test_a_model_with_answers_that_are_not_finite_is_worse_whatever_its_error() -> None:
    task = Regression()
    labels = torch.zeros(20, 1)

    def score(answers: torch.Tensor) -> Score:
        outcomes = Outcomes.of(task.outcomes(answers, labels), task.targets(labels))
        return score_of(task, RMSE, "test", outcomes, 1, "float32", "cpu")

    broken = torch.full((20, 1), 0.01)
    broken[3] = torch.nan
    found = compare(task, RMSE, score(broken), score(torch.ones(20, 1)))
    assert found.judgement == NOT_FINITE and found.nonfinite == 1
    assert compare(task, RMSE, score(torch.ones(20, 1)), score(broken)).judgement == "better"


def test_selecting_flatters_where_the_error_is_less_on_the_half_that_selected(kitchen: sv.Kitchen) -> None:
    recipe = sv.greedy(kitchen).recipe
    found = crossfit.crossfit(kitchen, recipe)
    assert found.optimism == pytest.approx(found.judging - found.selecting)
    whole = np.sqrt(np.mean([half.judging**2 for half in found.halves]))
    assert found.judging == pytest.approx(whole)
    assert crossfit.known(kitchen, recipe) == found
    assert "RMSE" in verdict_of(kitchen, sv.greedy(kitchen)).optimism


def test_compare_ranks_by_the_least_error_and_tests_by_permutation(
    kitchen: sv.Kitchen, no_examples: Callable[[], None]
) -> None:
    task, metric, runs = kitchen.task, kitchen.objective, kitchen.store.runs()
    rows = comparison.ranked(comparison.entries(kitchen, runs, "test"), metric)
    held_out = [row.held_out.shown("rmse") for row in rows if row.held_out]
    assert held_out == sorted(held_out)
    best = comparison.best_ingredient(rows, metric)
    assert best is not None and best.id == by_rmse(kitchen, "held_out")[0]
    shown = table.table(rows, "test", task, metric).set_index("model")
    values = shown["test"].to_dict()
    assert shown["difference"].to_dict() == pytest.approx(
        {name: values[name] - values[best.name] for name in values}, nan_ok=True
    )
    ensemble = next(row for row in rows if row.kind == "ensemble")
    assert rows[-1] is ensemble and np.isnan(values[ensemble.name])  # nobody asked for it yet
    worst = by_rmse(kitchen, "test")[-1]
    assert shown.loc[worst, "verdict"] == "worse"
    assert "ECE" not in shown
    assert "permutation test" in table.correction(rows, "test", task, metric)
    _, spec = picture.picture(rows, "test", "", metric)
    title = spec["layer"][0]["encoding"]["x"]["axis"]["title"]
    assert title == ["RMSE on test, lower is better", "95 % normal interval"]
    no_examples()
    assert comparison.ranked(comparison.entries(kitchen, runs, "test"), metric) == rows


def test_two_soups_are_compared_by_their_error(kitchen: sv.Kitchen) -> None:
    a, b = kitchen.store.runs()
    for found in history.pairs(kitchen, a, b):
        scores = [kitchen.scores.score(mix_in(run), found.split).shown("rmse") for run in (a, b)]
        assert (found.old, found.new) == pytest.approx(tuple(scores))
    same = comparing.compared(kitchen, (mean_of(kitchen.names), "test", "average"), (mix_in(b), "test", "average"))
    assert same is not None and same.judgement == "the same on every example"


def test_what_is_more_robust_lies_below_the_line(kitchen: sv.Kitchen) -> None:
    scores = robustness.scores_of(kitchen, robustness.mixes_of(kitchen, kitchen.store.runs()))
    assert scores.metric == RMSE
    points = scores.points("test", ["shifts.blur"])
    [best] = points.loc[points["kind"] == "best", "id"]
    assert best == by_rmse(kitchen, "held_out")[0]


def test_the_report_has_no_classes_no_points_and_the_metrics_own_columns(
    kitchen: sv.Kitchen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "curve", lambda *_: None)
    monkeypatch.setattr(figures, "known_pairs", lambda *_: [])
    text = page.report(sv.uniform(kitchen), tmp_path / "report.html").read_text(encoding="utf-8")
    assert "regression has no classes, so that nothing can be said class by class." in text
    assert "95 % normal intervals" in text and "permutation test" in text
    for column in ("RMSE", "MAE", "R²"):
        assert f'<th scope="col" class="n">{column}</th>' in text
    assert "largest coefficient first. RMSE; a dash is" in text
    assert "calibration" not in text and "Wilson" not in text and "McNemar" not in text


def test_the_card_tells_the_error_with_its_interval(kitchen: sv.Kitchen, tmp_path: Path) -> None:
    soup = sv.uniform(kitchen)
    *_, card = sv.export(soup, tmp_path / "soup.safetensors")
    text = card.read_text(encoding="utf-8")
    assert "| split | role | RMSE | 95% interval | examples | MAE |" in text
    assert f"| test | reports | {soup.scores['test'].shown('rmse'):.4g} |" in text
    assert "lower is better" in text


def test_the_compare_page_speaks_of_the_error(file: Path) -> None:
    at = opened_page("compare", file, picked="m_3")
    told = texts(at)
    assert "Of RMSE, lower is better." in told
    assert "RMSE on test against" in told
    assert "ccuracy" not in told and "McNemar" not in told and " points" not in told


def panel(path: str, number: int) -> None:
    """A page that has the verdict only."""
    import soupviz
    from soupviz.ui import verdict

    opened = soupviz.Kitchen.load(path)
    for split in opened.splits.reporting:
        opened.splits.load(split)
    verdict.draw(opened, opened.store.runs()[number])


def test_the_panel_of_a_verdict_has_every_figure_in_the_metrics_own_unit(kitchen: sv.Kitchen) -> None:
    crossfit.crossfit(kitchen, sv.greedy(kitchen).recipe)
    sv.cook(kitchen, {"method": "ensemble"})
    at = AppTest.from_function(panel, default_timeout=60, args=(str(kitchen.file), 0)).run()
    assert not at.exception, at.exception[0].stack_trace
    told = texts(at)
    assert "Values have 95 % normal intervals" in told and "4,000 draws" in told
    assert "Of RMSE, lower is better." in told
    assert "Cross-fitted on held_out" in told and "is better on" in told
    assert "Connor" not in told and "McNemar" not in told and "ccuracy" not in told
    found = verdict_of(kitchen, kitchen.store.runs()[0])
    shown = at.dataframe[0].value
    assert shown["test"].iloc[0] == pytest.approx(found.values["test"].value)
    assert [name.partition(":")[0] for name in shown["model"]] == [
        "this soup",
        "best ingredient",
        found.ensemble.name,
        found.uniform.name,
    ]
    halves = at.dataframe[-1].value
    assert halves["the other half"].tolist() == pytest.approx([half.judging for half in found.crossfit.halves])


def test_the_history_page_shows_the_error_of_each_run_and_of_two(file: Path) -> None:
    at = opened_page("history", file, runs="1,2")
    shown = at.dataframe[0].value
    kitchen = sv.Kitchen.load(file)
    expected = [kitchen.scores.score(mix_in(run), "test").shown("rmse") for run in reversed(kitchen.store.runs())]
    assert shown["test"].tolist() == pytest.approx(expected)
    scores = next(frame.value for frame in at.dataframe if "verdict" in frame.value)
    assert {"better", "worse"} <= set(scores.columns)
    assert "by the permutation test" in texts(at)


def test_one_run_shows_its_errors(file: Path) -> None:
    at = opened_page("history", file, runs="1")
    run = sv.Kitchen.load(file).store.runs()[0]
    kept = run.result["scores"]["test"]["metrics"]["rmse"] if run.result else None
    assert f"{kept:.4g}" in [one.value for one in at.metric]
    assert any("n = 120" in one.delta for one in at.metric)


def test_the_shift_page_offers_no_logits_and_looks_below_the_line(file: Path) -> None:
    at = opened_page("shift", file)
    assert not [one for one in at.toggle if one.label == "Logit axes"]
    told = texts(at)
    assert "below the line" in told
    assert "Of RMSE, lower is better." in told
    assert "ccuracy" not in told
