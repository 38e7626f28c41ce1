"""Where a split's data lies, and how folders call splits."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from soupviz.data.images.imagefolder import is_junk

NAMES = {
    "held_out": ("held_out", "heldout", "held-out", "holdout", "validation", "val", "valid", "dev", "eval"),
    "test": ("test", "testing"),
    "train": ("train", "training"),
}
"""How splits are called, the likeliest first."""
MOST = 1000
"""Entries of a folder that are looked at."""


@dataclass(frozen=True, slots=True)
class Place:
    """A split's data: its format, the columns of a table, and other paths that the format names, by its keys."""

    path: Path
    format: str
    columns: tuple[str, ...] = ()
    beside: Mapping[str, Path] = field(default_factory=dict)


def entries(folder: Path) -> Iterator[Path]:
    """What is in a folder, by name, the first of very many; nothing where it may not be read."""
    try:
        children = sorted(path for path in folder.iterdir() if not is_junk(path.name))
    except OSError:
        return
    yield from children[:MOST]


def folders(folder: Path) -> Iterator[Path]:
    """The folders in a folder, the first of very many."""
    yield from (path for path in entries(folder) if path.is_dir())


def class_folders(folder: Path) -> list[str]:
    """The names of all folders in a folder, in their order."""
    return sorted(child.name for child in folder.iterdir() if child.is_dir() and not is_junk(child.name))
