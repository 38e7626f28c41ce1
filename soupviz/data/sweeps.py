"""A sweep's table joined to the ingredients: hyperparameters and logged metrics, as trackers export them."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from soupviz.data import tables
from soupviz.data.tables import Table
from soupviz.errors import KitchenError
from soupviz.spec import KitchenSpec
from soupviz.weights.containers import without_suffix
from soupviz.weights.discovery import Gathered
from soupviz.weights.inert import plain
from soupviz.weights.ingredients import Ingredient
from soupviz.weights.metadata import as_number
from soupviz.weights.tables import header_of

NAMING = frozenset({
    "name", "run", "runname", "runid", "id", "ingredient", "checkpoint", "checkpointpath", "ckpt", "ckptpath", "file",
    "filename", "path", "modelpath", "bestmodelpath", "outputdir", "outdir", "savedir", "logdir", "rundir", "dir",
    "folder", "artifacturi",
})  # fmt: skip
"""Columns that may say which checkpoint a row is of, without what `ORIGIN` takes off and what is no letter."""

ORIGIN = re.compile(r"^(params|metrics|config|summary|tags\.mlflow|tags)[./]")
"""Before a column's name in the exports of trackers."""

MANY = 5
"""Names that a note lists."""


def with_sweep(found: Gathered, spec: KitchenSpec, file: Path) -> Gathered:
    """Ingredients with the values of their rows; what lies beside a checkpoint, nearer to it, beats them.

    A row is of the ingredient whose name, or the end of whose path, one of its naming columns has. Rows that are of
    none, or could be of several, and ingredients with several rows are told, and nothing is taken of these.

    Raises:
        KitchenError: no such table, or one without a column that names anything.
        DataError: a table that is damaged.
    """
    if spec.sweep is None:
        return found
    told = spec.sweep
    place = file.parent / told.file
    table = _read(place, told.column, file)
    columns = _naming(table, told.column, file)
    of_rows = [_of_row(row, columns, found.ingredients, place.parent) for row in _rows(table)]
    rows: dict[str, list[int]] = {}
    for at, names in enumerate(of_rows):
        if len(names) == 1:
            rows.setdefault(names[0], []).append(at)
    values = list(_rows(table))
    taken = {name: _values(values[at[0]], columns) for name, at in rows.items() if len(at) == 1}
    joined = tuple(
        replace(item, metadata=taken[item.name] | dict(item.metadata)) if item.name in taken else item
        for item in found.ingredients
    )
    notes = _notes(table, told.file, [item.name for item in found.ingredients], of_rows, rows)
    return replace(found, ingredients=joined, told=(*found.told, *notes))


def _read(place: Path, column: str | None, file: Path) -> Table:
    if not place.is_file():
        raise KitchenError(f"{file}: sweep: {place}: no such file; expected a .csv, .tsv, .jsonl or .parquet table.")
    is_separated = place.suffix.lower() in tables.SEPARATED
    return tables.read("sweep", place, header_of(place) if is_separated else [column] if column else [])


def _naming(table: Table, column: str | None, file: Path) -> list[str]:
    if column is not None:
        if column not in table.columns:
            raise KitchenError(f"{file}: {table.where} has no column {column!r}; it has {', '.join(table.columns)}.")
        return [column]
    found = [name for name in table.columns if re.sub(r"[^a-z]", "", ORIGIN.sub("", name.lower())) in NAMING]
    if not found:
        raise KitchenError(
            f"{file}: {table.where} has no column that names a run or a checkpoint, such as name or path; say which "
            f"does: `sweep: {{file: ..., column: ...}}`. It has {', '.join(table.columns) or 'none'}."
        )
    return found


def _rows(table: Table) -> Iterator[dict[str, Any]]:
    for cells in zip(*table.columns.values(), strict=True):
        yield dict(zip(table.columns, cells, strict=True))


def _of_row(row: Mapping[str, Any], columns: Sequence[str], items: Sequence[Ingredient], folder: Path) -> list[str]:
    """The ingredients that a row may be of: those that all of its columns that name any agree on, or all they name."""
    named = [
        found for column in columns if (text := _text(row[column])) and (found := _named(text, items, folder))
    ]  # fmt: skip
    if not named:
        return []
    agreed = [name for name in named[0] if all(name in others for others in named)]
    return agreed or list(dict.fromkeys(name for names in named for name in names))


def _named(text: str, items: Sequence[Ingredient], folder: Path) -> list[str]:
    """Those that a text fits best."""
    fits = {item.name: _fit(text, item, folder) for item in items}
    best = max(fits.values(), default=0.0)
    return [name for name, fit in fits.items() if fit == best and fit > 0]


def _fit(text: str, item: Ingredient, folder: Path) -> float:
    """How well a text names an ingredient: by its name, by the end of its path, by a folder that it lies in."""
    if text == item.name:
        return 1000.0
    path, given = item.path.absolute(), text.removeprefix("file://")
    if "/" in given and (folder / given).resolve() in (path.resolve(), path.parent.resolve()):
        return 900.0
    ends = (path.parts, (*path.parts[:-1], without_suffix(path.name)), path.parts[:-1])
    if common := max(_common(PurePosixPath(given).parts, parts) for parts in ends):
        return float(common)
    # Trackers put a run's files below a folder with its number: mlruns/0/ID/artifacts, wandb/run-DATE-ID/files.
    return 0.5 if any(text in (part, part.rpartition("-")[2]) for part in path.parts[1:-1]) else 0.0


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many of the last parts of two paths are the same."""
    pairs = zip(reversed(one), reversed(other), strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _values(row: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    """The plain values of a row, by the names that its columns have without what a tracker put before them."""
    kept = {name: value for name, value in row.items() if name not in columns and value is not None}
    flat = plain({name: value.strip() if isinstance(value, str) else value for name, value in kept.items()})
    short = [ORIGIN.sub("", name) for name in flat]
    named = {ORIGIN.sub("", name) if short.count(ORIGIN.sub("", name)) == 1 else name: flat[name] for name in flat}
    return {name: as_number(value) for name, value in named.items() if value == value}  # nan is not equal to itself


def _text(cell: Any) -> str:
    if cell is None or cell != cell or isinstance(cell, (list, dict)):
        return ""
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell).strip()


def _notes(
    table: Table, file: str, names: Sequence[str], of_rows: Sequence[Sequence[str]], rows: Mapping[str, Sequence[int]]
) -> Iterator[str]:
    """What was joined, and what was not, in sentences."""
    joined = [name for name in names if len(rows.get(name, ())) == 1]
    yield f"sweep {file}: {len(joined)} of {len(names)} ingredients have a row in it."
    if missing := [name for name in names if name not in rows]:
        yield f"sweep {file}: no row is of {_some(missing)}."
    for name in (name for name in names if len(rows.get(name, ())) > 1):
        lines = ", ".join(str(table.numbers[at]) for at in rows[name])
        yield f"sweep {file}: the {table.unit}s {lines} are all of {name}; none is taken."
    for at, found in enumerate(of_rows):
        if len(found) > 1:
            yield f"sweep {file}, {table.unit} {table.numbers[at]}: could be of {_some(found)}; it is not taken."
    if others := [str(table.numbers[at]) for at, found in enumerate(of_rows) if not found]:
        yield f"sweep {file}: {len(others)} rows are of no ingredient ({table.unit} {_some(others)})."


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return ", ".join(names[:MANY]) + more
