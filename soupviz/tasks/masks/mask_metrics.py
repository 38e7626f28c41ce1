"""The metrics of a segmentation, from how many pixels of each class are there, predicted, and both."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soupviz.tasks.classes.class_metrics import LOSS_BAND
from soupviz.tasks.metric import SumMetric, Value
from soupviz.tasks.outcomes import Column, Outcomes

INTERSECTION, PREDICTED, TARGET = "intersection", "predicted", "target"
NATS, PIXELS = "loss", "pixels"
BY_CLASS = (INTERSECTION, PREDICTED, TARGET)


def widened(counts: Any, width: int) -> NDArray[Any]:
    """Counts by class, shape (..., fewer classes), with zeros for the classes that the labels never have."""
    found = np.asarray(counts)
    missing = width - found.shape[-1]
    return np.concatenate([found, np.zeros((*found.shape[:-1], missing), found.dtype)], axis=-1) if missing else found


def class_iou(intersection: Any, predicted: Any, target: Any) -> NDArray[np.float64]:
    """By class TP / (TP + FP + FN); nan of one that is neither there nor predicted."""
    hits, said, there = _as_floats(intersection, predicted, target)
    union = said + there - hits
    found: NDArray[np.float64] = np.divide(hits, union, out=np.full(union.shape, np.nan), where=union > 0)
    return found


def mean_iou(intersection: Any, predicted: Any, target: Any, _number: Any) -> Any:
    """The mean over the classes that are there or predicted; as torchmetrics' macro Jaccard index has it."""
    return _mean_of_known(class_iou(intersection, predicted, target))


def dice(intersection: Any, predicted: Any, target: Any, _number: Any) -> Any:
    """The mean over the same classes of 2 TP / (2 TP + FP + FN): the macro F1 of all pixels."""
    hits, said, there = _as_floats(intersection, predicted, target)
    total = said + there
    return _mean_of_known(np.divide(2 * hits, total, out=np.full(total.shape, np.nan), where=total > 0))


def pixel_accuracy(intersection: Any, target: Any, _number: Any) -> Any:
    """The share of all pixels that are right."""
    return np.asarray(intersection).sum(axis=-1) / np.asarray(target).sum(axis=-1)


def _as_floats(*counts: Any) -> list[NDArray[np.float64]]:
    width = max(np.shape(one)[-1] for one in counts)
    return [widened(one, width).astype(np.float64) for one in counts]


def _mean_of_known(by_class: NDArray[np.float64]) -> Any:
    known = ~np.isnan(by_class)
    return np.where(known, by_class, 0.0).sum(axis=-1) / known.sum(axis=-1)


@dataclass(frozen=True, slots=True)
class PixelMetric(SumMetric):
    """A metric of counts of pixels; those of a perfect image are its mask's."""

    def bound(self, outcomes: Outcomes) -> Value | None:
        if not outcomes.num_scored:
            return None
        waiting, target = ~outcomes.scored, outcomes.targets[TARGET]
        width = max(outcomes[INTERSECTION].shape[1], target.shape[1])
        held: dict[str, Column] = {name: widened(outcomes[name], width).copy() for name in (INTERSECTION, PREDICTED)}
        held |= {name: outcomes[name].copy() for name in (NATS, PIXELS)}
        for name in (INTERSECTION, PREDICTED):
            held[name][waiting] = widened(target, width)[waiting]
        held[NATS][waiting], held[PIXELS][waiting] = 0.0, target[waiting].sum(axis=1)
        return self.value(Outcomes.of(held, {TARGET: target}))


MEAN_IOU = PixelMetric("mean_iou", "mean IoU", "%", True, BY_CLASS, mean_iou, band=1e-12)
PIXEL_ACCURACY = PixelMetric(
    "pixel_accuracy", "pixel accuracy", "%", True, (INTERSECTION, TARGET), pixel_accuracy, judges_nonfinite=True
)
DICE = PixelMetric("dice", "Dice", "%", True, BY_CLASS, dice, band=1e-12)
PIXEL_LOSS = PixelMetric(
    "loss", "loss", "nats", False, (NATS, PIXELS), lambda nats, pixels, _number: nats / pixels, band=LOSS_BAND
)
