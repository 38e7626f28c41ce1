"""What open kitchens hold of the cache: while they are open, none of it is removed for other files."""

import os
import socket
import time
import weakref
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from soupviz.addresses import KEPT
from soupviz.files import cache_folder
from soupviz.remote.keeping import noted

ELSEWHERE_FOR = 86_400
"""Seconds for which a lease of another machine, of whose processes nothing can be asked, stands."""


def lease(holder: object, paths: Iterable[Path]) -> None:
    """Hold the copies among files for as long as an object lives."""
    names = sorted({note.file.stem for note in map(noted, paths) if note is not None})
    if names:
        file = cache_folder(KEPT, "leases") / f"{socket.gethostname()}@{os.getpid()}@{uuid4().hex}"
        file.write_text("\n".join(names), encoding="utf-8")
        weakref.finalize(holder, _ended, file, os.getpid())


def _ended(file: Path, process: int) -> None:
    if os.getpid() == process:  # and no child that was forked
        with suppress(OSError):
            file.unlink()


def held_open() -> frozenset[str]:
    """Names of the notes of what is held."""
    drop_ended()
    held: set[str] = set()
    for file in cache_folder(KEPT, "leases").iterdir():
        with suppress(OSError):
            held |= set(file.read_text(encoding="utf-8").split())
    return frozenset(held)


def drop_ended() -> None:
    """Remove the leases of processes that are no more."""
    for file in cache_folder(KEPT, "leases").iterdir():
        with suppress(OSError):
            if not _stands(file):
                file.unlink()


def _stands(file: Path) -> bool:
    host, _, rest = file.name.partition("@")
    if host != socket.gethostname() or os.name == "nt":  # where asking for a process may end it
        return time.time() - file.stat().st_mtime < ELSEWHERE_FOR
    try:
        os.kill(int(rest.partition("@")[0]), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        return True
    return True
