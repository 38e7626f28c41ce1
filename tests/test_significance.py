import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from soupviz import ui
from soupviz.tasks.significance import bootstrap_interval, chance, smallest_detectable
from soupviz.ui.formats import CHANCE

FORMATS = re.compile(r'number\(\s*"p", format=([^,)]+)')
"""Of columns of p-values."""


def paired(fixed: int, broken: int, num_examples: int) -> np.ndarray:
    """By example what the new model has more right: 1, -1 or 0."""
    return np.array([1] * fixed + [-1] * broken + [0] * (num_examples - fixed - broken))


def test_a_bootstrap_of_models_that_never_differ_is_zero():
    assert bootstrap_interval(0, 0, 100) == (0.0, 0.0)


def test_a_bootstrap_of_models_that_differ_on_every_example_is_one_point():
    assert bootstrap_interval(50, 0, 50) == (1.0, 1.0)


@pytest.mark.parametrize("seed", range(6))
def test_the_bootstrap_agrees_with_scipy(seed):
    chance = np.random.default_rng(seed)
    number = int(chance.integers(100, 1500))
    fixed, broken = (int(n) for n in chance.integers(0, number // 5, 2))
    theirs = stats.bootstrap(
        (paired(fixed, broken, number),), np.mean, n_resamples=4000, method="percentile", rng=seed, batch=500
    ).confidence_interval
    ours = bootstrap_interval(fixed, broken, number)
    # The quantiles of so many draws are themselves uncertain by about a fiftieth of the width.
    allowed = 1 / number + 0.04 * (theirs.high - theirs.low)
    assert ours == pytest.approx((theirs.low, theirs.high), abs=allowed)


def test_the_bootstrap_is_near_the_normal_interval_where_examples_are_many():
    """By hand: d = 0.02, variance of one example 0.1 - 0.02^2, so d ± 1.96 sqrt(0.0996 / 10000)."""
    low, high = bootstrap_interval(600, 400, 10_000)
    half = 1.96 * math.sqrt((0.1 - 0.02**2) / 10_000)
    assert (low, high) == pytest.approx((0.02 - half, 0.02 + half), abs=3e-4)


def test_the_bootstrap_repeats_and_mirrors():
    assert bootstrap_interval(30, 20, 400) == bootstrap_interval(30, 20, 400)
    low, high = bootstrap_interval(30, 20, 400)
    assert bootstrap_interval(20, 30, 400) == pytest.approx((-high, -low), abs=2 / 400)
    assert low < 10 / 400 < high


def test_more_confidence_is_a_wider_interval():
    narrow, wide = (bootstrap_interval(30, 20, 400, confidence=level) for level in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def sample_size(difference: float, discordance: float) -> float:
    """Connor 1987: examples for 80 % power at the 5 % level, with z from a table."""
    spread = 1.959964 * math.sqrt(discordance) + 0.841621 * math.sqrt(discordance - difference**2)
    return (spread / difference) ** 2


@pytest.mark.parametrize(("difference", "discordance"), [(0.01, 0.06), (0.05, 0.2), (0.003, 0.02)])
def test_the_smallest_difference_is_the_one_whose_sample_size_is_there(difference, discordance):
    number = round(sample_size(difference, discordance))
    assert smallest_detectable(number, discordance) == pytest.approx(difference, rel=2e-3)


def test_the_smallest_difference_by_hand():
    """5,000 examples, 6 % of them apart: about 2.8 standard errors of sqrt(0.06 / 5000), 0.97 points."""
    assert smallest_detectable(5000, 0.06) == pytest.approx(2.8016 * math.sqrt(0.06 / 5000), rel=3e-3)


def test_mcnemar_finds_the_smallest_difference_four_times_in_five():
    number, discordance = 4000, 0.08
    difference = smallest_detectable(number, discordance)
    shares = [(discordance + difference) / 2, (discordance - difference) / 2, 1 - discordance]
    fixed, broken, _ = np.random.default_rng(0).multinomial(number, shares, size=4000).T
    p_values = np.minimum(1.0, 2 * stats.binom.cdf(np.minimum(fixed, broken), fixed + broken, 0.5))
    assert (p_values < 0.05).mean() == pytest.approx(0.8, abs=0.03)


def test_more_examples_show_smaller_differences():
    found = [smallest_detectable(number, 0.1) for number in (200, 2000, 20_000)]
    assert found == sorted(found, reverse=True)


def test_a_p_value_is_never_told_as_nought_and_one_that_draws_cannot_lower_is_a_bound():
    assert [chance(p) for p in (0.0, 0.00025, 0.001, 0.0499, 0.25)] == [
        "p < 0.001", "p < 0.001", "p = 0.001", "p = 0.050", "p = 0.25",
    ]  # fmt: skip
    assert chance(0.00025, is_least=True) == "p < 0.001"
    assert (chance(0.002, is_least=True), chance(0.5, is_least=True)) == ("p ≤ 0.002", "p ≤ 0.50")
    assert chance(1 / 301, is_least=True) == "p ≤ 0.004"


def test_a_column_of_p_values_shows_the_smallest_ones_too():
    for p in (0.05, 0.0005, 1e-9):
        assert float(CHANCE % p) == pytest.approx(p, rel=1e-2)
    columns = [
        found for file in Path(ui.__file__).parent.rglob("*.py") for found in FORMATS.findall(file.read_text("utf-8"))
    ]
    assert len(columns) > 5 and all(one.endswith("CHANCE") for one in columns)


def test_where_too_few_examples_differ_nothing_shows():
    assert smallest_detectable(1000, 0.0) is None
    assert smallest_detectable(100, 0.02) is None  # two examples apart: even 2 to 0 has p = 0.5
