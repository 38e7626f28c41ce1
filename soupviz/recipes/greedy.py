"""Greedy soups: from the best ingredient on, each candidate is kept if it makes the soup better."""

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, field_validator

from soupviz.errors import RecipeError
from soupviz.mixing.averaging import mean_of
from soupviz.recipes.pool import WITH_SHIFTS, ScoredPool
from soupviz.recipes.record import Pooled, added_later
from soupviz.recipes.trajectory import Step
from soupviz.tasks.objective import Objective
from soupviz.tasks.score import Bound, Score
from soupviz.types import Alpha, Coefficients, Order

GOALS = (
    "a metric of the task (a loss or an error is lowered), mean_class or worst_class (the kitchen's metric), "
    "mean_slice or worst_slice (over held_out's slices), or with_shifts: on the shifts too, which then report no longer"
)
GOAL: Any = Field(
    "",
    json_schema_extra={"choices": "goals"},
    description=f"what is to be better, on held_out: {GOALS}; default: the kitchen's metric",
)
ORDER: Any = Field("best", description="in which candidates are tried: best first, listed or random")
SEED: Any = Field(0, ge=0, description="of what is random")
SHUFFLE: Any = Field(0, ge=0, description="of what is random", json_schema_extra={"only_with": "random"})
SHIFT_WEIGHT: Any = added_later(
    0.5,
    ge=0,
    le=1,
    json_schema_extra={"only_with": "with_shifts"},
    description="for with_shifts: what the mean over the shifts counts, the rest is held_out's",
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
    grows_one_soup = True

    @field_validator("alpha", mode="before")
    @classmethod
    def _in_range(cls, value: Any) -> Any:
        return parse_alpha(value)

    @property
    def newcomer_weight(self) -> Alpha | None:
        return self.alpha

    @property
    def goal(self) -> str:
        return self.objective

    @property
    def own_title(self) -> str:
        details = [f"alpha = {self.alpha}", *of_goal(self.objective, self.shift_weight)]
        details += [f"{self.order} order"] if self.order != "best" else []
        return self.titled("greedy", *details)

    def candidates(self, num_members: int) -> int:
        return num_members - 1

    def plan(self, pool: ScoredPool) -> Coefficients:
        return search_with(pool, self.alpha, self.order, self.seed, self.objective, self.shift_weight)[0]


def of_goal(goal: str, shift_weight: float) -> list[str]:
    """A part of the title: what is made better, where not the first metric on held_out alone."""
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

    def parts_of(candidate: Candidate, best: Score) -> list[tuple[Score, float]]:
        share = dict(candidate.mix)[candidate.newcomer]
        return [(best, 1.0 - share), (scores[candidate.newcomer], share)]

    def score(candidate: Candidate, best: Score) -> Score | Bound:
        return pool.challenge(candidate.mix, best, parts_of(candidate, best), goal=objective)

    def ahead(candidates: Iterable[Candidate], best: Score) -> None:
        pool.challengers(((one.mix, best, parts_of(one, best)) for one in candidates), goal=objective)

    return greedy(
        pool.names, scores, objective=objective, score=score, ahead=ahead, alpha=alpha, order=order, seed=seed,
        on_step=pool.tell,
    )  # fmt: skip


def candidate_order(
    names: Sequence[str], scores: Mapping[str, Score], order: Order, seed: int, objective: Objective
) -> list[str]:
    """The best ingredient first, then the others as `order` says.

    Args:
        names: in kitchen order, which breaks ties. seed: of the random order, a shuffle of kitchen order.
    """
    best_first = objective.best_first({name: scores[name] for name in names})
    walked = list(names) if order != "best" else best_first
    if order == "random":
        random.Random(seed).shuffle(walked)
    best = best_first[0]
    return [best, *(name for name in walked if name != best)]


def with_newcomer(soup: Coefficients, name: str, alpha: Alpha) -> Coefficients:
    """The soup with one more ingredient: the plain mean of all, or `(1 - alpha) * soup + alpha * newcomer`."""
    if alpha == "mean":
        return mean_of([*(member for member, _ in soup), name])
    kept = tuple((member, weight * (1.0 - alpha)) for member, weight in soup)
    return (*((member, weight) for member, weight in kept if weight != 0.0), (name, alpha))


@dataclass(frozen=True, slots=True)
class Candidate:
    """A soup to be tried: the current one with a newcomer."""

    newcomer: str
    mix: Coefficients


def greedy(
    names: Sequence[str],
    scores: Mapping[str, Score],
    *,
    objective: Objective,
    score: Callable[[Candidate, Score], Score | Bound],
    ahead: Callable[[Iterable[Candidate], Score], None] = lambda _candidates, _best: None,
    alpha: Alpha = "mean",
    order: Order = "best",
    seed: int = 0,
    on_step: Callable[[Step], None] = lambda _step: None,
) -> tuple[Coefficients, tuple[Step, ...]]:
    """Keep each candidate that is strictly better by the objective.

    Args:
        names: the pool in kitchen order. scores: of the single ingredients, on the split that selects.
        score: scores a candidate against the current soup's score; a Bound says that it cannot be better.
        ahead: is told of the candidates that come next if the one before them is not kept.
        on_step: told of every decision.
    Returns:
        (the mix, in acceptance order; the decisions, step 0 being the start)
    Source:
        Wortsman et al. 2022, algorithm 1. Differs: strictly more; a number for alpha gives the fixed-alpha rule.
    """
    first, *others = candidate_order(names, scores, order, seed, objective)
    soup: Coefficients = ((first, 1.0),)
    best = scores[first]
    steps = [Step.of(0, first, best, best, objective, accepted=True, mix=soup)]
    on_step(steps[0])
    for place, name in enumerate(others):
        candidate = Candidate(name, with_newcomer(soup, name, alpha))
        ahead((Candidate(other, with_newcomer(soup, other, alpha)) for other in others[place:]), best)
        result = score(candidate, best)
        accepted = objective.is_better(result, best)
        if isinstance(result, Score) and accepted:
            soup, best = candidate.mix, result
        steps.append(Step.of(len(steps), name, result, best, objective, accepted=accepted, mix=candidate.mix))
        on_step(steps[-1])
    return soup, tuple(steps)


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
