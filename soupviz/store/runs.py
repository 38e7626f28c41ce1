"""Runs: what a store keeps of each cooking, as a record and as a row of its table."""

import json
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

HEARTBEAT = 5.0
"""Seconds after which a running run that has not been touched counts as interrupted."""

RUN_COLUMNS = "id, key, name, status, recipe, result, error, created, updated, label, pinned"

ADDED_LATER = {"label": "TEXT", "pinned": "INTEGER NOT NULL DEFAULT 0"}
"""Columns of `runs` that stores of earlier versions lack."""


@dataclass(frozen=True, slots=True)
class Run:
    """One cooking of a recipe: running, finished, interrupted, cancelled or failed.

    name: what it is called: the user's own name where there is one, else the title. title: of its recipe.
    pinned: whether the user wants to keep it in sight, and out of what deletes many.
    """

    id: int
    key: str
    name: str
    status: str
    recipe: dict[str, Any]
    result: dict[str, Any] | None
    error: str | None
    created: float
    updated: float
    title: str = ""
    pinned: bool = False


def add_columns(connection: sqlite3.Connection) -> None:
    """Give a store of an earlier version the columns that came later."""
    there = {row[1] for row in connection.execute("PRAGMA table_info(runs)")}
    for name, kind in ADDED_LATER.items():
        if name not in there:
            try:
                connection.execute(f"ALTER TABLE runs ADD COLUMN {name} {kind}")
            except sqlite3.OperationalError as error:  # another process was faster
                if "duplicate column" not in str(error):
                    raise


def run_of(row: tuple[Any, ...]) -> Run:
    """A row of RUN_COLUMNS as a run; one that was killed is interrupted."""
    identity, key, title, status, recipe, result, error, created, updated, label, pinned = row
    if status == "running" and time.time() - updated > HEARTBEAT:
        status = "interrupted"
    parsed = json.loads(result) if result else None
    return Run(
        identity, key, label or title, status, json.loads(recipe), parsed, error, created, updated, title, bool(pinned)
    )


def row_of(run: Run) -> tuple[Any, ...]:
    """A run as a row of RUN_COLUMNS."""
    title = run.title or run.name
    label = run.name if run.name != title else None
    result = json.dumps(run.result) if run.result else None
    recipe = json.dumps(run.recipe)
    return (
        run.id, run.key, title, run.status, recipe, result, run.error, run.created, run.updated, label, int(run.pinned)
    )  # fmt: skip


class RunTable(ABC):
    """The runs of a store."""

    @abstractmethod
    def _connection(self) -> AbstractContextManager[sqlite3.Connection]:
        """One short transaction."""

    def begin_run(self, key: str, name: str, recipe: dict[str, Any]) -> None:
        """Note that a run started; a finished run of the same key stays finished, another is taken up again."""
        now = time.time()
        with self._connection() as connection:
            connection.execute(
                "INSERT INTO runs (key, name, status, recipe, created, updated) VALUES (?, ?, 'running', ?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET status = 'running', error = NULL, updated = excluded.updated "
                "WHERE runs.status <> 'finished'",
                (key, name, json.dumps(recipe), now, now),
            )

    def touch_run(self, key: str, result: dict[str, Any] | None = None) -> None:
        """Say that a run is alive, with what it has so far."""
        with self._connection() as connection:
            connection.execute(
                "UPDATE runs SET updated = ?, result = COALESCE(?, result) WHERE key = ? AND status = 'running'",
                (time.time(), json.dumps(result) if result else None, key),
            )

    def end_run(self, key: str, status: str, result: dict[str, Any] | None = None, error: str | None = None) -> None:
        """Say how a run ended; one that was finished before stays finished, however its repetition ended."""
        with self._connection() as connection:
            connection.execute(
                "UPDATE runs SET status = ?, result = COALESCE(?, result), error = ?, updated = ? "
                "WHERE key = ? AND (status <> 'finished' OR ? = 'finished')",
                (status, json.dumps(result) if result else None, error, time.time(), key, status),
            )

    def runs(self) -> list[Run]:
        """Every run, oldest first; one that was killed shows as interrupted."""
        with self._connection() as connection:
            rows = connection.execute(f"SELECT {RUN_COLUMNS} FROM runs ORDER BY id").fetchall()
        return [run_of(row) for row in rows]

    def run(self, key: str) -> Run | None:
        with self._connection() as connection:
            row = connection.execute(f"SELECT {RUN_COLUMNS} FROM runs WHERE key = ?", (key,)).fetchone()
        return run_of(row) if row else None

    def num_runs(self) -> int:
        with self._connection() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM runs").fetchone()[0])

    def name_run(self, key: str, name: str | None) -> None:
        """Call a run by a name of the user's own; None, or an empty one, gives it its recipe's title back."""
        with self._connection() as connection:
            connection.execute("UPDATE runs SET label = ? WHERE key = ?", ((name or "").strip() or None, key))

    def pin_run(self, key: str, pinned: bool = True) -> None:
        """Mark a run as one to be kept, or no longer."""
        with self._connection() as connection:
            connection.execute("UPDATE runs SET pinned = ? WHERE key = ?", (int(pinned), key))

    def forget_run(self, key: str) -> None:
        """Forget that a recipe was cooked; the scores that it took stay."""
        with self._connection() as connection:
            connection.execute("DELETE FROM runs WHERE key = ?", (key,))

    def take_back(self, runs: Iterable[Run]) -> None:
        """Undo `forget_run`: runs as they were, under their numbers; one that was cooked again since stays as it is."""
        with self._connection() as connection:
            connection.executemany(
                f"INSERT OR IGNORE INTO runs ({RUN_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [row_of(run) for run in runs],
            )
