"""What a planner may ask: scores of mixes on held_out. It knows neither files nor models."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from soupviz.formulas import Formula
from soupviz.limits import Limit, hardest_first
from soupviz.records import Bound, Coefficients, PerExample, Score, Step

Objective = Literal["accuracy", "loss", "mean_class", "worst_class"]
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
    ingredient. adopt: makes a formula a mix that can be scored. complete: score whole what cannot win too. lookahead:
    how many candidates a search tries at once. lab: for recipes that learn. notes: what a planner has to say of its
    soup beside coefficients, as plain data.
    asked: every mix that was scored, or given up.
    """

    names: Sequence[str]
    attempt: Attempt
    tell: Callable[[Step], None] = lambda _step: None
    facts: Callable[[str], Mapping[str, Any]] = lambda _name: {}
    adopt: Callable[[Formula], Coefficients] = lambda _formula: ()
    complete: bool = False
    lookahead: int = 1
    _singles: dict[str, Score] = field(default_factory=dict)
    asked: set[Coefficients] = field(default_factory=set)
    lab: Any = None
    notes: dict[str, Any] = field(default_factory=dict)

    def silent(self) -> "Judge":
        """The same judge, for a search within a search whose decisions are nobody's."""
        return replace(self, tell=lambda _step: None)

    def score(self, mixture: Coefficients) -> Score:
        """Of every example."""
        self.asked.add(mixture)
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
        self.asked.add(mixture)
        return self.attempt(mixture, None if self.complete else limit)


def examples_of(score: Score) -> PerExample:
    assert score.per_example is not None  # scores from an evaluation or the store have them
    return score.per_example


def value_of(score: Score, objective: Objective) -> float:
    """What is to be raised: examples right, minus the loss in nats (minus infinity where no logit is finite), or the
    mean or the least of the classes' accuracies; classes without examples do not count."""
    if objective == "accuracy":
        return score.correct
    if objective == "loss":
        return -score.loss if score.loss is not None else float("-inf")
    classes = [right / count for right, count in zip(score.class_correct, score.class_count, strict=True) if count]
    return min(classes) if objective == "worst_class" else sum(classes) / len(classes)
