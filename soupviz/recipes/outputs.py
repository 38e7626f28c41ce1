"""Ensembles: the yardstick for every soup. They average what models say, and cost a forward pass for each of them."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator

from soupviz.errors import RecipeError
from soupviz.mixing.averaging import mean_of
from soupviz.recipes.averages import by_performance
from soupviz.recipes.greedy import search_with
from soupviz.recipes.pool import ScoredPool
from soupviz.recipes.record import Pooled
from soupviz.tasks.ensembles import PROBABILITIES
from soupviz.tasks.task import Task
from soupviz.types import Alpha, Coefficients


class Ensemble(Pooled):
    """The average of what the members answer: of all, of those a greedy search keeps, or weighted by performance.

    Of classes, it is their probabilities that are averaged, or their logits; of other tasks, the outputs as they are.

    Source: Lakshminarayanan et al. 2017 (arXiv 1612.01474); greedy: Caruana et al. 2004, as Wortsman et al. 2022 do it,
    each member once.
    """

    method: Literal["ensemble"] = "ensemble"
    label = "ensemble"
    output: Literal["probabilities", "logits", "outputs"] = Field(
        "probabilities", description="what is averaged: outputs where a task has no probabilities"
    )
    choice: Literal["uniform", "greedy", "weighted"] = Field(
        "uniform", description="all alike, those that make held_out better, or by performance (`weighted`, T = 0.01)"
    )
    is_search = True
    takes_other_models = True
    grows_one_soup = True
    averages_outputs = True
    mixes_weights = False

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
        return self.titled("ensemble", self.choice, self.output)

    @property
    def aggregation(self) -> str:
        return self.output

    @property
    def newcomer_weight(self) -> Alpha | None:
        return "mean" if self.choice == "greedy" else None

    def unfit(self, task: Task) -> str:
        if not task.has_ensembles:
            why = task.without("ensembles")
            return f"ensemble: what the task {task.name} answers cannot be averaged{why}; take a soup."
        if self.suited(task).output in task.outputs:
            return ""
        able = " or ".join(task.outputs)
        return f"ensemble: output is {self.output!r}; expected {able}, what can be averaged of the task {task.name}."

    def suited(self, task: Task) -> Self:
        """A default that a task lacks is what it has."""
        if self.output != PROBABILITIES or task.has_probabilities or not task.outputs:
            return self
        return self.model_copy(update={"output": task.outputs[0]})

    @classmethod
    def choices(cls, name: str, task: Task) -> tuple[Any, ...]:
        return task.outputs if name == "output" else super().choices(name, task)

    def candidates(self, num_members: int) -> int:
        return num_members - 1 if self.choice == "greedy" else 1

    def plan(self, pool: ScoredPool) -> Coefficients:
        if self.choice == "greedy":
            return search_with(pool, "mean", "best", 0)[0]
        return mean_of(pool.names) if self.choice == "uniform" else by_performance(pool, "", 0.01)
