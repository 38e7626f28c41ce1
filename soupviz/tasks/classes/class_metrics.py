"""The metrics of a classification: shares of right answers, the loss, F1 over classes, calibration."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from soupviz.tasks.metric import SumMetric, Value, Weights, value_once
from soupviz.tasks.outcomes import FINITE, Outcomes

CLOSE_LOGITS = 1e-4
"""Two top logits closer than this may be ranked differently by another batch size or memory layout."""

FEW_CLASSES = 32
"""Up to so many, their counts in resamples are a matrix product; of more, counting is faster."""

LOSS_BAND = 1e-6
"""Nats: what another batch size may change of a mean loss."""

BINS = 15
"""Of confidence, in the expected calibration error."""

ACCURACY = SumMetric(
    "accuracy", "accuracy", "%", True, ("right",), lambda right, number: right / number, {"right": 1},
    judges_nonfinite=True, is_share=True,
)  # fmt: skip
LOSS = SumMetric(
    "loss", "loss", "nats", False, ("loss", FINITE), lambda loss, finite, _number: loss / finite,
    {"loss": 0, FINITE: 1}, band=LOSS_BAND,
)  # fmt: skip
TOP5 = SumMetric(
    "top5", "top-5 accuracy", "%", True, ("top5",), lambda right, number: right / number, {"top5": 1},
    judges_nonfinite=True, is_share=True,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class MacroF1:
    """Mean over the classes that occur, as label or prediction, of 2 TP / (2 TP + FP + FN)."""

    name: str = "macro_f1"
    label: str = "macro F1"
    unit: str = "%"
    higher_is_better: bool = True
    judges_nonfinite: bool = True

    def value(self, outcomes: Outcomes) -> Value | None:
        return value_once(self, outcomes)

    def values(self, outcomes: Outcomes, weights: Weights) -> NDArray[np.float64]:
        labels, predictions = outcomes["label"], outcomes["prediction"]
        number = 1 + max(int(labels.max()), int(predictions.max()))
        if number <= FEW_CLASSES:
            classes = np.arange(number)
            is_label, is_told = labels[:, None] == classes, predictions[:, None] == classes
            # One product for both; a sum of products that are whole numbers is exact in any order.
            counts = weights @ np.hstack([is_label & outcomes["right"][:, None], is_label.astype(np.float64) + is_told])
            return mean_f1(counts[:, :number], counts[:, number:], of_all=False)
        right, answered = outcomes["right"], predictions >= 0
        hits = [np.bincount(labels[right], row[right], number) for row in weights]
        told = [np.bincount(predictions[answered], row[answered], number) for row in weights]
        total = [np.bincount(labels, row, number) + some for row, some in zip(weights, told, strict=True)]
        return mean_f1(np.array(hits), np.array(total), of_all=False)

    def bound(self, outcomes: Outcomes) -> Value | None:
        if not outcomes.num_scored:
            return None
        waiting, perfect = ~outcomes.scored, outcomes.take(np.arange(len(outcomes)))
        perfect["prediction"][waiting] = perfect["label"][waiting]
        perfect["right"][waiting] = True
        return self.value(perfect)

    def ties(self) -> float:
        return 1e-12


def f1_of(hits: NDArray[np.float64], total: NDArray[np.float64]) -> NDArray[np.float64]:
    """2 TP / (2 TP + FP + FN) of each class; 0 of one that neither occurs nor is predicted.

    Args:
        hits: TP. total: 2 TP + FP + FN.
    """
    found: NDArray[np.float64] = np.divide(2 * hits, total, out=np.zeros_like(total), where=total > 0)
    return found


def mean_f1(hits: NDArray[np.float64], total: NDArray[np.float64], *, of_all: bool) -> NDArray[np.float64]:
    """The mean over classes, the last axis: of all of them, or of those that occur as label or prediction.

    Either is what scikit-learn's `f1_score(average="macro", zero_division=0)` does: of all for flags of 0 and 1
    (multilabel), of those that occur for one label an example.
    """
    number = total.shape[-1] if of_all else (total > 0).sum(axis=-1)
    found: NDArray[np.float64] = f1_of(hits, total).sum(axis=-1) / number
    return found


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """Expected calibration error in equal bins of confidence, over the examples with finite answers.

    Source:
        Naeini et al. 2015; Guo et al. 2017 (arXiv 1706.04599), equation 3.
    """

    name: str = "ece"
    label: str = "calibration error"
    unit: str = ""
    higher_is_better: bool = False
    judges_nonfinite: bool = False
    has_bound: ClassVar[bool] = False
    has_scale: ClassVar[bool] = True

    def value(self, outcomes: Outcomes) -> Value | None:
        return value_once(self, outcomes)

    def values(self, outcomes: Outcomes, weights: Weights) -> NDArray[np.float64]:
        finite = outcomes[FINITE]
        confidences = outcomes["confidence"][finite].astype(np.float64)
        gaps = confidences - outcomes["right"][finite]
        bins = np.clip(np.ceil(confidences * BINS).astype(np.int64) - 1, 0, BINS - 1)
        counted = weights[:, finite]
        sums = np.stack([np.abs(counted[:, bins == index] @ gaps[bins == index]) for index in range(BINS)], axis=1)
        with np.errstate(invalid="ignore"):
            found: NDArray[np.float64] = sums.sum(axis=1) / counted.sum(axis=1)
        return found

    def bound(self, outcomes: Outcomes) -> Value | None:
        return None

    def ties(self) -> float:
        return 1e-9
