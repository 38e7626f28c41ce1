"""What a search raises or lowers: a metric over all units, over parts of them, or with the shifts."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from soupviz.tasks.metric import Metric, Value, bound_of
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.score import Bound, Score

Part = Literal["whole", "mean", "worst", "with_shifts"]


@dataclass(frozen=True, slots=True, eq=False)
class Objective:
    """A metric, and of which units.

    part: all of them, the mean or the worst of the groups that have units, or
    `(1 - shift_weight) * value + shift_weight * mean of the values on the shifts`. groups: of each unit of held_out its
    class or slice, for mean and worst.
    """

    metric: Metric
    part: Part = "whole"
    groups: NDArray[np.int64] | None = None
    shift_weight: float = 0.5

    def value(self, score: Score) -> Value | None:
        """Exact where the metric is, means too, so that equally good ones are equal."""
        whole = score.values[self.metric.name]
        if self.part == "whole":
            return whole
        if self.part == "with_shifts":
            others = [one.values[self.metric.name] for one in score.further]
            return self._with_shifts(whole, others)
        assert score.outcomes is not None  # scores from an evaluation or the store have them
        return self._of_groups(score.outcomes, self.metric.value)

    def _with_shifts(self, whole: Value | None, others: list[Value | None]) -> Value | None:
        if whole is None or None in others:
            return None
        weight = Fraction(self.shift_weight)
        total: Any = sum(one for one in others if one is not None)
        found: Value = (1 - weight) * whole + weight * total / len(others)
        return found

    def _of_groups(self, outcomes: Outcomes, of: Callable[[Outcomes], Value | None]) -> Value | None:
        values = [of(part) for part in self._parts(outcomes)]
        known = [value for value in values if value is not None]
        if len(known) < len(values):
            return None
        if self.part == "worst":
            return min(known) if self.metric.higher_is_better else max(known)
        total: Any = sum(known)
        mean: Value = total / len(known)
        return mean

    def _parts(self, outcomes: Outcomes) -> Iterator[Outcomes]:
        assert self.groups is not None
        for group in np.unique(self.groups).tolist():
            yield outcomes.take(self.groups == group)

    def merit(self, score: Score) -> tuple[int, Value]:
        """Higher is better. Where a metric does not judge it, any answer that is not finite outweighs all values."""
        value = self.value(score)
        rank = 0 if self.metric.judges_nonfinite else -score.num_nonfinite
        signed = -math.inf if value is None else value if self.metric.higher_is_better else -value
        return rank, signed

    def best_first(self, scores: Mapping[str, Score]) -> list[str]:
        """Names in the order of their scores, equally good ones as they stand."""
        return sorted(scores, key=lambda name: self.merit(scores[name]), reverse=True)

    def is_better(self, new: Score | Bound, old: Score) -> bool:
        """Whether a score is strictly better, by more than what counts as the same. A bound never is."""
        if isinstance(new, Bound):
            return False
        (rank, value), (old_rank, old_value) = self.merit(new), self.merit(old)
        if rank != old_rank:
            return rank > old_rank
        if old_value == -math.inf:
            return value > old_value
        return value - old_value > self.metric.ties()

    def possible(self, outcomes: Outcomes) -> Value | None:
        """The value if every unit that is not scored yet were perfect; None: nothing is known of that."""
        if self.part == "whole":
            return bound_of(self.metric, outcomes)
        return None if self.part == "with_shifts" else self._of_groups(outcomes, partial(bound_of, self.metric))

    def gives_up(self, best: Score, *, ties: bool = False) -> "CannotWin":
        """Whether what is scored so far proves that the whole cannot be better than the best (as good, with `ties`)."""
        return CannotWin(self, self.merit(best), ties)


@dataclass(frozen=True, slots=True, eq=False)
class CannotWin:
    """Asked of what is scored so far: is it proved that the whole cannot be better (as good, with `ties`)?

    merit: of the best, which is to be beaten.
    """

    objective: Objective
    merit: tuple[int, Value]
    ties: bool = False

    def __call__(self, outcomes: Outcomes) -> bool:
        metric, (rank, least) = self.objective.metric, self.merit
        if not metric.judges_nonfinite and -outcomes.num_nonfinite != rank:
            return -outcomes.num_nonfinite < rank
        possible = self.objective.possible(outcomes)
        if possible is None or least == -math.inf:
            return False
        gain = (possible if metric.higher_is_better else -possible) - least
        return gain < -metric.ties() if self.ties else gain <= metric.ties()
