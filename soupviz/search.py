"""Greedy search over mixes, by counts of correct examples. The scoring function is injected."""

import random
from collections.abc import Callable, Mapping, Sequence

from soupviz.mixing import mean_of
from soupviz.recipes import Alpha, Order
from soupviz.records import Coefficients, Score, Step


def candidate_order(names: Sequence[str], scores: Mapping[str, Score], order: Order, seed: int) -> list[str]:
    """The best ingredient first, then the others as `order` says.

    Args:
        names: in kitchen order, which breaks ties. seed: of the random order, a shuffle of kitchen order.
    """
    by_accuracy = sorted(names, key=lambda name: -scores[name].correct)
    walked = list(names) if order != "accuracy" else by_accuracy
    if order == "random":
        random.Random(seed).shuffle(walked)
    best = by_accuracy[0]
    return [best, *(name for name in walked if name != best)]


def with_newcomer(soup: Coefficients, name: str, alpha: Alpha) -> Coefficients:
    """The soup with one more ingredient: the plain mean of all, or `(1 - alpha) * soup + alpha * newcomer`."""
    if alpha == "mean":
        return mean_of([*(member for member, _ in soup), name])
    kept = tuple((member, weight * (1.0 - alpha)) for member, weight in soup)
    return (*((member, weight) for member, weight in kept if weight != 0.0), (name, alpha))


def greedy(
    names: Sequence[str],
    scores: Mapping[str, Score],
    *,
    score: Callable[[Coefficients], Score],
    alpha: Alpha = "mean",
    order: Order = "accuracy",
    seed: int = 0,
    on_step: Callable[[Step], None] = lambda _step: None,
) -> tuple[Coefficients, tuple[Step, ...]]:
    """Keep each candidate that gives strictly more correct examples.

    Args:
        names: the pool in kitchen order. scores: of the single ingredients, on the split that selects.
        score: scores a mix on that split. on_step: told of every decision.
    Returns:
        (the mix, in acceptance order; the decisions, step 0 being the start)
    Source:
        Wortsman et al. 2022, algorithm 1. Differs: strictly more; a number for alpha gives the fixed-alpha rule.
    """
    first, *others = candidate_order(names, scores, order, seed)
    soup: Coefficients = ((first, 1.0),)
    best = scores[first]
    steps = [_step(0, first, best, best, accepted=True)]
    on_step(steps[0])
    for number, name in enumerate(others, start=1):
        candidate = with_newcomer(soup, name, alpha)
        result = score(candidate)
        accepted = result.correct > best.correct
        if accepted:
            soup, best = candidate, result
        steps.append(_step(number, name, result, best, accepted=accepted))
        on_step(steps[-1])
    return soup, tuple(steps)


def _step(number: int, name: str, score: Score, best: Score, *, accepted: bool) -> Step:
    return Step(
        step=number,
        ingredient=name,
        accuracy=score.accuracy,
        correct=score.correct,
        best_accuracy=best.accuracy,
        accepted=accepted,
        num_examples_scored=score.num_examples,
        accuracy_at_most=score.accuracy,
    )
