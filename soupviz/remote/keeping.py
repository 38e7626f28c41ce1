"""Files from elsewhere that are kept in the cache: which are there, as what they were fetched, and which have to go."""

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soupviz.addresses import KEPT, address_of, mirror, place_of
from soupviz.errors import RemoteError
from soupviz.files import cache_folder, digest, replacing
from soupviz.remote.listing import Found

BUDGET_GB = "SOUPVIZ_REMOTE_GB"
USUAL_GB = 200
SPARED = 3600
"""Seconds after its last use in which a file is not removed for another: an open kitchen may hold it."""


@dataclass(frozen=True, slots=True)
class Note:
    """What is written of a file that was fetched: what it is a copy of, and when it was used last."""

    file: Path
    address: str
    size: int
    token: str
    sha256: str
    used: float

    @property
    def place(self) -> Path:
        return place_of(self.address, mirror())


def budget() -> int:
    """Bytes that files from elsewhere may take on disk: $SOUPVIZ_REMOTE_GB, or 200 GB; never more than there are."""
    wanted = int(float(os.environ.get(BUDGET_GB, USUAL_GB)) * 1e9)
    return min(wanted, shutil.disk_usage(cache_folder(KEPT)).free + held())


def held() -> int:
    """Bytes that they take, what was begun among them."""
    parts = sum(part.stat().st_size for part in cache_folder(KEPT, "parts").glob("*.part"))
    return parts + sum(note.size for note in _notes())


def kept(found: Found) -> Path | None:
    """The copy of a file as it is now, which counts as used; None where there is none."""
    place, note = place_of(found.address, mirror()), _note_of(found.address)
    if note is None or note.token != found.token or not _is_whole(place, note, found.size):
        return None
    with suppress(OSError):
        os.utime(note.file)
    return place


def alike(found: Found) -> Path | None:
    """A copy of the same content that was fetched under another name."""
    if not found.sha256:
        return None
    same = (note for note in _notes() if note.sha256 == found.sha256 and _is_whole(note.place, note, found.size))
    return next((note.place for note in same), None)


def keep(found: Found, temporary: Path) -> Path:
    """Move a whole file to its place, with a note of what it is."""
    place, note = place_of(found.address, mirror()), _note_file(found.address)
    place.parent.mkdir(parents=True, exist_ok=True)
    note.unlink(missing_ok=True)  # between the two moves it is not known to be whole
    size = temporary.stat().st_size
    temporary.chmod(0o644)
    temporary.replace(place)
    told = {"address": found.address, "size": size, "token": found.token, "sha256": found.sha256}
    with replacing(note) as writing:
        writing.write_text(json.dumps(told), encoding="utf-8")
    return place


def noted(path: Path) -> Note | None:
    """What a path in the cache is a copy of; None for what was not fetched."""
    address = address_of(path)
    return _note_of(address) if address else None


def part_of(found: Found) -> Path:
    """Where a file lies until it is whole, which a later attempt goes on with."""
    name = digest([found.address, found.token, found.size])[:32]
    return cache_folder(KEPT, "parts") / f"{name}.part"


def make_room(wanted: Sequence[Found]) -> None:
    """See that files fit into the budget; those of others that were used longest ago go.

    Raises:
        RemoteError: they do not fit.
    """
    begun = {part_of(one) for one in wanted}
    missing = sum((one.size or 0) - _size(part_of(one)) for one in wanted)
    limit, taken = budget(), held()
    needed = {one.address for one in wanted}
    now = time.time()
    old = sorted((note for note in _notes() if now - note.used > SPARED), key=lambda note: note.used)
    for part in cache_folder(KEPT, "parts").glob("*.part"):
        if taken + missing > limit and part not in begun and now - part.stat().st_mtime > SPARED:
            taken -= _size(part)
            part.unlink(missing_ok=True)
    for note in old:
        if taken + missing <= limit:
            break
        if note.address not in needed:
            note.file.unlink(missing_ok=True)
            note.place.unlink(missing_ok=True)
            taken -= note.size
    if taken + missing > limit:
        raise RemoteError(
            f"{wanted[0].address}{f' and {len(wanted) - 1} more files' if len(wanted) > 1 else ''}: "
            f"{missing / 1e9:.2f} GB are to be fetched; {max(limit - taken, 0) / 1e9:.2f} GB are free of the "
            f"{limit / 1e9:.2f} GB that files from elsewhere may take in {cache_folder(KEPT)}. Set {BUDGET_GB} to "
            "more, let SOUPVIZ_CACHE name a larger disk, or run: soupviz cache --clear"
        )


def forget_others(folder: str, there: Sequence[Found], *, deep: bool = False) -> None:
    """Remove the copies of what is no longer in a folder elsewhere; deep: nor below it."""
    names = {one.address for one in there}
    place = place_of(folder, mirror())
    for path in list(place.rglob("*") if deep else place.iterdir()) if place.is_dir() else ():
        note = noted(path) if path.is_file() else None
        if note is not None and note.address not in names:
            note.file.unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def _note_file(address: str) -> Path:
    return cache_folder(KEPT, "notes") / f"{digest(address)[:32]}.json"


def _note_of(address: str) -> Note | None:
    return _read(_note_file(address))


def _read(file: Path) -> Note | None:
    try:
        used = file.stat().st_mtime
        told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return Note(file, told["address"], told["size"], told["token"], told["sha256"], used)
    except (OSError, ValueError, KeyError):
        return None


def _notes() -> Iterator[Note]:
    for file in cache_folder(KEPT, "notes").glob("*.json"):
        if (note := _read(file)) is not None:
            yield note


def _is_whole(place: Path, note: Note, size: int | None) -> bool:
    there = _size(place) if place.is_file() else -1
    return there == note.size and size in (None, there)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
