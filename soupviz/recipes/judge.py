"""What a planner may ask: scores of mixes on held_out. It knows neither files nor models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from soupviz.errors import RecipeError
from soupviz.mixing.formulas import Formula
from soupviz.scoring.limits import Limit, hardest_first
from soupviz.tasks.metrics import merit_by_loss, slice_counts
from soupviz.types import Bound, Coefficients, PerExample, Score, Step

Objective = Literal["accuracy", "loss", "mean_class", "worst_class", "mean_slice", "worst_slice"]
Goal = Literal[Objective, "with_shifts"]
"""What a search can raise: of held_out alone, or with the shifts, which then select too and report no longer."""

Per = Literal["class", "slice"]
HELD_OUT = "held_out"
Attempt = Callable[[Coefficients, Limit | None], Score | Bound]


@dataclass(frozen=True, slots=True)
class Sample:
    """Examples that a recipe may learn from: so many of a split, drawn with a seed; of held_out at most half."""

    split: str
    num_examples: int
    seed: int


@dataclass(slots=True)
class Judge:
    """The pool in kitchen order, and its scores.

    attempt: scores a mix, or with a limit gives it up. tell: is told of every decision. facts: metadata of an
    ingredient. adopt: makes a formula a mix that can be scored. complete: score whole what cannot win too. lab:
    for recipes that learn. notes: what a planner has to say of its soup beside coefficients, as plain data. slices: of
    each held_out example its slice, where the kitchen names slices. shifts: the names of the splits that are shifts.
    also: scores a mix on one of them, every example. asked: every mix that was scored, or given up, and the split.
    base_is_whole: whether the base is a model itself; one with another head is not.
    """

    names: Sequence[str]
    attempt: Attempt
    tell: Callable[[Step], None] = lambda _step: None
    facts: Callable[[str], Mapping[str, Any]] = lambda _name: {}
    adopt: Callable[[Formula], Coefficients] = lambda _formula: ()
    complete: bool = False
    _singles: dict[str, Score] = field(default_factory=dict)
    asked: set[tuple[Coefficients, str]] = field(default_factory=set)
    lab: Any = None
    notes: dict[str, Any] = field(default_factory=dict)
    slices: NDArray[np.int64] | None = None
    shifts: Sequence[str] = ()
    also: Callable[[Coefficients, str], Score] | None = None
    base_is_whole: bool = True

    def silent(self) -> "Judge":
        """The same judge, for a search within a search whose decisions are nobody's."""
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
        return {name: self.single(name) for name in self.names}

    def challenge(
        self,
        mixture: Coefficients,
        best: Score,
        parts: Sequence[tuple[Score, float]] = (),
        *,
        ties: bool = False,
    ) -> Score | Bound:
        """Score a mix, or give it up once it cannot have more examples right than the best (as many, with `ties`).

        Args:
            parts: what the mix is made of, with weights, to try first what it probably gets wrong; default: singles.
        """
        parts = parts or [(self.single(name), weight) for name, weight in mixture]
        order = hardest_first([(examples_of(score), weight) for score, weight in parts])
        limit = Limit(best.num_examples - best.correct + ties, order)
        self.asked.add((mixture, HELD_OUT))
        return self.attempt(mixture, None if self.complete else limit)

    def look_further(self, mixture: Coefficients, score: Score, goal: Goal) -> Score:
        """A mix's score on held_out, with its scores on the shifts where the goal looks at them."""
        if goal != "with_shifts":
            return score
        if not self.shifts or self.also is None:
            raise RecipeError(
                "with_shifts raises accuracy on the shifts too, but the kitchen has none; add `shifts:` under `data:` "
                "in kitchen.yaml, or take accuracy."
            )
        self.asked.update((mixture, split) for split in self.shifts)
        # Their examples are many and are not looked at again.
        further = [replace(self.also(mixture, split), per_example=None) for split in self.shifts]
        return replace(score, further=tuple(further))


def examples_of(score: Score) -> PerExample:
    assert score.per_example is not None  # scores from an evaluation or the store have them
    return score.per_example


def value_of(score: Score, goal: Goal, slices: NDArray[np.int64] | None = None, shift_weight: float = 0.5) -> float:
    """What is to be raised: examples right, minus the loss in nats (far below every loss where an answer is not
    finite), the mean or the least of the accuracies of the classes or slices that have examples, or
    `(1 - shift_weight) * accuracy + shift_weight * mean of the accuracies on the shifts`.

    Means are rounded once, so that equally good ones are equal.

    Args:
        slices: of each example its slice. shift_weight: of with_shifts, for which the score has looked further.
    Raises:
        RecipeError: slices are asked for and there are none.
    """
    if goal == "accuracy":
        return score.correct
    if goal == "loss":
        return merit_by_loss(score)
    if goal == "with_shifts":
        own, *shifts = [Fraction(one.correct, one.num_examples) for one in (score, *score.further)]
        weight = Fraction(shift_weight)
        return float((1 - weight) * own + weight * sum(shifts) / len(shifts))
    how, _, per = goal.partition("_")
    shares = [Fraction(*pair) for pair in parts_of(score, "class" if per == "class" else "slice", slices)]
    return float(min(shares) if how == "worst" else sum(shares) / len(shares))


def parts_of(score: Score, per: Per, slices: NDArray[np.int64] | None) -> list[tuple[int, int]]:
    """(examples right, examples) of each class or slice that has examples.

    Raises:
        RecipeError: slices are asked for and there are none.
    """
    if per == "class":
        pairs = zip(score.class_correct, score.class_count, strict=True)
        return [(right, count) for right, count in pairs if count]
    if slices is None:
        raise RecipeError(
            "held_out has no slices to look at; name the column of a CSV that divides it, with "
            "`slices: {file: FILE.csv, column: NAME}` under `held_out:` in kitchen.yaml, or look at classes."
        )
    return slice_counts(score, slices)


def needed_for(goal: Goal) -> frozenset[str]:
    """What the kitchen must have, so that it can be raised."""
    if goal == "with_shifts":
        return frozenset({"shifts"})
    return frozenset({"slices"}) if goal.endswith("_slice") else frozenset()
