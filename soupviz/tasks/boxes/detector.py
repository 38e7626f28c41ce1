"""What a detector is given and what it returns, as tensors and as detections."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soupviz.errors import ModelError
from soupviz.tasks.boxes.matching import Detections

BOX, SCORE, LABEL_OF, IS_THERE = slice(0, 4), 4, 5, 6
"""The columns of an answer's rows; what fills them up has a 0 in the last."""

NOT_FINITE = [math.nan] * 6 + [1.0]
"""The row of an image that has no finite answer."""

PIXELS = 2_000_000
"""Of images that a model is given at once on a CPU, where more at once only take memory."""


def rows_of(index: int, found: Any, label_offset: int) -> Tensor:
    """What was found in one image: a row for each detection.

    Args:
        index: of the image in its batch, for messages.
    Raises:
        ModelError: it is something else.
    """
    if not isinstance(found, Mapping) or not {"boxes", "scores", "labels"} <= found.keys():
        told = ", ".join(map(str, found)) if isinstance(found, Mapping) else type(found).__name__
        raise ModelError(
            f"the model returned {told} for image {index} of a batch; expected a dict with boxes, scores and labels."
        )
    boxes, scores, labels = (found[name].float() for name in ("boxes", "scores", "labels"))
    number = len(scores)
    if boxes.shape != (number, 4) or scores.shape != (number,) or labels.shape != (number,):
        raise ModelError(
            f"the model returned boxes of shape {tuple(boxes.shape)}, scores {tuple(scores.shape)} and labels "
            f"{tuple(labels.shape)} for an image; expected (n, 4), (n,) and (n,)."
        )
    ones = torch.ones_like(scores)
    columns = [scores, labels.to(scores) - label_offset, ones]
    return torch.cat([boxes.to(scores), torch.stack(columns, dim=1)], dim=1)


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


def detections_in(answers: NDArray[np.float32]) -> Detections:
    """What is finite of answers, shape (images, most, 7)."""
    image, row = np.nonzero((answers[:, :, IS_THERE] > 0) & np.isfinite(answers).all(axis=2))
    kept = answers[image, row].astype(np.float64)
    return Detections(image, kept[:, LABEL_OF].astype(np.int64), kept[:, SCORE], kept[:, BOX])
