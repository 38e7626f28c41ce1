"""How high the loss is half-way between ingredients: which of them can be averaged."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.tasks.metrics import merit_by_loss, whole_loss
from soupviz.tasks.score import Score
from soupviz.types import Coefficients, Progress, part_of, quiet

SPLIT = "held_out"
ERRORS = 3.0
"""Standard errors by which a barrier must stand out, so that chance among many pairs makes none."""

SHARE = 0.1
"""Of the ends' mean loss: a barrier that is lower does no harm that one would notice."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The midpoint of two ingredients, by their indices.

    rise: loss(midpoint) - mean loss of the ends, in nats; below 0 where the midpoint is better; nan where nothing at
    the midpoint is finite. drop: mean accuracy of the ends - accuracy(midpoint), a fraction. separated: whether a
    barrier is between them (see `compare`).
    """

    first: int
    second: int
    rise: float
    drop: float
    separated: bool


@dataclass(frozen=True, slots=True, eq=False)
class Barriers:
    """Every pair of ingredients: `Pair`'s figures as symmetric matrices, shape (n, n), zero on the diagonal.

    Pairs that were not measured yet are nan, and not separated.
    """

    names: tuple[str, ...]
    treatment: str
    rises: NDArray[np.float64]
    drops: NDArray[np.float64]
    separated: NDArray[np.bool_]

    @property
    def nats(self) -> NDArray[np.float64]:
        """Loss barriers, at least 0."""
        return np.asarray(np.where(self.rises < 0, 0.0, self.rises))


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


def wanted(kitchen: Kitchen, treatment: str = "average") -> list[tuple[Coefficients, str, str]]:
    """The scores that the barriers need: of the ingredients as they are, and of every midpoint."""
    ends = [(((name, 1.0),), SPLIT, "average") for name in kitchen.names]
    return [*ends, *((midpoint(kitchen, *pair), SPLIT, treatment) for pair in pairs_of(kitchen))]


def measure(
    kitchen: Kitchen,
    treatment: str = "average",
    *,
    progress: Progress = quiet,
    on_pair: Callable[[Pair], None] = lambda _pair: None,
) -> Barriers:
    """Score the midpoint of every pair on held_out: n (n - 1) / 2 evaluations, less what is known.

    Args:
        treatment: what becomes of running statistics at the midpoints; the ends are the ingredients as they are.
        on_pair: is told of each pair as it comes.
    Source:
        Frankle et al. 2020, section 2. Differs: the midpoint only, where a path between minima is highest as a rule.
    """
    pairs = pairs_of(kitchen)
    total = len(kitchen.names) + len(pairs)
    ends = [
        kitchen.scores.score(((name, 1.0),), SPLIT, progress=part_of(progress, index, total))
        for index, name in enumerate(kitchen.names)
    ]
    found = []
    for index, (first, second) in enumerate(pairs, len(ends)):
        within = part_of(progress, index, total)
        score = kitchen.scores.score(midpoint(kitchen, first, second), SPLIT, treatment, within)
        found.append(compare(first, second, (ends[first], ends[second]), score))
        on_pair(found[-1])
    return gather(kitchen, treatment, found)


def compare(first: int, second: int, ends: tuple[Score, Score], middle: Score) -> Pair:
    """What lies between two ingredients.

    They are separated where the midpoint's loss is above the mean of the ends' by more than 3 standard errors of the
    paired difference over the examples and by more than 10 % of that mean, and fewer examples are right than of the
    ends on average: a loss may rise only because a mix is less sure of itself, and a few examples are chance. A
    midpoint with outputs that are not finite, where the ends have none, is separated as well.
    """
    drop = (ends[0].correct + ends[1].correct) / 2 / middle.num_examples - middle.accuracy
    broken = middle.num_nonfinite > max(end.num_nonfinite for end in ends)
    losses = [whole_loss(score) for score in (*ends, middle)]
    if losses[0] is None or losses[1] is None or losses[2] is None:
        return Pair(first, second, float("nan"), drop, separated=broken or middle.loss is None)
    mean = (losses[0] + losses[1]) / 2
    rise = losses[2] - mean
    stands_out = rise > max(ERRORS * _standard_error(ends, middle), SHARE * mean)
    return Pair(first, second, rise, drop, separated=broken or (stands_out and drop > 0))


def _standard_error(ends: tuple[Score, Score], middle: Score) -> float:
    """Of the mean over the examples of the midpoint's loss less the ends' mean; 0 where there is one example."""
    losses = [score.outcomes["loss"].astype(np.float64) for score in (*ends, middle) if score.outcomes is not None]
    differences = losses[2] - (losses[0] + losses[1]) / 2
    differences = differences[np.isfinite(differences)]
    return float(differences.std(ddof=1) / len(differences) ** 0.5) if len(differences) > 1 else 0.0


def gather(kitchen: Kitchen, treatment: str, pairs: Iterable[Pair]) -> Barriers:
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
    return Barriers(tuple(kitchen.names), treatment, rises[whole], drops[whole], separated[whole])


def basin(barriers: Barriers, scores: Mapping[str, Score], distinct: Sequence[int]) -> list[int]:
    """The largest group of ingredients that can be averaged with each other, by their indices.

    Who has the fewest barriers to the others (of equals the one of lowest loss) is its core; those without a barrier
    to the core are its first members. An ingredient is in the basin where it has a barrier to fewer than half of the
    other first members.

    Args:
        distinct: the indices of ingredients that are no copies.
    Returns:
        Indices among `distinct`; none where there are several and each has a barrier to all others.
    """

    def rank(index: int) -> tuple[float, float]:
        merit = merit_by_loss(scores[barriers.names[index]])
        return float(barriers.separated[index, list(distinct)].sum()), -merit

    core = min(distinct, key=rank)
    first = [index for index in distinct if not barriers.separated[core, index]]
    if len(first) == 1 < len(distinct):
        return []
    members = []
    for index in distinct:
        others = [other for other in first if other != index]
        if 2 * int(barriers.separated[index, others].sum()) < max(1, len(others)):
            members.append(index)
    return members
