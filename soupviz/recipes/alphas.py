"""Greedy soups of many alphas: one for the whole search, or one for each newcomer."""

import math
import random
from dataclasses import replace
from itertools import repeat
from typing import Literal

from pydantic import Field

from soupviz.mixing.averaging import combine
from soupviz.recipes.greedy import ORDER, SHUFFLE, candidate_order, search_with
from soupviz.recipes.pool import ScoredPool
from soupviz.recipes.record import Pooled
from soupviz.tasks.metric import Value, others_of
from soupviz.tasks.score import Bound, Score
from soupviz.types import Coefficients, Order


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
        return self.titled(f"greedy, best of {self.tries} alphas", self.how)

    def candidates(self, num_members: int) -> int:
        return self.tries * (num_members - 1)

    def alphas(self) -> list[float]:
        """Rising, in (0, 1]."""
        if self.how == "grid":
            return [number / self.tries for number in range(1, self.tries + 1)]
        chance = random.Random(self.seed)
        return sorted(1.0 - chance.random() for _ in range(self.tries))

    def plan(self, pool: ScoredPool) -> Coefficients:
        return pool.best_of(
            (number, f"alpha {alpha:.4g}", search_with(pool.silent(), alpha, self.order, self.seed)[0])
            for number, alpha in enumerate(self.alphas())
        )


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
    grows_one_soup = True
    has_rounds = True

    @property
    def own_title(self) -> str:
        return self.titled("greedy, own alpha each", f"{self.steps} steps")

    def candidates(self, num_members: int) -> int:
        return self.steps * (num_members - 1)

    def plan(self, pool: ScoredPool) -> Coefficients:
        scores = pool.singles()
        first, *others = candidate_order(pool.names, scores, self.order, self.seed, pool.objective)
        soup: Coefficients = ((first, 1.0),)
        best = scores[first]
        pool.decided(0, first, best, best, accepted=True, mix=soup)
        for number, name in enumerate(others, start=1):
            before, found = best, None
            tried: list[tuple[Score | Bound, Coefficients]] = []
            alphas = [point / (self.steps + 1) for point in range(1, self.steps + 1)]
            mixes = [combine(soup, ((name, 1.0),), alpha) for alpha in alphas]
            parts = [[(before, 1.0 - alpha), (scores[name], alpha)] for alpha in alphas]
            for place, mixture in enumerate(mixes):
                later = slice(place, None)
                pool.challengers(zip(mixes[later], repeat(best), parts[later], strict=False), ties=True)
                tried.append((result := pool.challenge(mixture, best, parts[place], ties=True), mixture))
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
    others = others_of(pool.task.metrics, pool.objective.metric)
    return bool(others) and replace(pool.objective, metric=others[0]).is_better(new, old)
