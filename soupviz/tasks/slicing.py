"""How weights do slice by slice: by the column that the kitchen names, else by class."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from soupviz.data.split import Split
from soupviz.errors import RecipeError
from soupviz.tasks.metric import Metric
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.paired import LIST_DRAWS, p_value
from soupviz.tasks.score import Score
from soupviz.tasks.task import Task
from soupviz.types import Slices


@dataclass(frozen=True, slots=True)
class SliceRow:
    """How two sets of weights did on one slice; what compares them is None where there is one only.

    value, old_value: of the metric; None where it says nothing of the slice. difference: new - old. better, worse:
    units that the new answers better, and worse; of right and wrong answers those that only it, and only the old has
    right.
    p_value: of the paired test on this slice alone: of twenty slices, one is expected below 0.05 by chance.
    """

    name: str
    num_units: int
    value: float | None
    old_value: float | None = None
    difference: float | None = None
    better: int | None = None
    worse: int | None = None
    p_value: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def slice_table(task: Task, metric: Metric, new: Score, old: Score | None, split: Split) -> list[SliceRow]:
    """One row for each slice of a split: by the column that the kitchen names, else by class.

    Args:
        new, old: scores on this split, with their outcomes.
    Raises:
        RecipeError: the split has no slices, and the task no classes.
    """
    slices = slices_of(task, split)
    rows = []
    for place, name in enumerate(slices.names):
        inside = slices.index == place
        assert new.outcomes is not None and (old is None or old.outcomes is not None)
        now = new.outcomes.take(inside)
        before = old.outcomes.take(inside) if old is not None and old.outcomes is not None else None
        rows.append(_row(task, metric, name, now, before))
    return rows


def _row(task: Task, metric: Metric, name: str, new: Outcomes, old: Outcomes | None) -> SliceRow:
    value = _shown(metric, new)
    if old is None:
        return SliceRow(name, len(new), value)
    old_value, (better, worse) = _shown(metric, old), task.better(new, old)
    known = value is not None and old_value is not None
    return SliceRow(
        name=name,
        num_units=len(new),
        value=value,
        old_value=old_value,
        difference=value - old_value if value is not None and old_value is not None else None,
        better=better,
        worse=worse,
        p_value=p_value(metric, new, old, LIST_DRAWS) if known else None,
    )


def _shown(metric: Metric, outcomes: Outcomes) -> float | None:
    return None if (value := metric.value(outcomes)) is None else float(value)


def has_slices(task: Task, split: Split) -> bool:
    """Whether there is anything to look at one by one."""
    return split.slices is not None or task.has_classes


def slices_of(task: Task, split: Split) -> Slices:
    """By the column that the kitchen names, else by class.

    Raises:
        RecipeError: there is neither.
    """
    if not has_slices(task, split):
        raise RecipeError(
            f"{split.name} has no slices, and {task.without_classes}: name a column that "
            "divides it, with `slices: {file: FILE.csv, column: NAME}` in kitchen.yaml."
        )
    return split.slices or by_class(split)


def by_class(split: Split) -> Slices:
    """A slice for each class that the split has examples of, in label order; without names they are numbers."""
    labels, index = np.unique(split.labels.numpy(), return_inverse=True)
    names = [split.classes[label] if split.classes else str(label) for label in labels.tolist()]
    return Slices("class", tuple(names), index.astype(np.int64))
