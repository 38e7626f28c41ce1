"""Where soupviz keeps things, and how it writes them: to a temporary name, then renamed."""

import glob
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

try:
    import fcntl
except ImportError:  # Windows, which lets nobody remove what is open
    fcntl = None  # type: ignore[assignment]

WRITING = ".writing"
STORE = ".soupviz"
"""The folder beside a kitchen.yaml in which its scores and runs are kept."""


def cache_folder(*parts: str) -> Path:
    """The user's cache folder (or $SOUPVIZ_CACHE), made if missing."""
    root = os.environ.get("SOUPVIZ_CACHE") or platformdirs.user_cache_dir("soupviz")
    folder = Path(root, *parts)
    if not folder.is_dir():  # which is asked often
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest(value: Any) -> str:
    """SHA-256 of plain data, as canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of(content: bytes) -> str:
    """SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_writable(folder: Path) -> bool:
    """Whether a file can really be made in the folder: the mode bits alone do not say so for root."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` on success, remove it on failure.

    What a process left of it that was killed meanwhile is removed by the next that writes there.
    """
    _drop_left_of(path)
    handle, temporary = _new_beside(path)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)


def _new_beside(path: Path) -> tuple[int, Path]:
    """A new file, open and locked until its process closes it, or is no more."""
    while True:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=WRITING, dir=path.parent)
        if fcntl is not None:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
        if Path(name).exists():
            return handle, Path(name)
        os.close(handle)  # who looks for what was left was faster than the lock


def _drop_left_of(path: Path) -> None:
    if fcntl is None:
        return
    for left in path.parent.glob(f".{glob.escape(path.name)}.*{WRITING}"):
        with suppress(OSError), left.open("rb") as file:  # locked, by who writes it; or another was faster
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left.unlink()


@contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Have a folder; one that was made for what failed is removed again."""
    is_new = not folder.is_dir()
    folder.mkdir(exist_ok=True)
    try:
        yield
    except BaseException:
        if is_new:
            with suppress(OSError):  # something else lies in it by now
                folder.rmdir()
        raise


def machine_memory() -> float:
    """Bytes of memory that this machine has; without end where the system does not tell."""
    if hasattr(os, "sysconf") and {"SC_PHYS_PAGES", "SC_PAGE_SIZE"} <= os.sysconf_names.keys():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return float("inf")


def folder_bytes(folder: Path) -> int:
    """Bytes held by the files below a folder, links not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
