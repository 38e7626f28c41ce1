"""The Compare page's table: in which order, and what p-values say where there are many models."""

import time
from collections.abc import Sequence

import pytest
from kitchens import small_kitchen
from scores import CLASSIFICATION, counted

import soupviz as sv
from soupviz.tasks.classes.class_metrics import ACCURACY
from soupviz.tasks.figures import interval
from soupviz.tasks.paired import Pair
from soupviz.tasks.score import Score
from soupviz.tasks.significance import mcnemar
from soupviz.ui.compare import entries as compare
from soupviz.ui.compare.entries import Entry, entries, ranked
from soupviz.ui.compare.picture import picture
from soupviz.ui.compare.table import correction, table

NUMBER = 40
BEST = 20
"""Examples of test that the best ingredient has right."""


def scored(split: str, right: int) -> Score:
    """The first examples right, the others wrong."""
    return counted(right, NUMBER, split)


def entry(id: str, kind: str, held_out: int | None, test: int | None) -> Entry:
    scores = [
        None if right is None else scored(split, right) for split, right in (("held_out", held_out), ("test", test))
    ]
    apart = None if test is None else (max(0, test - BEST), max(0, BEST - test))
    pair = None if apart is None or kind == "best" else Pair(*apart, mcnemar(*apart))
    around = interval(ACCURACY, scores[1]) if scores[1] else None
    return Entry(id, id, kind, ((id, 1.0),), "average", *scores, pair=pair, interval=around)


@pytest.fixture
def rows() -> Sequence[Entry]:
    soups = [entry(f"soup {index}", "soup", 34 - index, 20 + index) for index in range(6)]
    checkpoints = [entry("a", "best", 31, BEST), entry("b", "ingredient", 30, 26), entry("c", "ingredient", None, None)]
    return ranked([*soups, *checkpoints], ACCURACY)


def test_models_are_ordered_by_held_out_and_never_by_test(rows):
    held_out = [row.held_out.correct for row in rows if row.held_out]
    assert held_out == sorted(held_out, reverse=True)
    assert rows[-1].id == "c"
    shown = picture(rows, "test", "", ACCURACY)[0]
    assert shown["id"].tolist() == [row.id for row in rows if row.judged]


def test_p_values_are_corrected_over_the_soups_and_apart_over_the_checkpoints(rows):
    """Six soups fix 0 to 5 examples more than the best ingredient, b fixes 6: alone p is 0.03."""
    shown = table(rows, "test", CLASSIFICATION, ACCURACY).set_index("model")
    assert shown.loc["soup 5", "p"] == pytest.approx(6 * mcnemar(5, 0))
    assert shown.loc["b", "p"] == pytest.approx(mcnemar(6, 0))
    assert shown.loc["b", "verdict"] == "better"
    assert shown.loc["a", "verdict"] == "best on held_out"
    assert shown.loc["c", "verdict"] == "not scored yet"


def test_many_soups_make_a_lucky_one_no_finding(rows):
    lucky = entry("lucky", "soup", 30, 26)
    assert (
        table([*rows, lucky], "test", CLASSIFICATION, ACCURACY).set_index("model").loc["lucky", "verdict"]
        == "no evidence of a difference"
    )


def test_it_is_said_over_how_many_tests_p_is_corrected(rows):
    told = correction(rows, "test", CLASSIFICATION, ACCURACY)
    assert "corrected by Holm over 6 soups and ensembles, and apart over 1 other checkpoint shown" in told
    assert correction([row for row in rows if row.judged is None], "test", CLASSIFICATION, ACCURACY) == ""


def test_the_ensemble_of_all_is_one_row_and_one_test_once_it_is_cooked(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path))
    before = [row.name for row in entries(kitchen, [], "test") if row.kind == "ensemble"]
    soup = sv.cook(kitchen, {"method": "ensemble"})
    rows = entries(kitchen, [run for run in kitchen.store.runs() if run.key == soup.key], "test")
    assert before == ["ensemble of all 4"]
    assert [row.name for row in rows if row.kind == "ensemble"] == [soup.title]


def test_many_models_are_compared_in_the_background_and_none_before_all_are(tmp_path, monkeypatch):
    """Corrected over some of them only, p would seem smaller than it is."""
    monkeypatch.setattr(compare, "AT_ONCE", 2)
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=5, num_examples=60))
    kitchen.scores.of_ingredients("held_out")
    kitchen.scores.of_ingredients("test")
    rows = entries(kitchen, [], "test")
    assert [row.pair for row in rows] == [None] * len(rows)
    assert "not compared yet" in table(rows, "test", kitchen.task, kitchen.objective)["verdict"].tolist()
    job = compare.compare_job(kitchen, rows, "test")
    assert job is not None and compare.compare_job(kitchen, rows, "test") is job
    deadline = time.monotonic() + 30
    while job.is_active and time.monotonic() < deadline:
        time.sleep(0.01)
    assert job.state == "finished"
    rows = entries(kitchen, [], "test")
    assert sum(row.pair is not None for row in rows) == 4
    assert compare.compare_job(kitchen, rows, "test") is None


def test_soups_of_one_mix_are_compared_once_and_count_as_compared(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=3, num_examples=60))
    kitchen.scores.of_ingredients("held_out")
    kitchen.scores.of_ingredients("test")
    sv.uniform(kitchen)
    sv.uniform(kitchen, kitchen.names)
    rows = entries(kitchen, kitchen.store.runs(), "test")
    assert [row.pair is not None for row in rows if row.kind == "soup"] == [True, True]
    assert compare.compare_job(kitchen, rows, "test") is None
