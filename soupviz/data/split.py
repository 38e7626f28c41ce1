"""A split: its examples in memory as they are kept, their labels, and what is known of where they came from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from soupviz.data import slices
from soupviz.data.images.transforms import normalize
from soupviz.data.ragged import Ragged
from soupviz.data.sources import MASK
from soupviz.types import Grouped, Slices


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """A split's examples.

    arrays: by argument name ("" where the model takes one tensor), each of shape (num_rows, ...), or of a shape of its
    own in each row; mapped into memory, and shared by the parts of a split. listed: arguments of which a batch is a
    list, a tensor for each example; others of varying length are padded with zeros. rows: which row each example is,
    int64; None: they are all, in order. labels: int64, shape (num_examples,), unless the task wants others.
    normalization: (mean, std) for uint8 images.
    files: where each example came from, for formats that have files. skipped: images left out as corrupt.
    texts: of each example, for people to read, where the data set tells them.
    slices: by the column that the kitchen names; they are no part of the fingerprint, as no score depends on them.
    padding: the side, left or right, on which examples are padded; lengths: of each without it; uncut: the arguments
    that are not padded. rate: of recordings, samples a second; 0: there are none to listen to.
    allowed: the classes that may be predicted; None: all of them. group: by what examples belong together, of which at
    least two do; like slices it is no part of the fingerprint. dealt: the fingerprint of the groups that were dealt
    out whole, where this is a part of such.
    notes: what there is to tell of how the split was read, in sentences. other_orders: of the classes, where it was
    taken from sorted names that could be sorted otherwise.
    whole: the fingerprint of the data that this is a part of, where it is one.
    read: name and fingerprint of the split that a kitchen reads, if this is it, or a part of it; places: which of its
    examples these are, int64; None: all.
    """

    name: str
    arrays: Mapping[str, Tensor | Ragged]
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
    listed: tuple[str, ...] = ()
    rate: int = 0
    allowed: tuple[int, ...] | None = None
    group: Slices | None = None
    dealt: str = ""
    notes: tuple[str, ...] = ()
    other_orders: tuple[tuple[str, ...], ...] = ()
    whole: str = ""
    read: tuple[str, str] | None = None
    places: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor, device: torch.device, *, is_cut: bool = True) -> dict[str, Any]:
        """Some examples as the model takes them: on the device, floating-point where they are images.

        Args:
            rows: positions, int64. is_cut: what is padded is cut to the longest of them.
        Returns:
            By argument a tensor, or a list of tensors.
        """
        found = self.raw(rows, is_cut=is_cut)
        return {
            name: [self._ready(name, one[None], device)[0] for one in batch]
            if isinstance(batch, list)
            else self._ready(name, batch, device)
            for name, batch in found.items()
        }

    def _ready(self, name: str, batch: Tensor, device: torch.device) -> Tensor:
        moved = _moved(batch, device)
        if not name and self.normalization:
            return normalize(moved, *self.normalization)
        if name == MASK and moved.dtype == torch.int8:  # kept in a byte for each sample
            return moved.long()
        is_number = moved.is_floating_point() or (not name and moved.dtype == torch.uint8)
        return moved.to(torch.float32) if is_number else moved

    def raw(self, rows: Tensor, *, is_cut: bool = True) -> dict[str, Any]:
        """Some examples as they are kept: copies."""
        places = rows if self.rows is None else self.rows.index_select(0, rows)
        longest = None if self.lengths is None or not is_cut else int(self.lengths.index_select(0, rows).max())
        return {name: self._of_rows(name, array, places, longest) for name, array in self.arrays.items()}

    def _of_rows(self, name: str, array: Tensor | Ragged, places: Tensor, longest: int | None) -> Any:
        if isinstance(array, Ragged):
            found = array.take(places)
            if name in self.listed:
                return [one.clone() for one in found]
            padded = pad_sequence(found, batch_first=True)
            missing = (array.largest[0] if longest is None else longest) - padded.shape[1]
            return pad(padded, (0, 0) * (padded.ndim - 2) + (0, missing)) if missing else padded
        tensor = array.index_select(0, places)
        if longest is None or name in self.uncut:
            return tensor
        return tensor[:, slice(-longest, None) if self.padding == "left" else slice(longest)]

    @property
    def inputs(self) -> dict[str, Any]:
        """All examples as they are kept; of a part that is a copy, so what may be large is taken by `raw`."""
        if self.rows is None and not any(isinstance(array, Ragged) for array in self.arrays.values()):
            return dict(self.arrays)
        return self.raw(torch.arange(len(self)), is_cut=False)

    def example(self, row: int) -> dict[str, Tensor]:
        """One example as it is kept, without the dimension of a batch."""
        return {name: batch[0] for name, batch in self.raw(torch.tensor([row])).items()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of one example, by argument; where they vary, the shape that holds each."""
        return {
            name: array.largest if isinstance(array, Ragged) else tuple(array.shape[1:])
            for name, array in self.arrays.items()
        }

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
            places=chosen if self.places is None else self.places[chosen],
            lengths=None if self.lengths is None else self.lengths[chosen],
            files=tuple(self.files[row] for row in index) if self.files else (),
            texts=tuple(self.texts[row] for row in index) if self.texts else (),
            group=self.group and slices.taken(self.group, chosen.numpy()),
            slices=self.slices and slices.taken(self.slices, chosen.numpy()),
        )


def _moved(tensor: Tensor, device: torch.device) -> Tensor:
    """On the device; from pinned memory to a GPU, so that the copy does not hold up what computes."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)
