"""The bound that a mix has to beat, as workers are told of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soupviz.tasks.metric import Metric, Value, has_bound
from soupviz.tasks.objective import CannotWin, Objective, Part
from soupviz.tasks.outcomes import Outcomes


@dataclass(frozen=True, slots=True, eq=False)
class ToBeat:
    """A metric by its name, and of which units; the rest as of `CannotWin`."""

    metric: str
    part: Part
    groups: NDArray[np.int64] | None
    merit: tuple[int, Value]
    ties: bool

    @classmethod
    def of(cls, rule: Callable[[Outcomes], bool] | None) -> "ToBeat | None":
        """What can be told of when a candidate is given up; None: it is not, or by a rule of another kind."""
        if not isinstance(rule, CannotWin) or not has_bound(rule.objective.metric):
            return None
        goal = rule.objective
        return cls(goal.metric.name, goal.part, goal.groups, rule.merit, rule.ties)

    def rule(self, metrics: Mapping[str, Metric]) -> CannotWin:
        """The same, by the metric of that name."""
        return CannotWin(Objective(metrics[self.metric], self.part, self.groups), self.merit, self.ties)
