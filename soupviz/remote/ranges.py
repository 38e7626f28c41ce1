"""Ranges of a file elsewhere: how long they are, and reading one."""

from collections.abc import Iterator
from time import monotonic

from soupviz.addresses import scheme_of
from soupviz.errors import RemoteError
from soupviz.remote.listing import Found
from soupviz.remote.systems import WEB, opened

LEAST, MOST = 2**18, 2**23
"""Bytes of a range: few while a server is slow, so that little is lost when it is stopped."""

QUICK, SLOW = 2.0, 8.0
"""Seconds in which a range comes: what each takes at least, of a server far away or a busy one, is not its bytes'."""


class NoRangesError(RemoteError):
    """A web server that sends a file only from its beginning."""


class Ranges:
    """The ranges of a file from an offset on, larger where they come fast."""

    def __init__(self, start: int, stop: int):
        self._start, self._stop = start, stop
        self._length = LEAST

    def __iter__(self) -> Iterator[tuple[int, int]]:
        while self._start < self._stop:
            end = min(self._start + self._length, self._stop)
            yield self._start, end
            self._start = end

    def took(self, length: int, seconds: float) -> None:
        if length < self._length:  # it was asked for before the last growth
            return
        if seconds < QUICK:
            self._length = min(self._length * 2, MOST)
        elif seconds > SLOW:
            self._length = max(self._length // 2, LEAST)


def timed(found: Found, one: tuple[int, int], ranges: Ranges) -> bytes:
    began = monotonic()
    try:
        content = read(found, *one)
    except ValueError as error:
        if "range requests" in str(error):
            raise NoRangesError(str(error)) from None
        raise
    ranges.took(one[1] - one[0], monotonic() - began)
    return content


def read(found: Found, start: int, stop: int) -> bytes:
    """Bytes of a file. A web server that knows no ranges would send all of it to `cat_file`, however large."""
    system, path = opened(found.address)
    if scheme_of(found.address) in WEB:
        with system.open(path, block_size=stop - start, cache_type="none", size=found.size) as file:
            file.seek(start)
            content: bytes = file.read(stop - start)
    else:
        content = system.cat_file(path, start=start, end=stop)
    if len(content) != stop - start:
        raise EOFError(f"{len(content)} bytes came of {stop - start}")
    return content
