"""Averages: of all alike, or weighted by how each ingredient does."""

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from soupviz.mixing.averaging import mean_of
from soupviz.recipes.pool import ScoredPool, needed_for
from soupviz.recipes.record import Pooled, added_later
from soupviz.tasks.objective import Objective
from soupviz.tasks.score import Score
from soupviz.types import Coefficients

PerAll = Literal["all", "class", "slice"]

LEAST = -1e290
"""Of what has no value, or answers that are not finite: its share is nothing."""


class Uniform(Pooled):
    """The plain mean of the ingredients, `(θ_1 + ... + θ_n) / n`.

    Source: Wortsman et al. 2022 (Model soups, arXiv 2203.05482), table 1, "uniform".
    """

    method: Literal["uniform"] = "uniform"
    label = "uniform"
    is_mean = True

    @property
    def own_title(self) -> str:
        return " ".join(["average", *self.of_members()])

    def plan(self, pool: ScoredPool) -> Coefficients:
        return mean_of(pool.names)


class Weighted(Pooled):
    """Coefficients by a softmax of performance: `w_i = exp(m_i / T) / sum_j exp(m_j / T)`.

    m is the value of a metric, of one that is better low (a loss in nats) minus it. T near 0 takes the best alone, a
    large T all alike.
    Per class or slice, w_i is the mean over the S classes or slices of held_out of the softmax within each,
    `w_i = 1/S sum_s exp(a_is / T) / sum_j exp(a_js / T)`, a_is being that of i on the units of s alone: who
    is best on one of them counts, however few its units.
    """

    method: Literal["weighted"] = "weighted"
    label = "weighted by performance"
    metric: str = Field(
        "",
        json_schema_extra={"choices": "goals"},
        description="what of each ingredient counts, on held_out; default: the kitchen's metric",
    )
    per: PerAll = added_later("all", description="one softmax over all, or the mean of one within each class or slice")
    temperature: float = Field(0.01, gt=0, le=10, description="how sharply: small prefers the best")
    is_search = True

    @property
    def needs(self) -> frozenset[str]:
        return super().needs | needed_for(self.metric) | ({"slices"} if self.per == "slice" else set())

    @property
    def own_title(self) -> str:
        per = f"per {self.per}" if self.per != "all" else ""
        return self.titled("weighted", self.metric, per, f"T = {self.temperature:g}")

    def plan(self, pool: ScoredPool) -> Coefficients:
        return by_performance(pool, self.metric, self.temperature, self.per)


def by_performance(pool: ScoredPool, metric: str, temperature: float, per: PerAll = "all") -> Coefficients:
    """The softmax of what single ingredients do, or the mean of those within each class or slice."""
    goal = pool.goal(metric)
    values = {name: _values(score, goal, per, pool) for name, score in pool.singles().items()}
    columns = [_softmax(column, temperature) for column in zip(*values.values(), strict=True)]
    means = [math.fsum(shares) / len(columns) for shares in zip(*columns, strict=True)]
    return tuple((name, share) for name, share in zip(values, means, strict=True) if share)


def _values(score: Score, goal: Objective, per: PerAll, pool: ScoredPool) -> list[float]:
    sign = 1.0 if goal.metric.higher_is_better else -1.0
    if per != "all":
        return [sign * value for value in pool.values_by(per, score, goal.metric)]
    rank, value = goal.merit(score)
    return [float(value) if rank == 0 and math.isfinite(value) else LEAST]


def _softmax(values: Sequence[float], temperature: float) -> list[float]:
    best = max(values)
    shares = [math.exp((value - best) / temperature) for value in values]
    total = math.fsum(shares)
    return [share / total for share in shares]
