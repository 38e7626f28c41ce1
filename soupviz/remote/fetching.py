"""Fetching files into the cache: small ones several at a time, large ones in ranges, from where a kill left off."""

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from soupviz.addresses import KEPT, mirror, place_of
from soupviz.errors import RemoteError
from soupviz.files import cache_folder, digest_of, replacing
from soupviz.remote import keeping, listing, room
from soupviz.remote.calling import ATTEMPTS, LOOK_EVERY, Calls
from soupviz.remote.keeping import size_of
from soupviz.remote.listing import Found
from soupviz.remote.ranges import NoRangesError, Ranges, read, timed
from soupviz.remote.systems import is_passing, opened
from soupviz.types import Progress, quiet

SMALL = 4 * 2**20
"""Bytes up to which a file is fetched in one call."""

PIECE = 2**20


class _Counter:
    """Tells progress in bytes over several files."""

    def __init__(self, progress: Progress, files: Sequence[Found]):
        self._progress = progress
        self._total = max(sum(one.size or 0 for one in files), 1)
        self._done = 0
        self._count = len(files)
        self._what = "fetching"

    def now(self, index: int, found: Found) -> None:
        again = "" if found.is_told else "; anew, as only its size is told"
        self._what = f"fetching {found.name} ({index + 1} of {self._count}{again})"
        self.tell()

    def add(self, num_bytes: int) -> None:
        self._done += num_bytes
        self.tell()

    def tell(self) -> None:
        self._progress(min(self._done, self._total), self._total, self._what)


def fetch(wanted: Sequence[Found], progress: Progress = quiet) -> list[Path]:
    """The copies of files, those that are not there yet fetched; and those of which only a size is told.

    Args:
        progress: told in bytes, several times a second; may stop it, and the next fetch goes on from there.
    Raises:
        RemoteError: they cannot be fetched, or do not fit into the budget.
    """
    missing = [one for one in dict.fromkeys(wanted) if keeping.kept(one) is None]
    keeping.check_places(missing)
    missing = [one for one in missing if not _linked(one)]
    if missing:
        room.make_room(missing)
        counter = _Counter(progress, missing)
        with Calls(counter.tell) as calls:
            small = [one for one in missing if _is_small(one)]
            for index, (found, content) in enumerate(calls.each(small, lambda one: one.address, _whole)):
                counter.now(index, found)
                with keeping.writing() as temporary:
                    temporary.write_bytes(content)
                    keeping.keep(found, temporary)
                counter.add(len(content))
            for index, found in enumerate(one for one in missing if not _is_small(one)):
                counter.now(len(small) + index, found)
                _large(found, calls, counter)
    return [place_of(one.address, mirror()) for one in wanted]


def _is_small(found: Found) -> bool:
    return found.size is not None and found.size <= SMALL


def head_of(found: Found, num_bytes: int) -> bytes:
    """The first bytes of a file; kept, as a listing may ask for them again."""
    known = cache_folder(KEPT, "heads") / keeping.named([found.address, found.token, found.size, num_bytes])
    if found.is_told and known.is_file():
        return known.read_bytes()
    content = read(found, 0, min(num_bytes, found.size or num_bytes))
    with replacing(known) as temporary:
        temporary.write_bytes(content)
    return content


def _linked(found: Found) -> bool:
    """Whether the same content was there under another name, and is now under this one too."""
    other = keeping.alike(found)
    if other is None:
        return False
    with keeping.writing() as temporary:
        try:
            os.link(other, temporary)
        except OSError:  # a disk without links: it is fetched
            return False
        keeping.keep(found, temporary)
    return True


def _whole(found: Found) -> bytes:
    system, path = opened(found.address)
    content: bytes = system.cat_file(path)
    if found.size is not None and len(content) != found.size:
        raise EOFError(f"{len(content)} bytes came of {found.size}")
    if found.sha256 and digest_of(content) != found.sha256:
        raise EOFError("what came has another checksum than is told")
    return content


def _large(found: Found, calls: Calls, counter: _Counter) -> Path:
    """A file in ranges, appended to what came of it before; once anew where it changes meanwhile."""
    for again in (True, False):
        part = keeping.part_of(found)
        with _locked(part, counter):
            if (there := keeping.kept(found)) is not None:  # another process was faster
                counter.add(found.size or 0)
                return there
            _append(found, part, calls, counter)
            later = listing.at(found.address, calls)
            if later is not None and later.token == found.token and _is_sound(part, found, counter):
                return keeping.keep(found, part)
            counter.add(-size_of(part))
            part.unlink()
        if again and later is not None and later.token != found.token:
            found = later
    raise RemoteError(f"{found.address}: changes while it is fetched; wait until whoever writes it is done.")


def _append(found: Found, part: Path, calls: Calls, counter: _Counter) -> None:
    there = size_of(part)
    if found.size is None or there > found.size or not found.is_told:  # what came before may be of another content
        part.unlink(missing_ok=True)
        there = 0
    counter.add(there)
    with part.open("ab") as file:
        if found.size is None:
            _stream(found, file, calls, counter)
            return
        ranges = Ranges(there, found.size)
        try:
            for (start, _), content in calls.each(ranges, lambda _: found.address, lambda r: timed(found, r, ranges)):
                assert file.tell() == start
                file.write(content)
                file.flush()
                counter.add(len(content))
        except NoRangesError:
            _stream(found, file, calls, counter)


def _stream(found: Found, file: Any, calls: Calls, counter: _Counter) -> None:
    """A file from its beginning to its end; nothing is kept of one that does not come to it."""
    try:
        _streamed(found, file, calls, counter)
    except BaseException:
        file.truncate(0)
        raise


def _streamed(found: Found, file: Any, calls: Calls, counter: _Counter) -> None:
    limit = 0 if found.size is None else found.size
    for attempt in range(ATTEMPTS):
        counter.add(-file.tell())
        file.truncate(0)
        file.seek(0)
        source = calls.one(found.address, partial(_from_its_beginning, found))
        try:
            with source:
                while content := calls.one(found.address, partial(source.read, PIECE), attempts=1):
                    limit = _limit(found, file.tell() + len(content), limit)
                    file.write(content)
                    counter.add(len(content))
        except RemoteError as error:
            if attempt == ATTEMPTS - 1 or not is_passing(error.__cause__ or error):
                raise
        else:
            if found.size in (None, file.tell()):
                return
        calls.one(found.address, partial(calls.pause, attempt))
    raise RemoteError(f"{found.address}: {file.tell()} bytes came of {found.size}. Try again.")


def _limit(found: Found, there: int, limit: int) -> int:
    """Up to where a file may come; room is made for one of unknown size as it comes."""
    if there <= limit:
        return limit
    if found.size is not None:
        raise RemoteError(f"{found.address}: more than the {found.size} bytes that it is told to have come of it.")
    if (free := room.left()) < PIECE:
        room.make_room([found], more=PIECE)
    return there + max(free - PIECE, 0)


def _from_its_beginning(found: Found) -> Any:
    system, path = opened(found.address)
    return system.open(path, block_size=0, size=found.size)


def _is_sound(part: Path, found: Found, counter: _Counter) -> bool:
    """Whether what came has the checksum that the file system tells, where it tells one."""
    if not found.sha256:
        return True
    sha = hashlib.sha256()
    with part.open("rb") as file:
        while content := file.read(PIECE):
            sha.update(content)
            counter.tell()  # which may stop it
    return sha.hexdigest() == found.sha256


class _locked:  # noqa: N801 - a context, as open is
    """One process at a time appends to a part; the others wait, and may be stopped."""

    def __init__(self, part: Path, counter: _Counter):
        self._lock, self._counter = FileLock(part.with_suffix(".lock")), counter

    def __enter__(self) -> None:
        while True:
            try:
                self._lock.acquire(timeout=LOOK_EVERY)
                return
            except Timeout:
                self._counter.tell()

    def __exit__(self, *_: object) -> None:
        self._lock.release()
