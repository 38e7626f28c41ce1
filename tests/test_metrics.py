import math
from math import comb
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from scores import CLASSIFICATION, a_score, some_outcomes

from soupviz.analysis.telling import verdict
from soupviz.tasks.calibration import calibration_error
from soupviz.tasks.classes.class_metrics import ACCURACY, LOSS, MacroF1
from soupviz.tasks.objective import Objective
from soupviz.tasks.paired import compare_many
from soupviz.tasks.score import Score
from soupviz.tasks.significance import holm, mcnemar, wilson


def score_of(correct: list[bool], split: str = "test") -> Score:
    return a_score(correct, split)


def test_wilson_of_8_in_10_by_hand():
    """(p + z2/2n ± z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n), with z = 1.959964."""
    z, n, p = 1.959964, 10, 0.8
    centre = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    expected = ((centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n))
    assert wilson(8, 10) == pytest.approx(expected, abs=1e-7)
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_lies_in_0_to_1_around_the_accuracy_and_solves_its_equation(counts):
    correct, n = counts
    low, high = wilson(correct, n)
    assert 0 <= low <= correct / n + 1e-12
    assert correct / n - 1e-12 <= high <= 1
    for bound in (low, high):
        if 1e-9 < bound < 1 - 1e-9:
            z = (correct / n - bound) / math.sqrt(bound * (1 - bound) / n)
            assert abs(z) == pytest.approx(norm.ppf(0.975), rel=1e-5)


def test_more_confidence_is_a_wider_interval():
    narrow, wide = wilson(70, 100, 0.8), wilson(70, 100, 0.99)
    assert wide[0] < narrow[0] < 0.7 < narrow[1] < wide[1]


def test_mcnemar_by_hand():
    """Two-sided: 2 P(X <= 1) for X ~ B(6, 1/2) is 2 (1 + 6) / 64."""
    assert mcnemar(1, 5) == pytest.approx(14 / 64)
    assert mcnemar(0, 5) == pytest.approx(2 / 32)


def test_mcnemar_of_models_that_never_differ_is_1():
    assert mcnemar(0, 0) == 1.0


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_twice_the_smaller_binomial_tail(fixed, broken):
    n = fixed + broken
    tail = sum(comb(n, k) for k in range(min(fixed, broken) + 1)) / 2**n
    assert mcnemar(fixed, broken) == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar(fixed, broken) == mcnemar(broken, fixed)


def test_better_and_worse_are_counted_on_the_same_examples():
    new, old = score_of([True, True, False, True]), score_of([False, True, True, False])
    assert CLASSIFICATION.better(new.outcomes, old.outcomes) == (2, 1)


@pytest.mark.parametrize(
    ("fixed", "broken", "sentence"),
    [
        (0, 0, "the same on every example of test"),
        (20, 0, "better by 20.0 points on test, p < 0.001"),
        (0, 20, "worse by 20.0 points on test, p < 0.001"),
        (6, 0, "better by 6.0 points on test, p = 0.031"),
        (3, 1, "no evidence of a difference on test (+2.0 points, p = 0.62)"),
        (1, 3, "no evidence of a difference on test (−2.0 points, p = 0.62)"),
        (2, 2, "no evidence of a difference on test (±0.0 points, p = 1.00)"),
    ],
)
def test_a_verdict_is_a_plain_sentence(fixed, broken, sentence):
    same = 100 - fixed - broken
    new = score_of([True] * fixed + [False] * broken + [True] * same)
    old = score_of([False] * fixed + [True] * broken + [True] * same)
    assert verdict(SimpleNamespace(task=CLASSIFICATION, objective=ACCURACY), new, old) == sentence


def test_macro_f1_by_hand():
    """Class 0: TP 1, FP 1, FN 1, F1 1/2. Class 1: TP 1, FP 1, FN 0, F1 2/3. Class 2: no TP, F1 0. Class 3: absent."""
    outcomes = some_outcomes(predictions=[0, 1, 0, 1], labels=[0, 0, 2, 1])
    assert MacroF1().value(outcomes) == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)


def test_a_prediction_of_nothing_is_a_miss_of_its_label_only():
    outcomes = some_outcomes(predictions=[-1, 0], labels=[0, 0])
    assert MacroF1().value(outcomes) == pytest.approx(2 / 3)


def test_a_summary_begins_with_the_four_figures_of_the_contract():
    summary = score_of([True, False, True, True]).summary()
    assert list(summary)[:4] == ["accuracy", "correct", "num_examples", "loss"]
    assert (summary["accuracy"], summary["correct"], summary["num_examples"]) == (0.75, 3, 4)
    assert "outcomes" not in summary


def test_calibration_error_by_hand():
    confidences = np.array([0.95, 0.97, 0.55, 0.52], dtype=np.float32)
    correct = np.array([True, False, True, True])
    # Of 15 bins the last holds two (0.96 against 0.5), the ninth (0.533 to 0.6) one, the eighth (0.467 to 0.533) one.
    expected = (2 * abs(0.96 - 0.5) + abs(0.55 - 1) + abs(0.52 - 1)) / 4
    assert calibration_error(confidences, correct) == pytest.approx(expected)
    # Two bins of two examples each.
    adaptive = (2 * abs(0.535 - 1.0) + 2 * abs(0.96 - 0.5)) / 4
    assert calibration_error(confidences, correct, 2, adaptive=True) == pytest.approx(adaptive)


def test_certainty_that_is_right_is_calibrated_and_certainty_that_is_wrong_is_not():
    sure = np.ones(5, dtype=np.float32)
    assert calibration_error(sure, np.ones(5, dtype=bool)) == 0.0
    assert calibration_error(sure, np.zeros(5, dtype=bool)) == 1.0


merit = Objective(LOSS).merit


def of_loss(loss: float | None, num_nonfinite: int = 0, num_examples: int = 100) -> Score:
    return Score("held_out", num_examples, {"loss": loss}, num_nonfinite)


def test_the_merit_of_a_loss_is_minus_the_loss_where_every_answer_is_finite():
    assert merit(of_loss(0.5)) == (0, -0.5)
    assert of_loss(0.5).whole(LOSS) == 0.5


@given(st.floats(0, 3e38) | st.just(math.inf), st.integers(1, 99), st.floats(0, 10), st.integers(1, 10**9))
def test_who_has_an_answer_that_is_not_finite_is_below_all_who_have_none_and_fewer_are_better(loss, bad, other, size):
    worst_whole = merit(of_loss(loss))
    assert worst_whole > merit(of_loss(0.0, 1, size))
    assert merit(of_loss(other, bad)) > merit(of_loss(0.0, bad + 1))
    assert merit(of_loss(None, 100)) < merit(of_loss(other, bad))
    assert of_loss(other, bad).whole(LOSS) is None


def test_holm_by_hand():
    """Sorted: 0.01 (times 4), 0.02 (times 3), 0.03 (times 2), 0.9."""
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.4]) == [0.4]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lowers_no_p_value_keeps_their_order_and_stays_a_probability(p_values):
    corrected = holm(p_values)
    assert all(old <= new <= 1 for old, new in zip(p_values, corrected, strict=True))
    ranked = sorted(range(len(p_values)), key=lambda index: p_values[index])
    assert [corrected[index] for index in ranked] == sorted(corrected)
    assert min(corrected) == pytest.approx(min(1, len(p_values) * min(p_values)))


def test_of_many_models_one_that_is_better_by_chance_is_no_finding():
    """Six fixed and none broken is p = 0.031 alone, and nothing among twenty."""
    rival = score_of([False] * 6 + [True] * 14)
    lucky, same = score_of([True] * 20), rival
    assert compare_many(CLASSIFICATION, ACCURACY, rival, {"lucky": lucky})["lucky"].judgement == "better"
    among = compare_many(
        CLASSIFICATION, ACCURACY, rival, {"lucky": lucky} | {f"same {index}": same for index in range(19)}
    )
    assert among["lucky"].p_value == pytest.approx(20 * 0.03125)
    assert among["lucky"].judgement == "no evidence of a difference"
    assert {one.number for one in among.values()} == {20}
    assert (among["lucky"].better, among["lucky"].worse, among["lucky"].difference) == (6, 0, 0.3)
