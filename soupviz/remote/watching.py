"""Whether what was fetched is still what lies elsewhere: asked of the file system, now and then, without fetching."""

import os
import time
from contextlib import suppress
from pathlib import Path

from soupviz.errors import RemoteError
from soupviz.remote import listing
from soupviz.remote.calling import Calls
from soupviz.remote.keeping import noted

EVERY = 60.0
"""Seconds for which an answer stands: a search asks before each of its mixes."""

WITHIN = 5.0
"""Seconds after which no answer is one, too: what was fetched is here, and a search goes on without a network."""

_silent: dict[str, float] = {}
"""When a host gave no answer last: none of its files is asked for until a while later."""


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
            found = listing.at(note.address, calls)
            if found is None or found.token != note.token:  # some tell other things of one file than in a listing
                beside = listing.children(note.address.rpartition("/")[0], calls)
                found = next((one for one in beside if one.address == note.address), found)
    except RemoteError:
        _silent[host] = now
        return False
    if found is None or found.token != note.token:
        return True
    with suppress(OSError):
        os.utime(note.file)
    return False
