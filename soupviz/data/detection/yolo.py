"""The format `yolo`: images, a text file of objects for each, and data.yaml, which names classes and splits."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from soupviz import trust
from soupviz.data.classes import named
from soupviz.data.detection import boxes
from soupviz.data.detection.boxes import NONE, Pictures
from soupviz.data.detection.readings import CENTRE
from soupviz.data.images.imagefolder import SUFFIXES, is_junk
from soupviz.data.sources import Contents, Source, ToUint8, identity_of
from soupviz.errors import DataError
from soupviz.plain_data import yaml_in
from soupviz.spec import HELD_OUT, SHIFTS, TEST, TRAIN, SplitSpec
from soupviz.types import Progress

YAML = ("data.yaml", "data.yml", "dataset.yaml")
"""What the file is called that says what is in the folder."""

CALLED = {HELD_OUT: ("val", "valid", "validation"), TEST: ("test",), TRAIN: ("train",)}
"""What the splits of a kitchen are called there."""

ABOVE = 4
"""In how many folders above the images the file is looked for."""

CLASSES = "classes.txt"
"""What programs for drawing boxes leave among the labels."""

SHOWN = 3

SLACK = 1e-3
"""By which a share of an image may lie outside 0 and 1."""


def source(name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None) -> Source:
    """Images in the order of their paths; a label file's classes count from 0."""
    boxes.check_transform(name, spec)
    path = folder / str(spec.path)
    file = _described(name, path)
    told = _read(name, file)
    names_of = _names(name, file, told)
    places = [path] if path.is_dir() and path != file.parent else _places(name, file, told)
    paths = _images(name, [trust.check_read(place, folder) for place in places], folder)
    root = Path(os.path.commonpath([image.parent for image in paths]))
    names = [image.relative_to(root).as_posix() for image in paths]
    label_files = [_label_file(image) for image in paths]
    there = [one for one in label_files if one.is_file()]
    if not there:
        raise DataError(
            f"data.{name}: none of {len(paths)} images has a file of labels, such as {label_files[0]}; expected "
            "folders `images` and `labels` with files of the same names."
        )
    fewer = name == TEST or name.startswith(SHIFTS)
    order = boxes.agreed(name, file.name, names_of, classes, fewer=fewer)

    def truths(index: int, size: tuple[int, int]) -> np.ndarray:
        return _objects(name, label_files[index], size, len(order)) if label_files[index].is_file() else NONE

    pictures = Pictures(names, paths, truths, [None] * len(paths), CENTRE)

    def read(to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        return boxes.read(name, pictures, to_uint8, target, progress, lambda index: label_files[index].name)

    above = Path(os.path.commonpath([root, *there]))
    notes = _idle(name, places, paths, there)
    return Source([*identity_of(above, [*paths, *there]), names, order], order, True, read, notes=notes)


def _idle(name: str, places: Sequence[Path], images: Sequence[Path], there: Sequence[Path]) -> list[str]:
    """What there is to tell of files of labels of no image. Of a list of images others may well have labels."""
    if any(place.is_file() for place in places):
        return []
    stems = {_label_file(image) for image in images}
    beside = sorted(one for folder in {one.parent for one in there} for one in folder.glob("*.txt"))
    idle = [one.name for one in beside if one not in stems and one.name != CLASSES]
    if not idle:
        return []
    return [f"data.{name}: {len(idle)} files of labels are passed over, as they are of no image: {named(idle, SHOWN)}."]


def _described(name: str, path: Path) -> Path:
    """The file that says what is in the folder: named itself, in the folder, or above its images."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"data.{name}: {path} is not a folder; expected one with data.yaml, images and labels.")
    for place in [path, *list(path.resolve().parents)[:ABOVE]]:
        for one in YAML:
            if (place / one).is_file():
                return place / one
    raise DataError(f"data.{name}: {path} holds no data.yaml, nor do the folders above it; it names the classes.")


def _read(name: str, file: Path) -> Mapping[str, Any]:
    try:
        told = yaml_in(file)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"data.{name}: {file} cannot be read as YAML: {error}.") from None
    if not isinstance(told, Mapping) or "names" not in told:
        raise DataError(f"data.{name}: {file} has no `names`; expected the classes' names, by number from 0.")
    return told


def _names(name: str, file: Path, told: Mapping[str, Any]) -> dict[int, str]:
    """The classes by number."""
    names = told["names"]
    found = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(found, Mapping) or not found or not all(isinstance(one, int) and one >= 0 for one in found):
        raise DataError(f"data.{name}: {file}: names is {str(names)[:60]}; expected a list, or names by number from 0.")
    number = told.get("nc", len(found))
    if number != len(found):
        told_names = named([str(one) for one in found.values()], SHOWN)
        raise DataError(
            f"data.{name}: {file} says nc: {number}, and names {len(found)} classes ({told_names}); expected as many. "
            "Mend the one that is wrong."
        )
    return {number: str(one) for number, one in found.items()}


def _places(name: str, file: Path, told: Mapping[str, Any]) -> list[Path]:
    """The folders, or lists, of the images of a split."""
    called = CALLED.get(name, (name.removeprefix(SHIFTS),))
    key = next((one for one in called if told.get(one)), None)
    splits = [one for names in CALLED.values() for one in names if told.get(one)]
    if key is None and splits:
        raise DataError(
            f"data.{name}: {file} has no split {called[0]!r}; it has {', '.join(splits)}. Name the folder of images "
            "itself as `path`."
        )
    root = file.parent / str(told.get("path") or "")
    root = root if root.is_dir() else file.parent  # relative to where Ultralytics keeps its data sets
    given = told[key] if key else "images"
    places = [root / str(one) for one in (given if isinstance(given, list) else [given])]
    # What Roboflow exports says ../train/images, as seen from a folder that is not there.
    return [one if one.exists() else root / Path(*[part for part in one.parts if part != ".."]) for one in places]


def _images(name: str, places: Sequence[Path], folder: Path) -> list[Path]:
    """The images of folders and lists. folder: the kitchen's, which says what may be read."""
    found: list[Path] = []
    for place in places:
        if place.is_file():
            lines = _lines(name, place)
            found += [trust.check_read(place.parent / line.strip(), folder) for line in lines if line.strip()]
        elif place.is_dir():
            found += [one for one in place.rglob("*") if one.suffix.lower() in SUFFIXES and not is_junk(one.name)]
        else:
            raise DataError(f"data.{name}: {place} is not there; expected a folder of images, or a list of them.")
    if missing := [one for one in found if not one.is_file()]:
        raise DataError(f"data.{name}: {missing[0]} is not there, nor are {len(missing) - 1} more that are listed.")
    if not found:
        raise DataError(f"data.{name}: {places[0]} holds no images.")
    return sorted(set(found))


def _lines(name: str, file: Path) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise DataError(f"data.{name}: {file} cannot be read as text: {error}. Save it as UTF-8.") from None


def _label_file(image: Path) -> Path:
    """Ultralytics' rule: the last folder `images` on the way is `labels`."""
    parts = list(image.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _objects(name: str, file: Path, size: tuple[int, int], num_classes: int) -> np.ndarray:
    """The objects of an image, in pixels. size: its width and height."""
    rows = []
    for number, line in enumerate(_lines(name, file), 1):
        if not line.strip():
            continue
        where = f"data.{name}: {file}, line {number}"
        try:
            values = [float(one) for one in line.split()]
        except ValueError:
            values = []
        is_outline = len(values) >= 7 and len(values) % 2 == 1
        if (len(values) != 5 and not is_outline) or not np.isfinite(values).all() or values[0] != int(values[0]):
            raise DataError(f"{where} is {line.strip()[:60]!r}; expected a class and a box: cx, cy, width and height.")
        if not 0 <= values[0] < num_classes:
            raise DataError(f"{where} has the class {values[0]:g}; data.yaml names {num_classes}, from 0.")
        if min(values[1:]) < -SLACK or max(values[1:]) > 1 + SLACK:
            raise DataError(
                f"{where} has {max(values[1:], key=abs):g}; expected shares of the image's width and height, from 0 to "
                "1: divide pixels by these."
            )
        shares = np.array(values[1:])
        if is_outline:
            corners = [*shares.reshape(-1, 2).min(axis=0), *shares.reshape(-1, 2).max(axis=0)]
        else:
            corners = [*(shares[:2] - shares[2:] / 2), *(shares[:2] + shares[2:] / 2)]
        x1, y1, x2, y2 = np.array(corners) * [*size, *size]
        rows.append([x1, y1, x2, y2, values[0], 0.0, (x2 - x1) * (y2 - y1)])
    return np.array(rows).reshape(-1, boxes.WIDTH)
