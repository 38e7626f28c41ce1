"""The decoded splits on disk: written once, shared by processes, resumed after a kill, the least used dropped first."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from filelock import FileLock, Timeout

from soupviz.data.images.transforms import Pipeline
from soupviz.data.ragged import SHAPES
from soupviz.data.sources import Source
from soupviz.files import cache_folder, digest, folder_bytes
from soupviz.types import Progress

LAYOUT = 4
UNKEPT = "unkept-"
"""How the names begin of folders that are of use to one process alone."""

PATIENCE = 0.5
"""Seconds between two looks at whether another process has finished the split."""


def budget() -> int:
    """Bytes that decoded splits may take on disk: $SOUPVIZ_DECODED_GB, or 50 GB."""
    return int(float(os.environ.get("SOUPVIZ_DECODED_GB", "50")) * 1e9)


@contextmanager
def opened(source: Source, steps: Pipeline, name: str, progress: Progress) -> Iterator[tuple[Path, Any]]:
    """The folder of a split's arrays and what is known of them; while it is open no process removes it.

    Another process that decodes the same split is waited for; what a killed one had decoded is taken up.
    """
    identity = digest([LAYOUT, source.identity, steps.description]) if source.identity is not None else ""
    # What may differ each time it is read has a name of its own, and goes when the process that reads it is done.
    folder = cache_folder("decoded") / (identity or f"{UNKEPT}{uuid4().hex}")
    with _locked(folder, name, progress):
        try:
            if not (folder / "meta.json").is_file():
                _write(source, steps, folder, progress)
            os.utime(folder)
            yield folder, json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        finally:
            if not identity:
                shutil.rmtree(folder, ignore_errors=True)  # what is mapped into memory stays readable
    _drop_least_used(keep=folder)
    _drop_leftovers(folder.parent)


def _drop_leftovers(cache: Path) -> None:
    """Remove what a killed process cannot finish, and locks of what is gone.

    A lock is removed by who holds it: whoever waits for it then sees that it has no name any more, and locks anew.
    """
    for lock in cache.glob(".*.lock"):
        folder = cache / lock.name.removeprefix(".").removesuffix(".lock")
        if folder.is_dir() and not folder.name.startswith(UNKEPT):
            continue
        try:
            with FileLock(lock, timeout=0):
                if folder.name.startswith(UNKEPT):
                    shutil.rmtree(folder, ignore_errors=True)
                if not folder.exists():
                    lock.unlink(missing_ok=True)
        except (Timeout, PermissionError):  # in use, or of somebody else; Windows lets nobody remove what is open
            continue


@contextmanager
def _locked(folder: Path, name: str, progress: Progress) -> Iterator[None]:
    lock = FileLock(_lock_of(folder))
    while True:
        try:
            lock.acquire(timeout=PATIENCE)
            break
        except Timeout:
            progress(0, 1, f"another process is decoding {name}")
    try:
        yield
    finally:
        lock.release()


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _write(source: Source, steps: Pipeline, folder: Path, progress: Progress) -> None:
    """Decode into the folder; it is whole once it has its meta.json."""
    folder.mkdir(exist_ok=True)
    found = source.read(steps.to_uint8, folder, progress)
    arrays = found.arrays
    sha = hashlib.sha256()
    for argument in sorted(arrays):
        array = np.load(folder / f"{arrays[argument]}.npy", mmap_mode="r")
        sha.update(f"{argument}\0{array.dtype}\0{array.shape}\0".encode())
        sha.update(np.ascontiguousarray(array).data)
        if (shapes := folder / f"{arrays[argument]}.{SHAPES}.npy").is_file():
            sha.update(np.load(shapes).tobytes())
    if not isinstance(found.labels, np.memmap):  # those are there already
        np.save(folder / "labels.npy", found.labels)
    for part in _content(found.labels):
        sha.update(part)
    normalization = [steps.mean, steps.std] if source.is_images else None
    sha.update(json.dumps(normalization).encode())
    meta: dict[str, Any] = {"arrays": dict(arrays), "files": list(found.files), "corrupt": dict(found.corrupt)}
    meta |= {"notes": list(found.notes), "padding": found.padding, "uncut": list(found.uncut)}
    meta |= {"listed": list(found.listed), "of_task": list(found.of_task), "rate": found.rate}
    meta["normalization"] = normalization
    text = json.dumps(meta | {"fingerprint": sha.hexdigest()})
    unfinished = folder / "meta.writing"
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(folder / "meta.json")


def _content(labels: np.ndarray) -> Iterator[bytes | memoryview]:
    """Of one whole number for each example their values alone, as before there were others."""
    if labels.ndim == 1 and labels.dtype.kind in "iu":
        yield labels.astype("<i8").tobytes()
        return
    yield f"{labels.dtype.str}{labels.shape}".encode()
    yield np.ascontiguousarray(labels).data


def _drop_least_used(keep: Path) -> None:
    """Remove decoded splits until they fit the budget, those first that were opened longest ago."""
    folders = [path for path in keep.parent.iterdir() if path.is_dir()]
    sizes = {path: folder_bytes(path) for path in folders}
    excess = sum(sizes.values()) - budget()
    for folder in sorted(folders, key=_last_used):
        if excess <= 0:
            return
        if folder == keep:
            continue
        try:
            with FileLock(_lock_of(folder), timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
            excess -= sizes[folder]
        except Timeout:  # in use
            continue


def _last_used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # another process was first
        return 0.0
