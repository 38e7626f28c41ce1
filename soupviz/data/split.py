"""A split: its examples in memory as they are kept, their labels, and what is known of where they came from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soupviz.data import slices
from soupviz.data.transforms import normalize
from soupviz.types import Grouped, Slices


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A split's examples.

    arrays: by argument name ("" where the model takes one tensor), each of shape (num_rows, ...); mapped into memory,
    and shared by the parts of a split. rows: which row each example is, int64; None: they are all, in order.
    labels: int64, shape (num_examples,), unless the task wants others. normalization: (mean, std) for uint8 images.
    files: where each example came from, for formats that have files. skipped: images left out as corrupt.
    texts: of each example, for people to read, where the data set tells them.
    slices: by the column that the kitchen names; they are no part of the fingerprint, as no score depends on them.
    padding: the side, left or right, on which examples are padded; lengths: of each without it; uncut: the arguments
    that are not padded.
    allowed: the classes that may be predicted; None: all of them. group: by what examples belong together, of which at
    least two do; like slices it is no part of the fingerprint. dealt: the fingerprint of the groups that were dealt
    out whole, where this is a part of such.
    notes: what there is to tell of how the split was read, in sentences. other_orders: of the classes, where it was
    taken from sorted names that could be sorted otherwise.
    whole: the fingerprint of the data that this is a part of, where it is one.
    """

    name: str
    arrays: Mapping[str, Tensor]
    labels: Tensor
    classes: tuple[str, ...] | None
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None
    fingerprint: str
    files: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    slices: Slices | None = None
    texts: tuple[str, ...] = ()
    rows: Tensor | None = None
    padding: str = ""
    lengths: Tensor | None = None
    uncut: tuple[str, ...] = ()
    allowed: tuple[int, ...] | None = None
    group: Slices | None = None
    dealt: str = ""
    notes: tuple[str, ...] = ()
    other_orders: tuple[tuple[str, ...], ...] = ()
    whole: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor, device: torch.device, *, is_cut: bool = True) -> dict[str, Tensor]:
        """Some examples as the model takes them: on the device, floating-point where they are images.

        Args:
            rows: positions, int64. is_cut: what is padded is cut to the longest of them.
        """
        moved = {name: _moved(tensor, device) for name, tensor in self.raw(rows, is_cut=is_cut).items()}
        for name, batch in moved.items():
            if not name and self.normalization:
                moved[name] = normalize(batch, *self.normalization)
            elif batch.is_floating_point() or (not name and batch.dtype == torch.uint8):
                moved[name] = batch.to(torch.float32)
        return moved

    def raw(self, rows: Tensor, *, is_cut: bool = True) -> dict[str, Tensor]:
        """Some examples as they are kept."""
        places = rows if self.rows is None else self.rows.index_select(0, rows)
        found = {name: tensor.index_select(0, places) for name, tensor in self.arrays.items()}
        if self.lengths is None or not is_cut:
            return found
        longest = int(self.lengths.index_select(0, rows).max())
        kept = slice(-longest, None) if self.padding == "left" else slice(longest)
        return {name: tensor if name in self.uncut else tensor[:, kept] for name, tensor in found.items()}

    @property
    def inputs(self) -> dict[str, Tensor]:
        """All examples as they are kept; of a part that is a copy, so what may be large is taken by `raw`."""
        if self.rows is None:
            return dict(self.arrays)
        return {name: tensor.index_select(0, self.rows) for name, tensor in self.arrays.items()}

    def example(self, row: int) -> dict[str, Tensor]:
        """One example as it is kept, without the dimension of a batch."""
        return {name: tensor[0] for name, tensor in self.raw(torch.tensor([row])).items()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one example, by argument."""
        return {name: tuple(tensor.shape[1:]) for name, tensor in self.arrays.items()}

    @property
    def group_of(self) -> NDArray[np.int64] | None:
        """Of each example its group, from 0; None: each is resampled alone."""
        return None if self.group is None else self.group.index

    @property
    def grouped(self) -> Grouped | None:
        """By what examples are resampled together."""
        return None if self.group is None else Grouped(self.group.column, len(self.group.names))

    @property
    def group_key(self) -> str:
        """A fingerprint of which examples belong together, for what is kept of a resampling; empty where none do."""
        return "" if self.group is None else self.group.index_digest

    def part(self, chosen: Tensor, fingerprint: str) -> "Split":
        """Some of the examples, as a view: no example is copied.

        Args:
            chosen: positions, int64. fingerprint: of the part.
        """
        index = chosen.tolist()
        return replace(
            self,
            rows=chosen if self.rows is None else self.rows[chosen],
            labels=self.labels[chosen],
            fingerprint=fingerprint,
            lengths=None if self.lengths is None else self.lengths[chosen],
            files=tuple(self.files[row] for row in index) if self.files else (),
            texts=tuple(self.texts[row] for row in index) if self.texts else (),
            group=self.group and slices.taken(self.group, chosen.numpy()),
            slices=self.slices and slices.taken(self.slices, chosen.numpy()),
        )


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device; from pinned memory to a GPU, so that the copy does not hold up what computes."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
