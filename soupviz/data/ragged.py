"""Arrays of varying shape, kept one after the other in one flat array, which is mapped into memory."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray
from torch import Tensor

SHAPES = "shapes"
"""After the name of a flat array's file: the shapes of what lies in it."""


@dataclass(frozen=True, slots=True, eq=False)
class Ragged:
    """One array for each example: recordings, images of their own size, the windows of a document.

    flat: all values, one example after the other. shapes: of each example, int64, shape (num_rows, dimensions).
    starts: where each begins in `flat`, one more than there are examples.
    """

    flat: Tensor
    shapes: NDArray[np.int64]
    starts: NDArray[np.int64]

    @classmethod
    def of(cls, flat: Tensor, shapes: NDArray[np.int64]) -> "Ragged":
        return cls(flat, shapes, np.concatenate([[0], np.cumsum(shapes.prod(axis=1))]))

    def __len__(self) -> int:
        return len(self.shapes)

    @property
    def dtype(self) -> torch.dtype:
        return self.flat.dtype

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The first dimension of each example."""
        found: NDArray[np.int64] = self.shapes[:, 0]
        return found

    @property
    def largest(self) -> tuple[int, ...]:
        """The shape that holds every example."""
        return tuple(self.shapes.max(axis=0).tolist())

    def take(self, places: Tensor) -> list[Tensor]:
        """Some examples, as views of what is mapped. places: positions, int64."""
        return [
            self.flat[self.starts[place] : self.starts[place + 1]].view(*self.shapes[place].tolist())
            for place in places.tolist()
        ]


def save(folder: Path, name: str, values: Iterable[NDArray[np.generic]]) -> None:
    """Keep arrays of one type and number of dimensions, as `opened` finds them; none is held when the next is made."""
    shapes: list[tuple[int, ...]] = []
    kind: np.dtype[Any] = np.dtype(np.float32)
    with (folder / f"{name}.npy").open("w+b") as file:
        _write_head(file, 0, kind)
        start = file.tell()
        for value in values:
            kind = value.dtype
            shapes.append(value.shape)
            file.write(np.ascontiguousarray(value).tobytes())
        file.seek(0)
        _write_head(file, int(sum(map(math.prod, shapes))), kind)
        assert file.tell() == start  # NumPy leaves room in a head for the largest number
    np.save(folder / f"{name}.{SHAPES}.npy", np.array(shapes, dtype=np.int64))


def _write_head(file: BinaryIO, number: int, kind: np.dtype[Any]) -> None:
    described = {"shape": (number,), "fortran_order": False, "descr": dtype_to_descr(kind)}
    write_array_header_1_0(file, described)


def opened(folder: Path, name: str) -> Tensor | Ragged:
    """An array that was kept, mapped into memory; of varying shapes where it was `save` that kept it."""
    # "c" maps copy-on-write: torch wants writable memory, the file stays as it is.
    found = torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c"))
    shapes = folder / f"{name}.{SHAPES}.npy"
    return Ragged.of(found, np.load(shapes)) if shapes.is_file() else found
