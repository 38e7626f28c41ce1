"""What the four numbers of a box may stand for, and what another reading of them does to overlaps."""

import numpy as np
from numpy.typing import NDArray

CORNERS, SIZE, CENTRE = "x1, y1, x2, y2", "x, y, width, height", "centre x, centre y, width, height"
"""The forms that boxes have."""

Boxes = NDArray[np.float64]
"""x1, y1, x2, y2 in pixels, shape (number, 4)."""


def told_as(form: str, boxes: Boxes) -> NDArray[np.float64]:
    """The four numbers that boxes have in a form."""
    low, high = boxes[..., :2], boxes[..., 2:]
    first = {CORNERS: low, SIZE: low, CENTRE: (low + high) / 2}[form]
    return np.concatenate([first, high if form == CORNERS else high - low], axis=-1)


def read_as(form: str, numbers: NDArray[np.float64]) -> Boxes:
    """Boxes from their four numbers in a form."""
    first, second = numbers[..., :2], numbers[..., 2:]
    low = first - second / 2 if form == CENTRE else first
    return np.concatenate([low, second if form == CORNERS else low + second], axis=-1)


def reread(boxes: Boxes, was: str, meant: str) -> Boxes:
    """Boxes as they are if numbers that were read in one form were meant in another."""
    return read_as(meant, told_as(was, boxes))


def without_area(boxes: Boxes) -> NDArray[np.bool_]:
    """Whether x1 < x2 and y1 < y2 do not hold."""
    return np.asarray((boxes[..., 2:] <= boxes[..., :2]).any(axis=-1))


def overlaps(boxes: Boxes, others: Boxes, crowd: NDArray[np.bool_] | bool = False) -> NDArray[np.float64]:
    """Intersection over union, or over the box itself where the other is a crowd; of arrays that fit each other."""
    low, high = np.maximum(boxes[..., :2], others[..., :2]), np.minimum(boxes[..., 2:], others[..., 2:])
    shared = (high - low).clip(0).prod(axis=-1)
    own, other = ((one[..., 2:] - one[..., :2]).prod(axis=-1) for one in (boxes, others))
    whole = np.where(crowd, own, own + other - shared)
    return np.asarray(np.divide(shared, whole, out=np.zeros_like(shared), where=shared > 0))


def best_overlaps(
    boxes: Boxes, of: NDArray[np.int64], others: Boxes, of_others: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Of each box the most that one of the others of its image overlaps it; 0 where there is none.

    Args:
        of: of each box the number of its image, rising. of_others: of each of the others, also rising.
    """
    row, other = _pairs(of, of_others)
    return _most(len(boxes), row, overlaps(boxes[row], others[other]))


def nearest(boxes: Boxes, of: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of each box the most that another one of its image overlaps it; 0 where there is none."""
    row, other = _pairs(of, of)
    row, other = row[row != other], other[row != other]
    return _most(len(boxes), row, overlaps(boxes[row], boxes[other]))


def _most(number: int, row: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    found = np.zeros(number)
    np.maximum.at(found, row, values)
    return found


def _pairs(of: NDArray[np.int64], of_others: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places of all that are of one image, in pairs."""
    first, last = (np.searchsorted(of_others, of, side=side) for side in ("left", "right"))
    number = last - first
    row = np.repeat(np.arange(len(of)), number)
    place = np.arange(len(row)) - np.repeat(np.cumsum(number) - number, number)
    return row, place + np.repeat(first, number)
