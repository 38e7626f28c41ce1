"""Boxes of objects as labels: checked, scaled as their images are, and what there is to tell of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soupviz.data import labels
from soupviz.data.detection.readings import (
    CORNERS,
    nearest,
    reread,
    without_area,
)
from soupviz.data.images.imagefolder import decode
from soupviz.data.sources import Contents, ToUint8
from soupviz.errors import DataError
from soupviz.spec import SplitSpec
from soupviz.types import Progress

if TYPE_CHECKING:
    from PIL import Image

TOLERANCE = 1.0
"""Pixels by which a box may leave its image before anybody is told."""

MANY = 0.1
"""Share of boxes that leave their images from which the boxes may be something else."""

FEW = 20
"""Boxes by whose overlaps nothing is said."""

CROWDED = 0.2
"""How much less boxes must overlap each other in another reading."""

MOVING = ("rotate",)
"""Corruptions that move what is in an image, and not its boxes."""

WIDTH = 7
"""Numbers of an object: x1, y1, x2, y2, class, whether it stands for a crowd, area."""

NONE = np.empty((0, WIDTH))


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """Images with the objects in each.

    names: as messages and cards call them. truths: of an image, whose width and height are given, rows of WIDTH
    numbers in pixels of the file. sizes: of each image its width and height where the annotations tell them, or None.
    form: of the four numbers of a box, as the format has them.
    """

    names: Sequence[str]
    paths: Sequence[Path]
    truths: Callable[[int, tuple[int, int]], np.ndarray]
    sizes: Sequence[tuple[int, int] | None]
    form: str


def check_transform(name: str, spec: SplitSpec) -> None:
    """Refuse what would cut objects off, or move them.

    Raises:
        DataError: naming the key.
    """
    transform = spec.transform
    if transform is None:
        return
    for key in ("crop", "preset"):
        if getattr(transform, key) is not None:
            raise DataError(
                f"data.{name}.transform.{key}: of images with boxes nothing may be cut off; remove it. `resize` alone "
                "keeps whole images, and scales their boxes."
            )
    if transform.corrupt in MOVING:
        raise DataError(
            f"data.{name}.transform.corrupt: {transform.corrupt} moves objects out of their boxes; take another."
        )


def read(
    name: str, pictures: Pictures, to_uint8: ToUint8, target: Path, progress: Progress, told: Callable[[int], str]
) -> Contents:
    """Decode the images, each in its own shape, and scale the boxes as the transform scales them.

    Args:
        told: where the objects of an image are told, for messages.
    """
    before: dict[int, tuple[int, int]] = {}
    after: dict[int, tuple[int, int]] = {}

    def image(index: int) -> "Image.Image":
        from PIL import Image

        opened = Image.open(pictures.paths[index])
        before[index] = opened.size
        return opened

    def whole(picture: "Image.Image", index: int) -> np.ndarray:
        found = to_uint8(picture, index)
        after[index] = found.shape[2], found.shape[1]
        return found

    done = decode(name, image, pictures.names, whole, target, progress, own_shapes=True)
    truths, sizes = [], []
    for place, index in enumerate(done.kept):
        if index not in before:  # a killed process had decoded it
            with image(index):
                pass
            after[index] = done.shapes[place][2], done.shapes[place][1]
        _check_size(name, pictures, index, before[index], told)
        found = pictures.truths(index, before[index])
        truths.append(_scaled(found, before[index], after[index]))
        sizes.append(after[index])
    files = [pictures.names[index] for index in done.kept]
    notes = [*done.notes, *notes_of(name, truths, sizes, files, pictures.form)]
    return Contents({"": "inputs"}, as_labels(truths), files, done.corrupt, notes, listed=[""])


def _check_size(name: str, pictures: Pictures, index: int, size: tuple[int, int], told: Callable[[int], str]) -> None:
    expected = pictures.sizes[index]
    if expected is not None and expected != size:
        raise DataError(
            f"data.{name}: {pictures.names[index]} has {size[0]} x {size[1]} pixels, but {told(index)} says "
            f"{expected[0]} x {expected[1]}: its boxes are of another image, or it was turned since. Make them agree."
        )


def _scaled(truths: np.ndarray, before: tuple[int, int], after: tuple[int, int]) -> np.ndarray:
    if before == after:
        return truths
    x, y = after[0] / before[0], after[1] / before[1]
    return np.asarray(truths * np.array([x, y, x, y, 1.0, 1.0, x * y]))


def as_labels(truths: Sequence[np.ndarray]) -> np.ndarray:
    """One array for all images, filled up."""
    return np.stack(labels.padded([np.asarray(one, dtype=np.float64).reshape(-1, WIDTH) for one in truths]))


def notes_of(
    name: str, truths: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], files: Sequence[str], form: str
) -> list[str]:
    """What there is to tell of boxes that are odd. sizes: width and height of each image. form: as of `Pictures`.

    Raises:
        DataError: there is no box at all.
    """
    held = np.concatenate([*truths, NONE])
    if not len(held):
        raise DataError(f"data.{name}: none of {len(files)} images has a box; there is nothing to be found.")
    of = np.repeat(np.arange(len(truths)), [len(one) for one in truths])
    ends = np.array(sizes, dtype=np.float64).reshape(-1, 2)[of]
    beyond, flat = _leaving(held[:, :4], ends), without_area(held[:, :4])
    notes = []
    if flat.any():
        notes.append(
            f"data.{name}: {flat.sum()} of {len(held)} boxes have no area (the first in {files[of[flat.argmax()]]}): "
            "nothing can match them, so they count as missed."
        )
    if beyond.any():
        notes.append(
            f"data.{name}: {beyond.sum()} of {len(held)} boxes leave their images (the first in "
            f"{files[of[beyond.argmax()]]}); they are taken as they are."
        )
    if told := _corners(held[:, :4], of, ends, form):
        notes.append(f"data.{name}: the boxes are probably {CORNERS}, where {form} is expected: {told}.")
    if empty := sum(not len(one) for one in truths):
        notes.append(f"data.{name}: {empty} of {len(files)} images have no box: what is found there counts as wrong.")
    return notes


def _leaving(boxes: np.ndarray, ends: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[:, :2] < -TOLERANCE).any(axis=1) | (boxes[:, 2:] > ends + TOLERANCE).any(axis=1))


def _corners(boxes: np.ndarray, of: np.ndarray, ends: np.ndarray, form: str) -> str:
    """By what boxes show that their numbers are corners, if they do: as corners each has an area inside its image, and
    as they are many leave it, or they lie on each other."""
    otherwise = reread(boxes, form, CORNERS)
    if form == CORNERS or without_area(otherwise).any() or _leaving(otherwise, ends).any():
        return ""
    beyond = _leaving(boxes, ends).mean()
    if beyond > MANY:
        return f"as corners all lie inside their images, as they are {beyond:.0%} leave them"
    if len(boxes) < FEW:
        return ""
    now, then = (_crowding(one, of) for one in (boxes, otherwise))
    if now - then < CROWDED:
        return ""
    return f"as corners they overlap the nearest of their image by {then:.2f} (mean IoU), as they are by {now:.2f}"


def _crowding(boxes: np.ndarray, of: np.ndarray) -> float:
    """How much of each box the nearest other one of its image overlaps, on average of those that have one."""
    found = nearest(boxes, of)
    return float(found[np.bincount(of)[of] > 1].mean()) if (np.bincount(of) > 1).any() else 0.0


def names_by_number(named: Mapping[int, str]) -> list[str]:
    """Names by their number, from 0; a number that has none stands for itself."""
    return [named.get(number, str(number)) for number in range(max(named) + 1)]


def agreed(name: str, where: str, named: Mapping[int, str], known: Sequence[str] | None, *, fewer: bool) -> list[str]:
    """The names of classes by their numbers, as they are in every split.

    Args:
        named: as this split has them. known: as held_out or `classes:` has them. fewer: whether some may be missing.
    Raises:
        DataError: a class is called otherwise, or missing on one side.
    """
    own = names_by_number(named)
    if known is None:
        return own
    for number, one in sorted(named.items()):
        other = known[number] if number < len(known) else None
        if other != one:
            told = f"is {other!r} in held_out or `classes:`" if other and other != str(number) else "has no name there"
            raise DataError(
                f"data.{name}: {where} calls the category {number} {one!r}, which {told}; every split has the "
                "categories of held_out, by number."
            )
    missing = [one for number, one in enumerate(known) if number not in named and one != str(number)]
    if missing and not fewer:
        raise DataError(
            f"data.{name}: {where} lacks the category {missing[0]!r}; only test and shifts may have fewer than "
            "held_out."
        )
    return list(known)
