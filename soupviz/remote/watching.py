"""Whether what was fetched is still what lies elsewhere: asked of the file system, now and then, without fetching."""

import os
import time
from contextlib import suppress
from pathlib import Path

from soupviz.addresses import scheme_of
from soupviz.errors import RemoteError
from soupviz.remote import listing
from soupviz.remote.calling import Calls
from soupviz.remote.keeping import Note, noted
from soupviz.remote.systems import WEB

EVERY = 60.0
"""Seconds for which an answer stands: a search asks before each of its mixes."""

WITHIN = 5.0
"""Seconds after which no answer is one, too: what was fetched is here, and a search goes on without a network."""

_silent: dict[str, float] = {}
"""When a host gave no answer last: none of its files is asked for until a while later."""


_asked: dict[str, float] = {}
"""When a file of a folder was asked for last: for the next one the folder is listed."""

_listed: dict[str, tuple[float, dict[str, str]]] = {}
"""When a folder was listed last, and the tokens of what lies in it: one answer for many checkpoints, or shards."""


class _LateError(RemoteError):
    pass


def has_changed(path: Path) -> bool:
    """Whether another file lies by now at the address that a path in the cache is a copy of; no where nobody tells."""
    note = noted(path)
    if note is None:
        return False
    now, host = time.time(), "/".join(note.address.split("/")[:3])
    if now - max(note.used, _silent.get(host, 0.0)) < EVERY:
        return False

    def alive() -> None:
        if time.time() - now > WITHIN:
            raise _LateError(f"{note.address}: no answer within {WITHIN:g} seconds.")

    try:
        with Calls(alive) as calls:
            is_same = _is_same(note, now, calls)
    except RemoteError:
        _silent[host] = now
        return False
    if is_same:
        with suppress(OSError):
            os.utime(note.file)
    return not is_same


def _is_same(note: Note, now: float, calls: Calls) -> bool:
    """Whether one of the two that tell of a file says that it is the same; some tell other things of one alone."""
    folder = note.address.rpartition("/")[0]
    of_several = now - _asked.get(folder, 0.0) < EVERY and scheme_of(note.address) not in WEB
    _asked[folder] = now

    def alone() -> bool:
        found = listing.at(note.address, calls)
        return found is not None and found.token == note.token

    def listed() -> bool:
        when, tokens = _listed.get(folder, (0.0, {}))
        if now - when >= EVERY:
            tokens = {one.address: one.token for one in listing.children(folder, calls)}
            _listed[folder] = now, tokens
        return tokens.get(note.address) == note.token

    return any(ask() for ask in ((listed, alone) if of_several else (alone, listed)))
