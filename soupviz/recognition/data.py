"""Finding the data that judges a run: splits by their usual names below a path, or beside the run."""

import csv
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from soupviz.data.audio.waves import SUFFIXES as AUDIO_SUFFIXES
from soupviz.data.images.imagefolder import SUFFIXES as IMAGE_SUFFIXES
from soupviz.data.text import conll
from soupviz.errors import DataError
from soupviz.plain_data import json_of
from soupviz.recognition import layouts
from soupviz.recognition.columns import TEXT_COLUMNS
from soupviz.recognition.places import NAMES, Place, entries, folders
from soupviz.spec import HELD_OUT, TEST
from soupviz.weights.tables import LONGEST, marked, separator_of

FOLDERS = ("data", "dataset", "datasets")
"""Folders beside a run that are looked into."""
TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
YAML = (".yaml", ".yml")
ARRAYS = (".npz", ".safetensors")


def below(path: Path, prefer: Sequence[str] = ()) -> dict[str, Place]:
    """The splits at a path: the file itself, a folder of classes, or what is called train, val and test below it.

    Args:
        prefer: names of the split that selects, before the usual ones.
    Raises:
        DataError: there is no such path, or nothing at it that can be a split.
    """
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected the data, such as a folder of val and train.")
    if path.is_file():
        if HELD_OUT in (found := splits_in(path)):
            return found
        place = Place(path, "text", ("text",)) if path.suffix == ".txt" else kind_of(path)
        if place is None:
            raise DataError(
                f"{path}: expected an .npz or .safetensors file with inputs and labels, or a table "
                f"({', '.join(TABLES)}), a .txt with a document in each line, a data.yaml of YOLO's with a val split, "
                "or a .json of COCO's with its images below its folder; got none of them."
            )
        return {HELD_OUT: place}
    found = splits_in(path, prefer)
    if not found:
        raise DataError(
            f"{path}: holds no split; expected a folder of images, or of recordings, for each class, images with a "
            f"data.yaml, a .json of COCO's, or masks, or folders or files called {', '.join(NAMES[HELD_OUT])} or test."
        )
    return found


def splits_in(folder: Path, prefer: Sequence[str] = ()) -> dict[str, Place]:
    """The splits of a folder that can select: named ones, else itself, else those of the one folder that has some.

    Where nothing is called a validation split, the test split selects. A file is one that names its splits.
    """
    if folder.is_file():
        return layouts.yolo_splits(folder) if folder.suffix in YAML else {}
    found = _named(folder, prefer)
    if not found and (place := kind_of(folder)):
        found = {HELD_OUT: place}
    if not found:
        inner = [splits for child in folders(folder) if (splits := _named(child, prefer))]
        found = inner[0] if len(inner) == 1 else {}
    if HELD_OUT not in found and TEST in found:
        found = {HELD_OUT: found.pop(TEST)} | found
    return found if HELD_OUT in found else {}


def beside(near: Iterable[Path], may_read: Callable[[Path], bool], prefer: Sequence[str] = ()) -> dict[str, Place]:
    """The splits of the first of some folders (or its folder `data`) below which there is a split that can select.

    Where there is none, those of the one folder in the first of them that has some.
    """
    for folder in near:
        for place in [folder, *(folder / name for name in FOLDERS)]:
            if may_read(place) and place.is_dir() and HELD_OUT in (splits := _named(place, prefer)):
                return splits
    inside = [splits for folder in list(near)[:1] for child in folders(folder) if (splits := _named(child, prefer))]
    return inside[0] if len(inside) == 1 and HELD_OUT in inside[0] else {}


def _named(folder: Path, prefer: Sequence[str]) -> dict[str, Place]:
    by_name: dict[str, Path] = {}
    for path in entries(folder):
        key = path.name.lower() if path.is_dir() else path.stem.lower()
        by_name.setdefault(key, path)
    found = layouts.whole(folder, prefer)
    if HELD_OUT in found or TEST in found:
        return found
    found = {}
    for split, names in NAMES.items():
        order = [*(prefer if split == HELD_OUT else ()), *names]
        places = (kind_of(by_name[name.lower()]) for name in order if name.lower() in by_name)
        place = next((place for place in places if place), None)
        if place and all(place.path != other.path for other in found.values()):
            found[split] = place
    return found


def kind_of(path: Path) -> Place | None:
    """What a path can be as a split; None where it can be none."""
    if path.is_dir():
        return layouts.of_folder(path) or (Place(path, "imagefolder") if _is_imagefolder(path) else None)
    if path.suffix in ARRAYS:
        return Place(path, "arrays") if {"inputs", "labels"} <= _array_names(path) else None
    if path.suffix.lower() in conll.TAGGED:
        return Place(path, "text", (conll.TEXT, conll.LABEL))
    if path.suffix in TABLES:
        row = first_row(path)
        columns = tuple(row)
        if any(cell.lower().endswith(AUDIO_SUFFIXES) for cell in row.values()):
            return Place(path, "audio", columns)
        is_text = len(columns) == 1 and columns[0].lower() in TEXT_COLUMNS
        return Place(path, "text", columns) if len(columns) > 1 or is_text else None
    if path.suffix == ".json":
        above = [path.parent.parent] if path.parent.name.lower() == "annotations" else []
        return layouts.coco(path, [path.parent, *above])
    return None


def _is_imagefolder(folder: Path) -> bool:
    classes = [] if layouts.is_of_pairs(folder) else list(folders(folder))
    return len(classes) > 1 and any(
        path.suffix.lower() in IMAGE_SUFFIXES for child in classes[:20] for path in entries(child)
    )


def _array_names(path: Path) -> set[str]:
    try:
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                return {name.removesuffix(".npy") for name in archive.namelist()}
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            return set(json_of(file.read(min(length, 10**6))))
    except (OSError, ValueError, zipfile.BadZipFile):
        return set()


def columns_of(path: Path) -> tuple[str, ...]:
    """The names of a table's columns; none where it cannot be read, which is told when it is opened as a split."""
    return tuple(first_row(path))


def first_row(path: Path) -> dict[str, str]:
    """A table's columns with the cells of its first row; none where it cannot be read."""
    try:
        if path.suffix == ".parquet":
            import pandas as pd

            table = pd.read_parquet(path)
            return {str(name): str(table[name].iloc[0]) if len(table) else "" for name in table.columns}
        if path.suffix == ".jsonl":
            with path.open(encoding="utf-8-sig") as file:
                first = json_of(file.readline() or "{}")
            return {name: str(cell) for name, cell in first.items()} if isinstance(first, dict) else {}
        with path.open("rb") as file:
            head, row = file.readline(LONGEST), file.readline(LONGEST)
        coding = marked(head) or "utf-8"
        lines = (head + row).decode(coding, errors="replace").splitlines()
        names, *rows = csv.reader(lines, delimiter=separator_of(lines[0])) if lines else [[]]
        cells = [*(rows[0] if rows else []), *[""] * len(names)]
        return {name.strip(): cell for name, cell in zip(names, cells, strict=False)}
    except (OSError, ValueError, ImportError, csv.Error):
        return {}
