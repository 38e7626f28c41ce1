"""A split as the model takes it: made ready once for every soup where it fits in memory, then taken by rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from soupviz.data.split import Split

CHUNK = 512
"""Examples made ready at a time, where no model is run on them."""

READY_BYTES = 2**30
"""What made-ready examples may take of the computer's memory."""


@dataclass(frozen=True, slots=True, eq=False)
class PreparedSplit:
    """Rows of a split, or of the activations at a cut; `rows` is None where they are made batch by batch.

    is_channels_last: 4-D tensors are kept as (example, height, width, channel), so that taking rows keeps that layout.
    """

    split: Split
    device: torch.device
    is_channels_last: bool
    rows: Mapping[str, Tensor] | None

    def take(self, index: Tensor) -> dict[str, Any]:
        """Copies of some rows, so that a model that works in place spoils nothing; index: positions, int64."""
        if self.rows is None:
            batch = self.split.take(index, self.device)
            return {
                name: taken if isinstance(taken, list) else self._inside_out(_outside_in(taken, self.is_channels_last))
                for name, taken in batch.items()
            }
        index = index.to(self.device)
        return {name: self._inside_out(tensor.index_select(0, index)) for name, tensor in self.rows.items()}

    def _inside_out(self, rows: Tensor) -> Tensor:
        return rows.permute(0, 3, 1, 2) if rows.ndim == 4 and self.is_channels_last else rows

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.rows.values()) if self.rows else 0


def _outside_in(tensor: Tensor, is_channels_last: bool) -> Tensor:
    return tensor.permute(0, 2, 3, 1).contiguous() if tensor.ndim == 4 and is_channels_last else tensor


def budget(device: torch.device) -> int:
    """Bytes that made-ready examples may take: on a GPU a quarter of what is free there."""
    return torch.cuda.mem_get_info(device)[0] // 4 if device.type == "cuda" else READY_BYTES


def prepare(split: Split, device: torch.device, *, is_channels_last: bool) -> PreparedSplit:
    """The split itself, made ready if it fits the budget as the model takes it."""
    bare = PreparedSplit(split, device, is_channels_last, None)
    if split.padding or split.listed:  # each batch is cut to its longest sentence, or is a list
        return bare
    return ready(split, device, is_channels_last, bare.take) or bare


def ready(
    split: Split,
    device: torch.device,
    is_channels_last: bool,
    make: Callable[[Tensor], Mapping[str, Tensor]],
    batch_size: int = CHUNK,
) -> PreparedSplit | None:
    """Make every row once; None where they would not fit the budget.

    Args:
        make: gives the tensors of some rows, one row per example. batch_size: how many at a time, at most.
    """
    rows: dict[str, Tensor] = {}
    for start in range(0, len(split), batch_size):
        index = torch.arange(start, min(start + batch_size, len(split)))
        for name, tensor in make(index).items():
            part = _outside_in(tensor, is_channels_last)
            if name not in rows:
                if part[0].nbytes * len(split) > budget(device):
                    return None
                rows[name] = part.new_empty((len(split), *part.shape[1:]))
            rows[name][start : start + len(index)] = part
    return PreparedSplit(split, device, is_channels_last, rows)
