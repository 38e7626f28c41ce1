"""Whether every number that was kept comes out again, on a fresh store and a fresh cache."""

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.soak.server import ASKED
from soupviz.errors import SoupError
from soupviz.files import STORE
from soupviz.kitchen import Kitchen, at_precision
from soupviz.recipes import parse
from soupviz.soups.cooking import cook
from soupviz.store.database import open_store
from soupviz.store.runs import Run


def recounted(file: Path, tell: Callable[[str], None]) -> list[str]:
    """Score all anew that was scored, cook all that was cooked; what differs, in sentences."""
    kept = open_store(file)
    problems = [] if (found := kept.check()) == "ok" else [f"the store: {found}"]
    runs = [run for run in kept.runs() if run.status == "finished"]
    with tempfile.TemporaryDirectory() as fresh:
        folder = Path(fresh) / "kitchen"
        shutil.copytree(file.parent, folder, ignore=shutil.ignore_patterns(STORE, "*.html"))
        before, os.environ["SOUPVIZ_CACHE"] = os.environ.get("SOUPVIZ_CACHE"), str(Path(fresh) / "cache")
        try:
            problems += _again(file, Kitchen.load(folder), [kept.whole(run) for run in runs], tell)
        finally:
            os.environ.pop("SOUPVIZ_CACHE")
            if before is not None:
                os.environ["SOUPVIZ_CACHE"] = before
    return problems


def _again(file: Path, kitchen: Kitchen, runs: list[Run], tell: Callable[[str], None]) -> list[str]:
    problems = []
    ways = {precision: at_precision(kitchen, precision) for precision in ("float32", "bfloat16")} | {
        kitchen.spec.precision: kitchen
    }
    for run in runs:
        try:
            cook(ways[(run.result or {})["made_in"]["precision"]], parse(run.recipe))
        except SoupError as error:
            problems.append(f"{run.name} cannot be cooked again: {error}")
            continue
        again = kitchen.store.run(run.key)
        if again is None or _decided(kitchen.store.whole(again)) != _decided(run):
            problems.append(f"{run.name} decides otherwise when it is cooked again")
    asked: dict[str, Any] = {}
    for line in (file.parent / STORE / ASKED).read_text(encoding="utf-8").splitlines():
        try:
            key, mix, split, aggregation = json.loads(line)
        except ValueError:  # the server was killed while it wrote
            continue
        asked[key] = tuple((name, weight) for name, weight in mix), split, aggregation
    _take_formulas(file, kitchen)
    old, missing = _kept(file), 0
    for key, value in old.items():
        if key not in asked:
            missing += 1
            continue
        scores = ways[value[0]["precision"]].scores  # pages compare with another precision
        score = scores.score(*asked[key])
        if (came := scores.key(*asked[key])) != key:
            problems.append(f"{asked[key]} is kept under another key: {came}")
        elif _kept(kitchen.file, key)[key] != value:
            problems.append(f"{asked[key]} was kept as {value[0]}, and comes to {score.as_plain()}")
    tell(f"{len(old) - missing} scores and {len(runs)} soups were made again")
    if missing:
        problems.append(f"{missing} scores were kept that nobody was seen to ask for")
    return problems


def _take_formulas(file: Path, kitchen: Kitchen) -> None:
    """What was moved on a page and never cooked is mixed by formulas that only the store knows by name."""
    connection = sqlite3.connect(file.parent / STORE / "store.sqlite")
    for name, formula in connection.execute("SELECT name, formula FROM formulas").fetchall():
        if kitchen.store.formula(name) is None:
            kitchen.store.keep_formula(name, formula)
    connection.close()


def _decided(run: Run) -> Any:
    """What a search came to: its mix, and the value of each candidate that it scored whole."""
    result = run.result or {}
    return [result.get("mix"), result.get("coefficients"), result.get("pool")]


def _kept(file: Path, key: str | None = None) -> dict[str, tuple[Any, bytes]]:
    """Of each score that was kept whole, or of one, its summary and the columns of its units."""
    query = "SELECT results.key, summary, columns FROM results JOIN outcomes ON outcomes.key = results.key"
    where, values = (" WHERE results.key = ?", (key,)) if key else ("", ())
    connection = sqlite3.connect(file.parent / STORE / "store.sqlite")
    rows = connection.execute(query + where, values).fetchall()
    connection.close()
    return {name: (json.loads(summary), columns) for name, summary, columns in rows}
