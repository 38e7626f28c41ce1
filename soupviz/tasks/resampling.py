"""How sure one can be of a difference of two models on the same units, under any metric with weights."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from soupviz.tasks.metric import Metric, NumberMetric, SumMetric, Weights
from soupviz.tasks.outcomes import Outcomes, joined

DRAWS = 10_000
CHUNK = 2_000_000
"""Numbers in one block of weights."""


def draw_blocks(draws: int, num_units: int) -> Iterator[int]:
    """How many resamples each block has, so that none takes more than some megabytes."""
    step = max(1, CHUNK // max(1, num_units))
    for start in range(0, draws, step):
        yield min(step, draws - start)


def draws_of(metric: Metric, draws: int) -> int:
    """How many resamples there are: fewer where each is a call of a function that nothing is known of."""
    return min(draws, metric.draws) if isinstance(metric, NumberMetric) else draws


def bootstrap_differences(
    metric: Metric,
    new: Outcomes,
    old: Outcomes,
    *,
    groups: NDArray[np.int64] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Differences `new - old` of a metric on resamples of the units, each unit with both its outcomes.

    Args:
        groups: of each unit its group, from 0; units of one group are drawn together. Default: each alone.
    Returns:
        shape (draws,), or fewer where the metric allows no more.
    Source:
        Efron and Tibshirani 1993, section 13.3.
    """
    blocks = _resamples(len(new), groups, draws_of(metric, draws), seed)
    return np.concatenate([metric.values(new, weights) - metric.values(old, weights) for weights in blocks])


def bootstrap_values(
    metric: Metric, outcomes: Outcomes, *, groups: NDArray[np.int64] | None = None, draws: int = DRAWS, seed: int = 0
) -> NDArray[np.float64]:
    """A metric on resamples of the units, shape (draws,), or fewer where the metric allows no more.

    Args:
        groups: units of one group are drawn together.
    """
    blocks = _resamples(len(outcomes), groups, draws_of(metric, draws), seed)
    return np.concatenate([metric.values(outcomes, weights) for weights in blocks])


def _resamples(num_units: int, groups: NDArray[np.int64] | None, draws: int, seed: int) -> Iterator[Weights]:
    """How often each unit is drawn, in blocks of shape (block, num_units); units of one group together."""
    random = np.random.default_rng(seed)
    number = num_units if groups is None else int(groups.max()) + 1
    for block in draw_blocks(draws, num_units):
        counts = drawn(random, block, number)
        yield counts if groups is None else counts[:, groups]


def drawn(random: np.random.Generator, block: int, number: int) -> Weights:
    """How often each of `number` things is drawn, with replacement and as many times; shape (block, number)."""
    counts = np.empty((block, number))
    for row, picks in enumerate(random.integers(0, number, size=(block, number))):
        counts[row] = np.bincount(picks, minlength=number)
    return counts


def permutation_p(
    metric: Metric,
    new: Outcomes,
    old: Outcomes,
    *,
    groups: NDArray[np.int64] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> float:
    """Two-sided p-value of the difference, by swapping each unit's outcomes between the two models at random.

    With right and wrong answers this is what McNemar's exact test computes without drawing.

    Args:
        groups: units of one group are swapped together.
    Returns:
        (1 + permutations at least as far apart as what was seen) / (1 + draws).
    Source:
        Pitman 1937; Phipson and Smyth 2010 for the ones.
    """
    random, draws = np.random.default_rng(seed), draws_of(metric, draws)
    number = len(new) if groups is None else int(groups.max()) + 1
    of_swapped = _of_swapped(metric, new, old)
    seen = abs(float(of_swapped(np.zeros((1, len(new))))[0]))
    slack = 1e-9 * max(1.0, seen)  # sums of floats round otherwise in a matrix product
    extreme = 0
    for block in draw_blocks(draws, len(new)):
        swaps = random.integers(0, 2, size=(block, number), dtype=np.uint8).astype(np.float64)
        apart = of_swapped(swaps if groups is None else swaps[:, groups])
        extreme += int((np.abs(apart) >= seen - slack).sum())
    return (1 + extreme) / (1 + draws)


def _of_swapped(metric: Metric, new: Outcomes, old: Outcomes) -> Callable[[Weights], NDArray[np.float64]]:
    """The difference after swaps, of shape (block, num_units), 1 where a unit's outcomes change sides."""
    if isinstance(metric, SumMetric):
        return lambda swaps: _sums_swapped(metric, new, old, swaps)
    # A model's answer after swaps is a weighing of both models' answers: each counts once, or not at all.
    both = joined([new, old])

    def differences(swaps: Weights) -> NDArray[np.float64]:
        stays = 1.0 - swaps
        return metric.values(both, np.hstack([stays, swaps])) - metric.values(both, np.hstack([swaps, stays]))

    return differences


def _sums_swapped(metric: SumMetric, new: Outcomes, old: Outcomes, swaps: Weights) -> NDArray[np.float64]:
    """The same from the sums: what moves is each unit's difference."""
    ones, others = [], []
    for name in metric.columns:
        a, b = (np.nan_to_num(one[name].astype(np.float64)) for one in (new, old))
        moved = swaps @ (b - a)
        ones.append(a.sum(axis=0) + moved)
        others.append(b.sum(axis=0) - moved)
    number = np.full(len(swaps), float(len(new)))
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = metric.of(*ones, number) - metric.of(*others, number)
    found: NDArray[np.float64] = np.asarray(apart, dtype=np.float64)
    return found


def smallest_detectable(differences: NDArray[np.float64], *, power: float = 0.8, level: float = 0.05) -> float:
    """The smallest true difference that a split shows with the power, where two models differ as these do.

    Args:
        differences: of the two models on resamples of the split, whose spread is that of the measured difference.
    Returns:
        (z_(level / 2) + z_power) times the standard deviation.
    """
    from scipy.stats import norm  # loading it takes most of a second

    return float((norm.isf(level / 2) + norm.isf(1.0 - power)) * differences.std())
