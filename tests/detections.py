"""Random images of objects and detections, as arrays, as outcomes, and as pycocotools counts them."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from soupviz.tasks.boxes.detection import Detection
from soupviz.tasks.outcomes import Outcomes

Truths = Sequence[np.ndarray]
"""Of each image rows of x1, y1, x2, y2, class, crowd and area."""

Found = Sequence[np.ndarray]
"""Of each image rows of x1, y1, x2, y2, score and class."""


def truth(*corners: float, label: int = 1, crowd: bool = False) -> list[float]:
    x1, y1, x2, y2 = corners
    return [x1, y1, x2, y2, label, float(crowd), (x2 - x1) * (y2 - y1)]


def random_case(seed: int, num_images: int = 12, num_classes: int = 4) -> tuple[Truths, Found]:
    """Objects of all sizes, crowds, ties of score, images without objects or detections, classes without objects."""
    random = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(num_images):
        number = random.integers(0, 8)
        corner = random.integers(0, 200, (number, 2))
        sides = random.choice([8, 20, 60, 130], (number, 2)) + random.integers(0, 12, (number, 2))
        classes = random.integers(1, num_classes + 1, (number, 1))
        crowd = random.random((number, 1)) < 0.15
        area = sides.prod(axis=1, keepdims=True) * random.choice([0.6, 1.0], (number, 1))
        truths.append(np.concatenate([corner, corner + sides, classes, crowd, area], axis=1).astype(np.float64))
        rows = []
        for one in truths[-1]:
            for _ in range(random.integers(0, 4)):
                moved = one[:4] + (random.integers(-6, 7, 4) if seed % 2 else random.normal(0, 5, 4))
                label = one[4] if random.random() < 0.9 else random.integers(1, num_classes + 3)
                if (moved[2:] > moved[:2]).all():
                    rows.append([*moved, random.integers(1, 20) / 20, label])
        for _ in range(random.integers(0, 6) if random.random() < 0.8 else 0):
            corner, sides = random.integers(0, 200, 2), random.integers(5, 120, 2)
            rows.append([*corner, *(corner + sides), random.integers(1, 20) / 20, random.integers(1, num_classes + 3)])
        found.append(np.array(rows, dtype=np.float32).reshape(-1, 6))
    return truths, found


def labels_of(truths: Truths) -> torch.Tensor:
    labels = np.full((len(truths), max(map(len, truths), default=0), 7), -1.0)
    for index, rows in enumerate(truths):
        labels[index, : len(rows)] = rows
    return torch.from_numpy(labels)


def outcomes_of(truths: Truths, found: Found, batch_size: int | None = None) -> Outcomes:
    """What the task makes of them, some images at a time."""
    task, labels = Detection(), labels_of(truths)
    outcomes = Outcomes.blank(len(truths), task.targets(labels))
    step = batch_size or len(truths)
    for start in range(0, len(truths), step):
        rows = np.arange(start, min(start + step, len(truths)))
        answers = task.answers([as_dict(found[row]) for row in rows])
        outcomes.write(rows, task.outcomes(answers, labels[rows]))
    return outcomes


def as_dict(found: np.ndarray) -> dict[str, torch.Tensor]:
    rows = torch.from_numpy(np.asarray(found, dtype=np.float32).reshape(-1, 6))
    return {"boxes": rows[:, :4], "scores": rows[:, 4], "labels": rows[:, 5].long()}


def reference(truths: Truths, found: Found) -> dict[str, float | None]:
    """The same metrics by pycocotools; None where it gives -1."""
    judge, _ = judged(truths, found)
    names = ("map", "map50", None, "map_small", "map_medium", "map_large")
    told = zip(names, judge.stats[:6].tolist(), strict=True)
    return {name: None if value == -1 else value for name, value in told if name}


def reference_by_class(truths: Truths, found: Found) -> dict[str, float]:
    """Average precision of each class that has an object which counts, by pycocotools."""
    judge, classes = judged(truths, found)
    precision = judge.eval["precision"][:, :, :, 0, -1].mean(axis=(0, 1))
    return {str(one): float(value) for one, value in zip(classes, precision, strict=True) if value > -1}


def judged(truths: Truths, found: Found) -> tuple[Any, Sequence[int]]:
    """pycocotools' judge, who has judged, and the classes in his order."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    classes = sorted({int(row[4]) for of in truths for row in of} | {int(row[5]) for of in found for row in of})
    annotations = [
        {"image_id": image, "category_id": int(row[4]), "bbox": xywh(row), "iscrowd": int(row[5]), "area": row[6]}
        for image, of in enumerate(truths)
        for row in of
    ]
    data: dict[str, Any] = {
        "images": [{"id": image} for image in range(len(truths))],
        "annotations": [{**one, "id": number} for number, one in enumerate(annotations, 1)],
        "categories": [{"id": one, "name": str(one)} for one in classes],
    }
    results = [
        {"image_id": image, "category_id": int(row[5]), "bbox": xywh(row), "score": float(row[4])}
        for image, of in enumerate(found)
        for row in of
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        right = COCO()
        right.dataset = data
        right.createIndex()
        judge = COCOeval(right, right.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return judge, classes


def xywh(row: np.ndarray) -> list[float]:
    x1, y1, x2, y2 = map(float, row[:4])
    return [x1, y1, x2 - x1, y2 - y1]
