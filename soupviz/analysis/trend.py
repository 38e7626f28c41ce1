"""A straight line through figures of pairs, and how sure one can be of it where pairs share members."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RELABELLINGS = 999
FEWEST_MEMBERS = 5
"""With four members there are 24 relabellings: too few to call anything unlikely."""


@dataclass(frozen=True, slots=True)
class Trend:
    """The least-squares line y = intercept + slope x through pairs.

    pearson, spearman: correlations. num_pairs, num_members: of the pairs. p_value: two-sided, by relabelling the
    members; None where not every pair is known, or members are fewer than five.
    """

    slope: float
    intercept: float
    pearson: float
    spearman: float
    num_pairs: int
    num_members: int
    p_value: float | None

    def at(self, x: float) -> float:
        return self.intercept + self.slope * x


def trend(points: Mapping[tuple[str, str], tuple[float, float]], *, seed: int = 0) -> Trend | None:
    """The line through figures of pairs.

    Pairs that share a member are not independent, so the usual p-value of a correlation does not hold. Relabelling the
    members of one figure, and not of the other, keeps what pairs share.

    Args:
        points: (x, y) of each pair. seed: of the relabellings.
    Returns:
        None for fewer than three pairs, or where x or y is the same for all.
    Source:
        Mantel 1967; Krackhardt 1988 (QAP): 999 relabellings, the labels as they are among them.
    """
    from scipy.stats import spearmanr

    x, y = np.array(list(points.values()), dtype=np.float64).reshape(-1, 2).T
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    slope, intercept = np.polyfit(x, y, 1)
    members = sorted({name for pair in points for name in pair})
    return Trend(
        slope=float(slope),
        intercept=float(intercept),
        pearson=float(np.corrcoef(x, y)[0, 1]),
        spearman=float(spearmanr(x, y).statistic),
        num_pairs=len(x),
        num_members=len(members),
        p_value=_p_value(points, members, seed),
    )


def _p_value(points: Mapping[tuple[str, str], tuple[float, float]], members: list[str], seed: int) -> float | None:
    size = len(members)
    if size < FEWEST_MEMBERS or len(points) < size * (size - 1) // 2:
        return None
    place = {name: index for index, name in enumerate(members)}
    first, second = np.zeros((2, size, size))
    for (a, b), (x, y) in points.items():
        first[place[a], place[b]] = first[place[b], place[a]] = x
        second[place[a], place[b]] = second[place[b], place[a]] = y
    upper = np.triu_indices(size, 1)
    fixed = _standard(first[upper])
    found = abs(float(fixed @ _standard(second[upper])))
    generator = np.random.default_rng(seed)
    as_strong = 1
    for _ in range(RELABELLINGS):
        order = generator.permutation(size)
        shuffled = _standard(second[np.ix_(order, order)][upper])
        # Rounding must not make the labels as they are, drawn again, weaker than themselves.
        as_strong += abs(float(fixed @ shuffled)) >= found - 1e-12
    return as_strong / (RELABELLINGS + 1)


def _standard(values: NDArray[np.float64]) -> NDArray[np.float64]:
    centred = values - values.mean()
    return np.asarray(centred / np.linalg.norm(centred))
