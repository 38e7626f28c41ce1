"""Two models on the same units: the difference under a metric, its interval, and how likely chance is to make it.

Where units are right or wrong, counts of those that only one of two models has right say everything, exactly and at
once; under every other metric units are resampled.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from soupviz.tasks import resampling, significance
from soupviz.tasks.metric import Metric, SumMetric, is_share
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.score import Score
from soupviz.tasks.significance import UNPROVEN, holm, mcnemar
from soupviz.tasks.task import Task
from soupviz.tasks.wording import is_improvement
from soupviz.types import Grouped

DRAWS, LIST_DRAWS = 4_000, 2_000
"""Resamples and permutations for one difference, and permutations for each of many in a list: pages wait for them."""

NOT_FINITE = "not finite"
"""The judgement of a model with more answers that are not finite than its rival, whatever the others say."""


class Pair(NamedTuple):
    """Two models on the same units, in three numbers.

    better, worse: units that the new model answers better, and worse; of right and wrong answers, those that only it,
    and only the rival has right; None where a unit alone tells nothing. p_value: exact McNemar where units are right or
    wrong, else by permutation; of groups of units where these belong together, exact too where they are right or wrong.
    is_least: it is as small as the number of permutations allows.
    """

    better: int | None
    worse: int | None
    p_value: float
    is_least: bool = False


@dataclass(frozen=True, slots=True)
class Compared:
    """One of several models against the same rival on one split: `Pair`, with p Holm-corrected over `number` models.

    difference: new - old; nan where the metric says nothing of one of them. judgement: what the test says, in words.
    """

    better: int | None
    worse: int | None
    difference: float
    p_value: float
    number: int
    judgement: str
    is_least: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of a model with a rival on one split: `Pair` and `Compared`, and what else there is to know of one difference.

    low, high: its 95 % bootstrap interval. smallest: the smallest difference that shows on so many units with a chance
    of 0.8, where models differ as these do; None: none would. nonfinite: how many more units have no finite answer.
    grouped: by what units were resampled together.
    """

    split: str
    metric: str
    num_units: int
    new: float
    old: float
    difference: float
    low: float
    high: float
    better: int | None
    worse: int | None
    p_value: float
    smallest: float | None
    nonfinite: int
    judgement: str
    grouped: Grouped | None = None
    is_least: bool = False

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "Comparison":
        """The comparison that `asdict` told; earlier ones knew no groups."""
        return cls(**{**plain, "grouped": Grouped(**plain["grouped"]) if plain.get("grouped") else None})

    @property
    def is_shown(self) -> bool:
        """Whether the test says more than chance."""
        return self.judgement in ("better", "worse", NOT_FINITE)


def is_counted(metric: Metric, *outcomes: Outcomes) -> bool:
    """Whether counts of right units say everything: they are drawn one by one, and the metric is their share."""
    return is_share(metric) and all(one.groups is None for one in outcomes)


def p_value(metric: Metric, new: Outcomes, old: Outcomes, draws: int = DRAWS) -> float:
    """Of the difference of two models on the same units; 1.0 where the metric says nothing of one of them."""
    if is_counted(metric, new, old):
        return mcnemar(*_apart(metric, new, old))
    if is_share(metric):
        assert isinstance(metric, SumMetric)
        gained = metric.terms(new)[0] - metric.terms(old)[0]
        return resampling.swapped_p(resampling.Drawn.of(new, old).sums(gained).astype(np.int64))
    if metric.value(new) is None or metric.value(old) is None:
        return 1.0
    return resampling.permutation_p(metric, new, old, draws=draws)


def pair(task: Task, metric: Metric, new: Score, old: Score, draws: int = DRAWS) -> Pair:
    """Two scores on the same units."""
    assert new.outcomes is not None and old.outcomes is not None
    apart: tuple[int | None, int | None] = (
        _apart(metric, new.outcomes, old.outcomes) if is_share(metric) else task.better(new.outcomes, old.outcomes)
    )
    p = p_value(metric, new.outcomes, old.outcomes, draws)
    return Pair(*apart, p, not is_share(metric) and p <= resampling.least_p(metric, draws))


def _apart(metric: Metric, new: Outcomes, old: Outcomes) -> tuple[int, int]:
    """Units that only the new model, and that only the old one has right."""
    assert isinstance(metric, SumMetric)
    is_new, is_old = (one[metric.columns[0]] for one in (new, old))
    return int((is_new & ~is_old).sum()), int((~is_new & is_old).sum())


def compare(task: Task, metric: Metric, new: Score, old: Score) -> Comparison:
    """All that there is to say of two scores on the same units."""
    assert new.outcomes is not None and old.outcomes is not None
    found = pair(task, metric, new, old)
    value, before = _value(metric, new), _value(metric, old)
    difference, number = value - before, new.num_units
    smallest: float | None
    if is_share(metric):
        better, worse = _apart(metric, new.outcomes, old.outcomes)
        difference = (better - worse) / number
    if is_counted(metric, new.outcomes, old.outcomes):
        low, high = significance.bootstrap_interval(better, worse, number)
        smallest = significance.smallest_detectable(number, (better + worse) / number)
    else:
        draws = resampling.bootstrap_differences(metric, new.outcomes, old.outcomes, draws=DRAWS)
        known = draws[np.isfinite(draws)]
        low, high = resampling.interval(metric, new.outcomes, old.outcomes, draws)
        smallest = resampling.smallest_detectable(known) or None if len(known) else None
    return Comparison(
        split=new.split, metric=metric.name, num_units=number, new=value, old=before, difference=difference, low=low,
        high=high, better=found.better, worse=found.worse, p_value=found.p_value, smallest=smallest,
        nonfinite=new.num_nonfinite - old.num_nonfinite,
        judgement=_judged(task, metric, difference, found, found.p_value, new.num_nonfinite - old.num_nonfinite),
        grouped=new.grouped, is_least=found.is_least,
    )  # fmt: skip


def compare_pairs(
    task: Task, metric: Metric, rival: Score, models: Mapping[str, tuple[Score, Pair]]
) -> dict[str, Compared]:
    """Several models with one rival, by their ids; no units are needed."""
    corrected = holm([found.p_value for _, found in models.values()])
    told = {}
    for (key, (score, found)), p in zip(models.items(), corrected, strict=True):
        difference = _value(metric, score) - _value(metric, rival)
        if is_share(metric) and found.better is not None and found.worse is not None:
            difference = (found.better - found.worse) / rival.num_units
        worst = score.num_nonfinite - rival.num_nonfinite
        says = _judged(task, metric, difference, found, p, worst)
        told[key] = Compared(found.better, found.worse, difference, p, len(corrected), says, found.is_least)
    return told


def compare_many(task: Task, metric: Metric, rival: Score, models: Mapping[str, Score]) -> dict[str, Compared]:
    """Several models with one rival, by their ids."""
    pairs = {key: (score, pair(task, metric, score, rival, LIST_DRAWS)) for key, score in models.items()}
    return compare_pairs(task, metric, rival, pairs)


def same(task: Task) -> str:
    """The judgement of models that no unit tells apart."""
    return f"the same on every {task.unit}"


def _judged(
    task: Task, metric: Metric, difference: float, found: Pair, p: float, nonfinite: int, level: float = 0.05
) -> str:
    """What a test says of a difference, in words without figures."""
    if nonfinite and not metric.judges_nonfinite:
        return NOT_FINITE if nonfinite > 0 else "better"
    if (found.better, found.worse) == (0, 0) and not difference:
        return same(task)
    if p >= level or not np.isfinite(difference):
        return UNPROVEN
    return "better" if is_improvement(metric, difference) else "worse"


def _value(metric: Metric, score: Score) -> float:
    found = score.shown(metric.name)
    return np.nan if found is None else found
