"""Searches for the best subset to average: all of them, by leaving out, by a beam, from random starts."""

import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Literal

from pydantic import Field

from soupviz.errors import RecipeError
from soupviz.mixing.averaging import mean_of
from soupviz.recipes.greedy import SEED, search_with
from soupviz.recipes.pool import ScoredPool
from soupviz.recipes.record import Pooled
from soupviz.tasks.score import Score
from soupviz.types import Coefficients

MOST = 12
"""Ingredients of which every subset is tried: 4,095 of them."""


class Exhaustive(Pooled):
    """The mean of the best of all subsets; of equally good ones the smallest, then the first in kitchen order.

    For at most 12 ingredients. Each subset is mixed anew: a sum that is updated from subset to subset would round
    otherwise than a soup does. The trajectory has each subset that was the best so far.
    """

    method: Literal["exhaustive"] = "exhaustive"
    label = "best subset"
    is_search = True
    tells_leads_only = True

    @property
    def own_title(self) -> str:
        return " ".join(["best subset", *self.of_members()])

    def candidates(self, num_members: int) -> int:
        return int(2**num_members) - 1 - num_members

    def plan(self, pool: ScoredPool) -> Coefficients:
        if len(pool.names) > MOST:
            raise RecipeError(
                f"exhaustive: {len(pool.names)} ingredients have {2 ** len(pool.names) - 1:,} subsets; expected at "
                f"most {MOST} ingredients. Name fewer members, or take pruned, beam or restarts."
            )
        leader = Leader(pool)
        sizes = range(1, len(pool.names) + 1)
        subsets = [members for size in sizes for members in combinations(pool.names, size)]
        for place, members in enumerate(subsets):
            leader.ahead(subsets[place:][: len(pool.names)])
            leader.try_subset(members)
        return leader.mix


class Pruned(Pooled):
    """Start from the mean of all and leave out each ingredient without which more examples are right, worst first.

    Source: Dansereau et al. 2023 (arXiv 2301.10092), pruned soup. Differs: passes are repeated until one changes
    nothing, at most `passes` times.
    """

    method: Literal["pruned"] = "pruned"
    label = "pruned"
    passes: int = Field(1, ge=1, le=20, description="how often all that are left are gone through, at most")
    is_search = True
    grows_one_soup = True

    @property
    def own_title(self) -> str:
        return self.titled("pruned", f"{self.passes} passes" if self.passes > 1 else "")

    def candidates(self, num_members: int) -> int:
        return 1 + self.passes * num_members

    def plan(self, pool: ScoredPool) -> Coefficients:
        scores = pool.singles()
        kept = list(pool.names)
        best = pool.score(mean_of(kept))
        pool.decided(0, "all", best, best, accepted=True, mix=mean_of(kept))
        number = 0
        for _ in range(self.passes):
            before = len(kept)
            worst_first = sorted(kept, key=lambda name: pool.objective.merit(scores[name]))
            for place, name in enumerate(worst_first):
                if len(kept) == 1:
                    break
                number += 1
                left = _without(kept, name)
                pool.challengers((mean_of(_without(kept, one)), best, ()) for one in worst_first[place:])
                result = pool.challenge(mean_of(left), best)
                accepted = pool.objective.is_better(result, best)
                if isinstance(result, Score) and accepted:
                    kept, best = left, result
                mix = mean_of(left)
                pool.decided(number, f"without {name}", result, best, accepted=accepted, mix=mix)
            if len(kept) == before:
                break
        return mean_of(kept)


class Beam(Pooled):
    """Grow several subsets at once: of all that add one ingredient and improve, the best `width` go on.

    A subset that can be reached from several has to be better than one of them: it is held against the least of them.
    The trajectory has each subset that was the best so far.
    """

    method: Literal["beam"] = "beam"
    label = "beam of subsets"
    width: int = Field(3, ge=1, le=20, description="subsets that are grown side by side")
    is_search = True
    tells_leads_only = True

    @property
    def own_title(self) -> str:
        return self.titled("beam", f"width {self.width}")

    def candidates(self, num_members: int) -> int:
        return self.width * num_members * (num_members - 1) // 2

    def plan(self, pool: ScoredPool) -> Coefficients:
        scores = pool.singles()
        leader = Leader(pool)
        ranked = pool.best_first(scores)
        for name in ranked[: self.width]:
            leader.take((name,), scores[name])
        beam: dict[tuple[str, ...], Score] = {(name,): scores[name] for name in ranked[: self.width]}
        while beam:
            grown: dict[tuple[str, ...], Score] = {}
            tried = list(_supersets(pool, beam).items())
            for place, (bigger, least) in enumerate(tried):
                pool.challengers((mean_of(other), lesser, ()) for other, lesser in tried[place:])
                result = pool.challenge(mean_of(bigger), least)
                if isinstance(result, Score) and pool.objective.is_better(result, least):
                    grown[bigger] = result
            beam = dict(
                sorted(grown.items(), key=lambda item: pool.objective.merit(item[1]), reverse=True)[: self.width]
            )
            for subset, score in beam.items():
                leader.take(subset, score)
        return leader.mix


def _without(names: Sequence[str], left_out: str) -> list[str]:
    return [name for name in names if name != left_out]


def _supersets(pool: ScoredPool, beam: Mapping[tuple[str, ...], Score]) -> dict[tuple[str, ...], Score]:
    """Every subset that adds one ingredient to one of the beam's, with the least score of those it can come from."""
    found: dict[tuple[str, ...], Score] = {}
    for subset, score in beam.items():
        for name in pool.names:
            if name not in subset:
                # In kitchen order, so that the same subset is the same soup whichever way it was reached.
                bigger = tuple(other for other in pool.names if other in (*subset, name))
                found[bigger] = min(found.get(bigger, score), score, key=pool.objective.merit)
    return found


class Restarts(Pooled):
    """Greedy (mean) once best first and then in random orders from random starts; the best soup of all is kept."""

    method: Literal["restarts"] = "restarts"
    label = "greedy, many starts"
    starts: int = Field(5, ge=1, le=100, description="searches, the first of them best first")
    seed: int = SEED
    is_search = True
    tells_leads_only = True

    @property
    def own_title(self) -> str:
        return self.titled(f"greedy, best of {self.starts} starts")

    def candidates(self, num_members: int) -> int:
        return self.starts * (num_members - 1)

    def plan(self, pool: ScoredPool) -> Coefficients:
        leader = Leader(pool)
        mixture, _ = search_with(pool.silent(), "mean", "best", 0)
        leader.take([name for name, _ in mixture], pool.score(mixture))
        chance = random.Random(self.seed)
        for _ in range(self.starts - 1):
            order = list(pool.names)
            chance.shuffle(order)
            subset, best = [order[0]], pool.single(order[0])
            for place, name in enumerate(order[1:], 1):
                pool.challengers((mean_of([*subset, other]), best, ()) for other in order[place:])
                result = pool.challenge(mean_of([*subset, name]), best)
                if isinstance(result, Score) and pool.objective.is_better(result, best):
                    subset, best = [*subset, name], result
            leader.take(subset, best)
        return leader.mix


class Leader:
    """The best subset so far; whoever takes the lead is told."""

    def __init__(self, pool: ScoredPool):
        self.pool = pool
        self.mix: Coefficients = ()
        self.best: Score | None = None
        self._steps = 0

    def ahead(self, subsets: Sequence[Sequence[str]]) -> None:
        """Say which subsets are tried next."""
        if self.best is not None:
            best = self.best
            self.pool.challengers((mean_of(members), best, ()) for members in subsets)

    def try_subset(self, members: Sequence[str]) -> None:
        """Score the mean of a subset, as far as it can still win."""
        result = self.pool.challenge(mean_of(members), self.best) if self.best else self.pool.score(mean_of(members))
        if isinstance(result, Score):
            self.take(members, result)

    def take(self, members: Iterable[str], score: Score) -> None:
        """Compare a subset that was scored whole."""
        if self.best is None or self.pool.objective.is_better(score, self.best):
            self.best, self.mix = score, mean_of(tuple(members))
            called = " + ".join(name for name, _ in self.mix)
            self.pool.decided(self._steps, called, score, score, accepted=True, mix=self.mix)
            self._steps += 1
