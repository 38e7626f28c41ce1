"""Ultralytics' classifiers as a kitchen's model: `soupviz.models.yolo:classifier`."""

import os
import re
from typing import Any

from torch import Tensor, nn

from soupviz.errors import ModelError


def classifier(model: str, num_classes: int) -> nn.Module:
    """An Ultralytics classification model that returns logits; its keys are those of the run's state dicts.

    Args:
        model: the name of one of the package's files, such as yolo11n-cls.yaml. num_classes: width of the head.
    Raises:
        ModelError: ultralytics is missing, or has no such file.
    """
    if not re.fullmatch(r"[\w.-]+-cls\.yaml", model):
        raise ModelError(f"model.args: model is {model!r}; expected a name such as yolo11n-cls.yaml.")
    for name in ("YOLO_OFFLINE", "YOLO_VERBOSE", "YOLO_AUTOINSTALL"):  # read when the library is loaded
        os.environ.setdefault(name, "true" if name == "YOLO_OFFLINE" else "false")
    try:
        from ultralytics.nn.tasks import ClassificationModel
    except ImportError:
        raise ModelError(
            "soupviz.models.yolo:classifier: ultralytics is not installed: pip install ultralytics"
        ) from None

    class Classifier(ClassificationModel):  # type: ignore[misc]
        def forward(self, x: Any) -> Tensor:
            """Logits; in evaluation the library gives them beside the probabilities."""
            output = self.predict(x)
            logits: Tensor = output[1] if isinstance(output, tuple) else output
            return logits

    try:
        return Classifier(model, nc=num_classes, verbose=False)
    except FileNotFoundError:
        raise ModelError(
            f"model.args: ultralytics has no {model!r}; expected a name such as yolo11n-cls.yaml."
        ) from None
