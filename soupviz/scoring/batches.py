"""Batches of units of varying length: which are in one, and where the answers of each are kept."""

from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from soupviz.data.split import Split
from soupviz.tasks.outcomes import Outcomes

SPAN = 16
"""Batches among which examples of varying length are sorted by it."""


def waiting_rows(split: Split, found: Outcomes, order: NDArray[np.int64] | None, batch_size: int) -> NDArray[np.int64]:
    """The units that are not scored yet, in the order in which they are taken into batches.

    Args:
        order: of all units, a permutation of their positions; default: as they come.
    """
    rows = np.arange(len(split)) if order is None else order
    return alike(rows[~found.scored[rows]], split.lengths, batch_size)


def alike(rows: NDArray[np.int64], lengths: Tensor | None, batch_size: int) -> NDArray[np.int64]:
    """Rows in an order whose batches are of about one length, so that little of them is padding; longest first.

    Within spans of some batches only: whatever the order was for, such as units that are probably answered badly, stays
    near its place. lengths: of the rows of the split; None: they have none, and stay as they are.
    """
    if lengths is None:
        return rows
    known = lengths.numpy()
    spans = [rows[start : start + SPAN * batch_size] for start in range(0, len(rows), SPAN * batch_size)]
    return np.concatenate([span[np.argsort(-known[span], kind="stable")] for span in spans] or [rows])


def written(kept: Tensor | None, number: int, rows: Tensor, answers: Tensor) -> Tensor:
    """Answers of some units among those of all."""
    if kept is None:
        kept = torch.full((number, *answers.shape[1:]), torch.nan)
    shape = tuple(map(max, kept.shape[1:], answers.shape[1:]))
    kept = _filled(kept, shape)
    kept[rows] = _filled(answers, shape)
    return kept


def _filled(answers: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Answers with zeros behind them, each of the shape."""
    missing = [(0, want - have) for want, have in zip(shape, answers.shape[1:], strict=True)]
    return pad(answers, list(chain(*reversed(missing)))) if answers.shape[1:] != shape else answers
