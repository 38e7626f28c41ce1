"""Temperature scaling: against scipy, by hand, and on data that are miscalibrated by a known temperature."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from soupviz.errors import RecipeError
from soupviz.tasks import calibration
from soupviz.tasks.calibration import BINS, Bin, Calibration, Decisions, calibration_error


def fit_temperature(logits, labels) -> float:
    return calibration.fit_temperature(Decisions(logits, labels))


def measure(logits, labels, temperature: float = 1.0) -> Calibration:
    return calibration.measure(Decisions(logits, labels), temperature)


def reliability(logits, labels, temperature: float = 1.0) -> list[Bin]:
    return calibration.reliability(Decisions(logits, labels), temperature)


def answers(num_examples: int = 400, num_classes: int = 4, seed: int = 0, sharp: float = 1.5):
    """Float32 logits that say something of the labels."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, num_classes, num_examples)
    logits = sharp * np.eye(num_classes)[labels] + generator.normal(size=(num_examples, num_classes))
    return logits.astype(np.float32), labels


def calibrated(num_examples: int, num_classes: int = 5, seed: int = 0):
    """Labels drawn from the very probabilities that the logits say."""
    generator = np.random.default_rng(seed)
    logits = 2 * generator.normal(size=(num_examples, num_classes))
    labels = np.array([generator.choice(num_classes, p=row) for row in softmax(logits, axis=1)])
    return logits.astype(np.float32), labels


def by_scipy(logits, labels) -> float:
    def loss(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / math.exp(log_temperature)
        return float(-log_softmax(scaled, axis=1)[np.arange(len(labels)), labels].mean())

    return math.exp(minimize_scalar(loss, bounds=(-12, 12), method="bounded", options={"xatol": 1e-10}).x)


# Fitting


@pytest.mark.parametrize("sharp", [0.3, 1.5, 4.0])
@pytest.mark.parametrize(("num_examples", "num_classes"), [(50, 2), (400, 4), (2000, 10)])
def test_the_temperature_is_scipys(num_examples, num_classes, sharp):
    for seed in range(3):
        logits, labels = answers(num_examples, num_classes, seed, sharp)
        if (logits.argmax(1) == labels).all():
            continue
        assert fit_temperature(logits, labels) == pytest.approx(by_scipy(logits, labels), rel=1e-4)


@pytest.mark.parametrize("factor", [1e-3, 0.1, 2.0, 10.0, 1e4])
def test_logits_that_are_multiplied_have_a_temperature_that_is_multiplied(factor):
    logits, labels = answers()
    expected = factor * fit_temperature(logits, labels)
    assert fit_temperature((factor * logits).astype(np.float32), labels) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("factor", [0.5, 1.0, 3.0])
def test_the_temperature_that_miscalibrated_the_data_is_found(factor):
    logits, labels = calibrated(20_000)
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.03)


def test_two_classes_by_hand():
    """Gap g, right in three of four: the best probability of the guess is 3/4, so that g / T = ln 3."""
    logits = np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 0.0]], np.float32)
    labels = np.array([0, 0, 1, 1])
    assert fit_temperature(logits, labels) == pytest.approx(2 / math.log(3), rel=1e-6)


def test_what_is_added_to_all_logits_of_an_example_changes_nothing():
    logits, labels = answers()
    moved = logits + 10 * np.random.default_rng(1).normal(size=(len(logits), 1)).astype(np.float32)
    assert fit_temperature(moved, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-4)


def test_examples_that_are_not_finite_are_wrong_and_otherwise_left_out():
    logits, labels = answers()
    spoiled = np.concatenate([logits, [[np.nan, 0, 0, 0], [np.inf, 0, 0, 0], [0, -np.inf, 0, 0]]]).astype(np.float32)
    more = np.concatenate([labels, [0, 1, 2]])
    assert fit_temperature(spoiled, more) == fit_temperature(logits, labels)
    found, whole = measure(spoiled, more), measure(logits, labels)
    assert (found.num_examples, found.num_nonfinite) == (len(labels) + 3, 3)
    assert found.accuracy == pytest.approx(whole.accuracy * len(labels) / (len(labels) + 3))
    assert (found.nll, found.brier, found.ece) == (whole.nll, whole.brier, whole.ece)
    assert sum(bar.count for bar in reliability(spoiled, more)) == len(labels)


def test_fitting_leaves_logits_that_are_mapped_from_a_file_as_they_are():
    logits, labels = answers()
    before = logits.copy()
    logits.setflags(write=False)
    fit_temperature(logits, labels)
    measure(logits, labels, 2.0)
    assert np.array_equal(logits, before)


# What cannot be fitted


@pytest.mark.parametrize("sharp", [1.0, 20.0, 1000.0])
def test_where_every_example_is_right_no_temperature_is_best(sharp):
    labels = np.arange(20) % 3
    logits = (sharp * np.eye(3)[labels]).astype(np.float32)
    with pytest.raises(RecipeError, match="no temperature fits these logits: every answer is right"):
        fit_temperature(logits, labels)


@pytest.mark.parametrize("of", ["wrong", "nothing"])
def test_where_logits_say_nothing_of_the_labels_no_temperature_is_best(of):
    labels = np.arange(21) % 3
    logits = -np.eye(3, dtype=np.float32)[labels] if of == "wrong" else np.tile([[2.0, 1.0, 0.0]], (21, 1))
    with pytest.raises(RecipeError, match="these logits: they say no more about the labels than chance"):
        fit_temperature(logits.astype(np.float32), labels)


@pytest.mark.parametrize("call", [fit_temperature, measure, reliability])
def test_where_nothing_is_finite_there_is_nothing_to_calibrate(call):
    logits = np.full((4, 3), np.nan, np.float32)
    with pytest.raises(RecipeError, match="no answer has finite logits, so there is nothing to calibrate"):
        call(logits, np.zeros(4, np.int64))


# Measuring


def test_the_figures_of_three_examples_by_hand():
    """Probabilities 0.9, 0.6 and 0.2 for the labels, of two classes."""
    logits = np.log([[0.9, 0.1], [0.4, 0.6], [0.8, 0.2]]).astype(np.float32)
    found = measure(logits, np.array([0, 1, 1]))
    assert (found.num_examples, found.temperature) == (3, 1.0)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.nll == pytest.approx(-(math.log(0.9) + math.log(0.6) + math.log(0.2)) / 3, rel=1e-6)
    assert found.brier == pytest.approx((2 * 0.1**2 + 2 * 0.4**2 + 2 * 0.8**2) / 3, rel=1e-6)
    # Confidences 0.9 (right), 0.6 (right) and 0.8 (wrong), each in a bin of its own.
    gaps = [abs(0.9 - 1), abs(0.6 - 1), abs(0.8 - 0)]
    assert found.ece == pytest.approx(sum(gaps) / 3, rel=1e-5)
    assert found.adaptive_ece == pytest.approx(sum(gaps) / 3, rel=1e-5)


def test_examples_in_one_bin_are_averaged_before_they_are_compared():
    """Two examples of confidence 0.75, one right: |0.75 - 0.5|, where each alone would be 0.25 and 0.75 off."""
    logits = np.log([[0.75, 0.25], [0.75, 0.25]]).astype(np.float32)
    found = measure(logits, np.array([0, 1]))
    assert found.ece == pytest.approx(0.25, rel=1e-5)
    assert found.nll == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2, rel=1e-6)
    assert found.brier == pytest.approx((2 * 0.25**2 + 2 * 0.75**2) / 2, rel=1e-6)


def test_a_temperature_by_hand():
    """Logits (2 ln 3, 0) at temperature 2 are 3/4 and 1/4."""
    logits = np.array([[2 * math.log(3), 0.0]], np.float32)
    assert measure(logits, np.array([0]), 2.0).nll == pytest.approx(-math.log(0.75), rel=1e-6)
    assert measure(logits, np.array([1]), 2.0).brier == pytest.approx(2 * 0.75**2, rel=1e-6)


@given(st.floats(0.05, 20.0), st.integers(0, 20))
def test_a_temperature_changes_no_answer(temperature, seed):
    logits, labels = answers(100, seed=seed)
    plain = measure(logits, labels)
    assert plain.accuracy == float((logits.argmax(1) == labels).mean())
    assert measure(logits, labels, temperature).accuracy == plain.accuracy


@pytest.mark.parametrize("factor", [0.3, 3.0])
def test_the_fitted_temperature_mends_what_a_known_one_spoiled(factor):
    logits, labels = calibrated(6000)
    spoiled = (factor * logits).astype(np.float32)
    fitted = fit_temperature(spoiled[:3000], labels[:3000])
    before, after = (measure(spoiled[3000:], labels[3000:], one) for one in (1.0, fitted))
    assert after.ece < 0.35 * before.ece
    assert after.adaptive_ece < 0.35 * before.adaptive_ece
    assert after.nll < before.nll
    assert after.brier < before.brier
    assert after.accuracy == before.accuracy


def test_no_other_temperature_has_a_smaller_loss_on_what_it_was_fitted_on():
    logits, labels = answers()
    fitted = fit_temperature(logits, labels)
    least = measure(logits, labels, fitted).nll
    assert all(measure(logits, labels, fitted * factor).nll > least for factor in (0.5, 0.99, 1.01, 2.0))


def test_it_is_told_as_plain_data():
    logits, labels = answers()
    assert list(measure(logits, labels).as_dict()) == [
        "temperature", "num_examples", "accuracy", "nll", "brier", "ece", "adaptive_ece", "num_nonfinite",
    ]  # fmt: skip


# Reliability


@given(st.integers(1, 200), st.integers(2, 12), st.integers(0, 1000), st.floats(0.1, 10.0))
def test_the_bars_hold_every_example_once_and_add_up_to_the_error(num_examples, num_classes, seed, temperature):
    logits, labels = answers(num_examples, num_classes, seed)
    bars = reliability(logits, labels, temperature)
    assert len(bars) == BINS
    assert [bar.low for bar in bars[1:]] == [bar.high for bar in bars[:-1]]
    assert (bars[0].low, bars[-1].high) == (0.0, 1.0)
    assert sum(bar.count for bar in bars) == num_examples
    full = [bar for bar in bars if bar.count]
    assert all(bar.low - 1e-6 <= bar.confidence <= bar.high + 1e-6 for bar in full)
    assert all((bar.confidence, bar.right) == (None, None) for bar in bars if not bar.count)
    found = measure(logits, labels, temperature)
    assert sum(bar.right * bar.count for bar in full) / num_examples == pytest.approx(found.accuracy)
    error = sum(abs(bar.confidence - bar.right) * bar.count for bar in full) / num_examples
    assert error == pytest.approx(found.ece, abs=1e-6)


def test_a_bar_by_hand():
    """Confidence 0.75 lies in the twelfth of fifteen bins, from 11/15 to 12/15."""
    logits = np.log([[0.75, 0.25], [0.75, 0.25]]).astype(np.float32)
    bars = reliability(logits, np.array([0, 1]))
    assert [bar.count for bar in bars] == [0] * 11 + [2] + [0] * 3
    assert bars[11] == Bin(11 / 15, 12 / 15, 2, pytest.approx(0.75), 0.5)


def test_certainty_is_in_the_last_bar():
    bars = reliability(np.array([[500.0, 0.0]], np.float32), np.array([0]))
    assert (bars[-1].count, bars[-1].confidence, bars[-1].right) == (1, 1.0, 1.0)


def test_the_error_is_that_of_the_scores():
    """One definition: what a score says of a soup is what its calibration says at temperature 1."""
    logits, labels = answers()
    confidences = softmax(logits.astype(np.float64), axis=1).max(axis=1).astype(np.float32)
    right = logits.argmax(1) == labels
    assert measure(logits, labels).ece == pytest.approx(calibration_error(confidences, right))
