"""What is shown of a score: whole values, how sure they are, and which metrics of a task are drawn together."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from soupviz.tasks.metric import Metric, SumMetric, is_share
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.resampling import Drawn, drawn, on_resamples
from soupviz.tasks.score import Score
from soupviz.tasks.significance import wilson

DRAWS = 200
"""Resamples for the interval of a metric that is no function of sums."""


def two_metrics(metrics: Sequence[Metric], objective: Metric) -> tuple[Metric, ...]:
    """The objective, and what is drawn beside it: an error beside what is raised, else the task's next metric."""
    others = [metric for metric in metrics if metric.name != objective.name]
    errors = [metric for metric in others if not metric.higher_is_better]
    return (objective, *((errors if objective.higher_is_better else []) or others)[:1])


def counts(metric: Metric, score: Score) -> tuple[int, int] | None:
    """Units that are right, and of how many; None for a metric that is no share of units."""
    value = score.values.get(metric.name)
    if value is None or not is_share(metric):
        return None
    return round(value * score.num_units), score.num_units


def interval(metric: Metric, score: Score, confidence: float = 0.95) -> tuple[float, float] | None:
    """How sure a value is: Wilson's interval of a share, a normal one by the jackknife of a function of sums (of a mean
    it is mean ± z s / sqrt(n)), else a bootstrap of the units. Units of one group are left out, or drawn, together; a
    share is then such a function too.

    Returns:
        (low, high); None where the value is not of all units, or what became of single units is not known.
    Source:
        Wilson 1927; Efron 1982, chapter 3, for the jackknife.
    """
    from scipy.special import ndtri

    if score.grouped is None and (counted := counts(metric, score)) is not None:
        return wilson(*counted, confidence)
    value, outcomes = score.whole(metric), score.outcomes
    if value is None or outcomes is None or (drawn_as := Drawn.of(outcomes)).number < 2:
        return None
    if isinstance(metric, SumMetric):
        left_out = _without_each(metric, outcomes, drawn_as)
        half = float(ndtri(0.5 + confidence / 2)) * float(left_out.std() * math.sqrt(drawn_as.number - 1))
        return (value - half, value + half) if math.isfinite(half) else None
    weights = drawn(np.random.default_rng(0), DRAWS, drawn_as.number)
    tails = [0.5 - confidence / 2, 0.5 + confidence / 2]
    low, high = np.nanquantile(on_resamples(metric, outcomes, drawn_as)(weights), tails).tolist()
    return low, high


def _without_each(metric: SumMetric, outcomes: Outcomes, drawn_as: Drawn) -> NDArray[np.float64]:
    """A metric's value without each unit, or group, in turn, shape (number,)."""
    sums = [drawn_as.sums(term) for term in metric.terms(outcomes)]
    return metric.of_sums([one.sum(axis=0) - one for one in sums], len(outcomes) - drawn_as.sizes)
