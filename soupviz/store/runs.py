"""Runs: what a store keeps of each cooking, as a record and as a row of its table."""

import json
import sqlite3
import time
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
