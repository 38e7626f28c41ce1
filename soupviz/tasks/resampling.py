"""How sure one can be of a difference of two models on the same units, under any metric with weights."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soupviz.tasks.metric import Metric, SumMetric, Weights
from soupviz.tasks.outcomes import Outcomes, joined

DRAWS = 10_000
FEW_GROUPS = 6
"""Of fewer there are so few ways to swap that no difference can have a p-value below 0.05."""

CHUNK = 2_000_000
"""Numbers in one block of weights."""


def draw_blocks(draws: int, num_units: int) -> Iterator[int]:
    """How many resamples each block has, so that none takes more than some megabytes."""
    step = max(1, CHUNK // max(1, num_units))
    for start in range(0, draws, step):
        yield min(step, draws - start)


def draws_of(metric: Metric, draws: int) -> int:
    """How many resamples there are: fewer where a metric says that each of them takes long."""
    return min(draws, getattr(metric, "draws", draws))


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """What is drawn, or changes sides, as one: each unit alone, or the units of a group.

    number: of such things. index: of each unit which of them it belongs to, from 0 without gaps; None: they are units.
    """

    number: int
    index: NDArray[np.int64] | None = None

    @classmethod
    def of(cls, *outcomes: Outcomes) -> "Drawn":
        """What is drawn of units; several outcomes are of the same ones.

        Raises:
            ValueError: they say otherwise of which units belong together.
        """
        known, *others = (one.groups for one in outcomes)
        if known is None and all(other is None for other in others):
            return cls(len(outcomes[0]))
        if known is None or not all(other is not None and np.array_equal(known, other) for other in others):
            raise ValueError("the outcomes that are compared have other groups")
        groups, index = np.unique(known, return_inverse=True)
        return cls(len(groups), index.astype(np.int64))

    def sums(self, column: NDArray[np.float64]) -> NDArray[np.float64]:
        """A column's sum in each thing that is drawn, shape (number, ...)."""
        if self.index is None:
            return column
        order = np.argsort(self.index, kind="stable")
        starts = np.searchsorted(self.index[order], np.arange(self.number))
        return np.add.reduceat(column[order], starts, axis=0)

    def of_units(self, counts: Weights) -> Weights:
        """How often each unit is drawn, from how often each thing is."""
        return counts if self.index is None else counts[:, self.index]

    @property
    def sizes(self) -> NDArray[np.float64]:
        """How many units each has."""
        return np.ones(self.number) if self.index is None else np.bincount(self.index).astype(np.float64)


def valued(metric: Metric, outcomes: Outcomes) -> Callable[[Weights], NDArray[np.float64]]:
    """A metric's `values` of many blocks of weights; what is the same for all is made once, where a metric says how."""
    prepared: Callable[[Outcomes], Callable[[Weights], NDArray[np.float64]]] | None
    prepared = getattr(metric, "on_resamples", None)
    return prepared(outcomes) if prepared else lambda weights: metric.values(outcomes, weights)


def on_resamples(metric: Metric, outcomes: Outcomes, drawn_as: Drawn) -> Callable[[Weights], NDArray[np.float64]]:
    """A metric, from how often each of the things that are drawn counts, shape (num_resamples, number)."""
    if drawn_as.index is None or not isinstance(metric, SumMetric):
        values = valued(metric, outcomes)
        return lambda counts: values(drawn_as.of_units(counts))
    # Sums over groups are made once: a resample then costs as much as there are groups.
    sums, sizes = [drawn_as.sums(term) for term in metric.terms(outcomes)], drawn_as.sizes
    return lambda counts: metric.of_sums([counts @ one for one in sums], counts @ sizes)


def bootstrap_differences(
    metric: Metric, new: Outcomes, old: Outcomes, *, draws: int = DRAWS, seed: int = 0
) -> NDArray[np.float64]:
    """Differences `new - old` of a metric on resamples of the units, each unit with both its outcomes.

    Units that belong to one group are drawn together.

    Returns:
        shape (draws,), or fewer where the metric allows no more; nan where there is nothing to draw among.
    Source:
        Efron and Tibshirani 1993, section 13.3; of groups Davison and Hinkley 1997, section 3.8, strategy 1.
    """
    drawn_as = Drawn.of(new, old)
    after, before = (on_resamples(metric, side, drawn_as) for side in (new, old))
    blocks = _resamples(drawn_as, len(new), draws_of(metric, draws), seed)
    return _or_nothing(drawn_as, np.concatenate([after(counts) - before(counts) for counts in blocks]))


def bootstrap_values(metric: Metric, outcomes: Outcomes, *, draws: int = DRAWS, seed: int = 0) -> NDArray[np.float64]:
    """A metric on resamples of the units, shape (draws,), or fewer where the metric allows no more.

    Units that belong to one group are drawn together.
    """
    drawn_as = Drawn.of(outcomes)
    of = on_resamples(metric, outcomes, drawn_as)
    blocks = _resamples(drawn_as, len(outcomes), draws_of(metric, draws), seed)
    return _or_nothing(drawn_as, np.concatenate([of(counts) for counts in blocks]))


def interval(metric: Metric, new: Outcomes, old: Outcomes, differences: NDArray[np.float64]) -> tuple[float, float]:
    """Between which a difference lies, in 95 of 100 cases; nan where nothing is known.

    Percentiles of what was drawn. Of few groups these would reach no further than from one group to the other: there
    it is the difference and Student's quantile times its standard error, as of single values.

    Args:
        differences: on resamples, as `bootstrap_differences` has them.
    """
    known = differences[np.isfinite(differences)]
    drawn_as, seen = Drawn.of(new, old), (metric.value(new), metric.value(old))
    if not len(known) or None in seen:
        return np.nan, np.nan
    if drawn_as.index is None or drawn_as.number >= FEW_GROUPS:
        low, high = np.quantile(known, [0.025, 0.975]).tolist()
        return low, high
    from scipy.special import stdtrit  # loading scipy takes a while

    number = drawn_as.number
    error = float(known.std()) * (number / (number - 1)) ** 0.5
    middle, far = float(seen[0] - seen[1]), float(stdtrit(number - 1, 0.975)) * error  # type: ignore[operator]
    return middle - far, middle + far


def _or_nothing(drawn_as: Drawn, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of one group nothing is known of how others differ: its resamples are all alike, and say nothing."""
    return np.full_like(values, np.nan) if drawn_as.index is not None and drawn_as.number < 2 else values


def _resamples(drawn_as: Drawn, num_units: int, draws: int, seed: int) -> Iterator[Weights]:
    """How often each thing is drawn, in blocks of shape (block, number)."""
    random = np.random.default_rng(seed)
    for block in draw_blocks(draws, num_units):
        yield drawn(random, block, drawn_as.number)


def drawn(random: np.random.Generator, block: int, number: int) -> Weights:
    """How often each of `number` things is drawn, with replacement and as many times; shape (block, number)."""
    counts = np.empty((block, number))
    for row, picks in enumerate(random.integers(0, number, size=(block, number))):
        counts[row] = np.bincount(picks, minlength=number)
    return counts


def least_p(metric: Metric, draws: int) -> float:
    """The smallest p-value that `permutation_p` gives where swaps are drawn."""
    return 1 / (1 + draws_of(metric, draws))


def permutation_p(metric: Metric, new: Outcomes, old: Outcomes, *, draws: int = DRAWS, seed: int = 0) -> float:
    """Two-sided p-value of the difference, by swapping each unit's outcomes between the two models at random.

    Units that belong to one group change sides together. With right and wrong answers this is what McNemar's exact
    test computes without drawing. Where there are no more ways to swap than draws, each is taken once.

    Returns:
        (1 + permutations at least as far apart as what was seen) / (1 + draws), or the share of all ways to swap.
    Source:
        Pitman 1937; Phipson and Smyth 2010 for the ones.
    """
    drawn_as, draws = Drawn.of(new, old), draws_of(metric, draws)
    of_swapped = _of_swapped(metric, new, old, drawn_as)
    seen = abs(float(of_swapped(np.zeros((1, drawn_as.number)))[0]))
    slack = 1e-9 * max(1.0, seen)  # sums of floats round otherwise in a matrix product

    def extreme(swaps: Weights) -> int:
        return int((np.abs(of_swapped(swaps)) >= seen - slack).sum())

    if 2**drawn_as.number <= draws:
        ways = np.arange(2**drawn_as.number)[:, None] >> np.arange(drawn_as.number) & 1
        return extreme(ways.astype(np.float64)) / len(ways)
    random = np.random.default_rng(seed)
    found = 0
    for block in draw_blocks(draws, len(new)):
        swaps = random.integers(0, 2, size=(block, drawn_as.number), dtype=np.uint8)
        found += extreme(swaps.astype(np.float64))
    return (1 + found) / (1 + draws)


def _of_swapped(
    metric: Metric, new: Outcomes, old: Outcomes, drawn_as: Drawn
) -> Callable[[Weights], NDArray[np.float64]]:
    """The difference after swaps, of shape (block, number), 1 where a thing's outcomes change sides."""
    if isinstance(metric, SumMetric):
        terms = list(zip(*([drawn_as.sums(one) for one in metric.terms(side)] for side in (new, old)), strict=True))
        return lambda swaps: _sums_swapped(metric, terms, swaps, len(new))
    # A model's answer after swaps is a weighing of both models' answers: each counts once, or not at all.
    values = valued(metric, joined([new, old]))

    def differences(swaps: Weights) -> NDArray[np.float64]:
        moves = drawn_as.of_units(swaps)
        stays = 1.0 - moves
        return values(np.hstack([stays, moves])) - values(np.hstack([moves, stays]))

    return differences


def _sums_swapped(
    metric: SumMetric, terms: Sequence[tuple[Weights, Weights]], swaps: Weights, num_units: int
) -> NDArray[np.float64]:
    """The same from the sums: what moves is each thing's difference. terms: of the new and the old model."""
    moved = [swaps @ (b - a) for a, b in terms]
    number = np.full(len(swaps), float(num_units))
    ones = [a.sum(axis=0) + change for (a, _), change in zip(terms, moved, strict=True)]
    others = [b.sum(axis=0) - change for (_, b), change in zip(terms, moved, strict=True)]
    return metric.of_sums(ones, number) - metric.of_sums(others, number)


def swapped_p(differences: NDArray[np.int64]) -> float:
    """The exact two-sided p-value of a sum of whole numbers, each of which may as well have the other sign.

    Of right and wrong answers these are, group by group, how many more units the new model has right; of units alone
    it is McNemar's exact test. The sums of all ways to swap are counted, one number after the other.

    Source:
        Pitman 1937; the counting is that of Pagano and Tritchler 1983, without the transform.
    """
    from scipy.stats import binom  # loading scipy.stats takes most of a second

    sizes = np.abs(differences)
    seen, reach, span = abs(int(differences.sum())), int(sizes.sum()), int((sizes == 1).sum())
    ways = np.zeros(2 * reach + 1)  # shares of all ways, by their sum plus `reach`; ones are many as a rule
    ways[reach - span : reach + span + 1 : 2] = binom.pmf(np.arange(span + 1), span, 0.5)
    for size in sizes[sizes > 1].tolist():
        inside = ways[reach - span : reach + span + 1].copy()
        span += size
        ways[reach - span : reach + span + 1] = 0.0
        ways[reach - span : reach - span + len(inside)] += inside / 2
        ways[reach + span + 1 - len(inside) : reach + span + 1] += inside / 2
    return min(1.0, float(ways[: reach - seen + 1].sum() + ways[reach + seen :].sum()) if seen else 1.0)


def smallest_detectable(differences: NDArray[np.float64], *, power: float = 0.8, level: float = 0.05) -> float:
    """The smallest true difference that a split shows with the power, where two models differ as these do.

    Args:
        differences: of the two models on resamples of the split, whose spread is that of the measured difference.
    Returns:
        (z_(level / 2) + z_power) times the standard deviation.
    """
    from scipy.stats import norm  # loading it takes most of a second

    return float((norm.isf(level / 2) + norm.isf(1.0 - power)) * differences.std())
