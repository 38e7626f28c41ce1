"""What per-example results add up to, and how sure one can be of a difference."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from soupviz.tasks.score import Score

LEAST_MERIT = -1e290
"""Of a model whose answers are all finite, and still far above that of any with one that is not."""

REMEMBERED = 8192
"""Tests and intervals that are not computed again: a page of many models asks for the same ones at every look."""

SAME, UNPROVEN = "the same on every example", "no evidence of a difference"


def merit_by_loss(score: Score) -> float:
    """What is raised where the loss is to fall, in nats: minus the loss where every answer is finite.

    Every comparison of losses goes through it. With answers that are not finite, it is below that of every model that
    has none of them, whatever the loss of the others is, and the lower the more there are: the mean of the finite ones
    would prefer a model that overflows where it errs.
    """
    if score.num_nonfinite:
        return -sys.float_info.max * (score.num_nonfinite / score.num_examples)
    return max(-score.loss, LEAST_MERIT) if score.loss is not None else LEAST_MERIT


def whole_loss(score: Score) -> float | None:
    """The loss over all examples, in nats; None where it is not finite on each of them."""
    is_whole = score.loss is not None and math.isfinite(score.loss) and not score.num_nonfinite
    return score.loss if is_whole else None


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


def chance(p_value: float) -> str:
    """A p-value, in as many digits as matter."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}" if p_value < 0.1 else f"p = {p_value:.2f}"


def paired_counts(new: Score, old: Score) -> tuple[int, int]:
    """(fixed, broken): examples that only the new, and that only the old score has right."""
    assert new.outcomes is not None and old.outcomes is not None
    right, was_right = new.outcomes["right"], old.outcomes["right"]
    return int((right & ~was_right).sum()), int((~right & was_right).sum())


def calibration_error(
    confidences: NDArray[np.float32], correct: NDArray[np.bool_], num_bins: int = 15, *, adaptive: bool = False
) -> float:
    """Expected calibration error: how far confidence and accuracy are apart, bin by bin, weighed by their examples.

    Args:
        confidences: probability of the predicted class, shape (num_examples,), finite.
        adaptive: bins of as many examples each, instead of bins of equal width over [0, 1].
    Source:
        Naeini et al. 2015; Guo et al. 2017 (arXiv 1706.04599), equation 3; adaptive: Nguyen and O'Connor 2015.
    """
    if adaptive:
        order = np.argsort(confidences, kind="stable")
        parts = np.array_split(order, num_bins)
    else:
        bins = np.clip(np.ceil(confidences * num_bins).astype(np.int64) - 1, 0, num_bins - 1)
        parts = [np.flatnonzero(bins == index) for index in range(num_bins)]
    gaps = [
        abs(float(confidences[part].mean()) - float(correct[part].mean())) * len(part) for part in parts if len(part)
    ]
    return sum(gaps) / len(confidences)


def judgement(fixed: int, broken: int, p_value: float | None = None, significance: float = 0.05) -> str:
    """What McNemar's exact test says of the paired counts, in words without figures.

    Args:
        p_value: where it is one of several, and corrected for that; default: that of these counts alone.
    """
    if fixed + broken == 0:
        return SAME
    if (mcnemar(fixed, broken) if p_value is None else p_value) >= significance:
        return UNPROVEN
    return "better" if fixed > broken else "worse"


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


@dataclass(frozen=True, slots=True)
class Compared:
    """One of several models against the same rival on one split.

    fixed: examples that only the model has right. broken: that only the rival has. difference: of the accuracies, a
    fraction. p_value: of McNemar's exact test, Holm-corrected over all that were compared, of which there are number.
    judgement: what that says, in words.
    """

    fixed: int
    broken: int
    difference: float
    p_value: float
    number: int
    judgement: str


def compared_with(rival: Score, models: Mapping[str, Score]) -> dict[str, Compared]:
    """Several models against one, by their ids, on the same examples."""
    return compared_by({key: paired_counts(score, rival) for key, score in models.items()}, rival.num_examples)


def compared_by(counts: Mapping[str, tuple[int, int]], num_examples: int) -> dict[str, Compared]:
    """Several models against one, by their ids, from what each has fixed and broken of so many examples."""
    p_values = holm([mcnemar(*pair) for pair in counts.values()])
    return {
        key: Compared(
            fixed,
            broken,
            (fixed - broken) / num_examples,
            p_value,
            len(counts),
            judgement(fixed, broken, p_value),
        )
        for (key, (fixed, broken)), p_value in zip(counts.items(), p_values, strict=True)
    }


def verdict(new: Score, old: Score) -> str:
    """A plain sentence on whether `new` is better than `old` on their split, by McNemar's exact test."""
    fixed, broken = paired_counts(new, old)
    judged = judgement(fixed, broken)
    p_value = mcnemar(fixed, broken)
    points = 100 * abs(fixed - broken) / new.num_examples
    shown = chance(p_value)
    if judged == SAME:
        return f"{judged} of {new.split}"
    if judged == UNPROVEN:
        trend = "+" if fixed > broken else "-" if fixed < broken else "±"
        return f"{judged} on {new.split} ({trend}{points:.1f} points, {shown})"
    return f"{judged} by {points:.1f} points on {new.split}, {shown}"
