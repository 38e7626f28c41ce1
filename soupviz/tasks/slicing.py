"""How weights do slice by slice: by the column that the kitchen names, else by class."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from soupviz.data.splits import Split
from soupviz.tasks.metrics import mcnemar, slice_counts
from soupviz.tasks.score import Score
from soupviz.types import Slices


@dataclass(frozen=True, slots=True)
class SliceRow:
    """How two sets of weights did on one slice; what compares them is None where there is one only.

    accuracy, old_accuracy: fractions. points: by how many percentage points the new is better. fixed, broken: examples
    that only the new, and that only the old has right. p_value: of McNemar's exact test on this slice alone: of twenty
    slices, one is expected below 0.05 by chance.
    """

    name: str
    num_examples: int
    accuracy: float
    old_accuracy: float | None = None
    points: float | None = None
    fixed: int | None = None
    broken: int | None = None
    p_value: float | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def slice_table(new: Score, old: Score | None, split: Split) -> list[SliceRow]:
    """One row for each slice of a split: by the column that the kitchen names, else by class.

    Args:
        new, old: scores on this split, with their examples.
    """
    slices = slices_of(split)
    counts = slice_counts(new, slices.index)
    if old is None:
        pairs = zip(slices.names, counts, strict=True)
        return [SliceRow(name, number, right / number) for name, (right, number) in pairs]
    assert new.outcomes is not None and old.outcomes is not None
    now, before = new.outcomes["right"], old.outcomes["right"]
    fixed, broken = (
        np.bincount(slices.index[only], minlength=len(counts)).tolist() for only in (now & ~before, before & ~now)
    )
    return [
        SliceRow(
            name=slices.names[place],
            num_examples=number,
            accuracy=right / number,
            old_accuracy=was_right / number,
            points=100 * (right - was_right) / number,
            fixed=fixed[place],
            broken=broken[place],
            p_value=mcnemar(fixed[place], broken[place]),
        )
        for place, ((right, number), (was_right, _)) in enumerate(
            zip(counts, slice_counts(old, slices.index), strict=True)
        )
    ]


def slices_of(split: Split) -> Slices:
    """By the column that the kitchen names, else by class."""
    return split.slices or by_class(split)


def by_class(split: Split) -> Slices:
    """A slice for each class that the split has examples of, in label order; without names they are numbers."""
    labels, index = np.unique(split.labels.numpy(), return_inverse=True)
    names = [split.classes[label] if split.classes else str(label) for label in labels.tolist()]
    return Slices("class", tuple(names), index.astype(np.int64))
