"""What is shown of a score: whole values, how sure they are, and which metrics of a task are drawn together."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from soupviz.tasks.metric import Metric, SumMetric, is_share, others_of
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.resampling import Drawn, bootstrap_values
from soupviz.tasks.score import Score
from soupviz.tasks.significance import wilson
from soupviz.tasks.wording import PERCENT
from soupviz.types import Grouped

DRAWS = 200
"""Resamples for the standard error of a metric that is no function of sums."""

Z = 1.959964
"""Standard errors on either side of a value, for 95 %."""


def two_metrics(metrics: Sequence[Metric], objective: Metric) -> tuple[Metric, ...]:
    """The objective, and what is drawn beside it: an error beside what is raised, else the task's next metric."""
    others = others_of(metrics, objective)
    errors = [metric for metric in others if not metric.higher_is_better]
    return (objective, *((errors if objective.higher_is_better else []) or others)[:1])


def counts(metric: Metric, score: Score) -> tuple[int, int] | None:
    """Units that are right, and of how many; None for a metric that is no share of units."""
    value = score.values.get(metric.name)
    if value is None or not is_share(metric):
        return None
    return round(value * score.num_units), score.num_units


def interval(metric: Metric, score: Score) -> tuple[float, float] | None:
    """How sure a value is, wherever it is shown: its 95 % interval.

    Of a share of units Wilson's. Of any other metric the value ± 1.96 standard errors: by the jackknife of a function
    of sums (of a mean that is mean ± z s / sqrt(n)), else by a bootstrap of the units. Units of one group are left out,
    or drawn, together, and groups may be few: the quantile is then Student's, of one degree less than there are groups.
    A share of such is a function of sums too; where all groups agree, it has Wilson's of the groups. What is shown in
    percent ends at 0 and, where more is better, at 100 %. A page draws a hundred of these at every look, of 10,000
    units each: the jackknife takes less than a millisecond there, percentiles of enough resamples take 400.
    Differences are few, and have percentiles, of few groups Student's too (`soupviz.tasks.resampling.interval`).

    Returns:
        (low, high); None where the value is not of all units, or what became of single units is not known.
    Source:
        Wilson 1927; Efron 1982, chapter 3, for the jackknife; Efron and Tibshirani 1993, section 6.4, for the number of
        resamples that a standard error needs.
    """
    from scipy.special import stdtrit  # loading scipy takes a while

    if score.grouped is None and (counted := counts(metric, score)) is not None:
        return wilson(*counted)
    value, outcomes = score.whole(metric), score.outcomes
    if value is None or outcomes is None or (drawn_as := Drawn.of(outcomes)).number < 2:
        return None
    if isinstance(metric, SumMetric):
        error = float(_without_each(metric, outcomes, drawn_as).std()) * math.sqrt(drawn_as.number - 1)
    else:
        error = float(np.nanstd(bootstrap_values(metric, outcomes, draws=DRAWS)))
    if error == 0.0 and is_share(metric):  # groups that are all alike are no proof that the next one is
        return wilson(round(value * drawn_as.number), drawn_as.number)
    far = Z if drawn_as.index is None else float(stdtrit(drawn_as.number - 1, 0.975))
    low, high = value - far * error, value + far * error
    if metric.unit == PERCENT:
        low, high = max(low, 0.0), min(high, 1.0) if metric.higher_is_better else high
    return (low, high) if math.isfinite(error) else None


def interval_of(metric: Metric, by: Grouped | None = None) -> str:
    """What `interval` a metric's values have, in a word. by: by what units are resampled together."""
    return "Wilson" if is_share(metric) and by is None else "normal"


def _without_each(metric: SumMetric, outcomes: Outcomes, drawn_as: Drawn) -> NDArray[np.float64]:
    """A metric's value without each unit, or group, in turn, shape (number,)."""
    sums = [drawn_as.sums(term) for term in metric.terms(outcomes)]
    return metric.of_sums([one.sum(axis=0) - one for one in sums], len(outcomes) - drawn_as.sizes)
