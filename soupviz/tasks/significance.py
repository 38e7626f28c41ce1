"""How sure one can be of right and wrong answers, exactly or by formula; and of several tests at once."""

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache

import numpy as np

UNPROVEN = "no evidence of a difference"

REMEMBERED = 8192
"""Tests and intervals that are not computed again: a page of many models asks for the same ones at every look."""

POWER = 0.8
"""The chance that a difference shows, of which a split is asked whether it is large enough."""

LEVEL = 0.05
"""The chance that no difference shows as one."""

DRAWS = 10_000


@lru_cache(REMEMBERED)
def wilson(correct: int, num_examples: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of an accuracy, as fractions.

    Source:
        Wilson 1927; without continuity correction.
    """
    from scipy.stats import binomtest  # loading scipy.stats takes most of a second

    interval = binomtest(correct, num_examples).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@lru_cache(REMEMBERED)
def mcnemar(fixed: int, broken: int) -> float:
    """Exact two-sided McNemar test of two models on the same examples.

    Args:
        fixed: examples that only the new model gets right. broken: that only the old one does.
    Returns:
        The p-value; 1.0 where they never differ.
    """
    from scipy.stats import binomtest

    return float(binomtest(fixed, fixed + broken).pvalue) if fixed + broken else 1.0


@lru_cache(REMEMBERED)
def bootstrap_interval(
    fixed: int, broken: int, num_examples: int, *, confidence: float = 0.95, draws: int = DRAWS, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the difference of two accuracies on the same examples.

    Examples are drawn with replacement, each with both its answers. What counts of a draw is how many of its examples
    are fixed and how many are broken, and those counts are multinomial: they are drawn at once.

    Args:
        fixed: examples that only the new model has right. broken: that only the old one has.
        draws: resamples. seed: of them; the same seed gives the same interval.
    Returns:
        Low and high end of (fixed - broken) / num_examples, as fractions.
    Source:
        Efron and Tibshirani 1993, section 13.3; as scipy.stats.bootstrap(method="percentile") has it.
    """
    shares = np.array([fixed, broken, num_examples - fixed - broken]) / num_examples
    counts = np.random.default_rng(seed).multinomial(num_examples, shares, size=draws)
    differences = (counts[:, 0] - counts[:, 1]) / num_examples
    tail = (1.0 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1.0 - tail])
    return float(low), float(high)


@lru_cache(REMEMBERED)
def smallest_detectable(
    num_examples: int, discordance: float, *, power: float = POWER, level: float = LEVEL
) -> float | None:
    """The smallest difference of two accuracies that McNemar's test shows with the power, on so many examples.

    The sample size for McNemar's test, `n = [z_(level/2) sqrt(s) + z_power sqrt(s - d^2)]^2 / d^2`, solved for the
    difference d.

    Args:
        discordance: s, the share of the examples that only one of the two models has right.
    Returns:
        d as a fraction; None where not even d = s shows: too few examples differ for any test.
    Source:
        Connor 1987, Biometrics 43, 207-211, equation 3.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    z_level, z_power = float(norm.isf(level / 2)), float(norm.isf(1.0 - power))

    def short(difference: float) -> float:
        spread = z_level * math.sqrt(discordance) + z_power * math.sqrt(max(0.0, discordance - difference**2))
        return spread - difference * math.sqrt(num_examples)

    if discordance <= 0.0 or short(discordance) > 0.0:
        return None
    return float(brentq(short, 0.0, discordance))


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values of several tests, so corrected that the chance of any false finding among them stays below the level.

    Source:
        Holm 1979: the k-th smallest of m is multiplied by m - k + 1, and none is below the one before it.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, least = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = least
    return corrected


def chance(p_value: float, is_least: bool = False) -> str:
    """A p-value, in as many digits as matter.

    Args:
        is_least: it is as small as the number of draws allows: more of them might have found a smaller one.
    """
    if p_value < 0.001:
        return "p < 0.001"
    digits = 3 if p_value < 0.1 else 2
    if is_least:  # rounded down it would be no bound
        return f"p ≤ {Decimal(str(p_value)).quantize(Decimal(10) ** -digits, ROUND_CEILING)}"
    return f"p = {p_value:.{digits}f}"
