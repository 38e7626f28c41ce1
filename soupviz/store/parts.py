"""What is kept of a score or a run in two parts: what lists need, and what is read only with the one that is looked at.

The decisions of a search among a hundred, and what scores tell of each of a thousand classes, are most of what is kept:
a list of two thousand runs would read and hold it all.
"""

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

DECISIONS, SCORES, FACTS = "trajectory", "scores", "facts"
"""Of a run's result: its decisions and its scores; of a score: what the task tells beside its metrics."""

ORDER = ""
"""Beside lists by name: the names of all."""

VERSION = 1
"""Of a store's file: since this one everything lies in two parts."""


def apart(values: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Plain data without its lists of numbers, one for each class, and these, with the order of all names."""
    lists = {name: one for name, one in values.items() if isinstance(one, list) and one and _is_number(one[0])}
    rest = {name: one for name, one in values.items() if name not in lists}
    return rest, lists | ({ORDER: list(values)} if lists else {})


def joined(rest: Mapping[str, Any], lists: Mapping[str, Any]) -> dict[str, Any]:
    """What `apart` took apart, in its order: what is written of it is the same, byte for byte."""
    together = {name: one for name, one in {**rest, **lists}.items() if name != ORDER}
    return {name: together[name] for name in lists.get(ORDER, ()) if name in together} | together


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def score_in_parts(summary: Mapping[str, Any]) -> tuple[str, str | None]:
    """A score's summary as JSON, and what is kept apart from it."""
    rest, lists = apart(summary.get(FACTS, {}))
    return json.dumps({**summary, FACTS: rest} if lists else summary), json.dumps(lists) if lists else None


def whole_score(summary: str, details: str | None) -> dict[str, Any]:
    """What `score_in_parts` gave; the first part of it without the second."""
    found: dict[str, Any] = json.loads(summary)
    if details:
        found[FACTS] = joined(found[FACTS], json.loads(details))
    return found


def run_in_parts(result: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    """A run's result as JSON, and what is kept apart from it."""
    if not result:
        return None, None
    scores = {split: apart(score) for split, score in result.get(SCORES, {}).items()}
    details = {DECISIONS: result[DECISIONS]} if DECISIONS in result else {}
    details |= {SCORES: {split: lists for split, (_, lists) in scores.items()}} if scores else {}
    rest = {name: one for name, one in result.items() if name != DECISIONS}
    rest |= {SCORES: {split: one for split, (one, _) in scores.items()}} if scores else {}
    return json.dumps(rest), json.dumps(details)


def whole_run(result: str | None, details: str | None) -> dict[str, Any] | None:
    """What `run_in_parts` gave; the first part of it without the second."""
    if result is None:
        return None
    found: dict[str, Any] = json.loads(result)
    beside: dict[str, Any] = json.loads(details) if details else {}
    lists = beside.get(SCORES, {})
    scores = {split: joined(one, lists.get(split, {})) for split, one in found.get(SCORES, {}).items()}
    return beside | found | ({SCORES: scores} if scores else {})


def take_apart(connection: sqlite3.Connection) -> None:
    """Once for each file: lay what earlier versions kept in one part in two, in a transaction of its own."""
    if connection.execute("PRAGMA user_version").fetchone()[0] >= VERSION:
        return
    connection.execute("BEGIN IMMEDIATE")
    for table, column, divide in (("runs", "result", run_in_parts), ("results", "summary", score_in_parts)):
        whole = f"SELECT rowid, {column} FROM {table} WHERE details IS NULL AND {column} IS NOT NULL"
        for row, text in connection.execute(whole).fetchall():
            parts = divide(json.loads(text))
            connection.execute(f"UPDATE {table} SET {column} = ?, details = ? WHERE rowid = ?", (*parts, row))
    connection.execute(f"PRAGMA user_version = {VERSION}")
