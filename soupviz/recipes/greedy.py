"""Greedy soups: from the best ingredient on, each candidate is kept if it makes the soup better."""

import math
import random
from dataclasses import replace
from typing import Any, Literal

from pydantic import Field, field_validator

from soupviz.errors import RecipeError
from soupviz.mixing.averaging import combine
from soupviz.recipes import search
from soupviz.recipes.pool import WITH_SHIFTS, ScoredPool, needed_for
from soupviz.recipes.record import Pooled, added_later
from soupviz.recipes.trajectory import Step
from soupviz.tasks.metric import Value
from soupviz.tasks.score import Bound, Score
from soupviz.types import Alpha, Coefficients, Order

GOALS = (
    "a metric of the task (an error is lowered), mean_class or worst_class (the kitchen's metric, by class), "
    "mean_slice or worst_slice (over held_out's slices), or with_shifts: on the shifts too, which then report no longer"
)
GOAL: Any = Field(
    "",
    json_schema_extra={"choices": "goals"},
    description=f"what is raised, on held_out: {GOALS}; default: the kitchen's metric",
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
    objective: str = GOAL
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

    def plan(self, pool: ScoredPool) -> Coefficients:
        return search_with(pool, self.alpha, self.order, self.seed, self.objective, self.shift_weight)[0]


def of_goal(goal: str, shift_weight: float) -> list[str]:
    """A part of the title: what is raised, where not held-out accuracy alone."""
    if goal == WITH_SHIFTS:
        return [f"with shifts by {shift_weight:g}"]
    # Versions before tasks named the default, in recipes that travel in exported soups.
    return [f"for {goal}"] if goal not in ("", "accuracy") else []


def search_with(
    pool: ScoredPool, alpha: Alpha, order: Order, seed: int, goal: str = "", shift_weight: float = 0.5
) -> tuple[Coefficients, tuple[Step, ...]]:
    """One greedy search, each decision told."""
    objective = pool.goal(goal, shift_weight)
    scores = {name: pool.look_further(((name, 1.0),), score, objective) for name, score in pool.singles().items()}

    def score(candidate: search.Candidate, best: Score) -> Score | Bound:
        share = dict(candidate.mix)[candidate.newcomer]
        parts = [(best, 1.0 - share), (scores[candidate.newcomer], share)]
        return pool.challenge(candidate.mix, best, parts, goal=objective)

    return search.greedy(
        pool.names, scores, objective=objective, score=score, alpha=alpha, order=order, seed=seed, on_step=pool.tell
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

    def plan(self, pool: ScoredPool) -> Coefficients:
        best: tuple[Coefficients, Score] | None = None
        for number, alpha in enumerate(self.alphas()):
            mixture, _ = search_with(pool.silent(), alpha, self.order, self.seed)
            score = pool.score(mixture)
            accepted = best is None or pool.objective.is_better(score, best[1])
            best = (mixture, score) if best is None or accepted else best
            pool.decided(number, f"alpha {alpha:.4g}", score, best[1], accepted=accepted, mix=mixture)
        assert best is not None
        return best[0]


class LineSearch(Pooled):
    """Greedy in which every newcomer gets its own best alpha, from a grid strictly between 0 and 1.

    Better means by the objective, and of equally good ones by the task's next metric: for a classifier the loss.
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

    def plan(self, pool: ScoredPool) -> Coefficients:
        scores = pool.singles()
        first, *others = search.candidate_order(pool.names, scores, self.order, self.seed, pool.objective)
        soup: Coefficients = ((first, 1.0),)
        best = scores[first]
        pool.decided(0, first, best, best, accepted=True, mix=soup)
        for number, name in enumerate(others, start=1):
            before, found = best, None
            tried: list[tuple[Score | Bound, Coefficients]] = []
            for point in range(1, self.steps + 1):
                alpha = point / (self.steps + 1)
                mixture = combine(soup, ((name, 1.0),), alpha)
                parts = [(before, 1.0 - alpha), (scores[name], alpha)]
                tried.append((result := pool.challenge(mixture, best, parts, ties=True), mixture))
                if isinstance(result, Score) and _is_better(pool, result, best):
                    best, found = result, mixture
            soup = found or soup
            shown, mixture = (best, found) if found else max(tried, key=lambda pair: _hope(pool, pair[0]))
            pool.decided(number, name, shown, best, accepted=found is not None, mix=mixture)
        return soup


def _hope(pool: ScoredPool, result: Score | Bound) -> tuple[int, Value]:
    """How good a candidate is, or could have been."""
    if isinstance(result, Score):
        return pool.objective.merit(result)
    value = pool.objective.possible(result.outcomes)
    signed = -math.inf if value is None else value if pool.objective.metric.higher_is_better else -value
    return 0, signed


def _is_better(pool: ScoredPool, new: Score, old: Score) -> bool:
    """Better by the objective; of equally good ones, by the next metric of the task."""
    if pool.objective.is_better(new, old) or pool.objective.is_better(old, new):
        return pool.objective.is_better(new, old)
    others = [metric for metric in pool.task.metrics if metric.name != pool.objective.metric.name]
    return bool(others) and replace(pool.objective, metric=others[0]).is_better(new, old)


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
