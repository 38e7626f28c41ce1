"""What a kitchen remembers: every score and every run, in one SQLite file that several processes may use."""

import json
import os
import shutil
import sqlite3
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soupviz.errors import KitchenError
from soupviz.files import STORE, cache_folder, digest, folder_bytes, is_writable
from soupviz.store import logits
from soupviz.store.connections import Connections
from soupviz.store.earlier import carry_over
from soupviz.store.mounts import is_on_network
from soupviz.store.packing import Columns, pack, unpack
from soupviz.store.parts import score_in_parts, take_apart, whole_score
from soupviz.store.runs import ADDED_LATER, RunTable, add_columns

SCHEMA = """
CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, split TEXT NOT NULL, metric TEXT NOT NULL, value REAL,
  num_units INTEGER NOT NULL, precision TEXT NOT NULL, device TEXT NOT NULL, data TEXT, summary TEXT NOT NULL,
  created REAL NOT NULL);
CREATE TABLE IF NOT EXISTS outcomes (key TEXT PRIMARY KEY, columns BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS findings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS formulas (name TEXT PRIMARY KEY, formula TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, problem TEXT);
CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE NOT NULL, name TEXT NOT NULL,
  status TEXT NOT NULL, recipe TEXT NOT NULL, result TEXT, error TEXT, created REAL NOT NULL, updated REAL NOT NULL);
CREATE TABLE IF NOT EXISTS forgotten (id INTEGER PRIMARY KEY, key TEXT NOT NULL, name TEXT NOT NULL,
  status TEXT NOT NULL, recipe TEXT NOT NULL, result TEXT, error TEXT, created REAL NOT NULL, updated REAL NOT NULL,
  label TEXT, pinned INTEGER NOT NULL, person TEXT, details TEXT, at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS counted ON results (split, num_units, precision, device, data);
"""


RESULT_COLUMNS = "key, split, metric, value, num_units, precision, device, data, summary, created, details"


@dataclass(frozen=True, slots=True, eq=False)
class KeptScore:
    """A finished score: what can be looked for, a summary as plain data, and the columns of its units.

    data: the fingerprint of the split.
    """

    split: str
    metric: str
    value: float | None
    num_units: int
    precision: str
    device: str
    data: str
    summary: dict[str, Any]
    columns: Columns


class Store(RunTable):
    """Scores and runs by content key; every call is one short transaction."""

    def __init__(self, path: Path, mounts: str | None = None):
        """Open a store, or make one.

        Args:
            mounts: the table of mounted file systems; default: this machine's.
        """
        super().__init__()
        self.path = path
        self._connections = Connections(path, _prepare, is_shared=is_on_network(path, mounts))
        # Whoever lets go of the store, or ends: what was written lies in the one file then.
        weakref.finalize(self, self._connections.close)
        with self._connection():
            pass

    def close(self) -> None:
        """Let go of the file, until the store is used again."""
        self._connections.close()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            with self._connections.transaction() as connection:
                yield connection
        except sqlite3.DatabaseError as error:  # damaged, locked for half a minute, or the disk is full
            raise KitchenError(
                f"{self.path}: the store of scores cannot be used ({error}). Free some space, or remove the file: "
                "its scores are then computed again."
            ) from error

    def score(self, key: str) -> tuple[dict[str, Any] | None, dict[str, NDArray[Any]] | None]:
        """(the finished score as plain data, its columns), (None, columns of the units so far), or (None, None)."""
        query = (
            "SELECT results.summary, results.details, outcomes.columns FROM outcomes "
            "LEFT JOIN results ON results.key = outcomes.key WHERE outcomes.key = ?"
        )
        with self._connection() as connection:
            row = connection.execute(query, (key,)).fetchone()
        return (row[0] and whole_score(*row[:2]), unpack(row[2])) if row else (None, None)

    def summaries(self, keys: Iterable[str], *, brief: bool = False) -> dict[str, dict[str, Any]]:
        """Those of the keys that have a finished score, without its columns; one look for all of them.

        Args:
            brief: without what scores tell of each class.
        """
        details = "NULL" if brief else "details"
        query = f"SELECT key, summary, {details} FROM results WHERE key IN (SELECT value FROM json_each(?))"
        with self._connection() as connection:
            rows = connection.execute(query, (json.dumps(list(keys)),)).fetchall()
        return {key: whole_score(summary, beside) for key, summary, beside in rows}

    def scored(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that have a finished score; one look for all of them."""
        query = "SELECT key FROM results WHERE key IN (SELECT value FROM json_each(?))"
        with self._connection() as connection:
            return {row[0] for row in connection.execute(query, (json.dumps(list(keys)),))}

    def begun(self, keys: Iterable[str]) -> set[str]:
        """Those of the keys that have columns of units, finished or not; one look for all of them."""
        query = "SELECT key FROM outcomes WHERE key IN (SELECT value FROM json_each(?))"
        with self._connection() as connection:
            return {row[0] for row in connection.execute(query, (json.dumps(list(keys)),))}

    def count_scores(self, split: str, num_units: int, data: str, precision: str, device: str) -> int:
        """How many different models have a finished score on a split: ingredients, soups and ensembles, whoever asked.

        Each aggregation of running statistics counts as a model. Scores of other data that was called the same (test
        before held_out was split in two, say) are told apart by its fingerprint; scores of versions that did not keep
        it, by the number of units.
        """
        query = (
            "SELECT COUNT(*) FROM results WHERE split = ? AND num_units = ? AND (data = ? OR data IS NULL) "
            "AND precision = ? AND device = ?"
        )
        with self._connection() as connection:
            return int(connection.execute(query, (split, num_units, data, precision, device)).fetchone()[0])

    def keep_partial(self, key: str, columns: Columns) -> None:
        """Keep what became of the first units of an evaluation that goes on."""
        with self._connection() as connection:
            # A finished score of another process is not replaced by our unfinished one.
            connection.execute(
                "INSERT OR REPLACE INTO outcomes SELECT ?, ? WHERE NOT EXISTS (SELECT 1 FROM results WHERE key = ?)",
                (key, pack(columns), key),
            )

    def keep_scores(self, scores: Mapping[str, KeptScore]) -> None:
        """Keep finished scores, several at once."""
        now = time.time()
        with self._connection() as connection:
            for key, kept in scores.items():
                summary, details = score_in_parts(kept.summary)
                added = connection.execute(
                    f"INSERT OR IGNORE INTO results ({RESULT_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (key, kept.split, kept.metric, kept.value, kept.num_units, kept.precision, kept.device, kept.data,
                     summary, now, details),
                )  # fmt: skip
                if added.rowcount:
                    connection.execute("INSERT OR REPLACE INTO outcomes VALUES (?, ?)", (key, pack(kept.columns)))

    def complete(self, key: str, kept: KeptScore) -> None:
        """Replace a finished score by the same one that tells more."""
        with self._connection() as connection:
            update = "UPDATE results SET summary = ?, details = ? WHERE key = ?"
            connection.execute(update, (*score_in_parts(kept.summary), key))
            connection.execute("UPDATE outcomes SET columns = ? WHERE key = ?", (pack(kept.columns), key))

    def file(self, key: str) -> tuple[str, str | None] | None:
        """(fingerprint, problem) of a checkpoint that was read before."""
        with self._connection() as connection:
            row = connection.execute("SELECT fingerprint, problem FROM files WHERE key = ?", (key,)).fetchone()
        return (row[0], row[1]) if row else None

    def keep_file(self, key: str, fingerprint: str, problem: str | None) -> None:
        with self._connection() as connection:
            connection.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", (key, fingerprint, problem))

    def files(self) -> dict[str, tuple[str, str | None]]:
        """All that is known of checkpoints, by key."""
        with self._connection() as connection:
            return {key: (found, problem) for key, found, problem in connection.execute("SELECT * FROM files")}

    def keep_files(self, known: Mapping[str, tuple[str, str | None]]) -> None:
        with self._connection() as connection:
            rows = [(key, *found) for key, found in known.items()]
            connection.executemany("INSERT OR REPLACE INTO files VALUES (?, ?, ?)", rows)

    def formula(self, name: str) -> str | None:
        """The formula, as JSON, that a name stands for."""
        with self._connection() as connection:
            row = connection.execute("SELECT formula FROM formulas WHERE name = ?", (name,)).fetchone()
        return row[0] if row else None

    def keep_formula(self, name: str, formula: str) -> None:
        with self._connection() as connection:
            connection.execute("INSERT OR REPLACE INTO formulas VALUES (?, ?)", (name, formula))

    def finding(self, key: str) -> Any:
        """Plain data that was computed from weights or scores and kept; None where it was not."""
        with self._connection() as connection:
            row = connection.execute("SELECT value FROM findings WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def findings(self, keys: Iterable[str]) -> dict[str, Any]:
        """Those of the keys under which something is kept; one look for all of them."""
        query = "SELECT key, value FROM findings WHERE key IN (SELECT value FROM json_each(?))"
        with self._connection() as connection:
            return {key: json.loads(value) for key, value in connection.execute(query, (json.dumps(list(keys)),))}

    def keep_finding(self, key: str, value: Any) -> None:
        """Keep plain data under a key made of all that it depends on."""
        self.keep_findings({key: value})

    def keep_findings(self, values: Mapping[str, Any]) -> None:
        """Keep several at once."""
        rows = [(key, json.dumps(value)) for key, value in values.items()]
        with self._connection() as connection:
            connection.executemany("INSERT OR REPLACE INTO findings VALUES (?, ?)", rows)

    def logits(self, key: str) -> NDArray[np.float32] | None:
        """The logits of a score that were kept, shape (num_examples, num_classes), mapped into memory."""
        return logits.find(self.folder, key)

    def keep_logits(self, key: str, values: NDArray[np.float32]) -> None:
        logits.keep(self.folder, key, values)

    def has_room(self, num_bytes: int) -> bool:
        """Whether logits of so many bytes may be kept that nobody asked for yet."""
        return logits.has_room(self.folder, num_bytes)

    @property
    def folder(self) -> Path:
        """Where what is too large for the database lies beside it: logits, and weights that were trained."""
        return self.path.parent

    def size(self) -> dict[str, int]:
        """Bytes on disk, those of them that are logits, and how many scores and runs they hold."""
        with self._connection() as connection:
            scores = connection.execute("SELECT COUNT(*) FROM results").fetchone()[0]
        held = logits.held(self.folder)
        return {"bytes": folder_bytes(self.folder), "logits": held, "scores": scores, "runs": self.num_runs()}

    def check(self) -> str:
        """`ok`, or what is wrong with the file, by SQLite's own look at all of it."""
        with self._connection() as connection:
            return str(connection.execute("PRAGMA integrity_check").fetchone()[0])

    def clear(self) -> None:
        """Forget every score and run, and give the disk space back."""
        with self._connection() as connection:
            connection.executescript(
                "DELETE FROM results; DELETE FROM outcomes; DELETE FROM runs; DELETE FROM files; DELETE FROM formulas; "
                "DELETE FROM findings; DELETE FROM forgotten; VACUUM;"
            )
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for name in (logits.FOLDER, "made", "crossfit"):
            shutil.rmtree(self.folder / name, ignore_errors=True)


def _prepare(connection: sqlite3.Connection) -> None:
    connection.executescript(SCHEMA)
    add_columns(connection, "runs", ADDED_LATER)
    add_columns(connection, "results", {"details": "TEXT"})
    carry_over(connection)
    connection.commit()
    take_apart(connection)


def open_store(kitchen_file: Path) -> Store:
    """The store in the kitchen's .soupviz folder, or in the user's cache folder where that is read-only."""
    folder = kitchen_file.parent / STORE
    try:
        folder.mkdir(exist_ok=True)
    except OSError:
        pass
    if not folder.is_dir() or not is_writable(folder) or not _is_ours(folder / "store.sqlite"):
        folder = cache_folder("kitchens", digest(str(kitchen_file.resolve()))[:16])
    return Store(folder / "store.sqlite")


def _is_ours(path: Path) -> bool:
    return not path.exists() or os.access(path, os.W_OK)
