"""What a recipe is given: the ingredients to choose among, and scores of mixes; neither files nor models."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from soupviz.errors import RecipeError
from soupviz.mixing.formulas import Formula
from soupviz.recipes.services import Ahead, Attempt, Services
from soupviz.recipes.trajectory import Step
from soupviz.scoring.limits import Limit, hardest_first
from soupviz.spec import HELD_OUT
from soupviz.tasks.metric import Metric
from soupviz.tasks.objective import Objective, Part
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.score import Bound, Score
from soupviz.tasks.task import Task
from soupviz.types import Coefficients

WITH_SHIFTS = "with_shifts"
PARTS = ("mean_class", "worst_class", "mean_slice", "worst_slice", WITH_SHIFTS)
"""Goals that are the kitchen's metric of parts of held_out, or with the shifts, which then select too and report no
longer; the other goals are the names of the task's metrics."""

Per = Literal["class", "slice"]

Challenger = tuple[Coefficients, Score, Sequence[tuple[Score, float]]]
"""A mix, the best that it has to beat, and what it is made of with weights; of nothing: of its ingredients."""

Known = tuple[Score, Objective, bool, Limit]
"""What a limit holds for: the best, what better means, whether ties count; and the limit."""


@dataclass(slots=True)
class ScoredPool:
    """The pool in kitchen order, and its scores.

    task: what the scores are of. objective: what is raised where a recipe does not say otherwise.
    attempt: scores a mix, or with a limit gives it up. tell: is told of every decision. facts: metadata of an
    ingredient. adopt: makes a formula a mix that can be scored. complete: score whole what cannot win too. asks: what
    else may be asked, of recipes that declare `services`. notes: what a planner has to say of its soup beside
    coefficients, as plain data. groups: of each unit of held_out its class and its slice, where there are such. shifts:
    the names of the shifts. ahead: is told what will probably be asked next.
    also: scores a mix on one of them, every example. asked: every mix that was scored, or given up, and the split.
    base_is_whole: whether the base is a model itself; one with another head is not.
    _limits: of the mixes that were said to come next, so that units are put in order once for each.
    """

    names: Sequence[str]
    task: Task
    objective: Objective
    attempt: Attempt
    tell: Callable[[Step], None] = lambda _step: None
    facts: Callable[[str], Mapping[str, Any]] = lambda _name: {}
    adopt: Callable[[Formula], Coefficients] = lambda _formula: ()
    complete: bool = False
    _singles: dict[str, Score] = field(default_factory=dict)
    _limits: dict[Coefficients, Known] = field(default_factory=dict)
    asked: set[tuple[Coefficients, str]] = field(default_factory=set)
    asks: Services | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    groups: Mapping[Per, NDArray[np.int64]] = field(default_factory=dict)
    ahead: Ahead = lambda _likely: None
    shifts: Sequence[str] = ()
    also: Callable[[Coefficients, str], Score] | None = None
    base_is_whole: bool = True

    @property
    def services(self) -> Services:
        assert self.asks is not None  # who asks has declared it
        return self.asks

    def silent(self) -> "ScoredPool":
        """The same pool, for a search within a search whose decisions are nobody's."""
        return replace(self, tell=lambda _step: None)

    def score(self, mixture: Coefficients) -> Score:
        """Of every example."""
        self.asked.add((mixture, HELD_OUT))
        result = self.attempt(mixture, None)
        assert isinstance(result, Score)  # without a limit nothing is given up
        return result

    def single(self, name: str) -> Score:
        if name not in self._singles:
            self._singles[name] = self.score(((name, 1.0),))
        return self._singles[name]

    def singles(self) -> dict[str, Score]:
        """Each ingredient of the pool alone."""
        found = {}
        for index, name in enumerate(self.names):
            self.ahead((((other, 1.0),), None) for other in self.names[index:])
            found[name] = self.single(name)
        return found

    def goal(self, name: str, shift_weight: float = 0.5) -> Objective:
        """What a recipe asks to be raised, by its name; default: the objective."""
        return find_goal(name, self.task, self.objective, self.groups, self.shifts, shift_weight)

    def groups_by(self, per: Per) -> NDArray[np.int64]:
        """Of each unit of held_out its class, or its slice."""
        return find_groups(self.task, self.groups, per)

    def values_by(self, per: Per, score: Score, metric: Metric | None = None) -> list[float]:
        """A metric's value on each class or slice that has units; default: the objective's."""
        groups, outcomes, metric = self.groups_by(per), outcomes_of(score), metric or self.objective.metric
        values = [metric.value(outcomes.take(groups == group)) for group in np.unique(groups).tolist()]
        return [math.nan if value is None else float(value) for value in values]

    def decided(
        self,
        number: int,
        ingredient: str,
        result: Score | Bound,
        best: Score,
        *,
        accepted: bool,
        mix: Coefficients | None = None,
        goal: Objective | None = None,
    ) -> None:
        """Tell of a decision."""
        self.tell(Step.of(number, ingredient, result, best, goal or self.objective, accepted=accepted, mix=mix))

    def best_of(self, tried: Iterable[tuple[int, str, Coefficients]]) -> Coefficients:
        """The best of several mixes, of equal ones the first; each is scored whole and told of, by number and name."""
        best: tuple[Coefficients, Score] | None = None
        all_known = list(tried) if isinstance(tried, Sequence) else []
        for place, (number, name, mixture) in enumerate(tried):
            self.ahead((later, None) for _, _, later in all_known[place:])
            score = self.score(mixture)
            accepted = best is None or self.objective.is_better(score, best[1])
            best = (mixture, score) if best is None or accepted else best
            self.decided(number, name, score, best[1], accepted=accepted, mix=mixture)
        assert best is not None
        return best[0]

    def best_first(self, scores: Mapping[str, Score]) -> list[str]:
        """The pool, the best by the objective first, equally good ones in kitchen order."""
        return self.objective.best_first({name: scores[name] for name in self.names})

    def challenge(
        self,
        mixture: Coefficients,
        best: Score,
        parts: Sequence[tuple[Score, float]] = (),
        *,
        goal: Objective | None = None,
        ties: bool = False,
    ) -> Score | Bound:
        """Score a mix, or give it up once it cannot be better than the best (as good, with `ties`).

        Args:
            parts: what the mix is made of, with weights, to try first what it probably gets wrong; default: singles.
            goal: what better means; default: the objective.
        """
        goal = goal or self.objective
        if goal.part == "with_shifts":
            return self.look_further(mixture, self.score(mixture), goal)
        self.asked.add((mixture, HELD_OUT))
        known = self._limits.get(mixture)
        return self.attempt(mixture, None if self.complete else self._limit(mixture, best, parts, goal, ties, known)[3])

    def challengers(self, likely: Iterable[Challenger], *, goal: Objective | None = None, ties: bool = False) -> None:
        """Say which challenges will probably come next, in their order.

        Args:
            likely: no more of it is looked at than can be begun now.
        """
        goal = goal or self.objective
        whole = self.complete or goal.part == "with_shifts"
        said_before, self._limits = self._limits, {}

        def told() -> Iterator[tuple[Coefficients, Limit | None]]:
            for mixture, best, parts in likely:
                if not whole:
                    known = said_before.get(mixture)
                    self._limits[mixture] = self._limit(mixture, best, parts, goal, ties, known)
                yield mixture, None if whole else self._limits[mixture][3]

        self.ahead(told())

    def _limit(
        self,
        mixture: Coefficients,
        best: Score,
        parts: Sequence[tuple[Score, float]],
        goal: Objective,
        ties: bool,
        known: Known | None,
    ) -> Known:
        """When a mix is given up; what is known where it holds for the same."""
        if known and known[0] is best and known[1] is goal and known[2] == ties:
            return known
        parts = parts or [(self.single(name), weight) for name, weight in mixture]
        order = hardest_first(self.task, [(outcomes_of(score), weight) for score, weight in parts])
        return best, goal, ties, Limit(goal.gives_up(best, ties=ties), order)

    def look_further(self, mixture: Coefficients, score: Score, goal: Objective) -> Score:
        """A mix's score on held_out, with its scores on the shifts where the goal looks at them."""
        if goal.part != "with_shifts":
            return score
        assert self.also is not None  # or there would be no such goal
        self.asked.update((mixture, split) for split in self.shifts)
        # Their units are many and are not looked at again.
        further = [replace(self.also(mixture, split), outcomes=None) for split in self.shifts]
        return replace(score, further=tuple(further))


def outcomes_of(score: Score) -> Outcomes:
    assert score.outcomes is not None  # scores from an evaluation or the store have them
    return score.outcomes


def find_goal(
    name: str,
    task: Task,
    objective: Objective,
    groups: Mapping[Per, NDArray[np.int64]],
    shifts: Sequence[str],
    shift_weight: float = 0.5,
) -> Objective:
    """What a name asks to be raised or lowered.

    Args:
        objective: what it is of the kitchen. groups: of each unit of held_out its class and its slice.
    Raises:
        RecipeError: the task has no such metric, or the kitchen no such groups or shifts.
    """
    if name in ("", objective.metric.name):
        return objective
    if name == WITH_SHIFTS:
        if not shifts:
            raise RecipeError(
                f"with_shifts raises {objective.metric.label} on the shifts too, but the kitchen has none; add "
                "`shifts:` under `data:` in kitchen.yaml, or take another objective."
            )
        return replace(objective, part="with_shifts", shift_weight=shift_weight)
    if name in PARTS:
        how, _, per = name.partition("_")
        part: Part = "mean" if how == "mean" else "worst"
        return replace(objective, part=part, groups=find_groups(task, groups, "class" if per == "class" else "slice"))
    for metric in task.metrics:
        if metric.name == name:
            return replace(objective, metric=metric)
    known = ", ".join([*(metric.name for metric in task.metrics), *PARTS])
    raise RecipeError(f"objective is {name!r}, which {task.name} does not have; known are {known}.")


def find_groups(task: Task, groups: Mapping[Per, NDArray[np.int64]], per: Per) -> NDArray[np.int64]:
    """Of each unit of held_out its class, or its slice.

    Raises:
        RecipeError: there are none.
    """
    if per in groups:
        return groups[per]
    if per == "class":
        raise RecipeError(f"{task.without_classes}; look at slices, or take another objective.")
    raise RecipeError(
        "held_out has no slices to look at; name the column of a CSV that divides it, with "
        "`slices: {file: FILE.csv, column: NAME}` under `held_out:` in kitchen.yaml, or look at classes."
    )


def needed_for(goal: str) -> frozenset[str]:
    """What the kitchen must have, so that it can be raised."""
    if goal == WITH_SHIFTS:
        return frozenset({"shifts"})
    return frozenset({"slices"}) if goal.endswith("_slice") else frozenset()
