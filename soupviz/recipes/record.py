"""What every recipe is: a frozen, hashable record of parameters, with a planner that turns them into coefficients."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from soupviz.mixing.aggregation import check_batchnorm, num_examples
from soupviz.mixing.averaging import BatchNorm
from soupviz.recipes.pool import ScoredPool, needed_for
from soupviz.recipes.services import Sample
from soupviz.spec import HELD_OUT, SHIFTS, TRAIN
from soupviz.tasks.task import Task
from soupviz.types import Alpha, Coefficients


def added_later(default: Any, **keys: Any) -> Any:
    """A parameter that is left out of a recipe's plain data at its default: runs and files that were kept before there
    was such a parameter keep their key."""
    return Field(default, exclude_if=lambda value: value == default, **keys)


class Recipe(BaseModel, ABC):
    """A recipe: `method` is its name; the other fields are its parameters, and tell forms their help and bounds."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: str
    batchnorm: str = Field(
        "average", description="running statistics: average, first, recalibrate, or recalibrate:NUMBER"
    )

    label: ClassVar[str] = ""
    """What the page calls it."""

    requires: ClassVar[frozenset[str]] = frozenset()
    """What the kitchen must have, whatever the parameters: `base`, `train`, `slices`, `shifts`."""

    trains: ClassVar[bool] = False
    """Whether the planner learns from examples: a finished run is then taken as it is, not made again from scores."""

    services: ClassVar[frozenset[str]] = frozenset()
    """What the planner asks for beside scores, by its name in `Services`."""

    is_search: ClassVar[bool] = False
    """Whether the planner asks for the scores of single ingredients and of mixes."""

    is_mean: ClassVar[bool] = False
    """Whether the soup is the plain mean of its pool, whatever that scores."""

    grows_one_soup: ClassVar[bool] = False
    """Whether a search changes one soup step by step; others name the mix that leads."""

    tells_leads_only: ClassVar[bool] = False
    """Whether a search tells of what took the lead, and of nothing else."""

    has_rounds: ClassVar[bool] = False
    """Whether a decision is on the best of several candidates, the task's next metric deciding among equally good."""

    averages_outputs: ClassVar[bool] = False
    """Whether outputs of single models go into it."""

    mixes_weights: ClassVar[bool] = True
    """Whether the soup is one model, with running statistics of its own."""

    is_of_one_run: ClassVar[bool] = False
    """Whether it averages checkpoints of one run, which people choose by recency or by validation loss."""

    takes_other_models: ClassVar[bool] = False
    """Whether models of other architectures may join."""

    @field_validator("batchnorm", mode="before")
    @classmethod
    def _is_known(cls, value: Any) -> str:
        return check_batchnorm(value)

    @property
    def meets_other_models(self) -> bool:
        """Whether the other models of the kitchen, as they are, make a difference to it."""
        return self.takes_other_models

    @property
    def considered(self) -> tuple[str, ...] | None:
        """The names that it chooses among; None: all."""
        return None

    @property
    def ends(self) -> tuple[Coefficients, ...]:
        """The mixes that it lies between; empty where it chooses among ingredients."""
        return ()

    @property
    def on_path(self) -> tuple[str, str, float] | None:
        """What the ends of its straight line are called, and where on it the soup lies."""
        return None

    @property
    def goal(self) -> str:
        """What it raises, by name; empty: the kitchen's metric."""
        return ""

    @property
    def num_best(self) -> int | None:
        """How many of the best ingredients it takes; None where it chooses otherwise."""
        return None

    @property
    def windows_of(self) -> str:
        """What files hold of which it is one window in time, or searches among all of them: `checkpoints`, or
        `running_means`; empty where it is neither."""
        return ""

    @property
    def window(self) -> tuple[float, int] | None:
        """At which step its one window ends, 0 being the latest, and how many checkpoints long it is."""
        return None

    def one_window(self, end: float, length: int) -> "Recipe | None":
        """The recipe of one of the windows that it searches among; None where it searches among none."""
        return None

    @property
    def newcomer_weight(self) -> Alpha | None:
        """What a greedy search gives each newcomer, or `mean`; None where it is no greedy search."""
        return None

    @property
    def sample(self) -> Sample | None:
        """The examples that it looks at, of held_out or train and never of test; None: none."""
        return None

    @property
    def needs(self) -> frozenset[str]:
        """What the kitchen must have: `base`, `train`, `slices` of held_out, `shifts`."""
        looks_at_train = self.sample is not None and self.sample.split == TRAIN
        of_data = {"train"} if looks_at_train or num_examples(self.batchnorm) else set()
        return self.requires | needed_for(self.goal) | of_data

    def unfit(self, task: Task) -> str:
        """Why it cannot be cooked for a task, in a sentence; empty where it can."""
        return ""

    def suited(self, task: Task) -> Self:
        """The same recipe, with what a default means for a task."""
        return self

    @classmethod
    def choices(cls, name: str, task: Task) -> tuple[Any, ...]:
        """What a parameter can be for a task, where it is one of a few."""
        return get_args(cls.model_fields[name].annotation)

    @property
    def of_statistics(self) -> BatchNorm:
        """What becomes of running statistics where weights are made: before they are re-estimated, if they are."""
        return "first" if self.batchnorm == "first" else "average"

    @property
    def aggregation(self) -> str:
        """What becomes of the ingredients and their coefficients: an aggregation's name."""
        return self.batchnorm

    def selects_on(self, splits: Iterable[str]) -> list[str]:
        """Those of a kitchen's splits that choose the soup, and so cannot report on it."""
        shifts = [name for name in splits if name.startswith(SHIFTS)] if "shifts" in self.needs else []
        return [HELD_OUT, *shifts]

    @property
    def title(self) -> str:
        """A short name with the parameters that matter, and what becomes of running statistics where it is unusual."""
        return self.own_title + (f", BatchNorm {self.batchnorm}" if self.batchnorm != "average" else "")

    @property
    @abstractmethod
    def own_title(self) -> str:
        """A short name with the recipe's own parameters."""

    @abstractmethod
    def plan(self, pool: ScoredPool) -> Coefficients:
        """The soup's coefficients, in the order in which the ingredients are accumulated; those of zero left out."""

    def candidates(self, num_members: int) -> int:
        """How many mixes the planner scores at most, beside single ingredients."""
        return 0


class Pooled(Recipe):
    """A recipe that chooses among ingredients."""

    members: tuple[str, ...] | None = Field(None, description="names: only these are considered; default: all")

    @property
    def considered(self) -> tuple[str, ...] | None:
        return self.members

    def of_members(self) -> list[str]:
        """A part of the title: of how many, where not of all."""
        return [] if self.members is None else [f"of {len(self.members)}"]

    def titled(self, name: str, *details: str) -> str:
        """A name with what matters of it in brackets, if anything does."""
        parts = [*filter(None, details), *self.of_members()]
        return f"{name} ({', '.join(parts)})" if parts else name
