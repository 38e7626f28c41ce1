"""Distillation: one model that learns what an ensemble, or a soup, answers."""

from dataclasses import asdict, replace
from typing import ClassVar, Literal

from pydantic import Field

from soupviz.errors import RecipeError
from soupviz.files import digest
from soupviz.learning.distilling import Distillation
from soupviz.mixing.averaging import mean_of
from soupviz.recipes.greedy import SEED, search_with
from soupviz.recipes.pool import ScoredPool
from soupviz.recipes.record import Pooled
from soupviz.tasks.score import Score
from soupviz.tasks.task import Task
from soupviz.types import Coefficients


class Distilled(Pooled):
    """A student that starts at a soup and is trained on a teacher's answers, on train; the last epoch is kept.

    It learns `hard * CE(labels) + (1 - hard) * T^2 * KL(teacher || student)`; of a regression, squared errors.
    An ensemble that teaches has the kitchen's other models in it, of other architectures.

    Source: Hinton et al. 2015 (arXiv 1503.02531). Repeats to a tolerance on another machine. A training that was
    stopped goes on from its last checkpoint.
    """

    method: Literal["distilled"] = "distilled"
    label = "distilled student"
    averages_outputs = True
    services = frozenset({"ahead", "attempt", "distil", "earlier", "other_models"})
    requires: ClassVar[frozenset[str]] = frozenset({"train"})
    is_search = True
    trains = True
    teacher: Literal["ensemble", "greedy ensemble", "uniform", "greedy"] = Field(
        "ensemble", description="whose answers are learned: the ensemble of all, a greedy one, or a soup"
    )
    start: str = Field(
        "greedy", description="where the student starts: greedy, uniform, best (ingredient), or an ingredient's name"
    )
    temperature: float = Field(2.0, gt=0, le=20, description="softens what the student learns from the teacher")
    hard: float = Field(0.3, ge=0, le=1, description="the weight of the labels; the rest is the teacher's")
    epochs: int = Field(3, ge=1, le=200, description="passes over the examples")
    learning_rate: float = Field(2e-4, gt=0, le=1, description="of AdamW at the first step; falls to 0 along a cosine")
    examples: int = Field(0, ge=0, le=100_000_000, description="of train; 0 takes all")
    seed: int = SEED

    @property
    def own_title(self) -> str:
        return self.titled(f"student of {self.teacher}", f"from {self.start}", f"{self.epochs} epochs")

    @property
    def meets_other_models(self) -> bool:
        return self.teacher.endswith("ensemble")

    def candidates(self, num_members: int) -> int:
        return num_members + self.epochs

    def unfit(self, task: Task) -> str:
        if self.meets_other_models and not task.has_ensembles:
            why = task.without("ensembles")
            return f"distilled: what the task {task.name} answers cannot be averaged{why}; take a soup as the teacher."
        if task.has_loss and task.has_soft_loss:
            return ""
        why = task.without("soft_loss") or task.without("loss")
        return (
            f"distilled: the task {task.name} has no loss between a student's answers and a teacher's{why}; take a "
            "soup."
        )

    def plan(self, pool: ScoredPool) -> Coefficients:
        start = self._mix(pool, self.start)
        best = pool.score(start)
        pool.decided(0, f"start: {self.start}", best, best, accepted=True, mix=start)
        last = 0

        def on_epoch(number: int, score: Score) -> None:
            nonlocal best, last
            # A training that was stopped goes on: what was decided of its epochs before that.
            for step in [pool.services.earlier[one] for one in range(last + 1, number) if one in pool.services.earlier]:
                best = replace(best, values=dict(step.best_metrics))
                pool.tell(step)
            is_better = pool.objective.is_better(score, best)
            best, last = (score if is_better else best), number
            pool.decided(number, f"epoch {number}", score, best, accepted=is_better)

        is_ensemble = self.teacher.endswith("ensemble")
        output = pool.task.outputs[0] if is_ensemble else self.batchnorm
        if is_ensemble:  # models of other architectures teach too
            everyone = [*pool.names, *pool.services.other_models]
            attempt, ahead = pool.services.attempt(output), pool.services.ahead(output)
            ensembles = replace(pool.silent(), names=everyone, attempt=attempt, ahead=ahead, _singles={}, _limits={})
            teacher = self._mix(ensembles, "uniform" if self.teacher == "ensemble" else "greedy")
        else:
            teacher = self._mix(pool, self.teacher)
        own = self.model_dump(exclude={"members"})
        student, history = pool.services.distil(
            (start, self.batchnorm), (teacher, output),
            Distillation(self.temperature, self.hard, self.epochs, self.learning_rate, seed=self.seed),
            self.examples, f"student-{digest([own, start, teacher])[:16]}", on_epoch,
        )  # fmt: skip
        if last < self.epochs:  # the training was over, but not its last score
            on_epoch(self.epochs, pool.score(student))
        pool.notes["teacher"] = [name for name, _ in teacher]
        pool.notes["epochs"] = [
            {name: value for name, value in asdict(epoch).items() if name != "seconds"} for epoch in history
        ]
        return student

    def _mix(self, pool: ScoredPool, name: str) -> Coefficients:
        if name == "uniform":
            return mean_of(pool.names)
        if name in pool.names:
            return ((name, 1.0),)
        if name not in ("best", "greedy"):
            raise RecipeError(
                f"distilled: start is {name!r}; expected greedy, uniform, best, or one of {', '.join(pool.names)}."
            )
        if name == "best":
            scores = pool.singles()
            return ((pool.best_first(scores)[0], 1.0),)
        return search_with(pool.silent(), "mean", "best", 0)[0]
