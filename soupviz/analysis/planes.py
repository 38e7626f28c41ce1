"""The plane through three mixes: its frame, the grid on which it is scored, and where other weights lie beside it."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from soupviz.analysis import geometry
from soupviz.errors import SoupError
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import is_affine
from soupviz.recipes.paths import in_plane
from soupviz.spec import HELD_OUT
from soupviz.tasks.score import Score
from soupviz.types import Coefficients, Progress, quiet
from soupviz.weights.selection import BASE

Matrix = NDArray[np.float64]
Spot = tuple[float, float]
"""A place in the plane by its weights (beta, gamma): `(1 - beta - gamma) A + beta B + gamma C`."""

FLAT = 1e-4
"""Of the longest side: three points whose height is less lie on one line."""

FINENESS = (5, 9, 17, 33)
"""Points along each side of a grid; each grid holds the one before it."""


CORNERS: tuple[Spot, Spot, Spot] = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0))


class PlaneError(SoupError):
    """Three points span no plane, or a grid of that fineness is not known."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The plane's coordinates: A is at (0, 0), B at (width, 0), C at (foot, height); distances in it are true.

    All in the unit of the weights. x runs along B - A; y along what of C - A is at right angles to it.
    """

    width: float
    foot: float
    height: float

    @property
    def corners(self) -> tuple[Spot, Spot, Spot]:
        """(x, y) of the three points."""
        return (0.0, 0.0), (self.width, 0.0), (self.foot, self.height)

    @property
    def side(self) -> float:
        """The mean distance between the three points."""
        return float(np.mean([math.dist(*pair) for pair in itertools.combinations(self.corners, 2)]))

    def place(self, spot: Spot) -> tuple[float, float]:
        """(x, y) of a spot."""
        beta, gamma = spot
        return beta * self.width + gamma * self.foot, gamma * self.height

    def spot(self, x: float, y: float) -> Spot:
        """The spot at (x, y)."""
        gamma = y / self.height
        return (x - gamma * self.foot) / self.width, gamma


@dataclass(frozen=True, slots=True)
class Projection:
    """Where weights lie: (x, y) of the point of the plane that is nearest to them, and how far that is."""

    x: float
    y: float
    distance: float


def frame(gram: Matrix) -> Frame:
    """The frame of the plane through three points.

    Args:
        gram: inner products of A, B and C, from any one origin, shape (3, 3) or more; the first three count.
    Raises:
        PlaneError: two are the same, or the three lie on one line.
    Source:
        Garipov et al. 2018 (arXiv 1802.10026), appendix A.1: u = B - A, v = C - A less its part along u, both of
        length one. Here from inner products alone, so that no vector of weights is held.
    """
    u, v = _from_a(gram, 1), _from_a(gram, 2)
    longest = max(u @ gram @ u, v @ gram @ v, (u - v) @ gram @ (u - v))
    width = math.sqrt(max(0.0, float(u @ gram @ u)))
    if width <= FLAT * math.sqrt(longest) or not longest:
        raise PlaneError("the first two points are the same weights, so that no plane is spanned; take another.")
    foot = float(u @ gram @ v) / width
    across = v - (foot / width) * u
    height = math.sqrt(max(0.0, float(across @ gram @ across)))
    if height <= FLAT * math.sqrt(longest):
        raise PlaneError("the three points lie on one line, so that no plane is spanned; take another third point.")
    return Frame(width, foot, height)


def _from_a(gram: Matrix, index: int) -> Matrix:
    """An item less the first, in coefficients."""
    difference = np.zeros(len(gram))
    difference[index] += 1.0
    difference[0] -= 1.0
    return difference


def project(gram: Matrix) -> tuple[Frame, list[Projection]]:
    """Where each item lies beside the plane through the first three.

    Args:
        gram: inner products from any one origin, shape (n, n).
    Returns:
        The frame, and a projection for each item, those of the corners first.
    Raises:
        PlaneError: the first three span no plane.
    """
    found = frame(gram)
    u = _from_a(gram, 1) / found.width
    v = (_from_a(gram, 2) - found.foot * u) / found.height
    projections = []
    for index in range(len(gram)):
        item = _from_a(gram, index)
        x, y = float(u @ gram @ item), float(v @ gram @ item)
        projections.append(Projection(x, y, math.sqrt(max(0.0, float(item @ gram @ item) - x * x - y * y))))
    return found, projections


def around(found: Frame, fineness: int) -> list[list[Spot]]:
    """The three points and the grid around them, a sixth of width and height beyond them on each side, coarse to fine.

    Weights are rounded to six decimals: a score is then found again whatever the last bit of a distance was.

    Returns:
        The three points, then for each fineness up to the asked one the spots that it adds, from the middle of the
        triangle outwards.
    Raises:
        PlaneError: a fineness other than 5, 9, 17, 33.
    """
    if fineness not in FINENESS:
        raise PlaneError(f"fineness is {fineness}; expected one of {', '.join(map(str, FINENESS))}.")
    known: set[Spot] = {*CORNERS}
    levels = [[*CORNERS]]
    for size in FINENESS[: FINENESS.index(fineness) + 1]:
        added = [spot for spot in itertools.chain(*rows(found, size)) if spot not in known]
        known.update(added)
        middle = found.place((1 / 3, 1 / 3))
        levels.append(sorted(added, key=lambda spot: math.dist(found.place(spot), middle)))
    return levels


def rows(found: Frame, size: int) -> list[list[Spot]]:
    """A grid's spots, row by row of equal y, each row by x."""
    left, right = min(0.0, found.foot / found.width), max(1.0, found.foot / found.width)
    grid = []
    for row in range(size):
        gamma = _step(row, size)
        xs = (left + _step(column, size) * (right - left) for column in range(size))
        grid.append([(round(x - gamma * found.foot / found.width, 6), round(gamma, 6)) for x in xs])
    return grid


def _step(index: int, size: int) -> float:
    """From -1/6 to 7/6; one division, so that 0 and 1 are exact where they are among the steps."""
    return (8 * index - (size - 1)) / (6 * (size - 1))


@dataclass(frozen=True, slots=True)
class Value:
    """What was measured at a spot. figures: by metric, over all units. counts: whole numbers that the task tells."""

    spot: Spot
    figures: Mapping[str, float | None]
    counts: Mapping[str, int]

    @classmethod
    def of(cls, kitchen: Kitchen, spot: Spot, score: Score) -> "Value":
        """A score without its units."""
        figures = {metric.name: score.whole(metric) for metric in kitchen.task.metrics}
        counts = {name: value for name, value in score.facts.items() if isinstance(value, int)}
        return cls(spot, figures, counts | {"num_units": score.num_units})


def scan(
    kitchen: Kitchen,
    corners: Sequence[Coefficients],
    spots: Sequence[Spot],
    *,
    split: str = HELD_OUT,
    aggregation: str = "average",
    progress: Progress = quiet,
    on_value: Callable[[Value], None] = lambda _value: None,
) -> list[Value]:
    """Score spots of the plane through three mixes, in the given order; each is told of as it comes."""
    found = []
    wanted = [(in_plane(corners, *spot), split, aggregation) for spot in spots]
    for spot, score in zip(spots, kitchen.scores.each(wanted, progress), strict=True):
        found.append(Value.of(kitchen, spot, score))
        on_value(found[-1])
    return found


def between(frame: Frame, known: Mapping[Spot, float], spots: Sequence[Spot]) -> list[float | None]:
    """Figures at spots: those that are known there, else interpolated linearly between the known ones.

    Returns:
        None outside of what is known, and while that is fewer than three spots or all on one line.
    """
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import QhullError

    places = np.array([frame.place(spot) for spot in known]).reshape(-1, 2)
    asked = np.array([frame.place(spot) for spot in spots]).reshape(-1, 2)
    found = np.full(len(spots), np.nan)
    if len(known) > 2:
        # On the rim a last bit decides whether a place is outside: all are taken a hair towards the middle.
        asked += 1e-5 * (places.mean(0) - asked)
        try:
            found = LinearNDInterpolator(places, list(known.values()), rescale=True)(asked)
        except QhullError:  # all on one line
            pass
    interpolated = [None if math.isnan(number) else float(number) for number in found]
    return [known.get(spot, number) for spot, number in zip(spots, interpolated, strict=True)]


def locate(
    kitchen: Kitchen, mixes: Sequence[Coefficients], progress: Progress = quiet
) -> tuple[Frame, list[Projection]]:
    """The frame of the plane through the first three mixes, and where each lies beside it; kept in the store.

    Running statistics are left out: distances are of weights.

    Raises:
        PlaneError: the first three span no plane. SoupError: a mix of what the kitchen lacks.
    """
    mixes = [tuple(mix) for mix in mixes]
    names = list(dict.fromkeys(name for mix in mixes for name, _ in mix))
    fingerprints = {name: kitchen.weights.resolve(name).fingerprint for name in names}
    key = digest(["plane 1", mixes, fingerprints, sorted(kitchen.architecture.ties)])
    gram = kitchen.store.finding(key)
    if gram is None:
        gram = _gram(kitchen, mixes, progress).tolist()
        kitchen.store.keep_finding(key, gram)
    return project(np.asarray(gram))


def _gram(kitchen: Kitchen, mixes: Sequence[Coefficients], progress: Progress) -> Matrix:
    """Inner products of mixes: by their coefficients, where these sum to one; of their weights, where they do not."""
    odd = [mix for mix in mixes if not is_affine(kitchen.scores.resolved(mix))]
    plain = [mix for mix in mixes if mix not in odd]
    names = list(dict.fromkeys(name for mix in plain for name, _ in mix if name != BASE))
    if not odd:
        return geometry.gram(kitchen, names, progress=progress).of_mixes(mixes)
    tensors: list[Mapping[str, Tensor]] = [kitchen.weights.resolve(name).tensors for name in names]
    tensors += [dict(kitchen.scores.mixed(mix)) for mix in odd]
    origin = kitchen.base or kitchen.ingredients[0]
    products = geometry.inner_products(tensors, origin.tensors, ties=kitchen.architecture.ties, progress=progress)
    weights = np.zeros((len(mixes), len(tensors)))
    for row, mix in zip(weights, mixes, strict=True):
        if mix in odd:
            row[len(names) + odd.index(mix)] = 1.0
        else:
            for name, weight in mix:
                if name != BASE:  # the origin
                    row[names.index(name)] += weight
    return np.asarray(weights @ products @ weights.T)
