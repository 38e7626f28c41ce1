"""Averages: of all alike, or weighted by how each ingredient does."""

import math
from typing import Literal

from pydantic import Field

from soupviz.mixing import mean_of
from soupviz.recipes.judge import Judge, Objective, value_of
from soupviz.recipes.record import Pooled
from soupviz.records import Coefficients, Score


class Uniform(Pooled):
    """The plain mean of the members. Source: Wortsman et al. 2022, table 1, "uniform"."""

    method: Literal["uniform"] = "uniform"
    label = "uniform"

    @property
    def title(self) -> str:
        return " ".join(["average", *self.of_members()])

    def plan(self, judge: Judge) -> Coefficients:
        return mean_of(judge.names)


class Weighted(Pooled):
    """Coefficients by a softmax of performance: `w_i = exp(m_i / T) / sum_j exp(m_j / T)`.

    m is an accuracy as a fraction, or minus the loss in nats. T near 0 takes the best alone, a large T all alike.
    """

    method: Literal["weighted"] = "weighted"
    label = "weighted by performance"
    metric: Objective = Field("accuracy", description="of each ingredient alone, on held_out")
    temperature: float = Field(0.01, gt=0, le=10, description="of the softmax; small prefers the best")
    is_search = True

    @property
    def title(self) -> str:
        details = [self.metric, f"T = {self.temperature:g}", *self.of_members()]
        return f"weighted ({', '.join(details)})"

    def plan(self, judge: Judge) -> Coefficients:
        return by_performance(judge, self.metric, self.temperature)


def by_performance(judge: Judge, metric: Objective, temperature: float) -> Coefficients:
    """The softmax of what single ingredients do."""
    values = {name: _fraction(score, metric) for name, score in judge.singles().items()}
    best = max(values.values())
    shares = {name: math.exp((value - best) / temperature) for name, value in values.items()}
    total = math.fsum(shares.values())
    return tuple((name, share / total) for name, share in shares.items() if share)


def _fraction(score: Score, metric: Objective) -> float:
    value = value_of(score, metric)
    return value / score.num_examples if metric == "accuracy" else value
