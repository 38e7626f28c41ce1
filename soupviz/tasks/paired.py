"""Two models on the same units: the difference under a metric, its interval, and how likely chance is to make it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soupviz.tasks import resampling
from soupviz.tasks.metric import Metric, SumMetric
from soupviz.tasks.metrics import SAME, UNPROVEN, holm, mcnemar
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.score import Score
from soupviz.tasks.task import Task
from soupviz.tasks.wording import is_improvement

LIST_DRAWS = 2_000
"""Permutations for each of many models in a list."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of a model with a rival on one split.

    difference: new - old. low, high: its 95 % bootstrap interval. better, worse: units that the new model answers
    better, and worse; for right and wrong answers those that only it, and only the rival has right. p_value: exact
    McNemar where units are right or wrong, else by permutation; of one of several it is Holm-corrected over `number`.
    smallest: the smallest difference that shows on so many units with a chance of 0.8, where models differ as these do.
    judgement: what the test says, in words.
    """

    split: str
    metric: str
    num_units: int
    new: float
    old: float
    difference: float
    low: float
    high: float
    better: int
    worse: int
    p_value: float
    smallest: float | None
    judgement: str
    number: int = 1


def p_value(
    metric: Metric,
    new: Outcomes,
    old: Outcomes,
    groups: NDArray[np.int64] | None = None,
    draws: int = resampling.DRAWS,
) -> float:
    """Of the difference of two models on the same units.

    Args:
        groups: of each unit its group, from 0; what belongs together is swapped together.
    """
    right = _right(metric, new)
    if right and groups is None:
        is_new, is_old = new[right], old[right]
        return mcnemar(int((is_new & ~is_old).sum()), int((~is_new & is_old).sum()))
    return resampling.permutation_p(metric, new, old, groups=groups, draws=draws)


def _right(metric: Metric, outcomes: Outcomes) -> str:
    """The column of a metric that is the share of units that are right; empty for every other metric."""
    if not isinstance(metric, SumMetric) or len(metric.columns) != 1:
        return ""
    column = outcomes[metric.columns[0]]
    return metric.columns[0] if column.dtype == np.bool_ and column.ndim == 1 else ""


def judged(metric: Metric, difference: float, p: float, *, is_same: bool, significance: float = 0.05) -> str:
    """What a test says of a difference, in words without figures."""
    if is_same and not difference:
        return SAME
    if p >= significance:
        return UNPROVEN
    return "better" if is_improvement(metric, difference) else "worse"


def compare(task: Task, metric: Metric, new: Score, old: Score, groups: NDArray[np.int64] | None = None) -> Comparison:
    """Two scores on the same units.

    Args:
        groups: of each unit its group, from 0; units of one group are resampled together.
    """
    assert new.outcomes is not None and old.outcomes is not None
    differences = resampling.bootstrap_differences(metric, new.outcomes, old.outcomes, groups=groups)
    low, high = np.quantile(differences, [0.025, 0.975]).tolist()
    p = p_value(metric, new.outcomes, old.outcomes, groups)
    better, worse = task.better(new.outcomes, old.outcomes)
    value, before = new.shown(metric.name) or 0.0, old.shown(metric.name) or 0.0
    return Comparison(
        split=new.split,
        metric=metric.name,
        num_units=new.num_units,
        new=value,
        old=before,
        difference=value - before,
        low=low,
        high=high,
        better=better,
        worse=worse,
        p_value=p,
        smallest=resampling.smallest_detectable(differences) or None,
        judgement=judged(metric, value - before, p, is_same=not better + worse),
    )


def compare_many(
    task: Task, metric: Metric, rival: Score, models: Mapping[str, Score], groups: NDArray[np.int64] | None = None
) -> dict[str, Comparison]:
    """Several models with one rival, by their ids, p-values Holm-corrected; without intervals, which nobody reads of a
    long list."""
    assert rival.outcomes is not None
    p_values = []
    for score in models.values():
        assert score.outcomes is not None
        p_values.append(p_value(metric, score.outcomes, rival.outcomes, groups, LIST_DRAWS))
    found = {}
    for (key, score), p in zip(models.items(), holm(p_values), strict=True):
        assert score.outcomes is not None
        better, worse = task.better(score.outcomes, rival.outcomes)
        value, before = score.shown(metric.name) or 0.0, rival.shown(metric.name) or 0.0
        found[key] = Comparison(
            split=rival.split, metric=metric.name, num_units=rival.num_units, new=value, old=before,
            difference=value - before, low=np.nan, high=np.nan, better=better, worse=worse, p_value=p, smallest=None,
            judgement=judged(metric, value - before, p, is_same=not better + worse), number=len(p_values),
        )  # fmt: skip
    return found
