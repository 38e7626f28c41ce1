"""What a recipe may ask of a kitchen beside scores, where it declares so: averages that look at data, and training."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from soupviz.learning.coefficients import Learned, Normalise
from soupviz.learning.distilling import Distillation
from soupviz.learning.training_state import Epoch
from soupviz.models.layers import Grouping
from soupviz.recipes.trajectory import Step
from soupviz.scoring.limits import Limit
from soupviz.tasks.score import Bound, Score
from soupviz.types import Coefficients

Attempt = Callable[[Coefficients, Limit | None], Score | Bound]
"""Scores a mix on held_out, or with a limit gives it up."""

Ahead = Callable[[Iterable[tuple[Coefficients, Limit | None]]], None]
"""Told which mixes will probably be asked for next, on held_out, and when each is given up."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Examples that a recipe may learn from: so many of a split, drawn with a seed; of held_out at most half."""

    split: str
    num_examples: int
    seed: int


class Services(Protocol):
    """Each names its result, so that it can be scored and mixed as ingredients are.

    earlier: the decisions of a training before it was stopped, by step. other_models: of other architectures, which may
    join ensembles.
    """

    @property
    def earlier(self) -> Mapping[int, Step]: ...
    @property
    def other_models(self) -> Sequence[str]: ...

    def attempt(self, aggregation: str) -> Attempt: ...

    def ahead(self, aggregation: str) -> Ahead: ...

    def learn(
        self, names: Sequence[str], sample: Sample, *, by_layer: bool, normalise: Normalise, epochs: int, rate: float
    ) -> tuple[Coefficients, Learned]: ...

    def blend(self, a: Coefficients, b: Coefficients, weights: Mapping[str, float], by: Grouping) -> Coefficients: ...

    def fisher(self, names: Sequence[str], sample: Sample) -> Coefficients: ...

    def regmean(self, names: Sequence[str], sample: Sample, shrink: float) -> Coefficients: ...

    def rebasin(
        self, names: Sequence[str], sample: Sample | None, seed: int
    ) -> tuple[Coefficients, Mapping[str, Any]]: ...

    def distil(
        self,
        start: tuple[Coefficients, str],
        teacher: tuple[Coefficients, str],
        parameters: Distillation,
        num_examples: int,
        name: str,
        on_epoch: Callable[[int, Score], None],
    ) -> tuple[Coefficients, list[Epoch]]: ...
