"""The format `text`: a table with a sentence and its label in each row."""

import csv
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from soupviz.config import SplitSpec
from soupviz.data import arguments, tokens
from soupviz.data.classes import named
from soupviz.data.datasets import keep_texts
from soupviz.data.sources import LENGTHS, Contents, Source, ToUint8, identity_of
from soupviz.errors import DataError, told
from soupviz.records import Progress

if TYPE_CHECKING:
    import pandas as pd

CHUNK = 1000
SEPARATORS = {".csv": ",", ".tsv": "\t"}
LINES = (".jsonl", ".ndjson")
PARQUET = (".parquet", ".pq")


def source(name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None, model: nn.Module) -> Source:
    """Sentences, made into tokens when they are read."""
    where = f"data.{name}"
    path = folder / str(spec.path)
    table = _table(where, path)
    texts = [_column(where, path, table, column) for column in (spec.text, spec.pair) if column]
    labels, order, is_sorted, notes = _labels(where, path, _column(where, path, table, spec.label), classes, model)
    groups = _column(where, path, table, spec.group) if spec.group else []
    tokenizer_folder = folder / str(spec.tokenizer)
    longest = tokens.longest(where, tokenizer_folder)
    longest = spec.max_length or longest or tokens.positions(model)
    known, _ = arguments.arguments_of(model)

    def read(_to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        tokenizer = tokens.load(where, tokenizer_folder)
        rows: tokens.Encoded = {}
        for start in range(0, len(labels), CHUNK):
            progress(start, len(labels), f"reading {name}")
            parts = [column[start : start + CHUNK] for column in texts]
            for argument, part in _encoded(where, tokenizer, parts, longest).items():
                rows.setdefault(argument, []).extend(part)
        lengths = np.array([len(row) for row in rows["input_ids"]], dtype=np.int64)
        # Those that the forward names, as Trainer has it; a model of its own may take the tokens under any name.
        taken = {key: row for key, row in rows.items() if key in known} or {"": rows["input_ids"]}
        arrays = {argument: argument or "input_ids" for argument in taken}
        for argument, array in tokens.padded(taken, tokenizer).items():
            np.save(target / f"{arrays[argument]}.npy", array)
        np.save(target / f"{LENGTHS}.npy", lengths)
        keep_texts(target, [" / ".join(parts) for parts in zip(*texts, strict=True)])
        unmasked = f"{where}: the model takes no attention_mask, so each sentence is padded to {lengths.max()} tokens."
        notes = [] if "attention_mask" in taken else [unmasked]
        return Contents(arrays, labels, notes=notes, padding="left" if tokenizer.pads_left else "right")

    columns = [spec.text, spec.pair, spec.label]
    said = [*identity_of(path.parent, [path]), columns, order, longest, sorted(known)]
    identity = [*said, str(tokenizer_folder.resolve()), tokens.identity(tokenizer_folder)]
    return Source(identity, order, False, read, is_sorted, notes, groups)


def _encoded(
    where: str, tokenizer: tokens.Tokenizer, parts: Sequence[Sequence[str]], longest: int | None
) -> tokens.Encoded:
    try:
        return tokenizer.encode(parts[0], parts[1] if len(parts) > 1 else None, longest)
    except Exception as error:  # whatever the library raises
        raise DataError(f"{where}: the tokenizer fails on these sentences with {told(error)}") from error


def _table(where: str, path: Path) -> "pd.DataFrame":
    """The rows of a table, each cell as it is written."""
    import pandas as pd

    if not path.is_file():
        raise DataError(f"{where}: {path}: no such file; expected a .csv, .tsv, .jsonl or .parquet table of sentences.")
    kind = path.suffix.lower()
    try:
        if kind in SEPARATORS:
            return _separated(path, SEPARATORS[kind])
        if kind in LINES:
            return pd.read_json(path, lines=True, dtype=False)
        if kind in PARQUET:
            return pd.read_parquet(path)
    except ImportError:
        raise DataError(f"{where}: {path} needs the package pyarrow: pip install pyarrow") from None
    except Exception as error:  # whatever pandas and pyarrow raise on files that are damaged
        raise DataError(f"{where}: {path} cannot be read as {kind}: {told(error)}") from error
    raise DataError(f"{where}: {path} ends in {kind or 'nothing'}; expected .csv, .tsv, .jsonl or .parquet.")


def _separated(path: Path, separator: str) -> "pd.DataFrame":
    """A CSV, or a table separated by tabs, in which a quote is a quote unless its header is quoted."""
    import pandas as pd

    with path.open(encoding="utf-8-sig") as file:
        is_quoted = separator != "\t" or file.read(1) == '"'
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)  # rows with more cells than the header
        return pd.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False,
            quoting=csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE,
        )  # fmt: skip


def _column(where: str, path: Path, table: "pd.DataFrame", column: str) -> list[str]:
    """The cells of a column as texts; whole numbers are written without a point."""
    if column not in table.columns:
        raise DataError(
            f"{where}: {path} has no column {column!r}; it has {named(list(map(str, table.columns)), 8)}. "
            "Say which with `text:` and `label:`."
        )
    cells: list[Any] = table[column].tolist()
    for number, cell in enumerate(cells):
        if cell is None or cell != cell:  # nan is not equal to itself
            raise DataError(
                f"{where}: {path}, row {number + 1}, has nothing in {column!r}; fill it in, or leave it out."
            )
    return [str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell) for cell in cells]


def _labels(
    where: str, path: Path, cells: Sequence[str], classes: Sequence[str] | None, model: nn.Module
) -> tuple[np.ndarray, list[str] | None, bool, list[str]]:
    """Labels as numbers, the classes in order, whether that is of their sorted names, and what there is to tell."""
    found = set(cells)
    if not found:
        raise DataError(f"{where}: {path} has no rows; expected at least 2.")
    are_numbers = all(cell.removeprefix("-").isdecimal() for cell in found)
    own = None if classes else _own_classes(model)
    is_sorted = not (classes or are_numbers or found <= set(own or ()))
    order = list(classes or (sorted(found) if is_sorted else own) or ())
    if order and found <= set(order):
        notes = [f"{where}: the order of the classes is the model's own: {named(order)}."] if order == own else []
        places = {label: place for place, label in enumerate(order)}
        if are_numbers and any(int(label) != places[label] for label in found):
            notes.append(f"{where}: its labels are read as names of classes, not as positions in them.")
        return np.array([places[cell] for cell in cells]), order, is_sorted, notes
    numbers = [int(cell) for cell in cells] if are_numbers else [-1]
    if min(numbers) < 0 or (order and max(numbers) >= len(order)):
        expected = f"{named(order)}, or positions in these from 0" if order else "positions of classes, from 0"
        strange = sorted(found - set(order), key=lambda cell: (not cell.startswith("-"), cell))
        raise DataError(f"{where}: {path} has labels {named(strange)}; expected {expected}. Name all in `classes:`.")
    return np.array(numbers), order or None, False, []


def _own_classes(model: nn.Module) -> list[str] | None:
    """The classes as a model's configuration names them; None where it only numbers them."""
    names = getattr(getattr(model, "config", None), "id2label", None)
    if not isinstance(names, dict) or not names:
        return None
    order = [str(names[key]) for key in sorted(names, key=int)]
    return None if all(name.upper() == f"LABEL_{place}" for place, name in enumerate(order)) else order
