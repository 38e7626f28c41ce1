"""The room that files from elsewhere take on disk: how much there is, and which of them have to go for others."""

import os
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from soupviz.addresses import KEPT
from soupviz.errors import RemoteError
from soupviz.files import cache_folder
from soupviz.remote import leases
from soupviz.remote.keeping import forget, notes, part_of, size_of
from soupviz.remote.listing import Found

BUDGET_GB = "SOUPVIZ_REMOTE_GB"
USUAL_GB = 200
DAY = 86_400
SPARED = 3600
"""Seconds after its last use in which a file is not removed for another: who has just asked for it will read it."""

LEFT = (("views", "*", DAY), ("heads", "*", 30 * DAY), ("outgoing", "*", 30 * DAY), ("parts", "*.writing", DAY))
"""Where killed processes leave what, and the age at which it goes; what could not be put is told to lie in outgoing."""


def budget() -> int:
    """Bytes that files from elsewhere may take on disk: $SOUPVIZ_REMOTE_GB, or 200 GB; never more than there are.

    Raises:
        RemoteError: the variable is no number.
    """
    text = os.environ.get(BUDGET_GB) or str(USUAL_GB)
    try:
        wanted = int(float(text) * 1e9)
    except (ValueError, OverflowError):
        raise RemoteError(f"{BUDGET_GB} is {text!r}; expected how many gigabytes, such as {USUAL_GB}.") from None
    return min(wanted, shutil.disk_usage(cache_folder(KEPT)).free + held())


def held() -> int:
    """Bytes that they take, what is under way among them; one content under several names counts once."""
    under_way = (path for name in ("parts", "outgoing") for path in cache_folder(KEPT, name).rglob("*"))
    return _on_disk([*under_way, *(note.place for note in notes())])


def _on_disk(paths: Iterable[Path]) -> int:
    sizes: dict[tuple[int, int], int] = {}
    for path in paths:
        with suppress(OSError):
            stat = path.stat()
            if not path.is_dir():
                sizes[stat.st_dev, stat.st_ino] = stat.st_size
    return sum(sizes.values())


def left() -> int:
    """Bytes that may still come without another file's going."""
    return max(budget() - held(), 0)


def make_room(wanted: Sequence[Found], more: int = 0) -> None:
    """See that files fit into the budget; those of others that were used longest ago go.

    Args:
        more: bytes that come next of a file of unknown size, beside those that came.
    Raises:
        RemoteError: they do not fit.
    """
    missing = sum(max((one.size or 0) - size_of(part_of(one)), 0) for one in wanted) + more
    with FileLock(cache_folder(KEPT, "locks") / "room.lock"):  # two that make room at once would remove twice as much
        room = left()
        if missing > room:
            _drop(missing - room, wanted)
            room = left()
    if missing > room:
        told = f"{missing / 1e9:.2f} GB are to be fetched"
        if more:
            told = f"its size is not told, and more than {size_of(part_of(wanted[0])) / 1e9:.2f} GB came"
        raise RemoteError(
            f"{wanted[0].address}{f' and {len(wanted) - 1} more files' if len(wanted) > 1 else ''}: "
            f"{told}; {room / 1e9:.2f} GB are free of the "
            f"{budget() / 1e9:.2f} GB that files from elsewhere may take in {cache_folder(KEPT)}. Set {BUDGET_GB} to "
            "more, let SOUPVIZ_CACHE name a larger disk, or run: soupviz cache --clear"
        )


def _drop(num_bytes: int, wanted: Sequence[Found]) -> None:
    """Remove what nobody holds until so many bytes are free: first what was begun, then what was used longest ago."""
    now, begun, needed = time.time(), {part_of(one) for one in wanted}, {one.address for one in wanted}
    parts = [part for part in cache_folder(KEPT, "parts").glob("*.part") if part not in begun]
    for part in parts:
        if num_bytes > 0 and now - part.stat().st_mtime > SPARED:
            num_bytes -= size_of(part)
            part.unlink(missing_ok=True)
    held_open = leases.held_open()
    for note in sorted(notes(), key=lambda note: note.used):
        if num_bytes <= 0 or now - note.used <= SPARED:
            return
        if note.address not in needed and note.file.stem not in held_open:
            with suppress(OSError):  # of one content under several names the last one to go makes room
                num_bytes -= note.size if note.place.stat().st_nlink == 1 else 0
            forget(note.place)
            note.file.unlink(missing_ok=True)


def drop_leftovers() -> None:
    """Remove what killed processes left, and beginnings of files that nobody asked for in a while."""
    now = time.time()
    for name, pattern, age in LEFT:
        for path in cache_folder(KEPT, name).glob(pattern):
            with suppress(OSError):  # another process was faster
                if now - path.stat().st_mtime > age:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for lock in [*cache_folder(KEPT, "locks").glob("*.lock"), *cache_folder(KEPT, "parts").glob("*.lock")]:
        with suppress(OSError, Timeout):
            if now - lock.stat().st_mtime > DAY:
                with FileLock(lock, timeout=0):  # nobody holds it
                    lock.unlink(missing_ok=True)
    leases.drop_ended()
