"""Objects of one image, as data sets tell them, made rows of x1, y1, x2, y2, class, crowd and area."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def as_boxes(label: Any) -> np.ndarray:
    """The objects of an image: rows of x1, y1, x2, y2, class, crowd and area.

    Args:
        label: such rows, where the last two may be missing; or a dict of `boxes` and `labels`, and `area` and `iscrowd`
            where they are known, as torchvision's detectors are trained with.
    Raises:
        ValueError: it is neither, or a box has no area; in words that end a message.
    """
    if isinstance(label, Mapping):
        boxes, classes = (_array(label[key]) for key in ("boxes", "labels"))
        boxes = boxes.reshape(-1, 4)
        crowd, area = (_array(label[key]) if key in label else None for key in ("iscrowd", "area"))
        columns = [boxes, classes, np.zeros(len(boxes)) if crowd is None else crowd]
        rows = np.column_stack(columns if area is None else [*columns, area])
    else:
        rows = _array(label)
        rows = rows.reshape(0, 5) if not rows.size else rows
    if rows.ndim != 2 or rows.shape[1] not in (5, 6, 7) or not np.isfinite(rows).all():
        raise ValueError(f"the boxes have shape {rows.shape}; expected rows of x1, y1, x2, y2 and class, all finite")
    corners, classes = rows[:, :4], rows[:, 4]
    if strange := np.flatnonzero((corners[:, 2:] <= corners[:, :2]).any(axis=1)).tolist():
        raise ValueError(
            f"the box {corners[strange[0]].tolist()} has no area, as x1 < x2 and y1 < y2 do not hold; x, y, width and "
            "height must be made x1, y1, x2, y2"
        )
    if (classes < 0).any() or (classes != np.trunc(classes)).any():
        raise ValueError(f"the classes of its boxes are {classes.tolist()}; expected whole numbers from 0 on")
    crowds = rows[:, 5] if rows.shape[1] > 5 else np.zeros(len(rows))
    areas = rows[:, 6] if rows.shape[1] > 6 else (corners[:, 2:] - corners[:, :2]).prod(axis=1)
    return np.column_stack([corners, classes, crowds, areas])


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value, dtype=np.float64)
