"""Giving weights up once they provably cannot win: when, and which units show it soonest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.task import Task


@dataclass(frozen=True, slots=True, eq=False)
class Limit:
    """When to give weights up, and in which order of the units that shows soonest."""

    gives_up: Callable[[Outcomes], bool]
    order: NDArray[np.int64]


def hardest_first(task: Task, parts: Sequence[tuple[Outcomes, float]]) -> NDArray[np.int64]:
    """Units in the order in which a mix probably answers them badly.

    Args:
        parts: what the mix is made of, with weights.
    Returns:
        Positions by falling expected hardness: that of the parts, weighed as they are mixed.
    """
    with np.errstate(invalid="ignore"):  # without a finite answer it is infinite, and weights may be below 0
        expected = sum(weight * task.hardness(part) for part, weight in parts)
    return np.argsort(-np.asarray(expected), kind="stable")
