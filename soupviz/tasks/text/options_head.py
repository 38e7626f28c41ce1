"""Models that give a number for each option of a question, called with questions of as many options together."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from soupviz.data.text.windows import MASK
from soupviz.errors import ModelError
from soupviz.models.building import tensor_of
from soupviz.models.routes import call


def scores(model: Callable[..., Any], batch: Mapping[str, Sequence[Tensor]]) -> Tensor:
    """The numbers of the options, shape (questions, options), 0 behind the last.

    Raises:
        RuntimeError, ModelError: as of `soupviz.models.routes.call`; the latter also of another output.
    """
    found: dict[int, Tensor] = {}
    for rows, part in _parts(batch):
        logits = tensor_of(call(model, part))
        expected = next(iter(part.values())).shape[:2]
        if logits.shape != expected:
            raise ModelError(
                f"the model returned logits of shape {tuple(logits.shape)} for {expected[0]} questions with "
                f"{expected[1]} options; expected a number for each option."
            )
        found.update(zip(rows, logits, strict=True))
    return pad_sequence([found[row] for row in range(len(found))], batch_first=True)


def inputs(batch: Mapping[str, Sequence[Tensor]]) -> Iterator[dict[str, Tensor]]:
    """What the model is called with for a batch, call by call."""
    for _, part in _parts(batch):
        yield part


def _parts(batch: Mapping[str, Sequence[Tensor]]) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
    """Questions of as many options, without the columns in which none of them has a token."""
    numbers = [len(one) for one in next(iter(batch.values()))]
    for number in sorted(set(numbers)):
        rows = [row for row, other in enumerate(numbers) if other == number]
        part = {name: torch.stack([values[row] for row in rows]).long() for name, values in batch.items()}
        if MASK in part:
            there = part[MASK].flatten(0, 1).any(dim=0)
            part = {name: values[:, :, there] for name, values in part.items()}
        yield rows, part
