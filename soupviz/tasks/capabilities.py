"""What may be asked of a task beside scores: losses, averages of answers, a temperature. Who lacks one says why."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from soupviz.tasks.calibration import Decisions
from soupviz.tasks.ensembles import AS_THEY_ARE, LOGITS, PROBABILITIES, combined


class Capabilities:
    """All are lacking until a task has them."""

    has_logits: ClassVar[bool] = False
    """Whether answers are logits of one class of several, with Fisher information."""

    has_probabilities: ClassVar[bool] = False
    """Whether answers stand for probabilities, which ensembles may average instead of the answers as they are."""

    decides: ClassVar[str] = "example"
    """What each of its `decisions` is about: an example, a word of a sentence."""

    divides: ClassVar[tuple[str, str]] = ("the logits", "softmax")
    """What a temperature divides, and what makes probabilities of it."""

    lacks: ClassVar[Mapping[str, str]] = {}
    """Why it has no `ensembles`, `loss`, `soft_loss`, `information` (Fisher's), `temperature` or `division` of the last
    layer by it, or does not count how many answers are `close` to others: a clause for each."""

    def without(self, capability: str) -> str:
        """After a sentence that says what the task lacks: why."""
        return f", because {reason}" if (reason := self.lacks.get(capability)) else ""

    @property
    def has_ensembles(self) -> bool:
        """Whether answers can be averaged."""
        return type(self).averaged is not Capabilities.averaged

    @property
    def outputs(self) -> tuple[str, ...]:
        """What ensembles may average, by names that aggregations have, the usual one first; none where nothing."""
        if not self.has_ensembles:
            return ()
        return (PROBABILITIES, LOGITS) if self.has_probabilities else (AS_THEY_ARE,)

    @property
    def has_loss(self) -> bool:
        """Whether there is a loss with a gradient: soups can be learned."""
        return type(self).loss is not Capabilities.loss

    @property
    def has_soft_loss(self) -> bool:
        """Whether a student can learn a teacher's answers."""
        return type(self).soft_loss is not Capabilities.soft_loss

    @property
    def has_temperature(self) -> bool:
        """Whether answers have likelihoods, so that a temperature can be fitted to them."""
        return type(self).decisions is not Capabilities.decisions

    def loss(self, answers: Tensor, labels: Tensor) -> Tensor:
        """What learning lowers: the mean over a batch, with a gradient."""
        raise NotImplementedError

    def soft_loss(self, answers: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """How far answers are from a teacher's: the mean over a batch, 0 where they are the same, with a gradient."""
        raise NotImplementedError

    def averaged(self, answers: Sequence[NDArray[np.float32]], weights: Sequence[float], output: str) -> Tensor:
        """What an ensemble answers, from its members' answers of all units; not finite where one of them is not.

        Args:
            weights: of each member; they sum to one. output: one of `outputs`.
        """
        return combined(answers, weights, LOGITS)

    def decisions(self, answers: NDArray[np.float32], labels: Tensor) -> Decisions:
        """What is decided with a likelihood in the answers of all units, which a temperature makes more or less sure.

        Args:
            answers: as they are kept, shape (num_units, ...). labels: of the same units.
        """
        raise NotImplementedError
