"""A small picture of a mask, kept as runs of equal values: what people are shown of a model's answer."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

LARGEST = 128
"""Pixels of the longer side."""


def small_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of the small picture of a mask."""
    scale = min(1.0, LARGEST / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def made_small(masks: Tensor) -> Tensor:
    """Masks, shape (number, height, width), of at most so many pixels, each that of the nearest one."""
    size = small_size(*masks.shape[1:])
    if size == tuple(masks.shape[1:]):
        return masks
    return interpolate(masks[:, None].to(torch.float32), size, mode="nearest-exact")[:, 0].to(masks.dtype)


def as_runs(mask: NDArray[np.integer]) -> NDArray[np.uint16]:
    """Height, width, then of each run, row by row, its value and how long it is. The mask is a small one."""
    flat = mask.reshape(-1)
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    runs = np.stack([flat[starts], np.diff(starts, append=len(flat))], axis=1)
    return np.concatenate([mask.shape, runs.reshape(-1)]).astype(np.uint16)


def from_runs(runs: NDArray[np.uint16]) -> NDArray[np.int64] | None:
    """The mask again; None of no runs, where there was no answer."""
    if not len(runs):
        return None
    height, width, *_ = runs.tolist()
    values, lengths = runs[2::2].astype(np.int64), runs[3::2].astype(np.int64)
    found: NDArray[np.int64] = np.repeat(values, lengths).reshape(height, width)
    return found
