"""What a format says of a split: where its examples are, what they depend on, and how they are read into arrays."""

import hashlib
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from soupviz.files import cache_folder, digest, replacing
from soupviz.types import Progress

if TYPE_CHECKING:
    from PIL import Image

SAMPLE = 64 * 1024
"""Bytes at the head, in the middle and at the tail of a large file that stand for its content."""

SETTLED = 2 * 10**9
"""Nanoseconds after which a further change of a file surely has another time."""

LENGTHS = "lengths"
"""The array beside what is padded that says how long each example is without; and the argument that a model takes."""

MASK = "attention_mask"
"""Another argument by which a model takes it: 1 where there is something, 0 where it was filled up."""

ToUint8 = Callable[["Image.Image", int], np.ndarray]


@dataclass(frozen=True, slots=True)
class Contents:
    """What was read of a split.

    arrays: array files by argument name. files: where each example came from, for formats that have files. corrupt:
    files that cannot be decoded, with the reason. notes: what reading them told, in sentences. padding: on which side
    examples are padded to the longest, where a mask or lengths tell the model so: "left" or "right". uncut: arguments
    that are not padded with the others. listed: arguments of which a batch is a list. of_task: arrays that the task
    takes, whatever the model's forward does. rate: of recordings, samples a second; 0: there are none to listen to.
    """

    arrays: Mapping[str, str]
    labels: np.ndarray
    files: Sequence[str] = ()
    corrupt: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    padding: str = ""
    uncut: Sequence[str] = ()
    listed: Sequence[str] = ()
    of_task: Sequence[str] = ()
    rate: int = 0


@dataclass(frozen=True, slots=True)
class Source:
    """A split that was found but not read.

    identity: what its content depends on, None when that is unknown. is_sorted: the order of the classes is that of
    their sorted names, as nobody said it. notes: what looking for it told, in sentences. groups: the group of each
    example, where the format knows it at once. grouping: finds it later, in the folder where the split is kept. names:
    of all examples, those that cannot be read among them, where something else is matched with them by their order.
    """

    identity: Any
    classes: Sequence[str] | None
    is_images: bool
    read: Callable[[ToUint8, Path, Progress], Contents]
    is_sorted: bool = False
    notes: Sequence[str] = ()
    groups: Sequence[str] = ()
    grouping: Callable[[Path], Sequence[str]] | None = None
    names: Sequence[str] = ()

    def places(self, number: int, corrupt: Collection[str]) -> Sequence[int]:
        """Of each example that was kept its place among all. number: of those that were kept."""
        return [place for place, name in enumerate(self.names) if name not in corrupt] if self.names else range(number)


def content(path: Path) -> list[Any]:
    """What tells a file's content from another's: all of a small file; of a large one samples, size and time."""
    size = path.stat().st_size
    with path.open("rb") as file:
        if size <= 3 * SAMPLE:
            return [size, hashlib.file_digest(file, "sha256").hexdigest()]
        sha = hashlib.sha256()
        for place in (0, (size - SAMPLE) // 2, size - SAMPLE):
            file.seek(place)
            sha.update(file.read(SAMPLE))
    return [size, path.stat().st_mtime_ns, sha.hexdigest()]


def identity_of(root: Path, paths: Sequence[Path]) -> list[str]:
    """Of files below a root: where that is, and a digest of their names and contents.

    Contents are read again only where a file was changed since: whatever writes to it also sets its time of change,
    which no program can set back.
    """
    place = str(root.resolve())
    stats = [path.stat() for path in paths]
    names = [path.relative_to(root).as_posix() for path in paths]
    times = [[s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for s in stats]
    known = cache_folder("decoded") / f"{digest([place, names, times])}.content"
    if known.is_file():
        return [place, known.read_text(encoding="utf-8")]
    found = digest([[name, *content(path)] for name, path in zip(names, paths, strict=True)])
    changed = max((s.st_ctime_ns for s in stats), default=0)
    if os.name == "posix" and time.time_ns() - changed > SETTLED:
        with suppress(OSError), replacing(known) as temporary:  # a full disk costs time, not the answer
            temporary.write_text(found, encoding="utf-8")
    return [place, found]
