"""How likely a model finds tokens, each from those before it, in nats; its logits are never kept whole."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint

from soupviz.data.text.windows import NOTHING, TARGETS, TOKENS
from soupviz.errors import ModelError
from soupviz.models.building import tensor_of
from soupviz.models.routes import call

LOGITS, ON_CPU = 2**26, 2**24
"""Logits that are there at a time, at most: of float32 256 MB, and 64 MB on the CPU, which more of them slow down."""

VOCABULARY = 2**16
"""How many tokens a model is taken to have until it has said so."""


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The rows of all units of a batch. columns: by argument. lengths: of each, without what fills it up.
    most: rows in one call. room: for logits."""

    columns: Mapping[str, Sequence[Tensor]]
    lengths: Sequence[int]
    most: int
    room: int

    @classmethod
    def of(cls, batch: Mapping[str, Sequence[Tensor]]) -> "_Rows":
        ends = [(unit != NOTHING).int().cumsum(1).argmax(1) + 1 for unit in batch[TARGETS]]
        columns = {name: [row for unit in units for row in unit] for name, units in batch.items()}
        room = ON_CPU if ends[0].device.type == "cpu" else LOGITS
        return cls(columns, torch.cat(ends).tolist(), len(ends), room)

    def longest_first(self) -> list[int]:
        return sorted(range(len(self.lengths)), key=lambda row: -self.lengths[row])

    def first(self, rows: Sequence[int], vocabulary: int) -> tuple[Sequence[int], Sequence[int]]:
        """The rows of one call, and the others: as many as the batch has units, and as the logits have room."""
        size = max(1, min(self.most, self.room // (vocabulary * self.lengths[rows[0]])))
        return rows[:size], rows[size:]

    def padded(self, rows: Sequence[int]) -> dict[str, Tensor]:
        cut = {name: [column[row][: self.lengths[row]] for row in rows] for name, column in self.columns.items()}
        return {name: pad_sequence(one, batch_first=True, padding_value=NOTHING).long() for name, one in cut.items()}


def inputs(batch: Mapping[str, Any]) -> Iterator[dict[str, Tensor]]:
    """What the model is called with for a batch, call by call."""
    rows = _Rows.of(batch)
    waiting: Sequence[int] = rows.longest_first()
    while waiting:
        chosen, waiting = rows.first(waiting, VOCABULARY)
        yield _fed(rows.padded(chosen))


def _fed(part: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clamp(min=0) for name, tensor in part.items() if name != TARGETS}


def nats(model: Callable[..., Any], batch: Mapping[str, Any]) -> list[Tensor]:
    """Of each unit of a batch the nats of each of its rows, float64 on the CPU, with a gradient if wanted.

    The model is called with rows of about one length together, so many that there is room for their logits, and no
    more than the batch has units. Rows are padded at their end, which a model that predicts from what comes before
    does not see; it is told by `attention_mask` where its forward takes that. Where a gradient is wanted, what it needs
    of several such parts is computed anew in the backward pass.

    Args:
        batch: as `soupviz.data.text.windows.save` keeps it: by argument a list of rows for each unit.
    Raises:
        RuntimeError, ModelError: as of `soupviz.models.routes.call`; the latter also of what are no logits of these
            tokens.
    """
    rows = _Rows.of(batch)
    waiting: Sequence[int] = rows.longest_first()
    found: dict[int, Tensor] = {}
    vocabulary = VOCABULARY
    while waiting:
        chosen, waiting = rows.first(waiting, vocabulary)
        part, is_part = rows.padded(chosen), torch.is_grad_enabled() and bool(found or waiting)
        of_rows, vocabulary = (
            checkpoint(_of_rows, model, part, use_reentrant=False) if is_part else _of_rows(model, part)
        )
        found.update(zip(chosen, of_rows, strict=True))
    values = [found[row] for row in range(len(rows.lengths))]
    nothing = torch.zeros(0, dtype=torch.float64)
    ends = np.cumsum([len(unit) for unit in batch[TARGETS]]).tolist()
    return [torch.stack(values[start:end]) if end > start else nothing for start, end in pairwise([0, *ends])]


def _of_rows(model: Callable[..., Any], part: Mapping[str, Tensor]) -> tuple[Tensor, int]:
    """The nats of some rows, shape (rows,), and how many tokens the model knows."""
    logits = tensor_of(_called(model, _fed(part)))
    wanted = part[TARGETS]
    if logits.ndim != 3 or logits.shape[:2] != wanted.shape:
        raise ModelError(
            f"the model returned logits of shape {tuple(logits.shape)} for tokens of shape {tuple(wanted.shape)}; "
            "expected (batch, tokens, vocabulary), as of a causal language model."
        )
    rows, places = (wanted[:, 1:] != NOTHING).nonzero(as_tuple=True)
    targets = wanted[rows, places + 1]
    largest = int(targets.max()) if len(targets) else 0
    if largest >= logits.shape[2]:
        raise ModelError(
            f"the texts have tokens up to {largest}, but the head of the model has {logits.shape[2]} outputs (0 to "
            f"{logits.shape[2] - 1}); give the tokenizer that the model was trained with."
        )
    with torch.autocast(logits.device.type, enabled=False):
        losses = F.cross_entropy(logits[rows, places].float(), targets, reduction="none")
    # Summed there in float64: not every device has it, and no batch changes a sum that is so exact.
    summed = torch.zeros(len(wanted), dtype=torch.float64)
    return summed.index_add(0, rows.cpu(), losses.cpu().double()), logits.shape[2]


def _called(model: Callable[..., Any], fed: Mapping[str, Tensor]) -> Any:
    """What the model returns; where it has no row for a token or a place, that is told with what it has."""
    try:
        return call(model, fed)
    except ModelError as error:
        modules = model.named_modules() if isinstance(model, nn.Module) else ()
        tables = [f"{name} has {one.num_embeddings} rows" for name, one in modules if isinstance(one, nn.Embedding)]
        if not isinstance(error.__cause__, IndexError) or not tables:
            raise
        tokens = fed.get(TOKENS, fed.get("", torch.zeros(0, 0)))
        raise ModelError(
            f"the texts have tokens up to {int(tokens.max())} in rows of {tokens.shape[1]}, which is more than the "
            f"model takes: {', '.join(tables)}. Give its own tokenizer, or a smaller max_length."
        ) from None
