"""The format `text`: a table with a sentence and its label in each row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from soupviz.data import arguments, labels, tables
from soupviz.data.classes import named
from soupviz.data.datasets import keep_texts
from soupviz.data.sources import LENGTHS, Contents, Source, ToUint8, identity_of
from soupviz.data.text import capacity, tokens
from soupviz.errors import DataError
from soupviz.spec import SplitSpec
from soupviz.types import Progress

CHUNK = 1000


def source(
    name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None, model: nn.Module, kind: labels.Kind
) -> Source:
    """Sentences, made into tokens when they are read."""
    where = f"data.{name}"
    path = folder / str(spec.path)
    of_labels = [spec.label] if isinstance(spec.label, str) else list(spec.label)
    columns = [spec.text, spec.pair, spec.label]
    column = spec.group if isinstance(spec.group, str) else None
    table = tables.read(where, path, [one for one in (spec.text, spec.pair, *of_labels, column) if one])
    texts = [table.column(key, one) for key, one in (("text", spec.text), ("pair", spec.pair)) if one]
    notes: list[str]
    order: list[str] | None
    if kind == "flags" and len(of_labels) == 1 and table.has_lists(of_labels[0]):
        lists = table.lists("label", of_labels[0])
        named_there = sorted({one for row in lists for one in row})
        order = list(classes or _own_classes(model) or named_there)
        answers, is_sorted, notes = flags_of(where, path, lists, order), False, []
    elif kind == "classes":
        cells = [table.column("label", column) for column in of_labels]
        if len(of_labels) > 1:
            raise DataError(f"{where}.label names {len(of_labels)} columns; expected one, with the class of each row.")
        answers, order, is_sorted, notes = of_classes(where, path, cells[0], classes, model)
    else:
        cells = [table.column("label", column) for column in of_labels]
        _check_rows(where, path, cells[0])
        answers, is_sorted, notes = labels.of_columns(name, of_labels, cells, kind), False, []
        order = list(classes or of_labels) if kind == "flags" else None
    notes = [*table.notes, *notes]
    groups = table.groups(spec)
    tokenizer_folder = tokens.folder_at(where, folder / str(spec.tokenizer))
    longest = tokens.longest(where, tokenizer_folder)
    longest = spec.max_length or longest or capacity.positions(model)
    known, _ = arguments.arguments_of(model)

    def read(_to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        tokenizer = tokens.load(where, tokenizer_folder)
        rows: tokens.Encoded = {}
        for start in range(0, len(answers), CHUNK):
            progress(start, len(answers), f"reading {name}")
            parts = [column[start : start + CHUNK] for column in texts]
            for argument, part in tokens.encoded(where, tokenizer, parts, longest).items():
                rows.setdefault(argument, []).extend(part)
        arrays, notes = kept(where, rows, tokenizer, model, target)
        keep_texts(target, [" / ".join(parts) for parts in zip(*texts, strict=True)])
        return Contents(arrays, answers, notes=notes, padding="left" if tokenizer.pads_left else "right")

    said = [*identity_of(path.parent, [path]), columns, order, longest, sorted(known)]
    identity = [*said, *capacity.of_model(model), str(tokenizer_folder.resolve()), tokens.identity(tokenizer_folder)]
    return Source(identity, order, False, read, is_sorted, notes, groups)


def kept(
    where: str, rows: tokens.Encoded, tokenizer: tokens.Tokenizer, model: nn.Module, target: Path
) -> tuple[dict[str, str], list[str]]:
    """Keep tokens, padded, with their lengths; the arrays by argument of the model, and what there is to tell.

    Raises:
        DataError: tokens that the model does not know, or more than it takes.
    """
    lengths = np.array([len(row) for row in rows["input_ids"]], dtype=np.int64)
    largest = max(max(row, default=0) for row in rows["input_ids"])
    told = capacity.check(where, largest, int(lengths.max()), tokenizer.size, model)
    known, _ = arguments.arguments_of(model)
    # Those that the forward names, as Trainer has it; a model of its own may take the tokens under any name.
    taken = {key: row for key, row in rows.items() if key in known} or {"": rows["input_ids"]}
    arrays = {argument: argument or "input_ids" for argument in taken}
    for argument, array in tokens.padded(taken, tokenizer).items():
        np.save(target / f"{arrays[argument]}.npy", array)
    np.save(target / f"{LENGTHS}.npy", lengths)
    if "attention_mask" not in taken:
        told.append(
            f"{where}: the model takes no attention_mask, so each sentence is padded to {lengths.max()} tokens."
        )
    return arrays, told


def _check_rows(where: str, path: Path, cells: Sequence[str]) -> None:
    if not cells:
        raise DataError(f"{where}: {path} has no rows; expected at least 2.")


def of_classes(
    where: str, path: Path, cells: Sequence[str], classes: Sequence[str] | None, model: nn.Module
) -> tuple[np.ndarray, list[str] | None, bool, list[str]]:
    """Labels as numbers, the classes in order, whether that is of their sorted names, and what there is to tell."""
    _check_rows(where, path, cells)
    found = set(cells)
    if "" in found:
        raise DataError(
            f"{where}: {path} has nothing for the label of {cells.count('')} rows; fill it in, or leave them out."
        )
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


def flags_of(where: str, path: Path, lists: Sequence[Sequence[str]], order: Sequence[str]) -> np.ndarray:
    """0 and 1 for each class, from the names of those that each row has.

    Raises:
        DataError: a name that is none of the classes.
    """
    strange = sorted({one for row in lists for one in row} - set(order))
    if strange:
        raise DataError(
            f"{where}: {path} has labels {named(strange)}; expected {named(order)}. Name all in `classes:`."
        )
    places = {label: place for place, label in enumerate(order)}
    found = np.zeros((len(lists), len(order)), dtype=np.uint8)
    for row, labels_of_row in zip(found, lists, strict=True):
        row[[places[one] for one in labels_of_row]] = 1
    return found


def _own_classes(model: nn.Module) -> list[str] | None:
    """The classes as a model's configuration names them; None where it only numbers them."""
    names = getattr(getattr(model, "config", None), "id2label", None)
    if not isinstance(names, dict) or not names:
        return None
    order = [str(names[key]) for key in sorted(names, key=int)]
    return None if all(name.upper() == f"LABEL_{place}" for place, name in enumerate(order)) else order
