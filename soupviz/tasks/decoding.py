"""From tokens of frames to tokens of a text, as CTC has it; and which frames are a recording's."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soupviz.data.listening import INPUT_LENGTHS
from soupviz.data.sources import LENGTHS, MASK


def collapsed(numbers: NDArray[np.int64], blank: int) -> list[list[int]]:
    """Of each row what is left after repeats are one and blanks are gone.

    Args:
        numbers: of the tokens, shape (batch, time), blank where there are none.
    """
    before = np.concatenate([np.full((len(numbers), 1), blank), numbers[:, :-1]], axis=1)
    kept = (numbers != before) & (numbers != blank)
    return [row.tolist() for row in np.split(numbers[kept], np.cumsum(kept.sum(axis=1))[:-1])]


def in_proportion(time: int, waves: Tensor, batch: Mapping[str, Any]) -> Tensor:
    """Frames of recordings of which the model does not say: those that begin before the end of the samples.

    Batches of such a model are all padded to one length, so that no other recording has a part in it.
    """
    if (lengths := batch.get(INPUT_LENGTHS, batch.get(LENGTHS))) is None:  # of another format than audio
        lengths = batch[MASK].sum(dim=1) if MASK in batch else torch.full((len(waves),), waves.shape[1])
    found: Tensor = (lengths.to(torch.int64) * time + waves.shape[1] - 1) // waves.shape[1]
    return found
