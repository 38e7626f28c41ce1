"""Where decoded pictures go, one after the other: into an array of one shape, or flat where each has its own."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.lib import format as npy
from numpy.lib.format import open_memmap

from soupviz.data.ragged import SHAPES
from soupviz.errors import DataError


class Keeper(Protocol):
    """Takes pictures in order, and gives all of them the name by which they are found when the last is there."""

    def add(self, name: str, picture: np.ndarray) -> None:
        """Keep the next one. name: of its file, for messages."""

    def logged(self) -> dict[str, Any]:
        """What must be known of the pictures since the last call, to go on after a kill."""

    def finish(self) -> None: ...


class OneShape:
    """Pictures of one shape, in all.npy until they are whole."""

    def __init__(self, split: str, target: Path, number: int, first: Sequence[str]):
        """Go on where a killed process stopped.

        Args:
            number: how many pictures there are at most. first: names of those that are kept already.
        """
        self._split, self._target, self._number = split, target, number
        self._names = list(first)
        self._array = open_memmap(target / "all.npy", mode="r+") if first else None

    def add(self, name: str, picture: np.ndarray) -> None:
        if self._array is None:
            _check_room(self._split, self._target, self._number * picture.nbytes)
            shape = (self._number, *picture.shape)
            self._array = open_memmap(self._target / "all.npy", mode="w+", dtype=np.uint8, shape=shape)
        if picture.shape != self._array.shape[1:]:
            raise DataError(
                f"data.{self._split}: {name} has shape {picture.shape} (channels, height, width), {self._names[0]} has "
                f"{self._array.shape[1:]}; give the transform a resize and a crop."
            )
        self._array[len(self._names)] = picture
        self._names.append(name)

    def logged(self) -> dict[str, Any]:
        return {}

    def finish(self) -> None:
        assert self._array is not None
        if len(self._names) < self._number:
            np.save(self._target / "inputs.npy", self._array[: len(self._names)])
            (self._target / "all.npy").unlink()
        else:
            (self._target / "all.npy").replace(self._target / "inputs.npy")


class OwnShapes:
    """Pictures of their own shapes, one after the other, as `ragged.opened` finds them."""

    def __init__(self, split: str, target: Path, shapes: Sequence[Sequence[int]]):
        """Go on where a killed process stopped.

        Args:
            shapes: of the pictures that are kept already; what was written behind them is written anew.
        """
        self._split, self._target, self._file = split, target, target / "flat.npy"
        self._shapes = [tuple(shape) for shape in shapes]
        self._waiting: list[tuple[int, ...]] = []
        with self._file.open("r+b" if shapes else "w+b") as file:
            _write_header(file, 0)
            file.truncate(file.tell() + _num_values(self._shapes))

    def add(self, name: str, picture: np.ndarray) -> None:
        try:
            with self._file.open("ab") as file:
                file.write(np.ascontiguousarray(picture).data)
        except OSError as error:
            raise DataError(f"data.{self._split}: {name} cannot be kept in {self._target.parent}: {error}.") from None
        self._waiting.append(picture.shape)

    def logged(self) -> dict[str, Any]:
        found, self._waiting = self._waiting, []
        self._shapes += found
        return {SHAPES: found}

    def finish(self) -> None:
        with self._file.open("r+b") as file:
            _write_header(file, _num_values(self._shapes))
        np.save(self._target / f"inputs.{SHAPES}.npy", np.array(self._shapes, dtype=np.int64))
        self._file.replace(self._target / "inputs.npy")


def _num_values(shapes: Sequence[Sequence[int]]) -> int:
    return sum(math.prod(shape) for shape in shapes)


def _write_header(file: IO[bytes], number: int) -> None:
    # NumPy leaves room in it for any number of values, so that it is as long with all of them as with none.
    descr = npy.dtype_to_descr(np.dtype(np.uint8))
    npy.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": (number,)})


def _check_room(name: str, target: Path, num_bytes: int) -> None:
    # The file is mapped into memory: a disk that is full would kill the process instead of raising an error.
    free = shutil.disk_usage(target).free
    if free < num_bytes:
        raise DataError(
            f"data.{name}: the disk is full: the decoded split needs {num_bytes / 1e6:.1f} MB in {target.parent}, "
            f"{free / 1e6:.1f} MB are free. Free some space, or name another folder in SOUPVIZ_CACHE."
        )
