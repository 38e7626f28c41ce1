"""Two models on the same examples: which ones only one gets right, class by class, and what an example looks like."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from soupviz.data.split import Split
from soupviz.kitchen import Kitchen
from soupviz.tasks.classes.class_metrics import ACCURACY
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.paired import p_value
from soupviz.tasks.score import Score
from soupviz.tasks.task import Task

Rows = NDArray[np.int64]
"""Positions of examples in their split."""

Kind = Literal["only soup", "only rival", "both wrong", "any"]
Order = Literal["surest error", "least sure error", "as listed"]
Ranking = Literal["only soup", "only rival", "both wrong", "largest gain", "largest loss", "largest error"]
BY_HARDNESS: tuple[Ranking, ...] = ("largest gain", "largest loss", "largest error")

LARGEST = 128
"""Pixels of the longer side of a picture as it is shown; larger ones are made smaller."""

SMALLEST_SIDE = 4
"""A tensor of fewer pixels on a side is no picture."""

NUMBERS_SHOWN = 16


def examples_of(score: Score) -> Outcomes:
    """What a score that comes from an evaluation or from the store has of each example."""
    assert score.outcomes is not None
    return score.outcomes


def class_names(kitchen: Kitchen, split: Split) -> list[str]:
    """The classes as the kitchen or the split's folders name them, else their numbers."""
    named = kitchen.spec.classes or split.classes
    return [str(name) for name in named or range(kitchen.scores.width(split))]


@dataclass(frozen=True, slots=True)
class ClassChange:
    """A class, and its examples that only the new model (fixed), or only the old one (broken), gets right.

    right_before: of its examples, those that the old model gets right. p_value: of the exact paired test on this class,
    where `tested` made it: of a thousand classes a page shows thirty. It is of this class
    alone.
    """

    index: int
    num_examples: int
    right_before: int
    fixed: int
    broken: int
    p_value: float = math.nan

    @property
    def right_after(self) -> int:
        """Of its examples, those that the new model gets right."""
        return self.right_before + self.fixed - self.broken

    @property
    def points(self) -> float:
        """The share that is right of this class, new less old, in percentage points."""
        return 100 * (self.fixed - self.broken) / self.num_examples


def class_changes(new: Outcomes, old: Outcomes, labels: NDArray[np.int64]) -> list[ClassChange]:
    """The classes that have examples, the one that gained most first; of equals in the order of the classes."""
    size = int(labels.max()) + 1
    counts = np.bincount(labels, minlength=size)
    fixed = np.bincount(labels[new["right"] & ~old["right"]], minlength=size)
    broken = np.bincount(labels[~new["right"] & old["right"]], minlength=size)
    before = np.bincount(labels[old["right"]], minlength=size)
    there = np.flatnonzero(counts).tolist()
    found = [ClassChange(k, *(int(of[k]) for of in (counts, before, fixed, broken))) for k in there]
    return sorted(found, key=lambda change: -change.points)


def tested(
    changes: Sequence[ClassChange], new: Outcomes, old: Outcomes, labels: NDArray[np.int64]
) -> list[ClassChange]:
    """These classes with the exact paired test on the examples of each."""

    def p(one: ClassChange) -> float:
        inside = labels == one.index
        return p_value(ACCURACY, new.take(inside), old.take(inside)) if one.fixed + one.broken else 1.0

    return [replace(one, p_value=p(one)) for one in changes]


def most_changed(changes: Sequence[ClassChange], most: int) -> list[ClassChange]:
    """All, or of more than so many those with the largest change in examples, in the order they had."""
    if len(changes) <= most:
        return list(changes)
    changed = [one for one in changes if one.fixed + one.broken]
    kept = sorted(changed, key=lambda one: (-abs(one.fixed - one.broken), -(one.fixed + one.broken)))[:most]
    return [change for change in changed if change in kept]


def confusion(predictions: NDArray[np.int32], labels: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """How often each label is predicted as each class, shape (num_classes, num_classes): labels are rows.

    Examples without a prediction (-1: their logits are not all finite) are in no cell.
    """
    told = predictions >= 0
    cells = labels[told] * num_classes + predictions[told]
    return np.bincount(cells, minlength=num_classes**2).reshape(num_classes, num_classes)


def by_label(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """A confusion matrix with each row divided by its sum; nan where a label has no examples."""
    sums = counts.sum(axis=1, keepdims=True).astype(np.float64)
    return np.asarray(np.divide(counts, sums, out=np.full(counts.shape, np.nan), where=sums > 0))


def most_confused(matrices: Sequence[NDArray[np.int64]], most: int) -> list[int]:
    """At most so many classes, those with most errors as label or as prediction in all matrices, in their order."""
    errors = sum(counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diagonal(counts) for counts in matrices)
    order = np.argsort(-np.asarray(errors), kind="stable")[:most]
    return sorted(int(index) for index in order)


def pick(
    new: Outcomes,
    old: Outcomes,
    labels: NDArray[np.int64],
    kind: Kind,
    *,
    label: int | None = None,
    prediction: int | None = None,
    order: Order = "surest error",
) -> Rows:
    """Examples of a kind, filtered and sorted.

    Args:
        kind: by which of the two is right. label: only of this class. prediction: only those that the new model takes
            for this class.
        order: by the confidence of the wrong prediction: the old model's where only the new one is right, else the
            new one's. What has no wrong prediction, or no finite one, comes last.
    """
    chosen = {
        "only soup": new["right"] & ~old["right"],
        "only rival": old["right"] & ~new["right"],
        "both wrong": ~new["right"] & ~old["right"],
        "any": np.ones(len(labels), dtype=np.bool_),
    }[kind]
    if label is not None:
        chosen = chosen & (labels == label)
    if prediction is not None:
        chosen = chosen & (new["prediction"] == prediction)
    rows = np.flatnonzero(chosen)
    if order == "as listed":
        return rows
    wrong = old if kind == "only soup" else new
    sure = wrong["confidence"][rows].astype(np.float64)
    last = wrong["right"][rows] | ~np.isfinite(sure)
    rank = np.where(last, 0.0, -sure if order == "surest error" else sure)
    return rows[np.lexsort((rank, last))]


def ranked(task: Task, new: Outcomes, old: Outcomes, kind: Ranking) -> Rows:
    """Units of a kind, the most telling first, by how badly they are answered.

    Args:
        kind: where the new model is better (largest gain) or worse (largest loss) than the old one, or all by the new
            one's error; or, where answers are right or wrong, by which of the two is right.
    """
    now, before = task.hardness(new), task.hardness(old)
    wrong, was_wrong = task.wrong(new), task.wrong(old)
    if kind == "largest error":
        return np.argsort(-now, kind="stable")
    if kind in BY_HARDNESS:
        better, worse = (now, before) if kind == "largest gain" else (before, now)
        rows = np.flatnonzero(better < worse)
        return rows[np.argsort(better[rows] - worse[rows], kind="stable")]
    assert wrong is not None and was_wrong is not None
    chosen, rank = {
        "only soup": (~wrong & was_wrong, before),
        "only rival": (wrong & ~was_wrong, now),
        "both wrong": (wrong & was_wrong, now),
    }[kind]
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(-rank[rows], kind="stable")]


def pixels(split: Split, row: int) -> NDArray[np.uint8] | None:
    """An example as a picture, shape (height, width) or (height, width, 3); None where it is none.

    uint8 inputs are pictures before any normalisation, shown as they are; those of another type are scaled from their
    own smallest to their own largest value.
    """
    example = split.example(row)
    if "" not in example:
        return None
    array = example[""].numpy()
    if array.ndim == 3 and array.shape[0] in (1, 3):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    is_picture = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    if not is_picture or min(array.shape[:2]) < SMALLEST_SIDE:
        return None
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    values = np.nan_to_num(array.astype(np.float64))
    low, high = values.min(), values.max()
    return np.asarray(np.rint(255 * (values - low) / (high - low or 1.0)).astype(np.uint8))


def png(picture: NDArray[np.uint8]) -> bytes:
    """A picture as a small PNG file, pixel by pixel; what is larger than 128 pixels is made smaller."""
    from PIL import Image

    image = Image.fromarray(picture)
    if max(image.size) > LARGEST:
        image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def shown_size(picture: NDArray[np.uint8]) -> tuple[int, int]:
    """Width and height on the screen: a whole multiple where a picture is small, so that its pixels stay squares."""
    height, width = picture.shape[:2]
    times = LARGEST / max(height, width)
    times = times if times < 1 else int(times)
    return max(1, round(width * times)), max(1, round(height * times))


def described(split: Split, row: int) -> str:
    """An example in words: its text where the data set tells it, else what tensors it has."""
    if split.texts:
        return split.texts[row]
    parts = []
    for name, item in split.example(row).items():
        kind = str(item.dtype).removeprefix("torch.")
        if not name and item.numel() <= NUMBERS_SHOWN:
            return f"{kind}: {', '.join(f'{value:.4g}' for value in item.flatten().tolist())}"
        parts.append(f"{name or 'input'}: {kind}, shape {tuple(item.shape)}")
    return "; ".join(parts)
