"""Detection: boxes with scores and classes, held against the objects of an image, as COCO counts."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from soupviz.errors import KitchenError, ModelError
from soupviz.models.routes import answers_from
from soupviz.tasks.average_precision import MeanAP, by_class, of_each
from soupviz.tasks.matching import AREAS, Detections, Truths, match
from soupviz.tasks.outcomes import FINITE, Column, Outcomes, records
from soupviz.tasks.task import NOTHING, Task

BOX, SCORE, LABEL_OF, IS_THERE = slice(0, 4), 4, 5, 6
"""The columns of an answer's rows; what fills them up has a 0 in the last."""

PIXELS = 2_000_000
"""Of images that a model is given at once on a CPU, where more at once only take memory."""

LOWEST = 0.05
"""Where no score lies below it, detections were left out before they were scored: those that recall lacks then."""


class Detection(Task):
    """What a detector returns for a list of images: a list of dicts with `boxes` (xyxy), `scores` and `labels`."""

    name = "detection"
    unit = "image"
    labels = "boxes"
    metrics = (
        MeanAP("map", "mAP"),
        MeanAP("map50", "mAP50", at=(0,)),
        *(MeanAP(f"map_{area}", f"mAP, {area}", area=area) for area in AREAS if area != "all"),
    )

    def __init__(self, label_offset: int = 0):
        """How labels are read.

        Args:
            label_offset: how much higher the detector's labels are than the data's: 1 where a detector's first class
                is 1, as 0 is its background, and the data's is 0, as yolo counts.
        """
        self.label_offset = label_offset

    @classmethod
    def configured(cls, parameters: Mapping[str, Any], folder: Path) -> "Detection":
        if strange := sorted(parameters.keys() - {"label_offset"}):
            raise KitchenError(f"task detection takes label_offset only; got {', '.join(strange)}.")
        offset = parameters.get("label_offset", 0)
        if not isinstance(offset, int) or isinstance(offset, bool):
            raise KitchenError(f"task detection: label_offset is {offset!r}; expected a whole number, such as 1.")
        return cls(offset)

    @property
    def key(self) -> list[Any]:
        return [self.name, self.version, self.label_offset]

    @property
    def without_classes(self) -> str:
        return "an image has objects of several classes"

    def answer_batch(self, model: Callable[..., Any], batch: Mapping[str, Any]) -> Tensor:
        """Call the detector with images of one shape at a time: padded beside larger ones, an image has other answers.

        Where statistics are re-estimated it is given all of them at once, as in training.
        """
        ((name, images),) = batch.items()
        if any(module.training for module in getattr(model, "modules", list)()):
            return answers_from(model, batch, self.answers)
        found: list[Tensor] = [torch.empty(0)] * len(images)
        for rows in alike(images):
            answers = answers_from(model, {name: [images[row] for row in rows]}, self.answers)
            for row, answer in zip(rows, answers, strict=True):
                found[row] = answer
        return pad_sequence(found, batch_first=True)

    def answers(self, output: Any) -> Tensor:
        """Of each image a row for each detection: x1, y1, x2, y2, score, label, and 1; what fills up is 0.

        Raises:
            ModelError: the model returned something else.
        """
        if isinstance(output, Mapping) or not isinstance(output, Sequence) or isinstance(output, str):
            raise ModelError(
                f"the model returned {type(output).__name__}; expected of a detector a list of dicts, one for each "
                "image, with boxes, scores and labels."
            )
        return pad_sequence([self._rows(index, one) for index, one in enumerate(output)], batch_first=True)

    def _rows(self, index: int, found: Any) -> Tensor:
        if not isinstance(found, Mapping) or not {"boxes", "scores", "labels"} <= found.keys():
            told = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
            raise ModelError(
                f"the model returned {told} for image {index} of a batch; expected a dict with boxes, scores and "
                "labels."
            )
        boxes, scores, labels = (found[name].float() for name in ("boxes", "scores", "labels"))
        number = len(scores)
        if boxes.shape != (number, 4) or scores.shape != (number,) or labels.shape != (number,):
            raise ModelError(
                f"the model returned boxes of shape {tuple(boxes.shape)}, scores {tuple(scores.shape)} and labels "
                f"{tuple(labels.shape)} for an image; expected (n, 4), (n,) and (n,)."
            )
        ones = torch.ones_like(scores)
        columns = [scores, labels.to(scores) - self.label_offset, ones]
        return torch.cat([boxes.to(scores), torch.stack(columns, dim=1)], dim=1)

    def targets(self, labels: Tensor) -> Mapping[str, Column]:
        """Of each image its objects: rows of x1, y1, x2, y2, class, crowd and area."""
        return {"truths": records([one[one[:, 4] >= 0] for one in labels.double().numpy()])}

    def outcomes(self, answers: Tensor, labels: Tensor) -> Mapping[str, Column]:
        """The surest detections of each class, by class, with what they match."""
        told = answers.float().cpu().numpy()
        is_there = told[:, :, IS_THERE] > 0
        is_finite = np.isfinite(told).all(axis=2)
        image, row = np.nonzero(is_there & is_finite)
        kept = told[image, row]
        found = Detections(
            image,
            kept[:, LABEL_OF].astype(np.int64),
            kept[:, SCORE].astype(np.float64),
            kept[:, BOX].astype(np.float64),
        ).best()
        matches = match(found, truths_of(self.targets(labels)["truths"]))
        ends = np.searchsorted(found.image, np.arange(1, len(told)))

        def of_images(values: NDArray[Any]) -> Column:
            return records(np.split(values, ends))

        return {
            FINITE: (is_finite | ~is_there).all(axis=1),
            "category": of_images(found.label.astype(np.int32)),
            "score": of_images(found.score.astype(np.float32)),
            "box": of_images(found.boxes.astype(np.float32)),
            "matched": of_images(matches.matched),
            "ignored": of_images(matches.ignored),
        }

    def hardness(self, outcomes: Outcomes) -> NDArray[np.float64]:
        """1 - the image's own average precision; of an image without objects the score of the surest detection."""
        own = 1.0 - of_each(outcomes)
        surest = np.array([one.max(initial=0.0) for one in outcomes["score"]], dtype=np.float64)
        found: NDArray[np.float64] = np.where(np.isnan(own), surest, own)
        return np.where(outcomes[FINITE], found, np.inf)

    def target(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str:
        """How many objects of which classes there are."""
        labels, numbers = np.unique(outcomes["truths"][row][:, 4].astype(np.int64), return_counts=True)
        counted = zip(labels.tolist(), numbers.tolist(), strict=True)
        return ", ".join(f"{number} {named(label, classes)}" for label, number in counted) or "no objects"

    def told(self, outcomes: Outcomes, row: int, classes: Sequence[str]) -> str:
        """How many objects are matched at an overlap of one half, and the image's own average precision."""
        if not outcomes[FINITE][row]:
            return NOTHING
        one = outcomes.take(np.array([row]))
        number = int((one["truths"][0][:, 5] == 0).sum())
        if not number:
            score = one["score"][0]
            return f"found {len(score)}, where nothing is" + (f"; surest {score.max():.2f}" if len(score) else "")
        found = int(((one["matched"][0][:, 0] & ~one["ignored"][0][:, 0]) & 1).sum())
        return f"found {found} of {number}, AP of the image {100 * float(of_each(one)[0]):.1f} %"

    def facts(self, outcomes: Outcomes, width: int) -> Mapping[str, Any]:
        """By class its average precision and number of objects, and what may be wrong with the detections."""
        truths = np.concatenate([*outcomes["truths"], np.empty((0, 7))])
        score, label = (np.concatenate(list(outcomes[name])) for name in ("score", "category"))
        boxes = np.concatenate(list(outcomes["box"]))
        strange, numbers = np.unique(label[~np.isin(label, truths[:, 4])], return_counts=True)
        counted = truths[truths[:, 5] == 0, 4].astype(np.int64)
        return {
            "class_map": {str(one): float(values.mean()) for one, values in by_class(outcomes).items()},
            "class_count": {str(one): int((counted == one).sum()) for one in np.unique(counted).tolist()},
            "num_detections": len(score),
            "lowest_score": float(score.min()) if len(score) else None,
            "unknown_classes": dict(zip(map(str, strange.tolist()), numbers.tolist(), strict=True)),
            "num_without_area": int((boxes[:, 2:] <= boxes[:, :2]).any(axis=1).sum()),
        }


def named(label: int, classes: Sequence[str]) -> str:
    """A class by its name; by its number where it has none."""
    return classes[label] if 0 <= label < len(classes) else str(label)


def alike(images: Sequence[Tensor]) -> list[list[int]]:
    """Positions of images that a detector is given together: of one shape, and on a CPU of not too many pixels."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(images):
        by_shape.setdefault(tuple(image.shape), []).append(row)
    parts = []
    for shape, rows in by_shape.items():
        step = max(1, PIXELS // max(1, shape[-1] * shape[-2])) if images[0].device.type == "cpu" else len(rows)
        parts += [rows[start : start + step] for start in range(0, len(rows), step)]
    return parts


def truths_of(rows: Column) -> Truths:
    """The objects of images, from `Detection.targets`."""
    image = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
    held = np.concatenate([*rows, np.empty((0, 7))])
    return Truths(image, held[:, 4].astype(np.int64), held[:, :4], held[:, 6], held[:, 5] > 0)
