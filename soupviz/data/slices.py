"""Slices: parts of a split by which performance is looked at, by a column of a CSV beside the kitchen."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soupviz.errors import DataError, did_you_mean
from soupviz.files import digest
from soupviz.spec import GroupSpec, SliceSpec, SplitSpec
from soupviz.types import Slices
from soupviz.weights.names import natural_key

FILE_COLUMNS = ("file", "filename", "path", "name")
"""What a column that names files may be called, the first of them that is there."""

OF_FILES = ("imagefolder", "coco", "yolo", "masks")
"""Formats whose examples are files, by which rows are found; of others they are in the examples' order."""

Cell = tuple[int, str]
"""A line of the CSV, and what it says of its example."""

Rows = Sequence[tuple[int, Mapping[str, Any]]]
"""Lines of the CSV with their numbers."""


def divided(column: str, values: Sequence[str]) -> Slices:
    """A slice for each value that occurs, in natural order.

    Args:
        values: of the column, one for each example.
    """
    names = sorted(set(values), key=natural_key)
    places = {name: place for place, name in enumerate(names)}
    return Slices(column, tuple(names), np.array([places[value] for value in values], dtype=np.int64))


def taken(whole: Slices, rows: NDArray[np.int64]) -> Slices:
    """Of some of the examples, those slices that have one. rows: positions."""
    return divided(whole.column, [whole.names[place] for place in whole.index[rows].tolist()])


def fingerprint(slices: Slices) -> str:
    """Of which examples are in which slice: of a recipe's run key, where the recipe looks at slices."""
    return digest([slices.names, slices.index.tolist()])


def read(
    name: str, spec: SplitSpec, folder: Path, files: Sequence[str], places: Sequence[int], num_examples: int
) -> list[str]:
    """The value of the column that a split's `slices` name, for each of its examples in their order.

    Args:
        name: of the split, for messages. folder: what paths in the spec are relative to.
        files: of the examples, where the format has them. places: of each among all of them, those left out as corrupt
            among them; num_examples: how many these are.
    Raises:
        DataError: no such file or column; another number of rows; a file without a row, or with two; an empty cell.
    """
    assert spec.slices is not None
    return values_of(f"data.{name}.slices", spec.slices, spec, folder, files, places, num_examples)


def values_of(
    key: str,
    named: SliceSpec | GroupSpec,
    spec: SplitSpec,
    folder: Path,
    files: Sequence[str],
    places: Sequence[int],
    num_examples: int,
) -> list[str]:
    """The same of any column of a CSV. key: in kitchen.yaml, which names it."""
    path, column = folder / named.file, named.column
    where = f"{key}: {path}"
    header, rows = _table(where, path, column)
    cells = [(line, (row[column] or "").strip()) for line, row in rows]
    if spec.format in OF_FILES or (spec.format == "audio" and (folder / str(spec.path)).is_dir()):
        found = _by_file(where, str(spec.path), _file_column(where, header, column, files), rows, cells, files)
    elif len(cells) != num_examples:
        raise DataError(
            f"{where} has {len(cells)} rows, the split has {num_examples} examples; expected a row for each example, "
            "in their order. Add what is missing, or name the CSV of this split."
        )
    else:
        found = [cells[place] for place in places]
    for line, value in found:
        if not value:
            raise DataError(
                f"{where}, line {line}: the column {column!r} is empty; expected a value for every example. Fill it "
                "in, if need be with unknown."
            )
    return [value for _, value in found]


def _table(where: str, path: Path, column: str) -> tuple[list[str], Rows]:
    """The header of a CSV that has the column, and its rows with their line numbers."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # a spreadsheet may have put a mark at its start
            reader = csv.DictReader(file, skipinitialspace=True)
            rows = [(reader.line_num, row) for row in reader]
            header = list(reader.fieldnames or [])
    except FileNotFoundError:
        raise DataError(f"{where}: no such file; expected a CSV with a column {column!r}.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{where} cannot be read as a CSV: {error}; save it as UTF-8, with commas.") from None
    if column not in header:
        raise DataError(f"{where} has no column {column!r}; {did_you_mean(column, header, 'it has')}")
    return header, rows


def _file_column(where: str, header: Sequence[str], column: str, files: Sequence[str]) -> str:
    for known in FILE_COLUMNS:
        for name in header:
            if name != column and name.lower() == known:
                return name
    raise DataError(
        f"{where} has no column that names files; expected one called {', '.join(FILE_COLUMNS[:-1])} or "
        f"{FILE_COLUMNS[-1]}, with values such as {files[0]}."
    )


def _by_file(
    where: str,
    root: str,
    named: str,
    rows: Rows,
    cells: Sequence[Cell],
    files: Sequence[str],
) -> list[Cell]:
    """The cell of each file, which a row names by its path from the kitchen or from the split's folder, or by name."""
    known: dict[str, Cell] = {}
    for (line, row), cell in zip(rows, cells, strict=True):
        file = PurePosixPath((row[named] or "").strip().replace("\\", "/")).as_posix()
        if known.setdefault(file, cell)[1] != cell[1]:
            raise DataError(
                f"{where}, line {line}: {file} is {cell[1]!r}, but {known[file][1]!r} in line {known[file][0]}; "
                "expected one row for a file. Where file names repeat, write CLASS/FILE."
            )
    same = Counter(PurePosixPath(file).name for file in files)
    found: list[Cell] = []
    missing = []
    for file in files:
        short = PurePosixPath(file).name
        names = [name for name in ((PurePosixPath(root) / file).as_posix(), file, short) if name in known]
        if names == [short] != [file] and same[short] > 1:
            raise DataError(
                f"{where}, line {known[short][0]}: {short} names {same[short]} files of the split; expected one. "
                f"Write {file}."
            )
        found += [known[names[0]]] if names else []
        missing += [] if names else [file]
    if missing:
        more = f" and for {len(missing) - 1} more files" if len(missing) > 1 else ""
        raise DataError(f"{where} has no row for {missing[0]}{more}; expected one for every file. Add it.")
    return found
