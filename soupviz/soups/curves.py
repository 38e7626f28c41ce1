"""What a task's metrics say on the straight line between two sets of weights."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from soupviz.errors import CurveError
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS, check_batchnorm
from soupviz.mixing.averaging import combine
from soupviz.soups.soup import Soup
from soupviz.spec import HELD_OUT
from soupviz.tasks.metric import Metric
from soupviz.tasks.score import Score
from soupviz.types import Coefficients, Progress, quiet

if TYPE_CHECKING:
    import pandas as pd

End = str | Soup


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a path from A to B: alpha 0 is A, 1 is B."""

    alpha: float
    score: Score


def end_mix(end: End) -> Coefficients:
    """An end as a mix: a name (ingredient, base, file) is taken whole, a soup as its own mix.

    Raises:
        CurveError: an ensemble, which has no weights.
    """
    if isinstance(end, Soup) and end.recipe.aggregation in OUTPUTS:
        raise CurveError(
            f"{end.title!r} is an ensemble of {len(end.mix)} models: it has no weights, so that no line runs to it; "
            "take a soup, or distil it into one model."
        )
    return end.mix if isinstance(end, Soup) else ((end, 1.0),)


def path_batchnorm(a: End, b: End) -> str:
    """What becomes of running statistics on a path: what the soups at its ends were cooked with.

    Raises:
        CurveError: the two soups were cooked with different aggregations.
    """
    aggregations = {end.recipe.aggregation: end.title for end in (a, b) if isinstance(end, Soup)}
    if len(aggregations) > 1:
        told = " and ".join(f"{title!r} with {name!r}" for name, title in aggregations.items())
        raise CurveError(
            f"BatchNorm statistics: {told}; a path has one of these: choose it as "
            "batchnorm. The other end then differs from its soup."
        )
    return next(iter(aggregations), "average")


def grid(points: int, start: float = 0.0, stop: float = 1.0) -> list[float]:
    """Evenly spaced alphas, both ends included; rounded, so that 0.3 is 0.3 in every grid.

    Raises:
        CurveError: fewer than two points, or ends that are not finite or equal.
    """
    if points < 2:
        raise CurveError(f"points is {points}; a curve needs at least 2.")
    if not np.isfinite([start, stop]).all() or start == stop:
        raise CurveError(f"the curve runs from {start} to {stop}; expected two different finite numbers.")
    return [round(float(alpha), 12) for alpha in np.linspace(start, stop, points)]


def coarse_to_fine(alphas: Sequence[float]) -> list[float]:
    """The same alphas, both ends first, then always the middle of the widest gap."""
    order = [0, len(alphas) - 1] if len(alphas) > 1 else [0]
    gaps = [(0, len(alphas) - 1)]
    while gaps:
        left, right = gaps.pop(0)
        if right - left > 1:
            middle = (left + right) // 2
            order.append(middle)
            gaps += [(left, middle), (middle, right)]
    return [alphas[index] for index in order]


def trace(
    kitchen: Kitchen,
    a: End,
    b: End,
    alphas: Sequence[float],
    *,
    split: str = HELD_OUT,
    batchnorm: str = "average",
    progress: Progress = quiet,
    on_point: Callable[[Point], None] = lambda _point: None,
) -> list[Point]:
    """Score the given points of a path, in the given order; each is told of as it comes."""
    found = []
    wanted = [(combine(end_mix(a), end_mix(b), alpha), split, batchnorm) for alpha in alphas]
    for alpha, score in zip(alphas, kitchen.scores.each(wanted, progress), strict=True):
        found.append(Point(alpha, score))
        on_point(found[-1])
    return found


def interpolate(
    kitchen: Kitchen,
    a: End,
    b: End,
    *,
    points: int = 21,
    start: float = 0.0,
    stop: float = 1.0,
    split: str = HELD_OUT,
    batchnorm: str | None = None,
    progress: Progress = quiet,
) -> "pd.DataFrame":
    """The curve from A to B.

    Args:
        a, b: an ingredient's name, "base", a checkpoint's file, or a Soup; A is at alpha 0, B at alpha 1.
        start, stop: the first and last alpha; outside [0, 1] extrapolates.
        batchnorm: what becomes of running statistics; default: what the soups at the ends were cooked with.
    Returns:
        A DataFrame, whose `plot()` draws the curve. One row per point, by alpha: alpha, value (the kitchen's metric),
        and what the task tells of a point: of a classifier accuracy (a fraction), loss (nats; None where an answer is
        not finite), correct, num_examples; else every metric and num_units.
    Raises:
        SoupError: an unknown end or split, or fewer than two points.
    """
    from soupviz.soups.frames import Curve, Traced  # it loads pandas

    alphas = grid(points, start, stop)
    for end in (a, b):
        end_mix(end)
    batchnorm = check_batchnorm(batchnorm or path_batchnorm(a, b))
    found = trace(kitchen, a, b, coarse_to_fine(alphas), split=split, batchnorm=batchnorm, progress=progress)
    scores = {point.alpha: point.score for point in found}
    rows = [
        {"value": scores[alpha].shown(kitchen.objective.name)} | dict(kitchen.task.point(scores[alpha]))
        for alpha in alphas
    ]
    called = [end.title if isinstance(end, Soup) else end for end in (a, b)]
    traced = Traced(kitchen, called[0], called[1], end_mix(a), end_mix(b), split, batchnorm)
    return Curve.of([{"alpha": alpha} | row for alpha, row in zip(alphas, rows, strict=True)], traced)


def barrier(alphas: Sequence[float], losses: Sequence[float]) -> float:
    """Height of the loss curve above the chord between its ends.

    Args:
        alphas: ascending, from 0 to 1. losses: in nats, one for each.
    Returns:
        max over alpha of loss(alpha) - [(1 - alpha) loss(0) + alpha loss(1)], in nats; 0.0 when never above.
    Raises:
        CurveError: fewer than three points, or ends other than 0 and 1.
    Source:
        Frankle et al. 2020, section 2. Differs: chord, not the mean of the ends.
    """
    return peak(alphas, losses).height


@dataclass(frozen=True, slots=True)
class Peak:
    """Where a curve is highest above the chord between its ends, and how high; on the chord it is `chord`."""

    alpha: float
    height: float
    chord: float


def peak(alphas: Sequence[float], heights: Sequence[float]) -> Peak:
    """The barrier with its place.

    Args:
        alphas: ascending, from 0 to 1. heights: what is bad where it is high: an error, or minus what is raised.
    Returns:
        The first alpha of the greatest height; an end, with height 0.0, where the curve is never above the chord.
    Raises:
        CurveError: fewer than three points, or ends other than 0 and 1.
    """
    if len(alphas) < 3 or alphas[0] != 0.0 or alphas[-1] != 1.0:
        raise CurveError(f"the barrier needs at least 3 points from alpha 0 to 1; got {list(alphas)}.")
    x, y = np.asarray(alphas), np.asarray(heights, dtype=float)
    chord = (1 - x) * y[0] + x * y[-1]
    above = y - chord
    above[[0, -1]] = 0.0
    at = int(above.argmax())
    return Peak(float(x[at]), max(0.0, float(above[at])), float(chord[at]))


def barrier_of(alphas: Sequence[float], values: Sequence[float], metric: Metric) -> Peak:
    """How far a curve of a metric is worse than the chord between its ends; the chord's value is the metric's.

    Args:
        alphas: ascending, from 0 to 1. values: one for each.
    """
    if not metric.higher_is_better:
        return peak(alphas, values)
    found = peak(alphas, [-value for value in values])
    return Peak(found.alpha, found.height, -found.chord)
