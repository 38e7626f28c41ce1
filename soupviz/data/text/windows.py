"""Rows of tokens in which each token is predicted from those before it: a document's windows, a question's options."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from soupviz.data import arguments, ragged
from soupviz.data.sources import Contents
from soupviz.data.text import capacity
from soupviz.errors import DataError

TARGETS = "predicted"
"""The array of what is predicted, which the task takes: each token at its own place, NOTHING where it is given."""

NOTHING = -1
"""Where a row has no token, or none that is predicted."""

TOKENS, MASK = "input_ids", "attention_mask"


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What a model is fed for one unit, a row for each call's worth of context.

    ids: tokens, int32, shape (rows, longest); NOTHING behind a row's end. predicted: of the same shape.
    """

    ids: NDArray[np.int32]
    predicted: NDArray[np.int32]

    @property
    def num_predicted(self) -> int:
        return int((self.predicted != NOTHING).sum())


def windows(tokens: Sequence[int], width: int | None, stride: int | None) -> Rows:
    """A document cut into windows. A window's first token is given, and so is what an earlier window predicted: that
    one had seen more of what comes before.

    Args:
        width: tokens of a window at most; None: the document is one window. stride: by how many tokens a window begins
            after the one before it; default: the width.
    Source:
        The strided perplexity of the documentation of transformers. Differs: where windows overlap, none is a token
        short at its beginning.
    """
    number = len(tokens)
    width = width or number
    stride = stride or width
    parts: list[tuple[int, int, int]] = []  # where it begins, where it ends, from where on it predicts
    known = 0
    for start in range(0, number, stride):
        end = min(start + width, number)
        parts.append((start, end, max(known, start + 1)))
        known = end
        if end == number:
            break
    return stacked([(tokens[start:end], first - start) for start, end, first in parts if end > first])


def stacked(rows: Sequence[tuple[Sequence[int], int]]) -> Rows:
    """Rows of varying length, each with the place from which on its tokens are predicted."""
    shape = len(rows), max((len(ids) for ids, _ in rows), default=1)
    ids, predicted = np.full(shape, NOTHING, np.int32), np.full(shape, NOTHING, np.int32)
    for place, (row, first) in enumerate(rows):
        ids[place, : len(row)] = row
        predicted[place, first : len(row)] = row[first:]
    return Rows(ids, predicted)


def save(folder: Path, units: Sequence[Rows], model: nn.Module) -> dict[str, str]:
    """Keep rows as the model and the task take them; gives the arrays by argument, all of which are listed."""
    known, _ = arguments.arguments_of(model)
    ragged.save(folder, TOKENS, [unit.ids for unit in units])
    ragged.save(folder, TARGETS, [unit.predicted for unit in units])
    arrays = {TOKENS if TOKENS in known else "": TOKENS, TARGETS: TARGETS}
    if MASK in known:
        ragged.save(folder, MASK, [(unit.ids != NOTHING).astype(np.int8) for unit in units])
        arrays[MASK] = MASK
    return arrays


def of_documents(
    where: str,
    units: Sequence[Rows],
    sizes: Sequence[int],
    folder: Path,
    model: nn.Module,
    num_tokens: int = 0,
    notes: Sequence[str] = (),
) -> Contents:
    """Documents as a split: their labels are how many tokens are predicted of each, and the bytes of its text.

    Args:
        where: they come from, for messages. sizes: bytes of each text. num_tokens: that the tokenizer has; 0: unknown.
    Raises:
        DataError: none has anything to predict, or the model does not take them.
    """
    predicted = np.array([unit.num_predicted for unit in units], dtype=np.int64)
    if not predicted.any():
        raise DataError(f"{where} has no document of 2 tokens or more, so that nothing is predicted.")
    told = [*checked(where, units, num_tokens, model), *notes]
    if empty := int((predicted == 0).sum()):
        told.append(f"{where}: {empty} documents have one token or none: they count in no ratio.")
    labels = np.stack([predicted, np.where(predicted > 0, np.array(sizes, dtype=np.int64), 0)], axis=1)
    arrays = save(folder, units, model)
    return Contents(arrays, labels, notes=told, listed=list(arrays), of_task=[TARGETS])


def checked(where: str, units: Sequence[Rows], num_tokens: int, model: nn.Module) -> list[str]:
    """What there is to tell of rows that the model takes, or a DataError, as of `capacity.check`."""
    largest = max((int(unit.ids.max()) for unit in units if unit.ids.size), default=0)
    return capacity.check(where, largest, max(unit.ids.shape[1] for unit in units), num_tokens, model)
