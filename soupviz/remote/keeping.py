"""Files from elsewhere that are kept in the cache: which are there, and as what they were fetched."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from filecmp import cmp
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import FileLock

from soupviz.addresses import KEPT, address_of, mirror, place_of
from soupviz.errors import RemoteError
from soupviz.files import cache_folder, digest, replacing
from soupviz.remote.listing import Found
from soupviz.remote.systems import LONGEST_NAME

LOCKS = 64
"""Locks that files share while each is moved to its place with its note; so many that they seldom wait."""


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


def kept(found: Found) -> Path | None:
    """The copy of a file as it is now, which counts as used; None where there is none, or nothing tells that it is."""
    place, note = place_of(found.address, mirror()), _note_of(found.address)
    if note is None or not found.is_told or note.token != found.token or not _is_whole(place, note, found.size):
        return None
    with suppress(OSError):
        os.utime(note.file)
    return place


def alike(found: Found) -> Path | None:
    """A copy of the same content that was fetched under another name."""
    if not found.sha256:
        return None
    same = (note for note in notes() if note.sha256 == found.sha256 and _is_whole(note.place, note, found.size))
    return next((note.place for note in same), None)


def keep(found: Found, temporary: Path) -> Path:
    """Move a whole file to its place, with a note of what it is; the same content that lies there stays as it is.

    Raises:
        RemoteError: it is not as long as it was told to be, or the disk does not take it.
    """
    place, note, size = place_of(found.address, mirror()), _note_file(found.address), temporary.stat().st_size
    if found.size not in (None, size):
        raise RemoteError(f"{found.address}: {size} bytes came of {found.size}. Try again.")
    with told(found.address), FileLock(cache_folder(KEPT, "locks") / f"{int(note.stem, 16) % LOCKS}.lock"):
        is_there = kept(found) is not None or (place.is_file() and cmp(place, temporary, shallow=False))
        if is_there:  # another was faster, or only a size was told: who has it mapped goes on
            temporary.unlink()
        else:
            _clear_way(place)
            note.unlink(missing_ok=True)  # between the two moves it is not known to be whole
            temporary.chmod(0o644)
            temporary.replace(place)
        written = {"address": found.address, "size": size, "token": found.token, "sha256": found.sha256}
        with replacing(note) as writing:
            writing.write_text(json.dumps(written), encoding="utf-8")
    return place


@contextmanager
def told(address: str) -> Iterator[None]:
    """What this machine's disk does not take is told of the address that was to lie there."""
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise RemoteError(f"{address}: cannot be kept in {cache_folder(KEPT)}: {why}.") from error


@contextmanager
def writing() -> Iterator[Path]:
    """A name of a file that is written, no other's; what is left of it goes."""
    temporary = cache_folder(KEPT, "parts") / f"{uuid4().hex}.writing"
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def check_places(wanted: Iterable[Found]) -> None:
    """Refuse files whose names no folder here can hold beside each other, which a bucket can.

    Raises:
        RemoteError: naming one of them.
    """
    root = mirror()
    places = {place_of(one.address, root): one.address for one in wanted}
    above: dict[Path, str] = {}
    for place, address in places.items():
        if any(len(os.fsencode(part)) > LONGEST_NAME for part in place.parts):
            raise RemoteError(
                f"{address}: a part of its name is longer than the {LONGEST_NAME} bytes that a disk takes; give it "
                "another name there."
            )
        for folder in place.relative_to(root).parents:
            above.setdefault(root / folder, address)
    for place, address in places.items():
        if place in above:
            raise RemoteError(
                f"{address}: is a file and, with {above[place]} in it, a folder, which no disk takes; give one of the "
                "two another name there."
            )


def _clear_way(place: Path) -> None:
    """See that a file can be moved to its place; what was a folder there, or a file, may be the other by now."""
    for above in place.relative_to(mirror()).parents:
        old = mirror() / above
        if old.is_file():
            forget(old)
    if place.is_dir():
        forget_others(str(address_of(place)), [], deep=True)
        shutil.rmtree(place)
    place.parent.mkdir(parents=True, exist_ok=True)


def forget(place: Path) -> None:
    """Remove a copy, and the note of it."""
    if address := address_of(place):
        _note_file(address).unlink(missing_ok=True)
    place.unlink(missing_ok=True)


def noted(path: Path) -> Note | None:
    """What a path in the cache is a copy of; None for what was not fetched."""
    address = address_of(path)
    return _note_of(address) if address else None


def part_of(found: Found) -> Path:
    """Where a file lies until it is whole, which a later attempt goes on with."""
    return cache_folder(KEPT, "parts") / f"{named([found.address, found.token, found.size])}.part"


def named(what: Any) -> str:
    """The name of a file of the cache's own, by what it is of."""
    return digest(what)[:32]


def forget_others(
    folder: str, there: Sequence[Found], *, deep: bool = False, wanted: Callable[[str], bool] = lambda _: True
) -> None:
    """Remove the copies of what is no longer in a folder elsewhere; deep: nor below it. wanted: which names count."""
    root = mirror()
    place, known = place_of(folder, root), {place_of(one.address, root) for one in there}
    for path in list(place.rglob("*") if deep else place.iterdir()) if place.is_dir() else ():
        if path not in known and wanted(path.name) and path.is_file() and noted(path):
            forget(path)


def _note_file(address: str) -> Path:
    return cache_folder(KEPT, "notes") / f"{named(address)}.json"


def _note_of(address: str) -> Note | None:
    return _read(_note_file(address))


def _read(file: Path) -> Note | None:
    try:
        used = file.stat().st_mtime
        told: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return Note(file, told["address"], told["size"], told["token"], told["sha256"], used)
    except (OSError, ValueError, KeyError):
        return None


def notes() -> Iterator[Note]:
    """Of all files that are kept."""
    for file in cache_folder(KEPT, "notes").glob("*.json"):
        if (note := _read(file)) is not None:
            yield note


def _is_whole(place: Path, note: Note, size: int | None) -> bool:
    try:
        there = place.stat().st_size
    except OSError:
        return False
    return there == note.size and size in (None, there)


def size_of(path: Path) -> int:
    """Bytes; none of what is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
