"""Averages: of all alike, or weighted by how each ingredient does."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from soupviz.errors import RecipeError
from soupviz.mixing.averaging import mean_of
from soupviz.recipes.pool import ScoredPool, needed_for
from soupviz.recipes.record import Pooled, added_later
from soupviz.tasks.metric import Metric, has_scale
from soupviz.tasks.objective import Objective
from soupviz.tasks.score import Score
from soupviz.tasks.task import Task
from soupviz.types import Coefficients
from soupviz.weights.logged import logged_loss

PerAll = Literal["all", "class", "slice"]

LEAST = -1e290
"""Of what has no value, or answers that are not finite: its share is nothing."""


SPREADS = 100.0
"""In how many spreads the values of a metric without a scale of its own are told: a spread is as a percentage point."""

TEMPERATURE = (
    "how sharply: small prefers the best. In shares and nats; of other metrics 0.01 is one standard deviation between "
    "the ingredients"
)


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
    large T all alike. A share, and a loss in nats, is what it is: T = 0.01 is one percentage point. Any other metric
    (RMSE, say) has a scale of its own, so that m is divided by a hundred times its spread, the standard deviation of
    the ingredients' values, and T = 0.01 is one spread: no unit of measurement then changes a coefficient.
    Per class or slice, w_i is the mean over the S classes or slices of held_out of the softmax within each,
    `w_i = 1/S sum_s exp(a_is / T) / sum_j exp(a_js / T)`, a_is being that of i on the units of s alone: who
    is best on one of them counts, however few its units. The spread is then that within each.

    Source: the softmax is Boltzmann's; dividing by the spread of those that compete is the sigma scaling of Forrest
    1985, as Mitchell 1996 (An Introduction to Genetic Algorithms, section 5.4) tells it. Differs: within the softmax.
    """

    method: Literal["weighted"] = "weighted"
    label = "weighted by performance"
    metric: str = Field(
        "",
        json_schema_extra={"choices": "goals"},
        description="what of each ingredient counts, on held_out; default: the kitchen's metric",
    )
    per: PerAll = added_later("all", description="one softmax over all, or the mean of one within each class or slice")
    temperature: float = Field(0.01, gt=0, le=10, description=TEMPERATURE)
    is_search = True

    @property
    def needs(self) -> frozenset[str]:
        return super().needs | needed_for(self.metric) | ({"slices"} if self.per == "slice" else set())

    @property
    def own_title(self) -> str:
        per = f"per {self.per}" if self.per != "all" else ""
        return self.titled("weighted", self.metric, per, f"T = {self.temperature:g}")

    @classmethod
    def choices(cls, name: str, task: Task) -> tuple[Any, ...]:
        """No classes where there are none."""
        found = super().choices(name, task)
        return found if task.has_classes or name != "per" else tuple(one for one in found if one != "class")

    def plan(self, pool: ScoredPool) -> Coefficients:
        return by_performance(pool, self.metric, self.temperature, self.per)


class NBest(Pooled):
    """The mean of the n that are best on held_out, by any metric of the task; or by the run's own validation loss.

    Of equally good ones those that stand first in the kitchen. By `log`, the lowest of what the run logged of each
    checkpoint as its validation loss (`eval_loss`, `val/loss`, `cv_loss`), as most scripts choose.

    Source: espnet, `average_nbest_models`; wenet, `average_model.py --val_best --num N`.
    """

    method: Literal["nbest"] = "nbest"
    label = "n best"
    is_search = True
    is_of_one_run = True
    n: int = Field(5, ge=1, le=100, description="how many")
    by: Literal["metric", "log"] = Field("metric", description="a metric as it is here, or the validation loss logged")
    metric: str = Field(
        "",
        json_schema_extra={"choices": "goals"},
        description="by which, on held_out; default: the kitchen's metric",
    )

    @property
    def num_best(self) -> int:
        return self.n

    @property
    def goal(self) -> str:
        return self.metric if self.by == "metric" else ""

    @property
    def own_title(self) -> str:
        return self.titled(f"{self.n} best", f"by {self.metric}" if self.goal else "by log" * (self.by == "log"))

    def plan(self, pool: ScoredPool) -> Coefficients:
        return mean_of(self.ranked(pool)[: self.n])

    def ranked(self, pool: ScoredPool) -> list[str]:
        """The pool, the best first."""
        if self.by == "log":
            return by_log(pool.names, pool.facts)
        goal = pool.goal(self.metric)
        return goal.best_first(
            {name: pool.look_further(((name, 1.0),), pool.single(name), goal) for name in pool.names}
        )


def by_log(names: Sequence[str], facts: Callable[[str], Mapping[str, Any]]) -> list[str]:
    """The pool by the validation loss that its run logged, the lowest first.

    Raises:
        RecipeError: none was logged of one.
    """
    losses = {name: logged_loss(facts(name)) for name in names}
    if missing := [name for name, loss in losses.items() if loss is None]:
        raise RecipeError(
            f"nbest: nothing beside {missing[0]!r} tells its validation loss; expected val_loss, eval_loss, cv_loss or "
            "the like in its metadata or its run's log. Take a metric instead, or leave it out with members."
        )
    return sorted(names, key=lambda name: losses[name][1])  # type: ignore[index]


def by_performance(pool: ScoredPool, metric: str, temperature: float, per: PerAll = "all") -> Coefficients:
    """The softmax of what single ingredients do, or the mean of those within each class or slice."""
    goal = pool.goal(metric)
    scores = {name: pool.look_further(((name, 1.0),), score, goal) for name, score in pool.singles().items()}
    values = {name: _values(score, goal, per, pool) for name, score in scores.items()}
    columns = [
        _softmax(column, temperature * _scale(goal.metric, column)) for column in zip(*values.values(), strict=True)
    ]
    means = [math.fsum(shares) / len(columns) for shares in zip(*columns, strict=True)]
    return tuple((name, share) for name, share in zip(values, means, strict=True) if share)


def _values(score: Score, goal: Objective, per: PerAll, pool: ScoredPool) -> list[float]:
    sign = 1.0 if goal.metric.higher_is_better else -1.0
    if per != "all":
        return [sign * value if math.isfinite(value) else LEAST for value in pool.values_by(per, score, goal.metric)]
    rank, value = goal.merit(score)
    return [float(value) if rank == 0 and math.isfinite(value) else LEAST]


def _scale(metric: Metric, values: Sequence[float]) -> float:
    """What a temperature of 1 is, in the metric's own numbers; of values that count as the same, any will do."""
    if has_scale(metric):
        return 1.0
    known = [value for value in values if value > LEAST]
    spread = statistics.pstdev(known) if known else 0.0
    return SPREADS * (spread if spread > metric.ties() else 1.0)


def _softmax(values: Sequence[float], temperature: float) -> list[float]:
    best = max(values)
    shares = [math.exp((value - best) / temperature) for value in values]
    total = math.fsum(shares)
    return [share / total for share in shares]
