"""Ensembles: the yardstick for every soup. They average what models say, and cost a forward pass for each of them."""

from typing import Any, Literal

from pydantic import Field, field_validator

from soupviz.errors import RecipeError
from soupviz.mixing.averaging import mean_of
from soupviz.recipes.averages import by_performance
from soupviz.recipes.greedy import search_with
from soupviz.recipes.pool import ScoredPool
from soupviz.recipes.record import Pooled
from soupviz.tasks.task import Task
from soupviz.types import Coefficients


class Ensemble(Pooled):
    """The average of the members' probabilities or logits: of all, of those a greedy search keeps, or weighted.

    Of a regression it is the average of what they answer.

    Source: Lakshminarayanan et al. 2017 (arXiv 1612.01474); greedy: Caruana et al. 2004, as Wortsman et al. 2022 do it,
    each member once.
    """

    method: Literal["ensemble"] = "ensemble"
    label = "ensemble"
    output: Literal["probabilities", "logits"] = Field("probabilities", description="what is averaged")
    choice: Literal["uniform", "greedy", "weighted"] = Field(
        "uniform", description="all alike, those that raise held_out, or by a softmax of accuracy (T = 0.01)"
    )
    is_search = True
    takes_other_models = True

    @field_validator("batchnorm")
    @classmethod
    def _has_no_statistics(cls, value: Any) -> Any:
        if value != "average":
            raise RecipeError(
                f"batchnorm is {value!r}, but an ensemble mixes no weights: each member keeps its own statistics. "
                "Leave it at average."
            )
        return value

    @property
    def own_title(self) -> str:
        averaged = [] if self.output == "probabilities" else [self.output]  # a task without has answers to average
        return f"ensemble ({', '.join([self.choice, *averaged, *self.of_members()])})"

    @property
    def aggregation(self) -> str:
        return self.output

    def unfit(self, task: Task) -> str:
        if not task.can_average:
            return f"ensemble: answers of the task {task.name} have no average; take a soup."
        if task.has_probabilities or self.output == "probabilities":
            return ""
        return f"ensemble: the task {task.name} has one output to average; leave output at its default."

    def candidates(self, num_members: int) -> int:
        return num_members - 1 if self.choice == "greedy" else 1

    def plan(self, pool: ScoredPool) -> Coefficients:
        if self.choice == "greedy":
            return search_with(pool, "mean", "best", 0)[0]
        return mean_of(pool.names) if self.choice == "uniform" else by_performance(pool, "", 0.01)
