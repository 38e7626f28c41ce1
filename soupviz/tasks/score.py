"""How one set of weights did on one split: the values of the task's metrics, and the outcomes they come from."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any

from soupviz.tasks.by_name import NamedScore
from soupviz.tasks.metric import Metric, Value
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.wording import significant
from soupviz.types import Grouped


@dataclass(frozen=True, slots=True)
class Score(NamedScore):
    """Values by metric, the kitchen's objective first, and what the task tells beside them.

    values: exact where they are Fractions; None where a metric says nothing. num_close: units so close to
    another answer that another batch size may change them; None where the task does not count them.
    device: the type of what computed it.
    facts: what the task adds, as plain data. outcomes: of each unit; None in a summary. grouped: by what the split's
    units are resampled together, which the split says and the store does not keep.
    further: scores of the same weights on further splits, where a search looks at them; not kept with this one.
    """

    split: str
    num_units: int
    values: Mapping[str, Value | None]
    num_nonfinite: int = 0
    num_close: int | None = None
    precision: str = "float32"
    device: str = "cpu"
    facts: Mapping[str, Any] = field(default_factory=dict)
    outcomes: Outcomes | None = field(default=None, compare=False)
    grouped: Grouped | None = None
    further: tuple["Score", ...] = field(default=(), compare=False)

    def __repr__(self) -> str:
        """Values as numbers: a unit is its metric's."""
        known = {name: self.shown(name) for name in self.values}
        told = (f"{name} {'none' if value is None else significant(value, 4)}" for name, value in known.items())
        caveat = f", {self.num_nonfinite:,} without a finite answer" if self.num_nonfinite else ""
        return f"<Score on {self.split}: {', '.join(told)}; {self.num_units:,} units{caveat}>"

    @property
    def metric(self) -> str:
        """The name of the objective."""
        return next(iter(self.values))

    @property
    def value(self) -> Value | None:
        """Of the objective."""
        return self.values[self.metric]

    @property
    def num_scored(self) -> int:
        return self.num_units

    def shown(self, metric: str) -> float | None:
        """A value as a float."""
        return None if (value := self.values.get(metric)) is None else float(value)

    def whole(self, metric: Metric) -> float | None:
        """A value over all units; None where it is not finite, or leaves out units whose answers are not."""
        value = self.shown(metric.name)
        if value is None or not math.isfinite(value) or (self.num_nonfinite and not metric.judges_nonfinite):
            return None
        return value

    def summary(self) -> dict[str, Any]:
        """The score as JSON tells it: what the task promises first. exact: values that are fractions, as such."""
        return {
            **self.facts,
            "split": self.split,
            "metric": self.metric,
            "value": self.shown(self.metric),
            "metrics": {name: self.shown(name) for name in self.values},
            "exact": {name: _plain(one) for name, one in self.values.items() if isinstance(one, Fraction)},
            "num_units": self.num_units,
            "num_nonfinite": self.num_nonfinite,
            "num_close": self.num_close,
            "precision": self.precision,
            "device": self.device,
            **({"grouped": asdict(self.grouped)} if self.grouped else {}),
        }

    def as_plain(self) -> dict[str, Any]:
        """The score as the store keeps it, without its outcomes; `from_plain` gives it back, exactly."""
        values = {name: _plain(value) for name, value in self.values.items()}
        kept = ("num_units", "num_nonfinite", "num_close", "precision", "device")
        return {name: getattr(self, name) for name in kept} | {"values": values, "facts": dict(self.facts)}

    @classmethod
    def from_summary(cls, summary: Mapping[str, Any]) -> "Score":
        """The score that `summary` told, but for the groups: these the split knows, as it is now."""
        kept = ("split", "num_units", "num_nonfinite", "num_close", "precision", "device")
        beside = {*kept, "metric", "value", "metrics", "exact", "grouped"}
        facts = {name: value for name, value in summary.items() if name not in beside}
        exact = {name: Fraction(*value) for name, value in summary.get("exact", {}).items()}
        values = dict(summary["metrics"]) | exact
        return cls(**{name: summary[name] for name in kept}, values=values, facts=facts)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], split: str, outcomes: Outcomes | None = None) -> "Score":
        values = {
            name: Fraction(*value) if isinstance(value, list) else value for name, value in plain["values"].items()
        }
        return cls(**{**plain, "split": split, "values": values, "outcomes": outcomes})


def _plain(value: Value | None) -> list[int] | float | None:
    return [value.numerator, value.denominator] if isinstance(value, Fraction) else value


@dataclass(frozen=True, slots=True)
class PartScore:
    """The objective of what is no group of units: of a detector's classes, of objects of a size.

    kind: what the units' parts are divided by. number: how many there are. value: None where it says nothing.
    """

    kind: str
    name: str
    number: int
    value: float | None


@dataclass(frozen=True, slots=True)
class Bound:
    """What is known of weights that were given up because they provably cannot win.

    best_possible: by metric, the best value they could have; None where nothing is known of it.
    """

    split: str
    num_units: int
    outcomes: Outcomes = field(compare=False, repr=False)
    best_possible: Mapping[str, Value | None] = field(default_factory=dict)

    @property
    def num_scored(self) -> int:
        return self.outcomes.num_scored
