"""The decisions of a search, in their order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from soupviz.tasks.by_name import NamedStep
from soupviz.tasks.classes.classification import earlier_step
from soupviz.tasks.objective import Objective
from soupviz.tasks.score import Bound, Score
from soupviz.types import Coefficients, mix_from

GIVEN_UP = "rejected early"
"""What became of a candidate that was not scored whole, as it could no longer win."""


@dataclass(frozen=True, slots=True)
class Step(NamedStep):
    """One decision of a search, by what was to be raised or lowered.

    value: of the candidate; None where scoring stopped early. best_value: what stands after the decision. num_scored:
    units that were scored. bound: the best value that the candidate could have, as far as it was scored. metrics: every
    metric's value of the candidate, or bound where scoring stopped early. best_metrics: of what stands.
    mix: what was tried; None for the epochs of a training, whose
    weights nobody keeps, and in runs of earlier versions. It was compared with the mix of the last step before it that
    was accepted.
    """

    step: int
    ingredient: str
    value: float | None
    best_value: float | None
    accepted: bool
    num_scored: int
    num_units: int
    bound: float | None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    best_metrics: Mapping[str, float | None] = field(default_factory=dict)
    mix: Coefficients | None = None

    @classmethod
    def of(
        cls,
        number: int,
        ingredient: str,
        result: Score | Bound,
        best: Score,
        objective: Objective,
        *,
        accepted: bool,
        mix: Coefficients | None = None,
    ) -> "Step":
        """The decision on a result; `best` is what stands after it."""
        is_whole = isinstance(result, Score)
        value = objective.value(result) if isinstance(result, Score) else objective.possible(result.outcomes)
        told = result.values if isinstance(result, Score) else result.best_possible
        return cls(
            step=number,
            ingredient=ingredient,
            value=_shown(value) if is_whole else None,
            best_value=_shown(objective.value(best)),
            accepted=accepted,
            num_scored=result.num_scored,
            num_units=result.num_units,
            bound=_shown(value),
            metrics={name: _shown(one) for name, one in told.items()},
            best_metrics={name: best.shown(name) for name in best.values},
            mix=mix,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], num_units: int = 0) -> "Step":
        """The step that `as_dict` gave, as JSON keeps it.

        Args:
            num_units: of the split, for decisions of earlier versions, which do not tell it where they came early.
        """
        values = values if "value" in values else earlier_step(values, num_units)
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}
        mix = values.get("mix")
        return cls(**{**known, "mix": mix and mix_from(mix)})

    @property
    def outcome(self) -> str:
        """What became of it: start, accepted, rejected, or rejected early."""
        if self.step == 0:
            return "start"
        return "accepted" if self.accepted else "rejected" if self.value is not None else GIVEN_UP

    def as_dict(self) -> dict[str, Any]:
        """As plain data, in which the mix and the metrics are this decision's own."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def steps_from(kept: Sequence[Mapping[str, Any]]) -> tuple[Step, ...]:
    """A search's decisions, as JSON keeps them."""
    # What it began with was scored whole.
    number = max((step["num_examples_scored"] for step in kept if "value" not in step), default=0)
    return tuple(Step.from_dict(step, number) for step in kept)


def _shown(value: Any) -> float | None:
    return None if value is None else float(value)
