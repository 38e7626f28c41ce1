"""Detection: boxes with scores and classes, held against the objects of an image, as COCO counts."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from soupviz.data.detection.readings import without_area
from soupviz.errors import KitchenError, ModelError
from soupviz.models.routes import answers_from
from soupviz.models.watching import watched
from soupviz.tasks.boxes import misreading
from soupviz.tasks.boxes.average_precision import MeanAP, by_class, of_each
from soupviz.tasks.boxes.detector import IS_THERE, NOT_FINITE, alike, detections_in, rows_of
from soupviz.tasks.boxes.fusing import as_answers, fused
from soupviz.tasks.boxes.matching import AREAS, Truths, match, outside
from soupviz.tasks.outcomes import FINITE, Column, Outcomes, records
from soupviz.tasks.score import PartScore, Score
from soupviz.tasks.task import NOTHING, Task

LOWEST = 0.05
"""Where no score lies below it, detections were left out before they were scored: those that recall lacks then."""


class Detection(Task):
    """What a detector returns for a list of images: a list of dicts with `boxes` (xyxy), `scores` and `labels`."""

    name = "detection"
    unit = "image"
    version = 2
    takes = ("label_offset",)
    labels = "boxes"
    lacks: ClassVar[Mapping[str, str]] = {
        "loss": "a detector tells its loss in training mode only, from targets of its own and boxes that it samples",
        "soft_loss": "boxes of two detectors do not correspond to each other",
        "information": "a detector tells its loss in training mode only, from targets of its own and boxes it samples",
        "close": "which boxes are kept is decided inside the model, where nobody sees how near others came",
        "temperature": "mean average precision looks at the order of scores alone, which a temperature leaves as it is",
    }
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

        An image has no finite answer where a layer gave something else on the way to it: detectors drop boxes that are
        no numbers, and what is left looks like an answer. Where statistics are re-estimated it is given all of them at
        once, as in training.
        """
        ((name, images),) = batch.items()
        if any(module.training for module in getattr(model, "modules", list)()):
            return answers_from(model, batch, self.answers)
        found: list[Tensor] = [torch.empty(0)] * len(images)
        for rows in alike(images):
            for row, answer in zip(rows, self._told(model, name, [images[row] for row in rows]), strict=True):
                found[row] = answer
        return pad_sequence(found, batch_first=True)

    def _told(self, model: Callable[..., Any], name: str, images: Sequence[Tensor]) -> Sequence[Tensor]:
        """What is found in images of one shape; of each alone where something in the model was not finite."""
        with watched(model, exactly=False) as is_finite:
            answers = answers_from(model, {name: images}, self.answers)
        if is_finite():
            return list(answers)
        if len(images) > 1:
            return [self._told(model, name, [image])[0] for image in images]
        with watched(model, exactly=True) as is_finite:
            (answer,) = answers_from(model, {name: images}, self.answers)
        return [answer if is_finite() else answer.new_tensor([NOT_FINITE])]

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
        return pad_sequence(
            [rows_of(index, one, self.label_offset) for index, one in enumerate(output)], batch_first=True
        )

    def head(self, width: int) -> tuple[str, str, str]:
        return "Outputs", "any number", f"for each {self.unit}"

    def targets(self, labels: Tensor) -> Mapping[str, Column]:
        """Of each image its objects: rows of x1, y1, x2, y2, class, crowd and area."""
        return {"truths": records([one[one[:, 4] >= 0] for one in labels.double().numpy()])}

    def outcomes(self, answers: Tensor, labels: Tensor) -> Mapping[str, Column]:
        """The surest detections of each class, by class, with what they match."""
        told = answers.float().cpu().numpy()
        found = detections_in(told).best()
        matches = match(found, truths_of(self.targets(labels)["truths"]))
        ends = np.searchsorted(found.image, np.arange(1, len(told)))

        def of_images(values: NDArray[Any]) -> Column:
            return records(np.split(values, ends))

        return {
            FINITE: (np.isfinite(told).all(axis=2) | ~(told[:, :, IS_THERE] > 0)).all(axis=1),
            "category": of_images(found.label.astype(np.int32)),
            "score": of_images(found.score.astype(np.float32)),
            "box": of_images(found.boxes.astype(np.float32)),
            "matched": of_images(matches.matched),
            "ignored": of_images(matches.ignored),
        }

    def averaged(self, answers: Sequence[NDArray[np.float32]], weights: Sequence[float], output: str) -> Tensor:
        """Weighted boxes fusion; without a finite answer where a member has none."""
        together = fused([detections_in(one) for one in answers], weights)
        rows = torch.from_numpy(as_answers(together, len(answers[0])))
        broken = [~np.isfinite(one).all(axis=(1, 2)) for one in answers]
        lost = np.logical_or.reduce(broken)
        if lost.any():
            rows = rows if rows.shape[1] else torch.zeros(len(rows), 1, 7)
            rows[torch.from_numpy(lost), 0] = torch.tensor(NOT_FINITE)
        return rows

    def parts(self, score: Score, classes: Sequence[str]) -> Sequence[PartScore]:
        facts = score.facts
        by_name = [
            PartScore("class", named(int(one), classes), facts["class_count"][one], value)
            for one, value in facts["class_map"].items()
        ]
        sizes = facts["size_count"].items()
        return by_name + [PartScore("size", area, number, score.shown(f"map_{area}")) for area, number in sizes]

    def remarks(self, score: Score) -> Sequence[str]:
        facts = score.facts
        found = []
        if facts["lowest_score"] is not None and facts["lowest_score"] >= LOWEST:
            found.append(
                f"no score that it gives lies below {LOWEST}: a threshold before scoring leaves out detections that "
                "recall then lacks, and lowers mAP; let the model return them"
            )
        if facts["unknown_classes"]:
            told = ", ".join(facts["unknown_classes"])
            found.append(
                f"it finds what {score.split} has no object of: the categories {told}; where a detector counts its "
                "classes from 1 and the data from 0, `task: {name: detection, label_offset: 1}`"
            )
        if facts["misread"] is not None:
            found.append(misreading.told(facts["misread"], score.split))
        elif 2 * facts["num_without_area"] > facts["num_detections"]:
            found.append(
                "most of its boxes have no area, as x1 < x2 and y1 < y2 do not hold: expected x1, y1, x2, y2, and not "
                "x, y, width, height"
            )
        return found

    def carried_over(self, plain: Mapping[str, Any]) -> Mapping[str, Any]:
        """Earlier scores do not tell whether boxes are meant otherwise."""
        return {**plain, "facts": {"misread": None, **plain["facts"]}}

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
        counts = truths[:, 5] == 0
        counted, sized = truths[counts, 4].astype(np.int64), (~outside(truths[counts, 6])).sum(axis=0).tolist()
        return {
            "class_map": {str(one): float(values.mean()) for one, values in by_class(outcomes).items()},
            "class_count": {str(one): int((counted == one).sum()) for one in np.unique(counted).tolist()},
            "size_count": dict(zip(list(AREAS)[1:], sized[1:], strict=True)),
            "num_detections": len(score),
            "lowest_score": float(score.min()) if len(score) else None,
            "unknown_classes": dict(zip(map(str, strange.tolist()), numbers.tolist(), strict=True)),
            "num_without_area": int(without_area(boxes).sum()),
            "misread": misreading.misread(outcomes),
        }


def named(label: int, classes: Sequence[str]) -> str:
    """A class by its name; by its number where it has none."""
    return classes[label] if 0 <= label < len(classes) else str(label)


def truths_of(rows: Column) -> Truths:
    """The objects of images, from `Detection.targets`."""
    image = np.repeat(np.arange(len(rows)), [len(one) for one in rows])
    held = np.concatenate([*rows, np.empty((0, 7))])
    return Truths(image, held[:, 4].astype(np.int64), held[:, :4], held[:, 6], held[:, 5] > 0)
