"""The format `coco`: a folder of images, and a JSON file of their objects."""

import posixpath
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from soupviz.data.detection import boxes
from soupviz.data.detection.boxes import NONE, Pictures
from soupviz.data.detection.readings import SIZE
from soupviz.data.names import as_name
from soupviz.data.sources import Contents, Source, ToUint8, identity_of
from soupviz.errors import DataError
from soupviz.plain_data import json_of
from soupviz.spec import SHIFTS, TEST, SplitSpec
from soupviz.types import Progress

PARTS = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}
"""What the file must have, and each entry of it."""

MOST = 100_000
"""Of the numbers of categories, by which their names are listed."""


def source(name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None) -> Source:
    """Images by their numbers, as COCO's own tools take them."""
    boxes.check_transform(name, spec)
    if spec.annotations is None:
        raise DataError(f"data.{name}: format coco needs `annotations`: the JSON file of boxes and categories.")
    root, file = folder / str(spec.path), folder / spec.annotations
    if not root.is_dir():
        raise DataError(f"data.{name}: {root} is not a folder; expected the images that {file.name} names.")
    told = _read(name, file)
    images = sorted(told["images"], key=lambda one: one["id"])
    paths = [root / str(one["file_name"]) for one in images]
    _check_images(name, file, root, images, paths)
    named, notes = _named(f"data.{name}.annotations: {file}", told)
    notes += _twice(f"data.{name}.annotations: {file}", told["annotations"])
    truths = _truths(name, file, told["annotations"], {one["id"] for one in images}, named)
    fewer = name == TEST or name.startswith(SHIFTS)
    order = boxes.agreed(name, file.name, named, classes, fewer=fewer)
    pictures = Pictures(
        [str(one["file_name"]) for one in images],
        paths,
        lambda index, _size: truths.get(images[index]["id"], NONE),
        [(one["width"], one["height"]) if {"width", "height"} <= one.keys() else None for one in images],
        SIZE,
    )

    def read(to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        return boxes.read(name, pictures, to_uint8, target, progress, lambda _index: file.name)

    identity = [*identity_of(root, paths), *identity_of(file.parent, [file]), order]
    grouping = _grouping(name, spec, file, images)
    return Source(identity, order, True, read, notes=notes, grouping=grouping)


def _read(name: str, file: Path) -> Mapping[str, Any]:
    """The file, with all that is looked at later."""
    if not file.is_file():
        raise DataError(f"data.{name}.annotations: {file}: no such file; expected a JSON file as COCO has it.")
    try:
        told = json_of(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise DataError(f"data.{name}.annotations: {file} cannot be read as JSON: {error}.") from None
    for part, keys in PARTS.items():
        entries = told.get(part) if isinstance(told, dict) else None
        if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
            raise DataError(
                f"data.{name}.annotations: {file} has no list of {part}; expected a JSON file as COCO has it, with "
                f"{', '.join(PARTS)}."
            )
        for place, one in enumerate(entries):
            if lacking := [key for key in keys if key not in one]:
                raise DataError(f"data.{name}.annotations: {file}: {part}[{place}] has no {lacking[0]!r}.")
        ids = [one["id"] for one in entries] if "id" in keys else []
        if not all(isinstance(one, int) and one >= 0 for one in ids) or len(set(ids)) < len(ids):
            raise DataError(
                f"data.{name}.annotations: {file}: the ids of {part} are not each its own whole number, from 0 on."
            )
    _check_once(f"data.{name}.annotations: {file}", told["images"])
    if max((one["id"] for one in told["categories"]), default=0) > MOST:
        raise DataError(f"data.{name}.annotations: {file}: a category has an id above {MOST:,}; number them from 1 on.")
    if not told["images"] or not told["categories"]:
        raise DataError(f"data.{name}.annotations: {file} names no images, or no categories.")
    return dict(told)


def _check_once(where: str, images: Sequence[Mapping[str, Any]]) -> None:
    """Refuse an image that is listed twice, each time with a part of its objects."""
    known: dict[str, int] = {}
    for one in images:
        file = posixpath.normpath(str(one["file_name"]))
        if file in known:
            raise DataError(
                f"{where} lists the image {one['file_name']} twice, as {known[file]} and {one['id']}; expected each "
                "once. Give all its annotations one image_id."
            )
        known[file] = one["id"]


def _named(where: str, told: Mapping[str, Any]) -> tuple[dict[int, str], list[str]]:
    """The categories' names by their ids, and what there is to tell of those that are called the same.

    Some programs write one without objects beside that of the same name which has them.
    """
    named = {int(one["id"]): str(one["name"]) for one in told["categories"]}
    in_use = {one["category_id"] for one in told["annotations"] if isinstance(one["category_id"], int)}
    notes = []
    for one in sorted(set(named.values())):
        ids = [number for number, other in named.items() if other == one]
        used = [number for number in ids if number in in_use]
        if len(used) > 1:
            raise DataError(
                f"{where}: the categories {used[0]} and {used[1]} are both called {one!r}, and both have objects; "
                "rename one of them, or give their objects one category_id."
            )
        if len(ids) > 1:
            idle = ", ".join(str(number) for number in ids if number not in used)
            notes.append(f"{where}: {len(ids)} categories are called {one!r}; nothing is of the categories {idle}.")
    return named, notes


def _check_images(
    name: str, file: Path, root: Path, images: Sequence[Mapping[str, Any]], paths: Sequence[Path]
) -> None:
    outside = [one["file_name"] for one, path in zip(images, paths, strict=True) if not _is_below(path, root)]
    if outside:
        raise DataError(
            f"data.{name}: {file.name} names the image {outside[0]}, which lies outside {root}; move it there."
        )
    missing = [one["file_name"] for one, path in zip(images, paths, strict=True) if not path.is_file()]
    if missing:
        raise DataError(
            f"data.{name}: {len(missing)} of {len(images)} images that {file.name} names are not in {root}, such as "
            f"{missing[0]}. Check the path, or leave them out of the file."
        )


def _is_below(path: Path, root: Path) -> bool:
    """Whether a path leads nowhere else; links are looked at where the folder is opened."""
    return path.is_relative_to(root) and ".." not in path.relative_to(root).parts


def _truths(
    name: str, file: Path, annotations: Sequence[Mapping[str, Any]], images: set[int], named: Mapping[int, str]
) -> dict[int, np.ndarray]:
    """Of each image its objects, in the file's order."""
    found: dict[int, list[list[float]]] = {}
    for place, one in enumerate(annotations):
        where = f"data.{name}.annotations: {file}: annotations[{place}]"
        if not isinstance(one["image_id"], int) or one["image_id"] not in images:
            raise DataError(f"{where} is of the image {one['image_id']!r}, which `images` does not list.")
        if not isinstance(one["category_id"], int) or one["category_id"] not in named:
            raise DataError(f"{where} is of the category {one['category_id']!r}, which `categories` does not list.")
        try:
            x, y, width, height = map(float, one["bbox"])
            area = float(one.get("area", width * height))
        except (TypeError, ValueError):
            raise DataError(f"{where} has the bbox {one['bbox']!r}; expected x, y, width and height.") from None
        if not np.isfinite([x, y, width, height, area]).all() or width < 0 or height < 0:
            raise DataError(f"{where} has the bbox {one['bbox']}; expected x, y, width and height, none below 0.")
        row = [x, y, x + width, y + height, one["category_id"], float(bool(one.get("iscrowd", 0))), area]
        found.setdefault(one["image_id"], []).append(row)
    return {image: np.array(rows) for image, rows in found.items()}


def _twice(where: str, annotations: Sequence[Mapping[str, Any]]) -> list[str]:
    """What there is to tell of objects that are there more than once: only one of them can be found."""
    told = [str([one["image_id"], one["category_id"], one["bbox"]]) for one in annotations]
    if not (number := len(told) - len(set(told))):
        return []
    places = {one: place for place, one in reversed(list(enumerate(told)))}
    first = next(place for place, one in enumerate(told) if places[one] < place)
    return [
        f"{where}: {number} of {len(told)} annotations repeat another one, such as annotations[{first}]: what is found "
        "there counts once, so that the others count as missed."
    ]


def _grouping(
    name: str, spec: SplitSpec, file: Path, images: Sequence[Mapping[str, Any]]
) -> Callable[[Path], Sequence[str]] | None:
    """What belongs together, by a key of the images that could be decoded."""
    column = spec.group
    if not isinstance(column, str) or not any(column in one for one in images):
        return None
    where = f"data.{name}.group: {file.name}"

    def grouping(kept: Path) -> list[str]:
        corrupt = json_of((kept / "meta.json").read_text(encoding="utf-8"))["corrupt"]
        return [
            as_name(f"{where}: {one['file_name']}", one.get(column))
            for one in images
            if one["file_name"] not in corrupt
        ]

    return grouping
