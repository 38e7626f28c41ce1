"""Pictures with boxes or masks, and recordings, as people lay them out in folders."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from soupviz.data.audio.waves import SUFFIXES as AUDIO_SUFFIXES
from soupviz.data.detection.yolo import CALLED
from soupviz.data.detection.yolo import YAML as DESCRIPTIONS
from soupviz.data.images.imagefolder import SUFFIXES as IMAGE_SUFFIXES
from soupviz.errors import DataError
from soupviz.plain_data import json_of
from soupviz.recognition.places import NAMES, Place, class_folders, entries, folders
from soupviz.spec import HELD_OUT
from soupviz.weights.inert import read_yaml

OF_BOXES = ("coco", "yolo")
IMAGES = ("images", "image", "imgs", "img", "jpegimages")
MASKS = ("masks", "mask", "segmentationclass", "annotations", "annotation", "labels")
"""How folders of images, and of their masks, are called beside each other."""
HEAD = 1 << 18
"""Bytes at the beginning and at the end of a JSON file that say whether it is one of COCO's."""


def whole(folder: Path, prefer: Sequence[str] = ()) -> dict[str, Place]:
    """The splits of a folder whose layout is known as one: by its data.yaml, by COCO's files, or images beside masks.

    Args:
        prefer: names of the split that selects, before the usual ones.
    """
    for file in (folder / name for name in DESCRIPTIONS):
        if file.is_file() and (found := yolo_splits(file)):
            return found
    return _coco_splits(folder, prefer) or _masked_splits(folder, prefer)


def of_folder(folder: Path) -> Place | None:
    """What a folder can be as one split, where it is none of images by classes."""
    if place := next((one for file in _annotations(folder) if (one := coco(file, [folder]))), None):
        return place
    pictures, masks = (_called(folder, names) for names in (IMAGES, MASKS))
    if pictures and masks and _holds(pictures, IMAGE_SUFFIXES) and _holds(masks, IMAGE_SUFFIXES):
        return Place(pictures, "masks", beside={"masks": masks})
    classes = list(folders(folder))
    if len(classes) > 1 and any(_holds(child, AUDIO_SUFFIXES) for child in classes[:20]):
        return Place(folder, "audio")
    return None


def is_of_pairs(folder: Path) -> bool:
    """Whether a folder holds images and what belongs to them, which are no two classes."""
    return _called(folder, IMAGES) is not None and _called(folder, MASKS) is not None


def yolo_splits(file: Path) -> dict[str, Place]:
    """The splits that a data.yaml names; none where it is none of YOLO's, or has nothing that can select."""
    told = read_yaml(file)
    if "names" not in told:
        return {}
    path = file.parent if file.name == DESCRIPTIONS[0] else file
    return {split: Place(path, "yolo") for split, names in CALLED.items() if any(told.get(one) for one in names)}


def coco(file: Path, near: Iterable[Path]) -> Place | None:
    """A file of COCO's with its images, which lie in one of some folders, or in a folder in them: in the file's own, in
    one that is called as the file is, or in the only one that has them.

    Args:
        file: which may be large: its beginning and its end say what it is.
    """
    name = _first_image(file)
    if name is None:
        return None
    held = [place for folder in near for place in _inside(folder) if (place / name).is_file()]
    words = set(_words(file.stem))
    named = [place for place in held if place == file.parent or words & set(_words(place.name))]
    if not named and len(held) > 1:  # splits whose images are called the same
        return None
    images = next(iter(named or held), None)
    return Place(images, "coco", beside={"annotations": file}) if images else None


def number_of_classes(place: Place) -> int:
    """How many outputs a head has for a split's classes: where these have numbers, one more than the largest."""
    if place.format == "yolo":
        file = place.path if place.path.is_file() else place.path / DESCRIPTIONS[0]
        names = read_yaml(file)["names"]
        return max(names) + 1 if isinstance(names, dict) else len(names)
    if place.format == "coco":
        return max(_numbers(place, "categories", "id"), default=0) + 1
    return len(class_folders(place.path))


def counts_from_zero(place: Place) -> bool:
    """Whether boxes have a class 0: COCO's numbers begin where they like, and of Roboflow's none is a 0."""
    return place.format == "yolo" or 0 in _numbers(place, "annotations", "category_id")


def _numbers(place: Place, of: str, key: str) -> set[int]:
    file = place.beside["annotations"]
    try:
        return {int(one[key]) for one in json_of(file.read_text(encoding="utf-8"))[of]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file}: is no file of COCO's: {type(error).__name__}: {error}; expected {of!r}, a list whose entries "
            f"have {key!r}. Save it anew, or name other data."
        ) from None


def _words(name: str) -> list[str]:
    """A name without capitals, and the words in it."""
    return [name.lower(), *filter(None, re.split(r"[^a-z]+", name.lower()))]


def _inside(folder: Path) -> Iterator[Path]:
    yield folder
    for child in folders(folder):
        yield child
        yield from folders(child)


def _annotations(folder: Path) -> list[Path]:
    return [path for path in entries(folder) if path.suffix.lower() == ".json"]


def _first_image(file: Path) -> str | None:
    """The first image that a file of COCO's names; None where it is none."""
    try:
        with file.open("rb") as opened:
            head = opened.read(HEAD)
            opened.seek(max(0, file.stat().st_size - HEAD))
            tail = opened.read()
    except OSError:
        return None
    if b'"images"' not in head + tail or b'"categories"' not in head + tail:
        return None
    found = re.search(rb'"file_name"\s*:\s*("(?:[^"\\\\]|\\\\.)*")', head)
    try:
        return str(json_of(found[1])) if found else None
    except ValueError:
        return None


def _coco_splits(folder: Path, prefer: Sequence[str]) -> dict[str, Place]:
    """Files whose names say the split, such as annotations/instances_val2017.json."""
    files = [*_annotations(folder), *_annotations(folder / "annotations")]
    found: dict[str, Place] = {}
    for split, names in NAMES.items():
        order = [*(prefer if split == HELD_OUT else ()), *names]
        for name in order:
            near = [one for one in files if name.lower() in _words(one.stem)]
            if place := next((place for one in near if (place := coco(one, [folder]))), None):
                found[split] = place
                break
    return found


def _masked_splits(folder: Path, prefer: Sequence[str]) -> dict[str, Place]:
    """Splits as folders of the same names among the images and among the masks."""
    pictures, masks = (_called(folder, names) for names in (IMAGES, MASKS))
    if pictures is None or masks is None:
        return {}
    found: dict[str, Place] = {}
    for split, names in NAMES.items():
        for name in [*(prefer if split == HELD_OUT else ()), *names]:
            own, of_masks = pictures / name, masks / name
            if own.is_dir() and _holds(of_masks, IMAGE_SUFFIXES):
                found[split] = Place(own, "masks", beside={"masks": of_masks})
                break
    return found


def _called(folder: Path, names: Sequence[str]) -> Path | None:
    by_name = {path.name.lower(): path for path in folders(folder)}
    return next((by_name[name] for name in names if name in by_name), None)


def _holds(folder: Path, suffixes: Sequence[str]) -> bool:
    return any(path.suffix.lower() in suffixes for path in entries(folder))
