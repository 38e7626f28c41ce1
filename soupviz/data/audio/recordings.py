"""The format `audio`: a table that names recordings, or a folder of them for each class."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from soupviz import trust
from soupviz.data import labels, tables
from soupviz.data.audio import extracting, waves
from soupviz.data.audio.hearing import hearing_of
from soupviz.data.audio.listening import Listed, listened
from soupviz.data.images.imagefolder import class_folders
from soupviz.data.sources import Contents, Source, ToUint8, identity_of
from soupviz.data.text.sentences import of_classes
from soupviz.errors import DataError
from soupviz.spec import SplitSpec
from soupviz.types import Progress

USUAL_RATE = 16_000


def source(
    name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None, model: nn.Module, kind: labels.Kind
) -> Source:
    """Recordings, made into samples when they are read."""
    where, path = f"data.{name}", folder / str(spec.path)
    if path.is_dir():
        labels.refuse_folders(name, f"{spec.format} with a folder for each class", kind)
        found = _in_folders(name, path, classes)
    else:
        found = _in_table(name, spec, path, folder, classes, model, kind)
    extractor = extracting.load(where, folder / spec.processor) if spec.processor else None
    hearing = hearing_of(model, kind, spec.sample_rate or USUAL_RATE)

    def read(_to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        return listened(name, spec, found, hearing, extractor, kind, target, progress)

    place = Path(os.path.commonpath([path.parent for path in found.paths]))
    described = [*identity_of(place, found.paths), _digested(found), kind, spec.sample_rate, spec.seconds]
    identity = [*described, hearing.wave, hearing.told, hearing.inexact, hearing.count is not None]
    if extractor:
        identity.append(extractor.identity)
    return Source(identity, found.order, False, read, found.is_sorted, found.notes, found.groups, names=found.names)


def _digested(found: Listed) -> list[Any]:
    """What the split is made of beside the recordings' contents."""
    return [list(found.names), found.labels.dtype.str, found.labels.shape, found.labels.tobytes().hex(), found.order]


def _in_folders(name: str, path: Path, classes: tuple[str, ...] | None) -> Listed:
    found = class_folders(name, path, classes, waves.SUFFIXES, "recordings")
    paths = [_absolute(one) for one in found.paths]
    return Listed(paths, found.names, np.array(found.labels), found.order, classes is None, found.notes)


def _in_table(
    name: str,
    spec: SplitSpec,
    path: Path,
    folder: Path,
    classes: tuple[str, ...] | None,
    model: nn.Module,
    kind: labels.Kind,
) -> Listed:
    where = f"data.{name}"
    of_labels = [spec.label] if isinstance(spec.label, str) else list(spec.label)
    of_labels = [spec.transcript] if kind == "texts" else of_labels
    column = spec.group if isinstance(spec.group, str) else None
    table = tables.read(where, path, [spec.file, *of_labels, *([column] if column else [])])
    names = table.column("file", spec.file)
    if not names:
        raise DataError(f"{where}: {path} has no rows; expected at least 2.")
    paths = _paths(where, path, folder, table, names)
    cells = [table.column("transcript" if kind == "texts" else "label", one) for one in of_labels]
    groups = table.groups(spec)
    if kind == "classes":
        if len(of_labels) > 1:
            raise DataError(f"{where}.label names {len(of_labels)} columns; expected one, with the class of each row.")
        answers, order, is_sorted, notes = of_classes(where, path, cells[0], classes, model)
        return Listed(paths, names, answers, order, is_sorted, [*table.notes, *notes], groups)
    if kind == "texts" and not any(cell.strip() for cell in cells[0]):
        raise DataError(f"{where}: {path} has an empty {of_labels[0]!r} in every row; expected what is said.")
    order = list(classes or of_labels) if kind == "flags" else None
    answers = labels.of_columns(name, of_labels, cells, kind)
    return Listed(paths, names, answers, order, False, table.notes, groups, cells[0] if kind == "texts" else ())


def _paths(where: str, path: Path, folder: Path, table: tables.Table, names: Sequence[str]) -> list[Path]:
    """The recordings that a table names, all of which are there and may be read."""
    found = [_absolute(path.parent / name) for name in names]
    missing = [place for place, one in enumerate(found) if not one.is_file()]
    if missing:
        first = missing[0]
        more = f" (and {len(missing) - 1} more of {len(found)})" if len(missing) > 1 else ""
        raise DataError(
            f"{where}: {path}, {table.unit} {table.numbers[first]}, names {names[first]!r}, but {found[first]} is not "
            f"there{more}. Files are looked for from the table's folder: mend the names, or move the table."
        )
    for one in dict.fromkeys(found):
        trust.check_read(one, folder)
    return found


def _absolute(path: Path) -> Path:
    return Path(os.path.normpath(path.absolute()))
