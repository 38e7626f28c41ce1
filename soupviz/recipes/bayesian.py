"""Coefficients searched over the simplex by a sampler that learns from what it tried."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from soupviz.errors import RecipeError
from soupviz.extras import needed
from soupviz.mixing.averaging import mean_of
from soupviz.recipes.averages import LEAST
from soupviz.recipes.greedy import GOAL, SEED, SHIFT_WEIGHT, of_goal, search_with
from soupviz.recipes.pool import ScoredPool
from soupviz.recipes.record import Pooled
from soupviz.tasks.score import Score
from soupviz.types import Coefficients

if TYPE_CHECKING:
    import optuna

NOTHING = 1e-6
"""Of all weights together; below it a trial says nothing of how to share them out."""


class Bayesian(Pooled):
    """Search all coefficients that are at least 0 and sum to 1, from the uniform and the greedy soup on.

    Needs the extra `search` (Optuna). A trial is a weight from 0 to 1 for each ingredient, divided by their sum.
    The sampler is seeded and every score is kept, so that a search that was stopped repeats its trials from the store
    and goes on.

    Source: TPE, Bergstra et al. 2011 (Algorithms for hyper-parameter optimization); CMA-ES, Hansen 2016 (arXiv
    1604.00772); both as Optuna has them.
    """

    method: Literal["bayesian"] = "bayesian"
    label = "Bayesian search"
    sampler: Literal["tpe", "cmaes"] = Field("tpe", description="what proposes coefficients")
    budget: int = Field(50, ge=2, le=1000, description="how many mixes are scored, uniform and greedy among them")
    objective: str = GOAL
    shift_weight: float = SHIFT_WEIGHT
    seed: int = SEED
    is_search = True

    @property
    def goal(self) -> str:
        return self.objective

    @property
    def own_title(self) -> str:
        details = [self.sampler.upper(), f"{self.budget} trials", *of_goal(self.objective, self.shift_weight)]
        return self.titled("Bayesian", *details)

    def candidates(self, num_members: int) -> int:
        return num_members - 1 + self.budget

    def plan(self, pool: ScoredPool) -> Coefficients:
        greedy, _ = search_with(pool.silent(), "mean", "best", 0)
        study = self._study(pool, greedy)
        goal = pool.goal(self.objective, self.shift_weight)
        best: tuple[Coefficients, Score] | None = None
        for number in range(self.budget):
            trial = study.ask()
            weights = {name: trial.suggest_float(name, 0.0, 1.0) for name in pool.names}
            mixture = _shares(weights)
            score = pool.look_further(mixture, pool.score(mixture), goal)
            rank, value = goal.merit(score)
            study.tell(trial, float(value) if rank == 0 and math.isfinite(value) else LEAST * (1 - rank))
            accepted = best is None or goal.is_better(score, best[1])
            best = (mixture, score) if best is None or accepted else best
            pool.decided(number, f"trial {number}", score, best[1], accepted=accepted, mix=mixture, goal=goal)
        assert best is not None
        return best[0]

    def _study(self, pool: ScoredPool, greedy: Coefficients) -> "optuna.Study":
        with needed("bayesian", RecipeError):
            import optuna
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        start = dict.fromkeys(pool.names, 0.0) | {name: 1.0 for name, _ in greedy}
        sampler: Any = (
            optuna.samplers.TPESampler(seed=self.seed)
            if self.sampler == "tpe"
            else optuna.samplers.CmaEsSampler(seed=self.seed)  # from the middle of its box: the uniform soup
        )
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.enqueue_trial(dict.fromkeys(pool.names, 1.0))
        study.enqueue_trial(start)
        return study


def _shares(weights: Mapping[str, float]) -> Coefficients:
    """The weights divided by their sum; all alike where they are all about 0."""
    total = sum(weights.values())
    if total < NOTHING:
        return mean_of(tuple(weights))
    return tuple((name, weight / total) for name, weight in weights.items() if weight)
