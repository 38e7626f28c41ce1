"""Runs: what a store keeps of each cooking, as a record and as a row of its table."""

import json
import sqlite3
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from soupviz.store.parts import DECISIONS, run_in_parts, whole_run
from soupviz.types import Coefficients, mix_from

HEARTBEAT = 5.0
"""Seconds after which a running run that has not been touched counts as interrupted."""

RUN_COLUMNS = "id, key, name, status, recipe, result, error, created, updated, label, pinned, person"

ADDED_LATER = {"label": "TEXT", "pinned": "INTEGER NOT NULL DEFAULT 0", "person": "TEXT", "details": "TEXT"}
"""Columns of `runs` that stores of earlier versions lack. details: of a result, what no list of runs needs."""

UNDOABLE = 86_400.0
"""Seconds for which a run that was deleted can be taken back, at least."""


@dataclass(frozen=True, slots=True)
class Run:
    """One cooking of a recipe: running, finished, interrupted, cancelled or failed.

    result: in a list of runs, without its decisions, and of its scores without what they tell of each class.
    name: what it is called: the user's own name where there is one, else the title. title: of its recipe.
    pinned: whether the user wants to keep it in sight, and out of what deletes many. person: who started it; empty
    where that is not known. mix: of the result, where the store gave it.
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
    person: str = ""
    mix: Coefficients | None = None


def others_in(runs: Sequence[Run], me: str) -> dict[str, int]:
    """Who else started runs, and how many; of a run of an earlier version that is not known."""
    return dict(Counter(sorted(run.person for run in runs if run.person not in ("", me))))


def at_stake(runs: Sequence[Run], me: str) -> str:
    """What `me` may not throw away unasked of these runs, in a sentence; empty where there is nothing."""
    others, pinned = others_in(runs, me), sum(run.pinned for run in runs)
    told = [f"{number} started by {person}" for person, number in others.items()]
    told += [f"{pinned} pinned"] if pinned else []
    return f"{len(runs)} run{'s' * (len(runs) != 1)} would go, of them {', '.join(told)}." if told else ""


def add_columns(connection: sqlite3.Connection, table: str, later: Mapping[str, str]) -> None:
    """Give a table of an earlier version the columns that came later, by name with their kind."""
    there = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
    for name, kind in later.items():
        if name not in there:
            try:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
            except sqlite3.OperationalError as error:  # another process was faster
                if "duplicate column" not in str(error):
                    raise


def run_of(row: Sequence[Any], details: str | None = None) -> Run:
    """A row of RUN_COLUMNS as a run; one that was killed is interrupted."""
    identity, key, title, status, recipe, result, error, created, updated, label, pinned, person = row
    if status == "running" and time.time() - updated > HEARTBEAT:
        status = "interrupted"
    parsed = whole_run(result, details)
    return Run(
        identity, key, label or title, status, json.loads(recipe), parsed, error, created, updated, title,
        bool(pinned), person or "", mix_from(parsed["mix"]) if parsed and "mix" in parsed else None,
    )  # fmt: skip


class RunTable(ABC):
    """The runs of a store. What was listed once is not read again until it changes."""

    def __init__(self) -> None:
        self._listed: dict[int, tuple[tuple[Any, ...], Run]] = {}

    @abstractmethod
    def _connection(self) -> AbstractContextManager[sqlite3.Connection]:
        """One short transaction."""

    def begin_run(self, key: str, name: str, recipe: dict[str, Any], person: str = "") -> None:
        """Note that a run started; a finished run of the same key stays finished, another is taken up again.

        Args:
            person: who started it; of one that is taken up again, it stays with who started it first.
        """
        now = time.time()
        with self._connection() as connection:
            connection.execute(
                "INSERT INTO runs (key, name, status, recipe, created, updated, person) "
                "VALUES (?, ?, 'running', ?, ?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET status = 'running', error = NULL, updated = excluded.updated "
                "WHERE runs.status <> 'finished'",
                (key, name, json.dumps(recipe), now, now, person or None),
            )

    def touch_run(self, key: str, result: dict[str, Any] | None = None) -> None:
        """Say that a run is alive, with what it has so far."""
        with self._connection() as connection:
            connection.execute(
                "UPDATE runs SET updated = ?, result = COALESCE(?, result), details = COALESCE(?, details) "
                "WHERE key = ? AND status = 'running'",
                (time.time(), *run_in_parts(result), key),
            )

    def end_run(self, key: str, status: str, result: dict[str, Any] | None = None, error: str | None = None) -> None:
        """Say how a run ended; one that was finished before stays finished, however its repetition ended."""
        with self._connection() as connection:
            connection.execute(
                "UPDATE runs SET status = ?, result = COALESCE(?, result), details = COALESCE(?, details), error = ?, "
                "updated = ? WHERE key = ? AND (status <> 'finished' OR ? = 'finished')",
                (status, *run_in_parts(result), error, time.time(), key, status),
            )

    def runs(self) -> list[Run]:
        """Every run without its details, oldest first; one that was killed shows as interrupted."""
        stamps = "SELECT id, key, status, updated, label, pinned FROM runs ORDER BY id"
        chosen = f"SELECT {RUN_COLUMNS} FROM runs WHERE id IN (SELECT value FROM json_each(?))"
        before = self._listed
        with self._connection() as connection:
            there = {row[0]: row for row in connection.execute(stamps)}
            unknown = [one for one, row in there.items() if one not in before or before[one][0] != row]
            rows = connection.execute(chosen, (json.dumps(unknown),)).fetchall()
        read = {row[0]: (there[row[0]], run_of(row)) for row in rows}
        listed = {one: read.get(one) or before[one] for one in there}
        # How a run stands that is not finished depends on the time.
        self._listed = {one: (row, run) for one, (row, run) in listed.items() if row[2] != "running"}
        return [run for _, run in listed.values()]

    def finished(self, keys: Iterable[str]) -> dict[str, Run]:
        """By key, those that are finished, without their details; the others of thousands are not looked at."""
        chosen = f"SELECT {RUN_COLUMNS} FROM runs WHERE status = 'finished' AND key IN (SELECT value FROM json_each(?))"
        with self._connection() as connection:
            found = [run_of(row) for row in connection.execute(chosen, (json.dumps(list(keys)),))]
        return {run.key: run for run in found}

    def run(self, key: str) -> Run | None:
        """A run with all that is kept of it."""
        with self._connection() as connection:
            row = connection.execute(f"SELECT {RUN_COLUMNS}, details FROM runs WHERE key = ?", (key,)).fetchone()
        return run_of(row[:-1], row[-1]) if row else None

    def decisions(self, run: Run) -> list[dict[str, Any]]:
        """A run's decisions as far as it came, as plain data; empty for what is no search."""
        found: list[dict[str, Any]] = (self.whole(run).result or {}).get(DECISIONS, [])
        return found

    def whole(self, run: Run) -> Run:
        """A run of a list with all that is kept of it."""
        return run if DECISIONS in (run.result or {}) else self.run(run.key) or run

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
        """Forget that a recipe was cooked; the scores that it took stay, and it can be taken back for a day."""
        columns = f"{RUN_COLUMNS}, details"
        with self._connection() as connection:
            connection.execute("DELETE FROM forgotten WHERE at < ?", (time.time() - UNDOABLE,))
            connection.execute(
                f"INSERT OR REPLACE INTO forgotten (at, {columns}) SELECT ?, {columns} FROM runs WHERE key = ?",
                (time.time(), key),
            )
            connection.execute("DELETE FROM runs WHERE key = ?", (key,))

    def take_back(self, runs: Iterable[Run]) -> None:
        """Undo `forget_run`: runs as they were, under their numbers; one that was cooked again since stays as it is."""
        columns = f"{RUN_COLUMNS}, details"
        with self._connection() as connection:
            for run in runs:
                where = "FROM forgotten WHERE id = ? AND key = ?"
                connection.execute(
                    f"INSERT OR IGNORE INTO runs ({columns}) SELECT {columns} {where}", (run.id, run.key)
                )
                connection.execute(f"DELETE {where}", (run.id, run.key))
