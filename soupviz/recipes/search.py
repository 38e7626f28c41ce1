"""Greedy search over mixes, by counts of correct examples or another value. The scoring function is injected."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from soupviz.mixing.averaging import mean_of
from soupviz.types import Alpha, Bound, Coefficients, Order, Score, Step

Value = Callable[[Score], float]


def num_correct(score: Score) -> float:
    """What is raised where nothing else is asked for."""
    return score.correct


def candidate_order(
    names: Sequence[str], scores: Mapping[str, Score], order: Order, seed: int, value: Value = num_correct
) -> list[str]:
    """The best ingredient first, then the others as `order` says.

    Args:
        names: in kitchen order, which breaks ties. seed: of the random order, a shuffle of kitchen order.
    """
    best_first = sorted(names, key=lambda name: -value(scores[name]))
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
    score: Callable[[Candidate, Score], Score | Bound],
    alpha: Alpha = "mean",
    order: Order = "best",
    seed: int = 0,
    value: Value = num_correct,
    on_step: Callable[[Step], None] = lambda _step: None,
) -> tuple[Coefficients, tuple[Step, ...]]:
    """Keep each candidate whose value is strictly higher.

    Args:
        names: the pool in kitchen order. scores: of the single ingredients, on the split that selects.
        score: scores a candidate against the current soup's score; a Bound says that its value cannot be higher.
        value: of a score, to be raised; default: how many examples are correct.
        on_step: told of every decision.
    Returns:
        (the mix, in acceptance order; the decisions, step 0 being the start)
    Source:
        Wortsman et al. 2022, algorithm 1. Differs: strictly more; a number for alpha gives the fixed-alpha rule.
    """
    first, *others = candidate_order(names, scores, order, seed, value)
    soup: Coefficients = ((first, 1.0),)
    best = scores[first]
    steps = [Step.of(0, first, best, best, accepted=True, mix=soup)]
    on_step(steps[0])
    for name in others:
        candidate = Candidate(name, with_newcomer(soup, name, alpha))
        result = score(candidate, best)
        accepted = isinstance(result, Score) and value(result) > value(best)
        if accepted:
            assert isinstance(result, Score)
            soup, best = candidate.mix, result
        steps.append(Step.of(len(steps), name, result, best, accepted=accepted, mix=candidate.mix))
        on_step(steps[-1])
    return soup, tuple(steps)
