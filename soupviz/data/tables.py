"""Tables with a row for each example: CSV, TSV, JSON lines, Parquet or lines of text, each cell as it is written."""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soupviz.data.classes import named
from soupviz.data.names import as_name
from soupviz.errors import DataError
from soupviz.extras import needed
from soupviz.models.usercode import guarded
from soupviz.spec import SplitSpec
from soupviz.weights.tables import SEPARATORS, marked

SEPARATED = {".csv": ",", ".tsv": "\t"}
"""What separates cells, by suffix, unless the columns that are wanted show only with another."""

LINES = (".jsonl", ".ndjson")
TEXTS, TEXT = ".txt", "text"
"""Of plain text each line that is not blank is a row, in the one column of this name."""
PARQUET = (".parquet", ".pq")
LONGEST_CELL = 2**31 - 1
END = "the end of the table"
"""A row put behind the last one: a quote that is never closed swallows it."""


@dataclass(frozen=True, slots=True)
class Table:
    """Cells by column and row; None where a row has none. numbers: of each row, for messages, which unit
    they count."""

    where: str
    columns: Mapping[str, Sequence[Any]]
    numbers: Sequence[int]
    unit: str = "line"
    notes: tuple[str, ...] = ()

    def column(self, key: str, name: str) -> list[str]:
        """The cells of a column as texts; whole numbers are written without a point.

        Args:
            key: of kitchen.yaml, which names it.
        Raises:
            DataError: no such column, a row that has nothing in it, or a list, which is no text.
        """
        texts = []
        for number, cell in self.cells(key, name):
            if is_list(cell):
                raise DataError(
                    f"{self.where}, {self.unit} {number}: {name!r} is the list {str(cell)[:40]}; expected a text, or a "
                    "number."
                )
            texts.append(_text_of(cell))
        return texts

    def cells(self, key: str, name: str) -> list[tuple[int, Any]]:
        """The cells of a column as they are, with their rows' numbers.

        Raises:
            DataError: no such column, or a row that has nothing in it.
        """
        if name not in self.columns:
            raise DataError(
                f"{self.where} has no column {name!r}; it has {named(list(self.columns), 8) or 'none'}. Say which with "
                f"`{key}:`."
            )
        for number, cell in zip(self.numbers, self.columns[name], strict=True):
            self._check_filled(number, name, cell)
        return list(zip(self.numbers, self.columns[name], strict=True))

    def lists(self, key: str, name: str) -> list[list[str]]:
        """The cells of a column that holds a list in each, such as the words of a sentence, as texts.

        Raises:
            DataError: no such column, or a cell that is no list.
        """
        found = []
        for number, cell in self.cells(key, name):
            if not is_list(cell):
                raise DataError(
                    f"{self.where}, {self.unit} {number}: {name!r} is the {type(cell).__name__} {str(cell)[:40]!r}; "
                    "expected a list, as .jsonl and .parquet can hold."
                )
            for item in cell:
                self._check_filled(number, name, item)
            found.append([_text_of(item) for item in cell])
        return found

    def groups(self, spec: SplitSpec) -> list[str]:
        """What each row belongs to, by the column that the split names; nothing where it names none of a table.

        Raises:
            DataError: no such column, or a row that says nothing.
        """
        if not isinstance(spec.group, str):
            return []
        rows = zip(self.numbers, self.column("group", spec.group), strict=True)
        return [as_name(f"{self.where}, {self.unit} {number}: {spec.group}", cell) for number, cell in rows]

    def has_lists(self, name: str) -> bool:
        """Whether any cell of a column is a list."""
        return any(is_list(cell) for cell in self.columns.get(name, ()))

    def _check_filled(self, number: int, name: str, cell: Any) -> None:
        if cell is None or (isinstance(cell, float) and cell != cell):  # nan is not equal to itself
            raise DataError(
                f"{self.where}, {self.unit} {number}, has nothing in {name!r}; fill it in, or leave it out."
            )


def _text_of(cell: Any) -> str:
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def is_list(cell: Any) -> bool:
    """Whether a cell holds several things; of Parquet it may be an array."""
    return isinstance(cell, (list, tuple)) or (hasattr(cell, "ndim") and cell.ndim == 1)


def read(where: str, path: Path, wanted: Sequence[str]) -> Table:
    """A table.

    Args:
        where: the split, for messages. wanted: columns that it must have, which tell how a CSV's cells are separated.
    Raises:
        DataError: no such file, of another kind, or damaged: with the line and the remedy.
    """
    place, kind = f"{where}: {path}", path.suffix.lower()
    if not path.is_file():
        raise DataError(
            f"{place}: no such file; expected a .csv, .tsv, .jsonl or .parquet table of sentences, or .txt."
        )
    if kind in SEPARATED:
        return _separated(place, text_of(place, path), SEPARATED[kind], wanted)
    if kind in LINES:
        return _lines(place, text_of(place, path))
    if kind == TEXTS:
        rows = [(number, line) for number, line in enumerate(text_of(place, path).splitlines(), 1) if line.strip()]
        return Table(place, {TEXT: [line for _, line in rows]}, [number for number, _ in rows])
    if kind in PARQUET:
        return _parquet(place, path)
    raise DataError(f"{place} ends in {kind or 'nothing'}; expected .csv, .tsv, .jsonl, .parquet or .txt.")


def text_of(place: str, path: Path) -> str:
    """A file as text.

    Raises:
        DataError: it is none, with the line where that shows.
    """
    data = path.read_bytes()
    encoding = marked(data) or "utf-8"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        read = error.object  # without a mark at its start
        line = read.count(b"\n", 0, error.start) + 1
        kind = encoding.removesuffix("-sig").upper()
        raise DataError(
            f"{place}, line {line}, has the byte {read[error.start]:#04x}, which is no {kind}; save "
            "the table as UTF-8 (iconv -f WINDOWS-1252 -t UTF-8, if it comes from Windows)."
        ) from None


def _separated(place: str, text: str, separator: str, wanted: Sequence[str]) -> Table:
    """Rows of cells; in a table separated by tabs a quote is a quote unless its header is quoted."""
    headers = {one: _header(text, one) for one in dict.fromkeys((separator, *SEPARATORS))}
    taken = next((one for one, names in headers.items() if set(wanted) <= set(names)), separator)
    header = headers[taken]
    for name in wanted:
        if header.count(name) > 1:
            raise DataError(f"{place} has {header.count(name)} columns {name!r}; expected one.")
    *rows, last = [(line, cells) for line, cells in _rows(text, taken) if cells]
    if last[1] != [END]:
        raise DataError(f"{place}, line {last[0]}: a quote that opens in this row is never closed; close or double it.")
    for line, cells in rows[1:]:
        if any(cells[len(header) :]):  # empty ones come of a separator at the end of each line
            raise DataError(
                f"{place}, line {line}, has {len(cells)} cells, the header {len(header)}; put quotes around a cell "
                f"that holds {taken!r}."
            )
    columns = {
        name: [cells[index] if index < len(cells) else None for _, cells in rows[1:]]
        for index, name in enumerate(header)
    }
    notes = () if taken == separator else (f"{place}: its cells are separated by {taken!r}.",)
    return Table(place, columns, [line for line, _ in rows[1:]], notes=notes)


def _header(text: str, separator: str) -> list[str]:
    first = next(cells for _, cells in _rows(text, separator) if cells)
    return [] if first == [END] else [name.strip() for name in first]


def _rows(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Each row with the line that it begins in, then END as a row of its own."""
    is_quoted = separator != "\t" or text.startswith('"')
    lines = io.StringIO(text + ("" if text.endswith(("\n", "\r")) else "\n") + END, newline="")
    reader = csv.reader(lines, delimiter=separator, quoting=csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE)
    before, begins = csv.field_size_limit(LONGEST_CELL), 1
    try:
        for cells in reader:
            yield begins, cells
            begins = reader.line_num + 1
    finally:
        csv.field_size_limit(before)


def _lines(place: str, text: str) -> Table:
    rows: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{place}, line {number}, is no JSON ({error}); expected one object a line.") from None
        if not isinstance(row, dict):
            raise DataError(f"{place}, line {number}, is a {type(row).__name__}; expected one JSON object a line.")
        rows.append((number, row))
    names = dict.fromkeys(name for _, row in rows for name in row)
    return Table(place, {name: [row.get(name) for _, row in rows] for name in names}, [number for number, _ in rows])


def _parquet(place: str, path: Path) -> Table:
    import pandas as pd

    with needed(place, DataError):
        import pyarrow  # noqa: F401 - pandas' own engine
    with guarded(lambda told: DataError(f"{place} is no whole Parquet file: {told}")):
        frame = pd.read_parquet(path)
    frame = frame.reset_index() if any(frame.index.names) else frame
    return Table(place, {str(name): frame[name].tolist() for name in frame.columns}, range(1, len(frame) + 1), "row")
