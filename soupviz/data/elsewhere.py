"""The data of a split that lies elsewhere: fetched when the split is read, so that its formats find files as ever."""

import posixpath
from pathlib import Path
from typing import Any

from soupviz import trust
from soupviz.addresses import is_remote
from soupviz.data import tables
from soupviz.errors import DataError
from soupviz.remote import listing, trees
from soupviz.remote.calling import Calls
from soupviz.remote.fetching import fetch
from soupviz.spec import SplitSpec
from soupviz.types import Progress

WHOLE = ("path", "annotations", "masks")
"""Keys that name a file, or a folder of which all is needed."""

SETTINGS = ("tokenizer", "processor")
"""Keys that name a folder, a checkpoint's mostly, of which the weights are not needed."""

FILES = ("slices", "group")
"""Keys that name a file with a column of it."""


def fetched(name: str, spec: SplitSpec, folder: Path, progress: Progress) -> SplitSpec:
    """A split with what lies elsewhere fetched, and named by where it lies now.

    Raises:
        DataError: a format that runs code, or unpickles what it is given, is to read it from elsewhere.
        KitchenError: in a place that nobody was asked about, who has to be.
        RemoteError: nothing is there, or it cannot be reached.
    """
    for address in filter(is_remote, _named(spec)):
        trust.check_place(address, folder)
    changes: dict[str, Any] = {}
    for key in (*WHOLE, *SETTINGS):
        address = getattr(spec, key)
        if isinstance(address, str) and is_remote(address):
            _check_format(name, spec, address)
            changes[key] = str(_fetched(address, spec, key, progress))
    for key in FILES:
        named = getattr(spec, key)
        if named is not None and not isinstance(named, str) and is_remote(named.file):
            file = _fetched(named.file, spec, key, progress)
            changes[key] = named.model_copy(update={"file": str(file)})
    local = spec.model_copy(update=changes) if changes else spec
    if spec.format == "audio" and "path" in changes and Path(changes["path"]).is_file():
        _fetch_recordings(name, local, str(spec.path), progress)
    return local


def _named(spec: SplitSpec) -> list[str]:
    columns = [getattr(spec, key) for key in FILES]
    named = [getattr(spec, key) for key in (*WHOLE, *SETTINGS)]
    named += [one.file for one in columns if one is not None and not isinstance(one, str)]
    return [one for one in named if isinstance(one, str)]


def _check_format(name: str, spec: SplitSpec, address: str) -> None:
    if spec.format == "python":
        raise DataError(
            f"data.{name}: {address}: code is not fetched from elsewhere; copy the file, look at it, and name the copy."
        )
    if ":" in spec.format:
        raise DataError(
            f"data.{name}: {address}: {spec.format} unpickles what it reads, which has to lie here; copy it."
        )


def _fetched(address: str, spec: SplitSpec, key: str, progress: Progress) -> Path:
    if key in SETTINGS:
        return trees.settings_of(address, progress)
    # The data.yaml of a folder of images and boxes names what lies beside it.
    return trees.fetched(address, progress, with_folder=spec.format == "yolo" and key == "path")


def _fetch_recordings(name: str, spec: SplitSpec, address: str, progress: Progress) -> None:
    """The recordings that a table names, each beside or below it."""
    column = tables.read(f"data.{name}", Path(str(spec.path)), [spec.file]).column("file", spec.file)
    folder = address.rpartition("/")[0]
    with Calls(lambda: progress(0, 1, f"listing the recordings of {address}")) as calls:
        wanted = [f"{folder}/{_inside(name, address, one)}" for one in dict.fromkeys(column)]
        found = listing.several(wanted, calls)
    fetch(found, progress)


def _inside(name: str, address: str, file: str) -> str:
    place = posixpath.normpath(file)
    if place.startswith(("/", "..")) or is_remote(file):
        raise DataError(f"data.{name}: {address} names {file!r}; expected files beside or below the table.")
    return place
