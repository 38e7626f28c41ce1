"""Finding the data that judges a run: splits by their usual names below a path, or beside the run."""

import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from soupviz.data.images.imagefolder import SUFFIXES as IMAGE_SUFFIXES
from soupviz.data.images.imagefolder import is_junk
from soupviz.errors import DataError
from soupviz.recognition.runs import LABEL, TEXT, Question
from soupviz.spec import HELD_OUT, TEST
from soupviz.weights.tables import header_of

NAMES = {
    "held_out": ("held_out", "heldout", "held-out", "holdout", "validation", "val", "valid", "dev", "eval"),
    "test": ("test", "testing"),
    "train": ("train", "training"),
}
"""How splits are called, the likeliest first."""
FOLDERS = ("data", "dataset", "datasets")
"""Folders beside a run that are looked into."""
TABLES = (".csv", ".tsv", ".jsonl", ".parquet")
ARRAYS = (".npz", ".safetensors")
TEXT_COLUMNS = (
    "text", "sentence", "sentence1", "premise", "question", "question1", "review", "content", "document",
    "tokens", "words",
)  # fmt: skip
PAIR_COLUMNS = {"sentence1": "sentence2", "premise": "hypothesis", "question1": "question2", "question": "sentence"}
LABEL_COLUMNS = ("label", "labels", "target", "class", "sentiment", "category", "ner_tags", "tags", "pos_tags")
MOST = 1000
"""Entries of a folder that are looked at."""


@dataclass(frozen=True, slots=True)
class Place:
    """A split's data: an `imagefolder`, `arrays`, or a table of `text` with its columns."""

    path: Path
    format: str
    columns: tuple[str, ...] = ()


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
        place = Place(path, "text", ("text",)) if path.suffix == ".txt" else kind_of(path)
        if place is None:
            raise DataError(
                f"{path}: expected an .npz or .safetensors file with inputs and labels, or a table "
                f"({', '.join(TABLES)}), or a .txt with a document in each line; got neither."
            )
        return {HELD_OUT: place}
    found = splits_in(path, prefer)
    if not found:
        raise DataError(
            f"{path}: holds no split; expected a folder of images for each class, or folders or files called "
            f"{', '.join(NAMES[HELD_OUT])} or test."
        )
    return found


def splits_in(folder: Path, prefer: Sequence[str] = ()) -> dict[str, Place]:
    """The splits of a folder that can select: named ones, else itself, else those of the one folder that has some.

    Where nothing is called a validation split, the test split selects.
    """
    found = _named(folder, prefer)
    if not found and (place := kind_of(folder)):
        found = {HELD_OUT: place}
    if not found:
        inner = [splits for child in _folders(folder) if (splits := _named(child, prefer))]
        found = inner[0] if len(inner) == 1 else {}
    if HELD_OUT not in found and TEST in found:
        found = {HELD_OUT: found.pop(TEST)} | found
    return found if HELD_OUT in found else {}


def beside(folders: Iterable[Path], may_read: Callable[[Path], bool], prefer: Sequence[str] = ()) -> dict[str, Place]:
    """The splits of the first of some folders (or its folder `data`) below which there is a split that can select.

    Where there is none, those of the one folder in the first of them that has some.
    """
    for folder in folders:
        for place in [folder, *(folder / name for name in FOLDERS)]:
            if may_read(place) and place.is_dir() and HELD_OUT in (splits := _named(place, prefer)):
                return splits
    inside = [splits for folder in list(folders)[:1] for child in _folders(folder) if (splits := _named(child, prefer))]
    return inside[0] if len(inside) == 1 and HELD_OUT in inside[0] else {}


def _named(folder: Path, prefer: Sequence[str]) -> dict[str, Place]:
    entries: dict[str, Path] = {}
    for path in _entries(folder):
        key = path.name.lower() if path.is_dir() else path.stem.lower()
        entries.setdefault(key, path)
    found: dict[str, Place] = {}
    for split, names in NAMES.items():
        order = [*(prefer if split == HELD_OUT else ()), *names]
        places = (kind_of(entries[name.lower()]) for name in order if name.lower() in entries)
        place = next((place for place in places if place), None)
        if place and all(place.path != other.path for other in found.values()):
            found[split] = place
    return found


def kind_of(path: Path) -> Place | None:
    """What a path can be as a split; None where it can be none."""
    if path.is_dir():
        return Place(path, "imagefolder") if _is_imagefolder(path) else None
    if path.suffix in ARRAYS:
        return Place(path, "arrays") if {"inputs", "labels"} <= _array_names(path) else None
    if path.suffix in TABLES:
        columns = columns_of(path)
        is_text = len(columns) == 1 and columns[0].lower() in TEXT_COLUMNS
        return Place(path, "text", columns) if len(columns) > 1 or is_text else None
    return None


def _is_imagefolder(folder: Path) -> bool:
    classes = list(_folders(folder))
    return len(classes) > 1 and any(
        path.suffix.lower() in IMAGE_SUFFIXES for child in classes[:20] for path in _entries(child)
    )


def _entries(folder: Path) -> Iterator[Path]:
    try:
        children = sorted(folder.iterdir())[:MOST]
    except OSError:
        return
    yield from (path for path in children if not is_junk(path.name))


def _folders(folder: Path) -> Iterator[Path]:
    yield from (path for path in _entries(folder) if path.is_dir())


def _array_names(path: Path) -> set[str]:
    try:
        if path.suffix == ".npz":
            with zipfile.ZipFile(path) as archive:
                return {name.removesuffix(".npy") for name in archive.namelist()}
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            return set(json.loads(file.read(min(length, 10**6))))
    except (OSError, ValueError, zipfile.BadZipFile):
        return set()


def columns_of(path: Path) -> tuple[str, ...]:
    """The names of a table's columns; none where it cannot be read, which is told when it is opened as a split."""
    try:
        if path.suffix == ".parquet":
            import pandas as pd

            return tuple(map(str, pd.read_parquet(path).columns))
        if path.suffix == ".jsonl":
            with path.open(encoding="utf-8-sig") as file:
                first = json.loads(file.readline() or "{}")
            return tuple(first) if isinstance(first, dict) else ()
        return tuple(header_of(path))
    except (OSError, ValueError, ImportError):
        return ()


def text_columns(
    place: Place, text: str = "", label: str = "", *, is_alone: bool = False
) -> tuple[dict[str, str], list[Question]]:
    """Which columns hold the text, its pair and the label, as format `text` names them, and what has to be asked.

    Args:
        is_alone: the text is all that is wanted: it has neither pair nor label.
    """
    for asked in filter(None, (text, label)):
        if asked not in place.columns:
            raise DataError(f"{place.path}: has no column {asked!r}; its columns are {', '.join(place.columns)}.")
    lower = {name.lower(): name for name in place.columns}
    chosen = text or next((lower[name] for name in TEXT_COLUMNS if name in lower), "")
    target = label or next((lower[name] for name in LABEL_COLUMNS if name in lower), "")
    if is_alone:
        [first, *others] = place.columns
        chosen, target = chosen or ("" if others else first), ""
    elif len(place.columns) == 2 and bool(chosen) != bool(target):
        other = next(name for name in place.columns if name != (chosen or target))
        chosen, target = chosen or other, target or other
    keys, questions = {}, []
    wanted = [(TEXT, chosen, "the sentences"), *([] if is_alone else [(LABEL, target, "the labels")])]
    for key, value, what in wanted:
        if value:
            keys[key] = value
        else:
            choices = tuple(name for name in place.columns if name not in (chosen, target))
            questions.append(Question(key, f"which column of {place.path.name} holds {what}", choices))
    if not text and not is_alone and (pair := lower.get(PAIR_COLUMNS.get(chosen.lower(), ""))):
        keys["pair"] = pair
    return keys, questions
