"""How sure one can be of a paired difference, and how small a difference a split can show at all."""

import math
from dataclasses import dataclass

import numpy as np

from soupviz.tasks.metrics import judgement, mcnemar, paired_counts, wilson
from soupviz.tasks.score import Score

POWER = 0.8
"""The chance that a difference shows, of which a split is asked whether it is large enough."""

LEVEL = 0.05
"""The chance that no difference shows as one."""

DRAWS = 10_000


@dataclass(frozen=True, slots=True)
class Accuracy:
    """On a split, with its 95 % Wilson interval, as fractions. selects: whether the split had a part in the choice."""

    split: str
    correct: int
    num_examples: int
    accuracy: float
    low: float
    high: float
    selects: bool


@dataclass(frozen=True, slots=True)
class Difference:
    """Of the soup to another model, on the same examples of a split.

    fixed: examples that only the soup has right. broken: that only the other has. difference: of the accuracies, a
    fraction. low, high: its 95 % bootstrap interval. p_value: of McNemar's exact test. smallest: the difference from
    which on a split of so many examples tells, where models differ as often as these two; None: none would show.
    judgement: what the test says, in words.
    """

    split: str
    fixed: int
    broken: int
    num_examples: int
    difference: float
    low: float
    high: float
    p_value: float
    smallest: float | None
    judgement: str


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


def accuracy_of(score: Score, selects: tuple[str, ...]) -> Accuracy:
    """A score with its interval. selects: the splits that had a part in the choice."""
    low, high = wilson(score.correct, score.num_examples)
    is_selecting = score.split in selects
    return Accuracy(score.split, score.correct, score.num_examples, score.accuracy, low, high, is_selecting)


def difference(new: Score, old: Score) -> Difference:
    """Of two models on the same examples."""
    fixed, broken = paired_counts(new, old)
    number = new.num_examples
    low, high = bootstrap_interval(fixed, broken, number)
    return Difference(
        split=new.split,
        fixed=fixed,
        broken=broken,
        num_examples=number,
        difference=(fixed - broken) / number,
        low=low,
        high=high,
        p_value=mcnemar(fixed, broken),
        smallest=smallest_detectable(number, (fixed + broken) / number),
        judgement=judgement(fixed, broken),
    )
