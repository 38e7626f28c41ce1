"""Greedy soups: from the best ingredient on, each candidate is kept if it makes the soup better."""

import math
import random
from typing import Any, Literal

from pydantic import Field, field_validator

from soupviz.errors import RecipeError
from soupviz.mixing.averaging import combine
from soupviz.recipes import search
from soupviz.recipes.judge import Goal, Judge, needed_for, value_of
from soupviz.recipes.record import Pooled, added_later
from soupviz.tasks.metrics import merit_by_loss
from soupviz.types import Alpha, Bound, Coefficients, Order, Score, Step

GOALS = (
    "accuracy, loss (to lower it), mean_class or worst_class (accuracy), mean_slice or worst_slice (over held_out's "
    "slices), or with_shifts: on the shifts too, which then report no longer"
)
ORDER: Any = Field("best", description="in which candidates are tried: best first, listed or random")
SEED: Any = Field(0, ge=0, description="of what is random")
SHUFFLE: Any = Field(0, ge=0, description="of what is random", json_schema_extra={"only_with": "random"})
SHIFT_WEIGHT: Any = added_later(
    0.5,
    ge=0,
    le=1,
    json_schema_extra={"only_with": "with_shifts"},
    description="for with_shifts: what the shifts' mean accuracy counts, the rest is held_out's",
)


class Greedy(Pooled):
    """Start from the best, try each other one, keep it if the mean of the kept gets strictly more of held_out right.

    With alpha a number instead of `mean`, the same search with `soup = (1 - alpha) * soup + alpha * ingredient`: the
    newcomer's weight is fixed.

    Source: Wortsman et al. 2022, algorithm 1. Differs: accepts on strictly more correct examples, as the authors' code
    does; the paper's text accepts ties.
    """

    method: Literal["greedy"] = "greedy"
    label = "greedy"
    alpha: Alpha = Field("mean", description="mean, or the newcomer's weight, above 0 and at most 1")
    objective: Goal = Field("accuracy", description=f"what a candidate has to raise, on held_out: {GOALS}")
    shift_weight: float = SHIFT_WEIGHT
    order: Order = ORDER
    seed: int = SHUFFLE
    is_search = True

    @field_validator("alpha", mode="before")
    @classmethod
    def _in_range(cls, value: Any) -> Any:
        return parse_alpha(value)

    @property
    def needs(self) -> frozenset[str]:
        return super().needs | needed_for(self.objective)

    @property
    def own_title(self) -> str:
        details = [f"alpha = {self.alpha}", *of_goal(self.objective, self.shift_weight)]
        details += [f"{self.order} order"] if self.order != "best" else []
        return f"greedy ({', '.join([*details, *self.of_members()])})"

    def candidates(self, num_members: int) -> int:
        return num_members - 1

    def plan(self, judge: Judge) -> Coefficients:
        return search_with(judge, self.alpha, self.order, self.seed, self.objective, self.shift_weight)[0]


def of_goal(goal: Goal, shift_weight: float) -> list[str]:
    """A part of the title: what is raised, where not held-out accuracy alone."""
    if goal == "with_shifts":
        return [f"with shifts by {shift_weight:g}"]
    return [f"for {goal}"] if goal != "accuracy" else []


def search_with(
    judge: Judge, alpha: Alpha, order: Order, seed: int, objective: Goal = "accuracy", shift_weight: float = 0.5
) -> tuple[Coefficients, tuple[Step, ...]]:
    """One greedy search, scored by a judge who is told of each decision."""
    scores = {name: judge.look_further(((name, 1.0),), score, objective) for name, score in judge.singles().items()}

    def value(score: Score) -> float:
        return value_of(score, objective, judge.slices, shift_weight)

    def score(candidate: search.Candidate, best: Score) -> Score | Bound:
        share = dict(candidate.mix)[candidate.newcomer]
        parts = [(best, 1.0 - share), (scores[candidate.newcomer], share)]
        # Only a count of errors shows before the end that a candidate cannot win.
        if objective == "accuracy":
            return judge.challenge(candidate.mix, best, parts)
        return judge.look_further(candidate.mix, judge.score(candidate.mix), objective)

    return search.greedy(
        judge.names, scores, score=score, alpha=alpha, order=order, seed=seed, value=value, on_step=judge.tell
    )


class AlphaSearch(Pooled):
    """Greedy with many alphas, the best of them kept: a grid up to 1, or values drawn evenly from (0, 1]."""

    method: Literal["alpha_search"] = "alpha_search"
    label = "greedy, best alpha"
    how: Literal["grid", "random"] = Field("grid", description="evenly spaced alphas, or drawn at random")
    tries: int = Field(10, ge=1, le=100, description="how many alphas")
    order: Order = ORDER
    seed: int = SHUFFLE
    is_search = True

    @property
    def own_title(self) -> str:
        return f"greedy, best of {self.tries} alphas ({', '.join([self.how, *self.of_members()])})"

    def candidates(self, num_members: int) -> int:
        return self.tries * (num_members - 1)

    def alphas(self) -> list[float]:
        """Rising, in (0, 1]."""
        if self.how == "grid":
            return [number / self.tries for number in range(1, self.tries + 1)]
        chance = random.Random(self.seed)
        return sorted(1.0 - chance.random() for _ in range(self.tries))

    def plan(self, judge: Judge) -> Coefficients:
        best: tuple[Coefficients, Score] | None = None
        for number, alpha in enumerate(self.alphas()):
            mixture, _ = search_with(judge.silent(), alpha, self.order, self.seed)
            score = judge.score(mixture)
            accepted = best is None or score.correct > best[1].correct
            best = (mixture, score) if best is None or accepted else best
            judge.tell(Step.of(number, f"alpha {alpha:.4g}", score, best[1], accepted=accepted, mix=mixture))
        assert best is not None
        return best[0]


class LineSearch(Pooled):
    """Greedy in which every newcomer gets its own best alpha, from a grid strictly between 0 and 1.

    Better means more examples right, and of equally many the lower loss.
    """

    method: Literal["line_search"] = "line_search"
    label = "greedy, own alpha each"
    steps: int = Field(9, ge=1, le=99, description="alphas tried for each newcomer")
    order: Order = ORDER
    seed: int = SHUFFLE
    is_search = True

    @property
    def own_title(self) -> str:
        return f"greedy, own alpha each ({', '.join([f'{self.steps} steps', *self.of_members()])})"

    def candidates(self, num_members: int) -> int:
        return self.steps * (num_members - 1)

    def plan(self, judge: Judge) -> Coefficients:
        scores = judge.singles()
        first, *others = search.candidate_order(judge.names, scores, self.order, self.seed)
        soup: Coefficients = ((first, 1.0),)
        best = scores[first]
        judge.tell(Step.of(0, first, best, best, accepted=True, mix=soup))
        for number, name in enumerate(others, start=1):
            before, found = best, None
            tried: list[tuple[Score | Bound, Coefficients]] = []
            for point in range(1, self.steps + 1):
                alpha = point / (self.steps + 1)
                mixture = combine(soup, ((name, 1.0),), alpha)
                parts = [(before, 1.0 - alpha), (scores[name], alpha)]
                tried.append((result := judge.challenge(mixture, best, parts, ties=True), mixture))
                if isinstance(result, Score) and _is_better(result, best):
                    best, found = result, mixture
            soup = found or soup
            shown, mixture = (best, found) if found else max(tried, key=lambda pair: pair[0].accuracy_at_most)
            judge.tell(Step.of(number, name, shown, best, accepted=found is not None, mix=mixture))
        return soup


def _is_better(new: Score, old: Score) -> bool:
    """More right; of equally many, the lower loss."""
    return (new.correct, merit_by_loss(new)) > (old.correct, merit_by_loss(old))


def parse_alpha(value: Any) -> Alpha:
    """An alpha from text or a number.

    Raises:
        RecipeError: neither `mean` nor a number in (0, 1].
    """
    if value == "mean":
        return "mean"
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0.0 < number <= 1.0:
        raise RecipeError(f"alpha is {value!r}; expected mean, or a number above 0 and at most 1.")
    return number
