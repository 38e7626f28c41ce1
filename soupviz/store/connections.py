"""Connections to a store's file: a few are kept open, so that looking a score up does not open it anew each time."""

import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from soupviz.errors import KitchenError

KEPT = 4
"""Connections that are kept open while nobody uses them."""

PATIENCE = 30
"""Seconds to wait for another process that writes."""

Identity = tuple[int, int]
"""Of a file: its device and its number there. One that took another's place has another."""

_of_parents: list[sqlite3.Connection] = []
"""Connections of the process that this one was forked from: here they may be neither used nor closed."""


class Connections:
    """Transactions on one file; each has a connection for itself.

    A connection that was used before is good for as long as it is the same file, in the same process, on a disk of this
    machine. On a network file system each transaction opens the file anew: that is when its client looks what others
    wrote.
    """

    def __init__(self, path: Path, prepare: Callable[[sqlite3.Connection], None], *, is_shared: bool):
        """`prepare` is given the first connection to each new file. is_shared: with other machines."""
        self._path = path
        self._prepare = prepare
        self._is_shared = is_shared
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._file: Identity | None = None
        self._process = os.getpid()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """What is done within is kept as a whole, or, where it fails, not at all."""
        connection = self._take() or self._open()
        is_over = False
        try:
            with connection:
                yield connection
            is_over = True
        finally:
            if not (is_over and self._give_back(connection)):
                connection.close()

    def close(self) -> None:
        """Close those that nobody uses: the last one moves what was written into the file itself."""
        with self._lock:
            idle, self._idle = self._idle, []
        if self._process != os.getpid():
            _of_parents.extend(idle)
            return
        for connection in idle:
            connection.close()

    def _take(self) -> sqlite3.Connection | None:
        if self._process != os.getpid():
            self._lock = threading.Lock()  # who held it is not in this process
            self.close()
            self._file, self._process = None, os.getpid()
        if self._file is None or self._file != _identity(self._path):  # removed, or another took its place
            self.close()
            self._file = None
            return None
        with self._lock:
            return self._idle.pop() if self._idle else None

    def _give_back(self, connection: sqlite3.Connection) -> bool:
        with self._lock:
            is_kept = not self._is_shared and self._process == os.getpid() and len(self._idle) < KEPT
            if is_kept:
                self._idle.append(connection)
        return is_kept

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=PATIENCE, check_same_thread=False)
        try:
            mode = self._journal(connection)
            # In WAL mode NORMAL survives a killed process; only a power cut may lose the last transactions. With
            # another journal it may damage the file.
            connection.execute("PRAGMA trusted_schema=OFF")  # the file may have come with the kitchen
            connection.execute(f"PRAGMA synchronous={'NORMAL' if mode == 'wal' else 'FULL'}")
            if self._file is None or self._file != _identity(self._path):
                with connection:
                    self._prepare(connection)
                self._file = _identity(self._path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _journal(self, connection: sqlite3.Connection) -> str:
        """How the file is written: with a log beside it in memory that processes share, or without, where machines do.

        What was written without once, for other machines, stays so wherever it is opened: they may come back.
        """
        mode = str(connection.execute("PRAGMA journal_mode").fetchone()[0])
        if self._is_shared and mode == "wal":
            try:
                mode = str(connection.execute("PRAGMA journal_mode=DELETE").fetchone()[0])
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
            if mode == "wal":
                raise KitchenError(
                    f"{self._path} lies on a network file system, and a process of another machine, or of this one by "
                    "another path, holds it open as a file of its own disk: written from both it would be damaged. End "
                    "that process first, or open the kitchen there by the path on the network too."
                )
        elif not self._is_shared and mode != "wal" and not _has_tables(connection):
            mode = str(connection.execute("PRAGMA journal_mode=WAL").fetchone()[0])
        return mode


def _has_tables(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone() is not None


def _identity(path: Path) -> Identity | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino
