"""How bad a mix is half-way between ingredients: which of them can be averaged."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.spec import HELD_OUT
from soupviz.tasks.finding import find_metric
from soupviz.tasks.metric import Metric, SumMetric, Value
from soupviz.tasks.objective import Objective
from soupviz.tasks.outcomes import FINITE
from soupviz.tasks.resampling import Drawn, drawn, on_resamples
from soupviz.tasks.score import Score
from soupviz.types import Coefficients, Progress, Wanted, quiet

ERRORS = 3.0
"""Standard errors by which a barrier must stand out, so that chance among many pairs makes none."""

SHARE = 0.1
"""Of the ends' mean loss: a barrier that is lower does no harm that one would notice."""

DRAWS = 200
"""Resamples by which the standard error of a metric is told that is no mean."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The midpoint of two ingredients, by their indices.

    rise: by how much the midpoint is worse than the ends are on average, in the metric of barriers; below 0 where it is
    better; nan where nothing at the midpoint is finite. drop: the same by the objective. separated: whether a barrier
    is between them (see `compare`).
    """

    first: int
    second: int
    rise: float
    drop: float
    separated: bool


@dataclass(frozen=True, slots=True, eq=False)
class Barriers:
    """Every pair of ingredients: `Pair`'s figures as symmetric matrices, shape (n, n), zero on the diagonal.

    Pairs that were not measured yet are nan, and not separated. metric: what the rises are of.
    """

    names: tuple[str, ...]
    aggregation: str
    rises: NDArray[np.float64]
    drops: NDArray[np.float64]
    separated: NDArray[np.bool_]
    metric: Metric

    @property
    def heights(self) -> NDArray[np.float64]:
        """Of the barriers, at least 0."""
        return np.asarray(np.where(self.rises < 0, 0.0, self.rises))


def metric_of(kitchen: Kitchen) -> Metric:
    """What a barrier is the rise of: a loss where the task names one, else the objective."""
    return find_metric(kitchen.task, kitchen.task.barrier) if kitchen.task.barrier else kitchen.objective


def badness(metric: Metric, value: float) -> float:
    """What rises where a model gets worse: an error or a loss, or what a share lacks to 1."""
    return 1.0 - value if metric.higher_is_better else value


def twins(kitchen: Kitchen) -> list[int]:
    """The index of the first ingredient with the same weights, for each: its own, where it is no copy."""
    fingerprints = [item.fingerprint for item in kitchen.ingredients]
    return [fingerprints.index(one) for one in fingerprints]


def pairs_of(kitchen: Kitchen) -> list[tuple[int, int]]:
    """The pairs to be measured: each two ingredients, of copies the first."""
    return list(combinations(dict.fromkeys(twins(kitchen)), 2))


def midpoint(kitchen: Kitchen, first: int, second: int) -> Coefficients:
    """The average of two ingredients."""
    return mean_of([kitchen.names[first], kitchen.names[second]])


def wanted(kitchen: Kitchen, aggregation: str = "average") -> list[tuple[Coefficients, str, str]]:
    """The scores that the barriers need: of the ingredients as they are, and of every midpoint."""
    ends = [(((name, 1.0),), HELD_OUT, "average") for name in kitchen.names]
    return [*ends, *((midpoint(kitchen, *pair), HELD_OUT, aggregation) for pair in pairs_of(kitchen))]


def measure(
    kitchen: Kitchen,
    aggregation: str = "average",
    *,
    progress: Progress = quiet,
    on_pair: Callable[[Pair], None] = lambda _pair: None,
) -> Barriers:
    """Score the midpoint of every pair on held_out: n (n - 1) / 2 evaluations, less what is known.

    Args:
        aggregation: what becomes of running statistics at the midpoints; the ends are the ingredients as they are.
        on_pair: is told of each pair as it comes.
    Source:
        Frankle et al. 2020, section 2. Differs: the midpoint only, where a path between minima is highest as a rule.
    """
    pairs = pairs_of(kitchen)
    wanted: list[Wanted] = [(((name, 1.0),), HELD_OUT, "average") for name in kitchen.names]
    wanted += [(midpoint(kitchen, *pair), HELD_OUT, aggregation) for pair in pairs]
    scores = kitchen.scores.each(wanted, progress)
    ends = [next(scores) for _ in kitchen.names]
    found = []
    metric = metric_of(kitchen)
    for (first, second), score in zip(pairs, scores, strict=True):
        around = ends[first], ends[second]
        found.append(compare(first, second, around, score, metric=metric, objective=kitchen.objective))
        on_pair(found[-1])
    return gather(kitchen, aggregation, found)


def compare(
    first: int, second: int, ends: tuple[Score, Score], middle: Score, *, metric: Metric, objective: Metric
) -> Pair:
    """What lies between two ingredients.

    They are separated where the midpoint's loss is above the mean of the ends' by more than 3 standard errors of the
    paired difference over the units, or their groups, and by more than 10 % of that mean, and the objective is worse
    than of the ends on average: a loss may rise only because a mix is less sure of itself, and a few units are chance.
    A midpoint with outputs that are not finite, where the ends have none, is separated as well.
    """
    drop = _drop(objective, [score.values[objective.name] for score in (*ends, middle)])
    broken = middle.num_nonfinite > max(end.num_nonfinite for end in ends)
    values = [score.whole(metric) for score in (*ends, middle)]
    if values[0] is None or values[1] is None or values[2] is None:
        return Pair(first, second, float("nan"), drop, separated=broken or middle.values[metric.name] is None)
    one, other, half = (badness(metric, value) for value in values if value is not None)
    mean = (one + other) / 2
    rise = half - mean
    stands_out = rise > max(ERRORS * _standard_error(metric, ends, middle), SHARE * abs(mean))
    return Pair(first, second, rise, drop, separated=broken or (stands_out and drop > 0))


def _drop(objective: Metric, values: Sequence[Value | None]) -> float:
    """By how much the last value is worse than the mean of the first two."""
    one, other, half = values
    if one is None or other is None or half is None:
        return float("nan")
    lost = float((one + other) / 2 - half)
    return lost if objective.higher_is_better else -lost


def _standard_error(metric: Metric, ends: tuple[Score, Score], middle: Score) -> float:
    """Of the midpoint's value less the ends' mean; 0 where there is one unit, or one group."""
    outcomes = [score.outcomes for score in (*ends, middle) if score.outcomes is not None]
    drawn_as = Drawn.of(*outcomes)
    is_alone = drawn_as.index is None
    if is_alone and isinstance(metric, SumMetric) and metric.columns[1:] == (FINITE,):  # a mean: there is a formula
        losses = [one[metric.columns[0]].astype(np.float64) for one in outcomes]
        apart = losses[2] - (losses[0] + losses[1]) / 2
        apart = apart[np.isfinite(apart)]
        return float(apart.std(ddof=1) / len(apart) ** 0.5) if len(apart) > 1 else 0.0
    counts = _resamples(drawn_as.number)
    values = [on_resamples(metric, one, drawn_as)(counts) for one in outcomes]
    return float(np.nanstd(values[2] - (values[0] + values[1]) / 2))


@lru_cache(2)
def _resamples(number: int) -> NDArray[np.float64]:
    return drawn(np.random.default_rng(0), DRAWS, number)


def gather(kitchen: Kitchen, aggregation: str, pairs: Iterable[Pair]) -> Barriers:
    """Pairs as matrices; copies have the figures of the ingredient that they are a copy of, and no barrier to it."""
    firsts = twins(kitchen)
    n = len(firsts)
    rises, drops = np.full((n, n), np.nan), np.full((n, n), np.nan)
    separated = np.zeros((n, n), dtype=np.bool_)
    for pair in pairs:
        for place in ((pair.first, pair.second), (pair.second, pair.first)):
            rises[place], drops[place], separated[place] = pair.rise, pair.drop, pair.separated
    for matrix in (rises, drops):
        np.fill_diagonal(matrix, 0.0)
    whole = np.ix_(firsts, firsts)
    return Barriers(tuple(kitchen.names), aggregation, rises[whole], drops[whole], separated[whole], metric_of(kitchen))


def basin(barriers: Barriers, scores: Mapping[str, Score], distinct: Sequence[int]) -> list[int]:
    """The largest group of ingredients that can be averaged with each other, by their indices.

    Who has the fewest barriers to the others (of equals the one of lowest loss) is its core; those without a barrier to
    the core are its first members. An ingredient is in the basin where it has a barrier to fewer than half of the
    other first members.

    Args:
        distinct: the indices of ingredients that are no copies.
    Returns:
        Indices among `distinct`; none where there are several and each has a barrier to all others.
    """

    objective = Objective(barriers.metric)

    def rank(index: int) -> tuple[float, tuple[int, Value]]:
        return -float(barriers.separated[index, list(distinct)].sum()), objective.merit(scores[barriers.names[index]])

    core = max(distinct, key=rank)
    first = [index for index in distinct if not barriers.separated[core, index]]
    if len(first) == 1 < len(distinct):
        return []
    members = []
    for index in distinct:
        others = [other for other in first if other != index]
        if 2 * int(barriers.separated[index, others].sum()) < max(1, len(others)):
            members.append(index)
    return members
