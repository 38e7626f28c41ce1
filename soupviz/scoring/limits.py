"""Giving weights up once they provably cannot win: after how many errors, and which examples show it soonest."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soupviz.types import PerExample


@dataclass(frozen=True, slots=True, eq=False)
class Limit:
    """When to give weights up: once so many examples are wrong; and in which order that shows soonest."""

    max_errors: int
    order: NDArray[np.int64]


def hardest_first(parts: Sequence[tuple[PerExample, float]]) -> NDArray[np.int64]:
    """Examples in the order in which a mix probably gets them wrong.

    Args:
        parts: what the mix is made of, with weights.
    Returns:
        Positions by rising expected margin: the parts' margins, negative where they are wrong, weighed as they are
        mixed. Of the current soup alone that is: what it gets wrong, then what it gets right with least margin.
    """
    expected = sum(
        weight * np.where(part.correct, part.margins, -part.margins.astype(np.float64)) for part, weight in parts
    )
    return np.argsort(expected, kind="stable")
