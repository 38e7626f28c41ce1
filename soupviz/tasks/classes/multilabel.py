"""Multilabel classification: any number of the classes for each example, each by its own sigmoid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from soupviz.errors import DataError
from soupviz.tasks.calibration import Decisions
from soupviz.tasks.classes.class_metrics import CLOSE_LOGITS, LOSS, f1_of, mean_f1
from soupviz.tasks.metric import SumMetric, Value, Weights, value_once
from soupviz.tasks.outcomes import FINITE, Column, Outcomes
from soupviz.tasks.task import NOTHING, Task

COUNTS = ("true_positive", "false_positive", "false_negative")
PERFECT: Mapping[str, float | str] = {"true_positive": "label", "false_positive": 0, "false_negative": 0}


def _counted(hits: Any, extra: Any, missed: Any) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """TP and 2 TP + FP + FN."""
    return np.asarray(hits, dtype=np.float64), np.asarray(2 * hits + extra + missed, dtype=np.float64)


def macro(hits: Any, extra: Any, missed: Any, _number: Any) -> Any:
    return mean_f1(*_counted(hits, extra, missed), of_all=True)


def micro(hits: Any, extra: Any, missed: Any, _number: Any) -> Any:
    return f1_of(*(one.sum(axis=-1) for one in _counted(hits, extra, missed)))


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Mean over the classes that occur of the average precision of their scores.

    Source:
        Precision at each threshold weighed by the recall gained, as scikit-learn's average_precision_score has it.
    """

    name: str = "map"
    label: str = "mAP of labels"
    unit: str = "%"
    higher_is_better: bool = True
    judges_nonfinite: bool = False
    has_bound: ClassVar[bool] = False

    def value(self, outcomes: Outcomes) -> Value | None:
        return value_once(self, outcomes)

    def values(self, outcomes: Outcomes, weights: Weights) -> NDArray[np.float64]:
        labels = outcomes["label"].astype(np.float64)
        total, occurs = np.zeros(len(weights)), np.zeros(len(weights))
        for column in range(labels.shape[1]):
            scores = np.nan_to_num(outcomes["score"][:, column], nan=-np.inf)
            order = np.argsort(-scores, kind="stable")
            ranked = scores[order]
            ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(order) - 1)  # equal scores: one threshold
            counted = weights[:, order]
            hits = np.cumsum(counted * labels[order, column], axis=1)
            told = np.cumsum(counted, axis=1)[:, ends]
            hits_at = hits[:, ends]
            gained = np.diff(hits_at, axis=1, prepend=0.0)
            positives = hits[:, -1]
            precision = np.divide(hits_at, told, out=np.zeros_like(told), where=told > 0)
            there = positives > 0
            total[there] += (precision * gained).sum(axis=1)[there] / positives[there]
            occurs += there
        with np.errstate(invalid="ignore"):
            found: NDArray[np.float64] = total / occurs
        return found

    def bound(self, outcomes: Outcomes) -> Value | None:
        return None

    def ties(self) -> float:
        return 1e-9


MACRO_F1 = SumMetric("macro_f1", "macro F1", "%", True, COUNTS, macro, PERFECT, 1e-12, judges_nonfinite=True)
MICRO_F1 = SumMetric("micro_f1", "micro F1", "%", True, COUNTS, micro, PERFECT, 1e-12, judges_nonfinite=True)


class Multilabel(Task):
    """Logits of shape (batch, classes) against labels of 0 and 1 of the same shape; a class is predicted above 0."""

    name = "multilabel"
    barrier = "loss"
    labels = "flags"
    has_probabilities = True
    decides = "class of an example"
    divides = ("the logits", "the sigmoid")
    metrics = (MACRO_F1, MICRO_F1, LabelMap(), LOSS)

    @property
    def without_classes(self) -> str:
        return f"the task {self.name} has any number of classes for an example"

    def targets(self, labels: Tensor) -> Mapping[str, Column]:
        return {"label": labels.numpy().astype(np.bool_)}

    def outcomes(self, answers: Tensor, labels: Tensor) -> Mapping[str, Column]:
        """Of logits, shape (batch, classes); of one that is not finite, nothing is predicted.

        Raises:
            DataError: labels of another shape.
        """
        logits = answers.float().cpu()
        if logits.shape != labels.shape:
            raise DataError(
                f"labels have shape (examples, {', '.join(map(str, labels.shape[1:]))}), the model says "
                f"{tuple(logits.shape[1:])} numbers an example; expected one 0 or 1 for each class."
            )
        finite = logits.isfinite().all(dim=1)
        safe = logits.nan_to_num(0.0, 0.0, 0.0)
        truth, told = labels.bool(), (safe > 0) & finite[:, None]
        losses = F.binary_cross_entropy_with_logits(safe, labels.float(), reduction="none").mean(dim=1)
        return {
            FINITE: finite.numpy(),
            "score": logits.numpy(),
            "loss": losses.where(finite, np.nan).numpy(),
            "true_positive": (told & truth).numpy(),
            "false_positive": (told & ~truth).numpy(),
            "false_negative": (~told & truth).numpy(),
        }

    def loss(self, answers: Tensor, labels: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(answers, labels.to(answers))

    def soft_loss(self, answers: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """`T^2 * KL(teacher_T || student_T)` of each class's two outcomes, in nats."""
        chances = (teacher / temperature).sigmoid()
        both = (F.binary_cross_entropy_with_logits(one / temperature, chances) for one in (answers, teacher))
        student, least = both
        return temperature**2 * (student - least)

    def averaged(self, answers: Sequence[NDArray[np.float32]], weights: Sequence[float], output: str) -> Tensor:
        if output != "probabilities":
            return super().averaged(answers, weights, output)
        members = torch.stack([torch.from_numpy(np.array(one)) for one in answers])
        shares = torch.tensor(weights).log().view(-1, 1, 1)
        # As logarithms: a chance that rounds to 1 would have no finite logit.
        yes, no = ((F.logsigmoid(sign * members) + shares).logsumexp(dim=0) for sign in (1, -1))
        return (yes - no).where(members.isfinite().all(dim=2).all(dim=0)[:, None], torch.nan)

    def decisions(self, answers: NDArray[np.float32], labels: Tensor) -> Decisions:
        finite = np.isfinite(answers).all(axis=1, keepdims=True)
        return Decisions.of_two(np.where(finite, answers, np.nan), labels.numpy())

    def hardness(self, outcomes: Outcomes) -> NDArray[np.float64]:
        found: NDArray[np.float64] = np.nan_to_num(outcomes["loss"].astype(np.float64), nan=np.inf)
        return found

    def better(self, new: Outcomes, old: Outcomes) -> tuple[int | None, int | None]:
        """By how many labels are wrong: the loss of an example moves where no label does."""
        now, before = (self._num_wrong(one) for one in (new, old))
        return int((now < before).sum()), int((now > before).sum())

    def _num_wrong(self, outcomes: Outcomes) -> NDArray[np.int64]:
        """Labels that are predicted and not there, or missed; without a finite answer more than there are."""
        wrong: NDArray[np.int64] = (outcomes["false_positive"] | outcomes["false_negative"]).sum(axis=1, dtype=np.int64)
        return np.where(outcomes[FINITE], wrong, wrong.max(initial=0) + 1 + outcomes["label"].shape[1])

    def wrong(self, outcomes: Outcomes) -> NDArray[np.bool_] | None:
        """Whether any class is predicted that is not there, or missed."""
        found = outcomes["false_positive"] | outcomes["false_negative"]
        return np.asarray(found.any(axis=1), dtype=np.bool_)

    def choices(self, outcomes: Outcomes) -> NDArray[np.int64] | None:
        found: NDArray[np.int64] = (outcomes["true_positive"] | outcomes["false_positive"]).astype(np.int64)
        return found

    def target(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str:
        return _named(outcomes["label"][row], classes)

    def told(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str:
        """The classes that are predicted, then those that are missed."""
        if not outcomes[FINITE][row]:
            return NOTHING
        extra, missed = outcomes["false_positive"][row], outcomes["false_negative"][row]
        mark = "✗" if (extra | missed).any() else "✓"
        lacking = f"; missed {_named(missed, classes)}" if missed.any() else ""
        return f"{mark} {_named(outcomes['true_positive'][row] | extra, classes)}{lacking}"

    def facts(self, outcomes: Outcomes, width: int) -> Mapping[str, Any]:
        by_class = f1_of(*_counted(*(outcomes[name].sum(axis=0) for name in COUNTS)))
        return {
            "class_f1": by_class.tolist(),
            "class_count": outcomes["label"].sum(axis=0).tolist(),
            "num_close": int((abs(outcomes["score"]) < CLOSE_LOGITS).any(axis=1).sum()),
        }


def _named(are_there: Column, classes: Sequence[str]) -> str:
    return ", ".join(classes[index] for index in np.flatnonzero(are_there).tolist()) or "none"
