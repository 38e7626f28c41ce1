"""A task: what a model's outputs mean, which columns are kept of each unit, and which metrics judge them."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from soupviz.data.labels import Kind, unpadded
from soupviz.data.split import Split
from soupviz.models.building import tensor_of
from soupviz.models.routes import answers_from
from soupviz.tasks.capabilities import Capabilities
from soupviz.tasks.metric import Metric, SumMetric, badness
from soupviz.tasks.outcomes import ANSWER, FINITE, LABEL, Column, Outcomes
from soupviz.tasks.score import PartScore, Score
from soupviz.tasks.wording import cell_of, numbers

NOTHING = "✗ nothing: its output is not finite"
"""The answer for a unit that the model has none for."""


class Task(Capabilities):
    """What scoring, search and pages know of a task; one of a user's own names its metrics and fills in `outcomes`."""

    name: ClassVar[str] = ""
    """As kitchen.yaml and messages call it."""

    unit: ClassVar[str] = "example"
    """What is judged one by one: an example, an utterance."""

    version: ClassVar[int] = 1
    """Of what is kept of each unit; another one makes old scores unfindable."""

    takes: ClassVar[tuple[str, ...]] = ()
    """Its keys of kitchen.yaml beside `name`; one of a user's own takes what its file says."""

    labels: ClassVar[Kind] = "any"
    """How labels are read: class numbers, numbers, 0 and 1 for each class, or any numbers, as they are."""

    has_classes: ClassVar[bool] = False
    """Whether each unit has one class, by which `groups` divides them."""

    in_tables: ClassVar[tuple[str, ...]] = ()
    """Metrics that tables show beside the objective; empty: all."""

    gains: ClassVar[tuple[str, str]] = ("better", "worse")
    """What units are called that a model answers better than its rival, and worse."""

    verbs: ClassVar[tuple[str, str]] = ("is better on", "is worse on")
    """What a model does to them."""

    barrier: ClassVar[str] = ""
    """The metric whose rise half-way between two models shows a barrier; empty: the objective."""

    metrics: tuple[Metric, ...] = ()
    """The objective first."""

    source: Sequence[Any] = ()
    """Of a user's own task what it depends on: its reference, parameters, and its file's digest."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.name = cls.name or cls.__name__

    def outcomes(self, answers: Tensor, labels: Tensor) -> Mapping[str, Column]:
        """The columns of a batch, a row for each unit; default: the answers as they are, and whether each is finite.

        A column of `outcomes.records` holds an array of its own for each unit, such as its detections. `finite` may be
        left out where every answer always is.

        Args:
            answers: what `answers` gave. labels: of the same units, as the data set has them.
        Raises:
            DataError: labels that do not go with the answers.
        """
        told = answers.float().cpu()
        return {FINITE: told.flatten(1).isfinite().all(dim=1).numpy(), ANSWER: told.numpy()}

    def answer_batch(self, model: Callable[..., Any], batch: Mapping[str, Any]) -> Tensor:
        """Call the model with a batch, and give what is judged, a row for each unit, with a gradient if wanted.

        Default: it is called once, with `inputs`. A task that does otherwise (by windows) says so here.

        Args:
            model: or what stands in for it, called as the model is. batch: by argument a tensor, or a list of tensors.
        Raises:
            RuntimeError: memory ran out, where a smaller batch may go.
            ModelError: whatever else the model's own code raises, or it returned no such answers.
        """
        context = self.context(batch)
        return answers_from(model, next(iter(self.inputs(batch))), lambda output: self.read(output, context))

    @property
    def calls_once(self) -> bool:
        """Whether a batch is answered by one plain call, so that the model's graph may stand in for it."""
        return type(self).answer_batch is Task.answer_batch

    def inputs(self, batch: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """What the model is called with for a batch, call by call; default: that, as it is."""
        yield batch

    def context(self, batch: Mapping[str, Any]) -> Mapping[str, Tensor]:
        """What `read` needs to know of a batch beside what the model returned: by name a row for each unit."""
        return {}

    def read(self, output: Any, context: Mapping[str, Tensor]) -> Tensor:
        """What is judged, in what the model returned for a batch, or a ModelError; default: `answers`."""
        return self.answers(output)

    def answers(self, output: Any) -> Tensor:
        """What is judged, in what the model returned, or a ModelError; its first dimension is the batch."""
        return tensor_of(output)

    def width(self, answers: Tensor) -> int:
        """How many classes a model has, or how many numbers it says of each unit: what labels and names must fit."""
        return math.prod(answers.shape[1:])

    def head(self, width: int) -> tuple[str, str, str]:
        """What a model says of a unit, for people: of what, how many, and what each is of."""
        if self.has_classes:
            return "Classes", str(width), "the head's width"
        return "Outputs", f"{width:,}", f"for each {self.unit}"

    def check_split(self, split: Split, width: int) -> Sequence[str]:
        """What there is to tell of a split before anything is scored on it. width: of what the model answers.

        Raises:
            DataError: a label that the model cannot answer, with the place where it stands, or nothing to judge by.
        """
        return ()

    @property
    def without_classes(self) -> str:
        """Why units are not looked at class by class: the beginning of a sentence."""
        return f"the task {self.name} has no classes"

    @property
    def has_ensembles(self) -> bool:
        """Whether answers can be averaged: the model's own output can, and what `averaged` is made for."""
        return type(self).answers is Task.answers or super().has_ensembles

    def targets(self, labels: Tensor) -> Mapping[str, Column]:
        """Columns that are known before anything is scored."""
        return {LABEL: labels.numpy()}

    def hardness(self, outcomes: Outcomes) -> NDArray[np.float64]:
        """How badly each unit was answered: what is scored first where weights are to be given up soon.

        Default: the objective of the unit alone, where that is a function of sums; else all alike.
        """
        first = next(iter(self.metrics), None)
        return badness(first, outcomes) if isinstance(first, SumMetric) else np.zeros(len(outcomes))

    @property
    def judges_units(self) -> bool:
        """Whether there is a `hardness`: one unit alone is answered well or badly."""
        return type(self).hardness is not Task.hardness or isinstance(next(iter(self.metrics), None), SumMetric)

    def better(self, new: Outcomes, old: Outcomes) -> tuple[int | None, int | None]:
        """How many units the new model answers better than the old one, and how many worse; None where none tells."""
        if not self.judges_units:
            return None, None
        now, before = self.hardness(new), self.hardness(old)
        return int((now < before).sum()), int((now > before).sum())

    def only(self, model: str) -> str:
        """The units that one of two models answers better, in words."""
        return f"{self.unit}s that {model} answers better"

    def wrong(self, outcomes: Outcomes) -> NDArray[np.bool_] | None:
        """Whether each unit is answered wrong; None: answers are nearer or farther, and neither right nor wrong."""
        return None

    def choices(self, outcomes: Outcomes) -> NDArray[np.int64] | None:
        """What the model chose for each unit, as whole numbers, shape (num_units, k): two models with the same agree.

        None: answers are no choice among a few.
        """
        return None

    def errors(self, outcomes: Outcomes) -> NDArray[np.float64]:
        """How each unit's answer errs, shape (num_units, k), for correlations between models."""
        return self.hardness(outcomes)[:, None]

    def target(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str | None:
        """What is right for a unit, in words; empty where `told` says it. None: `labelled` says it.

        Args:
            classes: names by index; numbers where they have none.
        """
        return None

    def labelled(self, label: Column) -> str:
        """A unit's label, as the data has it; of those of varying length without what fills them up."""
        return numbers(unpadded(label) if self.labels == "any" else label)

    def told(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str:
        """A unit's answer in words, and how good it is."""
        if FINITE in outcomes and not outcomes[FINITE][row]:
            return NOTHING
        told = {name: values[row] for name, values in outcomes.columns.items() if name != FINITE}
        return "; ".join(f"{name} {numbers(one)}" for name, one in told.items())

    def groups(self, labels: Tensor) -> NDArray[np.int64] | None:
        """Of each unit its class; None: the task has none, or a unit has several."""
        return None

    def facts(self, outcomes: Outcomes, width: int) -> Mapping[str, Any]:
        """What a score tells beside its metrics, as plain data. width: how many numbers the model says of each unit."""
        return {}

    def parts(self, score: Score, classes: Sequence[str]) -> Sequence[PartScore]:
        """How a model does on parts of units, such as objects of a class."""
        return ()

    def remarks(self, score: Score) -> Sequence[str]:
        """What may be wrong with a model's answers, as far as a score tells: clauses, the same for all that have it."""
        return ()

    def row(self, score: Score) -> Mapping[str, Any]:
        """A score as a row of a table."""
        return {name: score.shown(name) for name in score.values} | {"num_units": score.num_units}

    def point(self, score: Score) -> Mapping[str, Any]:
        """A score as a point of a curve: every metric over all units."""
        return {metric.name: score.whole(metric) for metric in self.metrics} | {"num_units": score.num_units}

    def in_words(self, score: Score) -> Mapping[str, str]:
        """A score as cells of a short table, by the columns' titles, the objective first."""
        known = [metric for name in score.values for metric in self.metrics if metric.name == name]
        return {metric.label: cell_of(metric, score) for metric in known}

    def step(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """What a search's decision tells beside its own keys, from these: value, metrics, num_scored, ..."""
        return {}

    def carried_over(self, plain: Mapping[str, Any]) -> Mapping[str, Any]:
        """A score as the store has it, in the layout of today."""
        return plain

    def earlier_columns(self, plain: Mapping[str, Any], columns: Mapping[str, Column]) -> Mapping[str, Column]:
        """What the store has of a score's units, those columns that are kept today."""
        return columns

    @property
    def key(self) -> list[Any]:
        """What scores depend on; empty where scores were kept before there were tasks."""
        return [self.name, self.version]

    @property
    def answers_key(self) -> list[Any]:
        """What the part of `key` is that `recounted` needs to be the same; empty: there is no counting anew."""
        return []

    def recounted(self, columns: Mapping[str, Column], labels: Tensor) -> Mapping[str, Column]:
        """The columns as this task counts, from those of a score of another that has the same `answers_key`."""
        raise NotImplementedError

    @classmethod
    def configured(cls, parameters: Mapping[str, Any], folder: Path) -> "Task":
        """The task with parameters as kitchen.yaml has them. folder: what files are relative to.

        Raises:
            KitchenError: a file that is missing, or a value that is none.
        """
        return cls(**parameters)
