"""Tables of scores as files hold them: rows of values, each with the place where it stands."""

import csv
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soupviz.analysis.samples import sample_files
from soupviz.errors import DataError
from soupviz.plain_data import json_of
from soupviz.weights.tables import marked, separator_of

Source = Path | tuple[str, bytes]
"""A file, or its name and what is in it."""

TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
FACTS = ".json"


@dataclass(frozen=True, slots=True)
class Row:
    """One model's values as they were written; `line` counts from 1."""

    file: str
    line: int
    values: Mapping[str, Any]

    def at(self, column: str = "") -> str:
        """The place, as messages name it."""
        return f"{self.file}, line {self.line}" + (f", column {column!r}" if column else "")


@dataclass(frozen=True, slots=True)
class RawTable:
    """The rows of all files; columns in the order in which they were met. facts: of models by name, from .json."""

    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    facts: Mapping[str, Mapping[str, Any]]
    facts_file: str = ""

    def values(self, column: str) -> list[tuple[Row, Any]]:
        """What stands in a column, with its row; cells with nothing in them are left out."""
        return [(row, row.values[column]) for row in self.rows if not is_missing(row.values.get(column))]


def score_files(place: Path) -> list[Path]:
    """The file itself, or what lies in a folder: tables and facts by name, or what lm-eval logged of each document.

    Raises:
        DataError: there is nothing, or a folder without tables.
    """
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise DataError(f"{place}: no such file or folder; expected a table of scores, {_kinds()}.")
    if logged := sample_files(place):
        return logged
    files = sorted(path for path in place.iterdir() if path.is_file() and path.suffix.lower() in (*TABLES, FACTS))
    if not any(path.suffix.lower() in TABLES for path in files):
        raise DataError(
            f"{place}: no table of scores in this folder; expected {_kinds()}, or a folder "
            "for each model, as lm_eval --log_samples writes."
        )
    return files


def read_raw(sources: Iterable[Source]) -> RawTable:
    """Every row of every file.

    Raises:
        DataError: a file that is neither CSV nor JSON, a row that does not fit, or no row at all.
    """
    rows: list[Row] = []
    facts: dict[str, Mapping[str, Any]] = {}
    facts_file = ""
    for source in sources:
        name, text = _text(source)
        suffix = Path(name).suffix.lower()
        if suffix == FACTS:
            facts |= _facts(name, text)
            facts_file = name
        elif suffix in (".csv", ".tsv"):
            rows += _from_csv(name, text, "\t" if suffix == ".tsv" else None)
        elif suffix in TABLES:
            rows += _from_jsonl(name, text)
        else:
            raise DataError(f"{name}: expected {_kinds()}, got a file that ends in {suffix or 'nothing'!r}.")
    if not rows:
        raise DataError(f"no row of scores was given; expected {_kinds()}, one row for each model.")
    columns = tuple(dict.fromkeys(column for row in rows for column in row.values))
    return RawTable(tuple(rows), columns, facts, facts_file)


def is_missing(value: Any) -> bool:
    """Whether nothing was measured: an empty cell, null, nan."""
    return value is None or (isinstance(value, str) and not value.strip()) or (number(value) is None and _is_nan(value))


def number(value: Any) -> float | None:
    """A finite number, or the text of one; None for all else."""
    if isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def _is_nan(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and math.isnan(float(value))
    except (TypeError, ValueError):
        return False


def _kinds() -> str:
    return "CSV (.csv, .tsv) or one JSON object a line (.jsonl, .ndjson)"


def _text(source: Source) -> tuple[str, str]:
    name, content = (source.name, source.read_bytes()) if isinstance(source, Path) else source
    try:
        return name, content.decode(marked(content) or "utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: expected UTF-8 text, got byte {error.object[error.start]:#04x} at {error.start}."
        ) from None


def _from_csv(name: str, text: str, delimiter: str | None) -> list[Row]:
    # csv.Sniffer guesses from letters too; only a few characters can divide a row.
    used = delimiter or separator_of(text.partition("\n")[0])
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=used, strict=True)
    rows: list[Row] = []
    header: Sequence[str] = ()
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = _header(name, cells)
            elif len(cells) != len(header):
                raise DataError(
                    f"{name}, line {reader.line_num}: expected {len(header)} cells as in the header, got {len(cells)}."
                )
            else:
                rows.append(Row(name, reader.line_num, dict(zip(header, cells, strict=True))))
    except csv.Error as error:
        raise DataError(f"{name}, line {reader.line_num}: this is not CSV ({error}).") from None
    return rows


def _header(name: str, cells: Sequence[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    # A first column without a name is how data frames write their row numbers or names.
    header = ["name" if not cell and index == 0 and "name" not in header else cell for index, cell in enumerate(header)]
    if not all(header):
        raise DataError(f"{name}, line 1: column {header.index('') + 1} has no name; give it one.")
    if twice := [cell for cell in header if header.count(cell) > 1]:
        raise DataError(f"{name}, line 1: two columns are named {twice[0]!r}; rename one of them.")
    return header


def _from_jsonl(name: str, text: str) -> list[Row]:
    rows = []
    for line, content in enumerate(text.splitlines(), start=1):
        if not content.strip():
            continue
        try:
            values = json_of(content)
        except json.JSONDecodeError as error:
            raise DataError(f"{name}, line {line}: this is not JSON ({error.msg}, column {error.colno}).") from None
        if not isinstance(values, dict):
            raise DataError(f"{name}, line {line}: expected a JSON object, got {type(values).__name__}.")
        row = Row(name, line, values)
        for column, value in values.items():
            if isinstance(value, (dict, list)):
                raise DataError(f"{row.at(column)}: expected a number or a text, got {type(value).__name__}.")
        rows.append(row)
    return rows


def _facts(name: str, text: str) -> dict[str, Mapping[str, Any]]:
    try:
        values = json_of(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{name}, line {error.lineno}: this is not JSON ({error.msg}, column {error.colno}).") from None
    if not isinstance(values, dict) or not all(isinstance(facts, dict) for facts in values.values()):
        raise DataError(
            f"{name}: expected what is known of each model, an object of its facts by name; a table of scores has one "
            "object a line, and ends in .jsonl."
        )
    return values
