"""The chunks of a distributed checkpoint, put together once in a file of the cache that can be mapped into memory."""

import io
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from soupviz.errors import CheckpointError, shortened
from soupviz.files import cache_folder, digest, replacing
from soupviz.weights.containers import files_of
from soupviz.weights.scratch import room
from soupviz.weights.writing import aligned, write


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies in a checkpoint under one name.

    path: the keys that lead to it. dtype: None for what is no tensor. chunks: where each lies, and its shape, by the
    place in the tensor where it begins.
    """

    path: tuple[str | int, ...]
    dtype: torch.dtype | None
    shape: tuple[int, ...]
    chunks: Mapping[tuple[int, ...], tuple["Place", tuple[int, ...]]]

    def like(self) -> Tensor:
        """A tensor of its shape and dtype that takes no memory."""
        return torch.zeros((), dtype=self.dtype).expand(self.shape)


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes of a file."""

    file: str
    start: int
    length: int


def mapped(file: Path, entries: Mapping[str, Entry]) -> dict[str, Tensor]:
    """The tensors in a file that can be mapped, which is made once."""
    if not entries:
        return {}
    stats = [(str(path.resolve()), path.stat()) for path in files_of(file)]
    stamps = [[name, stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns] for name, stat in stats]
    copy = cache_folder("converted") / f"{digest([stamps, sorted(entries)])}.safetensors"
    if not copy.is_file():
        _check_room(file, copy.parent, sum(one.like().nbytes for one in entries.values()))
        like = aligned({name: one.like() for name, one in entries.items()})
        with replacing(copy) as temporary:
            whole = ((name, _whole(file.parent, name, entries[name])) for name in like)
            write(whole, like, temporary, None, copy.suffix)
    with safe_open(copy, "pt") as opened:
        return {name: opened.get_tensor(name) for name in entries}


def _check_room(file: Path, folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise CheckpointError(
            f"{file}: its chunks are put together in {folder}, which takes {needed / 1e9:.2f} GB, and {free / 1e9:.2f} "
            "GB are free. Free some space (soupviz cache), or set SOUPVIZ_CACHE to a larger disk."
        )


def _whole(folder: Path, name: str, entry: Entry) -> Tensor:
    """A tensor of its chunks, one of which is in memory beside it."""
    assert entry.dtype is not None
    # What is freed between chunks that come and go would stay with the process.
    total = room(torch.Size(entry.shape), entry.dtype)
    for start, (place, shape) in entry.chunks.items():
        try:
            chunk = loaded(folder, place)
            is_right = isinstance(chunk, Tensor) and tuple(chunk.shape) == shape and chunk.dtype == entry.dtype
            told = "" if is_right else f"holds {_named(chunk)}; expected {entry.dtype} of shape {shape}"
        except OSError as error:
            told = f"cannot be read ({error.strerror})"
        except Exception as error:  # torch.load raises whatever the bytes of a damaged file run into
            told = f"cannot be read ({shortened(str(error))})"
        if told:
            raise CheckpointError(
                f"{folder / place.file}: the chunk of {shortened(name)} at {start} {told}. Copy it again."
            )
        total[tuple(slice(at, at + length) for at, length in zip(start, shape, strict=True))] = chunk
    return total


def _named(chunk: Any) -> str:
    return f"{chunk.dtype} of shape {tuple(chunk.shape)}" if isinstance(chunk, Tensor) else type(chunk).__name__


def loaded(folder: Path, place: Place) -> Any:
    """What lies there; whatever its bytes run into is raised."""
    with (folder / place.file).open("rb", buffering=0) as opened:
        window = io.BufferedReader(_Window(opened, place.start, place.length))
        return torch.load(window, map_location="cpu", weights_only=True)


class _Window(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, file: io.FileIO, start: int, length: int):
        super().__init__()
        self._file, self._start, self._length, self._at = file, start, length, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        number = self._file.readinto(memoryview(buffer)[: max(0, self._length - self._at)])
        self._at += number
        return number
