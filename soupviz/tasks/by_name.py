"""What scripts call the values of a classifier's scores and decisions, since before there were other tasks."""

from collections.abc import Mapping
from typing import Any


class NamedScore:
    """A score's attributes by classification's names; of another task's score they raise KeyError."""

    __slots__ = ()
    facts: Mapping[str, Any]
    num_units: int

    @property
    def accuracy(self) -> float:
        return float(self.facts["accuracy"])

    @property
    def correct(self) -> int:
        return int(self.facts["correct"])

    @property
    def num_examples(self) -> int:
        return self.num_units

    @property
    def loss(self) -> float | None:
        return _float(self.facts["loss"])

    @property
    def macro_f1(self) -> float:
        return float(self.facts["macro_f1"])

    @property
    def class_correct(self) -> tuple[int, ...]:
        return tuple(self.facts["class_correct"])

    @property
    def class_count(self) -> tuple[int, ...]:
        return tuple(self.facts["class_count"])

    @property
    def top5_correct(self) -> int | None:
        found: int | None = self.facts["top5_correct"]
        return found

    @property
    def ece(self) -> float | None:
        return _float(self.facts["ece"])


class NamedStep:
    """A decision's attributes by classification's names; of another task's decision they raise KeyError."""

    __slots__ = ()
    value: float | None
    metrics: Mapping[str, float | None]
    best_metrics: Mapping[str, float | None]
    num_scored: int
    num_units: int

    @property
    def accuracy(self) -> float | None:
        return None if self.value is None else self.metrics["accuracy"]

    @property
    def correct(self) -> int | None:
        return None if self.accuracy is None else round(self.accuracy * self.num_units)

    @property
    def best_accuracy(self) -> float:
        return float(self.best_metrics["accuracy"] or 0.0)

    @property
    def num_examples_scored(self) -> int:
        return self.num_scored

    @property
    def accuracy_at_most(self) -> float:
        return float(self.metrics["accuracy"] or 0.0)


def _float(value: Any) -> float | None:
    return None if value is None else float(value)
