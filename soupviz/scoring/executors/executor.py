"""What a scorer asks to be evaluated, and of whom."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from soupviz.data.split import Split
from soupviz.mixing.aggregation import Aggregation
from soupviz.mixing.averaging import Mix
from soupviz.scoring.evaluator import Evaluator, Trial
from soupviz.scoring.executors.usage import Usage
from soupviz.scoring.kept import content
from soupviz.scoring.mixed import MixedWeights
from soupviz.tasks.outcomes import Outcomes


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A mix and a split.

    order: in which units are scored, a permutation of their positions; None: as they come. gives_up: whether what is
    known proves that scoring the rest is of no use; None: all is scored. is_shared: the weights before the model's cut
    are those that all ingredients share. keeps_answers: the model's answers are wanted beside the outcomes.
    made_of: of names, the formulas that they stand for, as JSON, and files of weights that were trained.
    """

    items: Mix
    split: Split
    aggregation: Aggregation
    order: NDArray[np.int64] | None = None
    gives_up: Callable[[Outcomes], bool] | None = None
    is_shared: bool = False
    keeps_answers: bool = False
    made_of: Callable[[Sequence[str]], tuple[Mapping[str, str], Mapping[str, Path]]] = lambda _names: ({}, {})

    @property
    def key(self) -> Any:
        """The same for the same weights and data."""
        return content(self.items), self.split.fingerprint, self.aggregation.key

    def is_over(self, found: Outcomes) -> bool:
        return found.is_whole or (self.gives_up is not None and self.gives_up(found))


class Executor(Protocol):
    """Evaluates; not for two threads at once. num_ahead: of how many evaluations it helps to know beforehand."""

    name: str
    num_workers: int
    num_ahead: int

    @property
    def is_started(self) -> bool:
        """Whether those who evaluate are there; else what is asked first waits for them."""
        ...

    def evaluate(self, asked: Evaluation, found: Outcomes, on_batch: Callable[[], None]) -> Tensor | None:
        """Evaluate the units that are not scored yet, until all are or no more is of use.

        Args:
            found: what is known so far, which is written into batch by batch, in the order of the units. on_batch:
                called after every batch, and at least ten times a second; what it raises (Cancelled) ends the
                evaluation.
        Returns:
            The answers where they are wanted, as of `Evaluator.evaluate`.
        """
        ...

    def foresee(self, likely: Sequence[Evaluation]) -> None:
        """Say what will probably be asked next, in its order; what was said before and is not among it is let go."""
        ...

    def usage(self) -> Usage:
        """What workers have done so far."""
        ...

    def close(self) -> None:
        """End the workers; asked again, new ones are started."""
        ...


class Inline:
    """This process, on the kitchen's one device."""

    name = "inline"
    num_workers = 1
    num_ahead = 0
    is_started = True

    def __init__(self, evaluator: Evaluator, mixed: MixedWeights):
        self._evaluator = evaluator
        self._mixed = mixed

    def evaluate(self, asked: Evaluation, found: Outcomes, on_batch: Callable[[], None]) -> Tensor | None:
        trial = Trial(lambda: self._mixed.of(asked.items, asked.aggregation), found, is_shared=asked.is_shared)
        if asked.gives_up:
            trial.gives_up = asked.gives_up
        return self._evaluator.evaluate(
            asked.split, trial, order=asked.order, on_batch=on_batch, keep_logits=asked.keeps_answers
        )

    def foresee(self, likely: Sequence[Evaluation]) -> None:
        """Nothing is done ahead by the one who is asked."""

    def usage(self) -> Usage:
        return Usage()

    def close(self) -> None:
        """There is nothing to end."""
