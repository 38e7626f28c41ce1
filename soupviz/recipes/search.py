"""Greedy search over mixes, for any objective. The scoring function is injected."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from soupviz.mixing.averaging import mean_of
from soupviz.recipes.trajectory import Step
from soupviz.tasks.objective import Objective
from soupviz.tasks.score import Bound, Score
from soupviz.types import Alpha, Coefficients, Order


def candidate_order(
    names: Sequence[str], scores: Mapping[str, Score], order: Order, seed: int, objective: Objective
) -> list[str]:
    """The best ingredient first, then the others as `order` says.

    Args:
        names: in kitchen order, which breaks ties. seed: of the random order, a shuffle of kitchen order.
    """
    best_first = sorted(names, key=lambda name: objective.merit(scores[name]), reverse=True)
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
    alpha: Alpha = "mean",
    order: Order = "best",
    seed: int = 0,
    on_step: Callable[[Step], None] = lambda _step: None,
) -> tuple[Coefficients, tuple[Step, ...]]:
    """Keep each candidate that is strictly better by the objective.

    Args:
        names: the pool in kitchen order. scores: of the single ingredients, on the split that selects.
        score: scores a candidate against the current soup's score; a Bound says that it cannot be better.
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
    for name in others:
        candidate = Candidate(name, with_newcomer(soup, name, alpha))
        result = score(candidate, best)
        accepted = objective.is_better(result, best)
        if isinstance(result, Score) and accepted:
            soup, best = candidate.mix, result
        steps.append(Step.of(len(steps), name, result, best, objective, accepted=accepted, mix=candidate.mix))
        on_step(steps[-1])
    return soup, tuple(steps)
