"""What is kept of each unit after scoring: a few named columns of numbers, or records of varying length."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Column = NDArray[Any]

ANSWER, LABEL = "answer", "label"
"""Columns of a task that keeps what the model answered and what was right, as they are."""

FINITE = "finite"
"""The column that every task keeps: whether all of the model's answer for the unit is finite."""


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """What became of the units of a split.

    scored: whether the unit was scored, shape (num_units,); of one that was not, the columns say nothing.
    columns: by name, arrays with a row for each unit, shape (num_units, ...); one of dtype object holds an array of its
    own for each unit (the detections of an image). targets: columns that are known before anything is scored, such as
    labels or the words of a reference; they are the split's, and not kept with a score. groups: of each unit the group
    whose units are resampled together, also the split's; None: each is resampled alone.
    """

    scored: NDArray[np.bool_]
    targets: Mapping[str, Column]
    columns: dict[str, Column] = field(default_factory=dict)
    groups: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.scored)

    def __getitem__(self, name: str) -> Column:
        return self.columns[name] if name in self.columns else self.targets[name]

    def __contains__(self, name: str) -> bool:
        return name in self.columns or name in self.targets

    @classmethod
    def blank(
        cls, num_units: int, targets: Mapping[str, Column], groups: NDArray[np.int64] | None = None
    ) -> "Outcomes":
        """Nothing scored yet; an evaluation writes into it."""
        return cls(np.zeros(num_units, dtype=np.bool_), targets, groups=groups)

    @classmethod
    def of(
        cls,
        columns: Mapping[str, Column],
        targets: Mapping[str, Column] | None = None,
        groups: NDArray[np.int64] | None = None,
    ) -> "Outcomes":
        """Of units that are all scored."""
        held = dict(columns)
        return cls(np.ones(len(next(iter(held.values()))), dtype=np.bool_), targets or {}, held, groups)

    @property
    def num_scored(self) -> int:
        return int(self.scored.sum())

    @property
    def is_whole(self) -> bool:
        return bool(self.scored.all())

    @property
    def num_nonfinite(self) -> int:
        """How many of the scored units have no finite answer."""
        return int((self.scored & ~self.columns[FINITE]).sum()) if FINITE in self.columns else 0

    def write(self, rows: NDArray[np.int64], part: Mapping[str, Column]) -> None:
        """Fill in what became of some units; a column that is kept no longer goes."""
        for name in self.columns.keys() - part.keys():
            del self.columns[name]
        for name, values in part.items():
            if name not in self.columns:
                self.columns[name] = _unwritten(len(self), values)
            self.columns[name][rows] = values
        self.scored[rows] = True

    def take(self, rows: NDArray[Any]) -> "Outcomes":
        """Some of the units: positions, or True where one is taken."""
        targets = {name: values[rows] for name, values in self.targets.items()}
        columns = {name: values[rows] for name, values in self.columns.items()}
        return Outcomes(self.scored[rows], targets, columns, None if self.groups is None else self.groups[rows])


def _unwritten(number: int, like: Column) -> Column:
    """A column of units that are not scored yet: zeros, or records of nothing."""
    if like.dtype == object:
        return records([like[0][:0]] * number)
    return np.zeros((number, *like.shape[1:]), dtype=like.dtype)


def joined(parts: Sequence[Outcomes]) -> Outcomes:
    """Several outcomes as those of one split that holds the units of all, one after the other.

    Groups of one number are one group, whichever part has them.
    """

    def together(which: str) -> dict[str, Column]:
        return {
            name: np.concatenate([getattr(part, which)[name] for part in parts]) for name in getattr(parts[0], which)
        }

    known = [part.groups for part in parts if part.groups is not None]
    groups = np.concatenate(known) if len(known) == len(parts) else None
    return Outcomes(np.concatenate([part.scored for part in parts]), together("targets"), together("columns"), groups)


def records(values: Sequence[NDArray[Any]]) -> Column:
    """A column of arrays of varying length, one for each unit."""
    column = np.empty(len(values), dtype=object)
    for index, value in enumerate(values):
        column[index] = value
    return column
