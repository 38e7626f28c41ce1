"""Ultralytics' classifiers and detectors as a kitchen's model: `soupviz.models.yolo:classifier`, and `:detector`."""

import importlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from soupviz.errors import ModelError
from soupviz.extras import needed


def classifier(model: str, num_classes: int) -> nn.Module:
    """An Ultralytics classification model that returns logits; its keys are those of the run's state dicts.

    Args:
        model: the name of one of the package's files, such as yolo11n-cls.yaml. num_classes: width of the head.
    Raises:
        ModelError: ultralytics is missing, or has no such file.
    """
    if not re.fullmatch(r"[\w.-]+-cls\.yaml", model):
        raise ModelError(f"model.args: model is {model!r}; expected a name such as yolo11n-cls.yaml.")
    tasks = _tasks("classifier")

    class Classifier(tasks.ClassificationModel):  # type: ignore[misc,name-defined]
        def forward(self, x: Any) -> Tensor:
            """Logits; in evaluation the library gives them beside the probabilities."""
            output = self.predict(x)
            logits: Tensor = output[1] if isinstance(output, tuple) else output
            return logits

    return _built(Classifier, model, num_classes, "yolo11n-cls.yaml")


def detector(model: str, num_classes: int, size: int = 640, score: float = 0.001, overlap: float = 0.7) -> nn.Module:
    """An Ultralytics detection model that takes images of any size and returns a list of dicts.

    Images are scaled and padded to a square, and boxes overlap no more than told, by the library's own functions with
    the settings of its validation. Classes count from 0.

    Args:
        model: the name of one of the package's files, such as yolo11n.yaml. num_classes: of the head. size: pixels of
            the square. score: below which nothing is returned. overlap: of two boxes of a class, one of which goes.
    Raises:
        ModelError: ultralytics is missing, or has no such file.
    """
    if not re.fullmatch(r"[\w.-]+\.yaml", model) or re.search(r"-(cls|seg|pose|obb)\.yaml$", model):
        raise ModelError(f"model.args: model is {model!r}; expected a name such as yolo11n.yaml.")
    tasks = _tasks("detector")
    from ultralytics.data.augment import LetterBox
    from ultralytics.utils.nms import non_max_suppression
    from ultralytics.utils.ops import scale_boxes

    box = LetterBox(new_shape=(size, size))

    class Detector(tasks.DetectionModel):  # type: ignore[misc,name-defined]
        def forward(self, x: Any, *rest: Any, **more: Any) -> Any:
            """What is found in each image; what the library itself asks for, as while it builds the model, is its."""
            if not isinstance(x, Sequence):
                return super().forward(x, *rest, **more)
            pictures = [(255 * image).round().byte().permute(1, 2, 0).cpu().numpy() for image in x]
            squares = torch.stack([torch.from_numpy(box(image=one)).permute(2, 0, 1) for one in pictures])
            output = self.predict(squares.to(x[0]) / 255)
            kept = non_max_suppression(
                output, score, overlap, multi_label=True, max_det=300, nc=num_classes, max_time_img=1e6,
                end2end=getattr(self, "end2end", False),
            )  # fmt: skip
            return [
                _found(scale_boxes((size, size), rows[:, :4], image.shape[1:]), rows)
                for rows, image in zip(kept, x, strict=True)
            ]

    return _built(Detector, model, num_classes, "yolo11n.yaml")


def _found(boxes: Tensor, rows: Tensor) -> Mapping[str, Tensor]:
    return {"boxes": boxes, "scores": rows[:, 4], "labels": rows[:, 5].long()}


def _tasks(name: str) -> Any:
    """Ultralytics' models, loaded so that the library downloads and installs nothing."""
    for key in ("YOLO_OFFLINE", "YOLO_VERBOSE", "YOLO_AUTOINSTALL"):  # read when the library is loaded
        os.environ.setdefault(key, "true" if key == "YOLO_OFFLINE" else "false")
    with needed(f"model.factory 'soupviz.models.yolo:{name}'", ModelError):
        return importlib.import_module("ultralytics.nn.tasks")


def _built(kind: Any, model: str, num_classes: int, example: str) -> nn.Module:
    try:
        built: nn.Module = kind(model, nc=num_classes, verbose=False)
    except FileNotFoundError:
        raise ModelError(f"model.args: ultralytics has no {model!r}; expected a name such as {example}.") from None
    return built
