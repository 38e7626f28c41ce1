"""What recipes raise or lower in a kitchen, by the names that they have for it."""

import numpy as np
from numpy.typing import NDArray

from soupviz.kitchen import Kitchen
from soupviz.recipes.pool import PARTS, Per, find_goal
from soupviz.spec import HELD_OUT, SHIFTS
from soupviz.tasks.metric import others_of
from soupviz.tasks.objective import Objective


def goal_of(kitchen: Kitchen, goal: str, shift_weight: float = 0.5) -> Objective:
    """What a recipe raises or lowers in a kitchen, by the name that it has for it."""
    shifts = [name for name in kitchen.splits.names if name.startswith(SHIFTS)]
    return find_goal(goal, kitchen.task, Objective(kitchen.objective), groups_of(kitchen), shifts, shift_weight)


def goals_of(kitchen: Kitchen) -> list[str]:
    """What a recipe can raise or lower in a kitchen, by name, its own metric first."""
    parts = [part for part in PARTS if not part.endswith("_class") or kitchen.task.has_classes]
    others = [metric.name for metric in others_of(kitchen.task.metrics, kitchen.objective)]
    return [kitchen.objective.name, *others, *parts]


def groups_of(kitchen: Kitchen) -> dict[Per, NDArray[np.int64]]:
    """Of each unit of held_out its class and its slice, where there are such."""
    split = kitchen.splits.load(HELD_OUT)
    classes = kitchen.task.groups(split.labels)
    found: dict[Per, NDArray[np.int64]] = {} if classes is None else {"class": classes}
    return found | ({"slice": split.slices.index} if split.slices else {})
