"""Recipes that learn from examples, or measure activations: coefficients by gradient, Fisher, RegMean, alignment."""

import math
from typing import Any, Literal

from pydantic import Field

from soupviz.errors import RecipeError
from soupviz.recipes.greedy import SEED
from soupviz.recipes.pool import ScoredPool
from soupviz.recipes.record import Pooled
from soupviz.recipes.services import Sample
from soupviz.spec import HELD_OUT
from soupviz.tasks.task import Task
from soupviz.types import Coefficients

Data = Literal["held_out", "train"]
SPLIT: Any = Field(HELD_OUT, description="what is learned from: at most half of held_out, or train")
EXAMPLES: Any = Field(1000, ge=1, le=1_000_000, description="how many examples at most")


def seen(sample: Sample) -> str:
    """A part of the title."""
    return f"{sample.num_examples:,} of {sample.split}"


class Learned(Pooled):
    """Coefficients by gradient descent on the loss, one for each ingredient, or for each and each layer.

    The loss is the task's: the cross-entropy of a classifier, the mean squared error of a regression, the CTC loss of
    transcripts.

    Source: Wortsman et al. 2022, appendix I. Repeats to a tolerance, not bit for bit, on another machine.
    """

    method: Literal["learned"] = "learned"
    label = "learned by gradient"
    services = frozenset({"learn"})
    trains = True
    data: Data = SPLIT
    examples: int = EXAMPLES
    seed: int = SEED
    per: Literal["model", "layer"] = Field("model", description="one coefficient for each model, or for each layer too")
    coefficients: Literal["softmax", "free"] = Field("softmax", description="above 0 and summing to 1, or free")
    epochs: int = Field(5, ge=1, le=100, description="passes over the examples")
    learning_rate: float = Field(0.05, gt=0, le=10, description="of Adam")

    @property
    def sample(self) -> Sample:
        return Sample(self.data, self.examples, self.seed)

    @property
    def own_title(self) -> str:
        return self.titled("learned", f"per {self.per}", self.coefficients, seen(self.sample))

    def unfit(self, task: Task) -> str:
        return (
            ""
            if task.has_loss
            else f"learned: the task {task.name} has no loss with a gradient to learn coefficients by"
            f"{task.without('loss')}; take a search."
        )

    def plan(self, pool: ScoredPool) -> Coefficients:
        if len(pool.names) < 2:
            raise RecipeError(f"learned: needs two ingredients; got {pool.names[0]!r} alone.")
        mixture, found = pool.services.learn(
            pool.names, self.sample, by_layer=self.per == "layer", normalise=self.coefficients,
            epochs=self.epochs, rate=self.learning_rate,
        )  # fmt: skip
        pool.notes |= {"temperature": 1 / found.logit_scale, "losses": list(found.losses)}
        if math.isclose(sum(weight for _, weight in mixture), 0.0, abs_tol=1e-6):
            raise RecipeError("the learned coefficients sum to zero; take softmax, or a smaller learning rate.")
        return tuple((name, weight) for name, weight in mixture if weight)


class Fisher(Pooled):
    """Each number of each ingredient counts by its diagonal Fisher information F: `sum_i F_i θ_i / sum_i F_i`.

    Source: Matena and Raffel 2022 (arXiv 2111.09832).
    """

    method: Literal["fisher"] = "fisher"
    label = "Fisher-weighted"
    services = frozenset({"fisher"})
    trains = True
    data: Data = SPLIT
    examples: int = Field(200, ge=1, le=1_000_000, description="how many examples at most; each costs a gradient")
    seed: int = SEED

    @property
    def sample(self) -> Sample:
        return Sample(self.data, self.examples, self.seed)

    @property
    def own_title(self) -> str:
        return self.titled("Fisher", seen(self.sample))

    def unfit(self, task: Task) -> str:
        if task.has_logits:
            return ""
        return (
            f"fisher: the task {task.name} has no probabilities of classes to measure information by"
            f"{task.without('information')}; take regmean."
        )

    def plan(self, pool: ScoredPool) -> Coefficients:
        return pool.services.fisher(pool.names, self.sample)


class RegMean(Pooled):
    """Linear layers by least squares on every ingredient's own inputs, `(sum_i G_i)^-1 sum_i G_i W_i`.

    All other layers are averaged. G are the inner products of a layer's inputs.

    Source: Jin et al. 2023 (arXiv 2212.09849).
    """

    method: Literal["regmean"] = "regmean"
    label = "RegMean"
    services = frozenset({"regmean"})
    trains = True
    data: Data = SPLIT
    examples: int = EXAMPLES
    seed: int = SEED
    shrink: float = Field(0.9, ge=0, le=1, description="what the inner products of different inputs count")

    @property
    def sample(self) -> Sample:
        return Sample(self.data, self.examples, self.seed)

    @property
    def own_title(self) -> str:
        return self.titled("RegMean", seen(self.sample))

    def plan(self, pool: ScoredPool) -> Coefficients:
        return pool.services.regmean(pool.names, self.sample, self.shrink)


class ReBasin(Pooled):
    """The mean of ingredients from different seeds, their units put into the order of the best one's; then REPAIR.

    Source: Ainsworth et al. 2022 (arXiv 2209.04836), weight matching; REPAIR: Jordan et al. 2022 (arXiv 2211.08403).
    """

    method: Literal["rebasin"] = "rebasin"
    label = "Re-Basin, aligned units"
    services = frozenset({"rebasin"})
    trains = True
    data: Data = SPLIT
    examples: int = EXAMPLES
    seed: int = SEED
    is_search = True
    repair: Literal["yes", "no"] = Field("yes", description="correct the mean and spread of activations (REPAIR)")

    @property
    def sample(self) -> Sample | None:
        """For REPAIR; None: it looks at no examples."""
        return Sample(self.data, self.examples, self.seed) if self.repair == "yes" else None

    @property
    def own_title(self) -> str:
        return self.titled("Re-Basin", *(["REPAIR", seen(self.sample)] if self.sample else []))

    def plan(self, pool: ScoredPool) -> Coefficients:
        if len(pool.names) < 2:
            raise RecipeError(f"rebasin: needs two ingredients; got {pool.names[0]!r} alone.")
        scores = pool.singles()
        ranked = pool.best_first(scores)
        mixture, notes = pool.services.rebasin(ranked, self.sample, self.seed)
        pool.notes.update(notes)
        return mixture
