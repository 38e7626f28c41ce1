"""The format `imagefolder`, and decoding pictures into one array on disk."""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from soupviz.data.classes import named
from soupviz.data.images import pixels
from soupviz.data.images.keeping import Keeper, OneShape, OwnShapes
from soupviz.data.ragged import SHAPES
from soupviz.data.sources import Contents, Source, ToUint8, identity_of
from soupviz.errors import DataError, SoupError, told
from soupviz.extras import needed
from soupviz.spec import SHIFTS, TEST, SplitSpec
from soupviz.types import Progress

if TYPE_CHECKING:
    from PIL import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp", ".gif")
JUNK = frozenset(("__macosx", "thumbs.db", "desktop.ini", "@eadir", "$recycle.bin", "system volume information"))
"""What computers leave behind in folders, in small letters; what begins with a dot is passed over anyway."""

CHUNK = 256
LOG = "decoded.jsonl"
"""Beside the pixels while they are decoded: a line for each chunk that is."""


def source(name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None) -> Source:
    """A folder with a sub-folder of images for each class; a test or a shift may lack some of them."""
    found = class_folders(name, folder / str(spec.path), classes, SUFFIXES, "images")
    paths = found.paths

    def read(to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        def image(index: int) -> "Image.Image":
            from PIL import Image

            return Image.open(paths[index])

        done = decode(name, image, [str(path) for path in paths], to_uint8, target, progress)
        kept = [found.names[index] for index in done.kept]
        return Contents({"": "inputs"}, np.array(found.labels)[done.kept], kept, done.corrupt, done.notes)

    identity = [*identity_of(found.root, paths), found.order]
    return Source(identity, found.order, True, read, is_sorted=classes is None, notes=found.notes)


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """Files in a folder for each class. names: of the files, from the root. order: of the classes."""

    root: Path
    order: list[str]
    paths: list[Path]
    names: list[str]
    labels: list[int]
    notes: list[str]


def class_folders(
    name: str, root: Path, classes: tuple[str, ...] | None, suffixes: tuple[str, ...], what: str
) -> ClassFolders:
    """The files below a folder with a sub-folder for each class.

    Args:
        suffixes: of files that are examples. what: they are, for messages.
    Raises:
        DataError: no such folder, other classes than the kitchen's, or nothing in them.
    """
    if not root.is_dir():
        raise DataError(f"data.{name}: {root} is not a folder; expected one with a sub-folder per class.")
    found = sorted(path.name for path in root.iterdir() if path.is_dir() and not is_junk(path.name))
    order = list(classes or found)
    _check_folders(name, root, found, order)
    paths, labels, others = [], [], []
    for label, class_name in enumerate(order):
        files, rest = files_below(root / class_name, suffixes)
        paths += files
        others += rest
        labels += [label] * len(files)
    others += [path for path in sorted(root.iterdir()) if path.suffix.lower() in suffixes and path.is_file()]
    if not paths:
        raise DataError(f"data.{name}: {root} holds no {what}; expected files such as {root}/CLASS/x{suffixes[0]}.")
    names = [path.relative_to(root).as_posix() for path in paths]
    return ClassFolders(root, order, paths, names, labels, _passed_over(name, root, others, what))


def is_junk(name: str) -> bool:
    """Whether a file or folder is a file system's or an archiver's own, by its name."""
    return name.startswith(".") or name.lower() in JUNK


def files_below(folder: Path, suffixes: tuple[str, ...]) -> tuple[list[Path], list[Path]]:
    """The examples below a folder, and what somebody may have taken for one though it is passed over."""
    pictures, others = [], []
    for place, _, files in os.walk(folder):
        below_junk = any(is_junk(part) for part in Path(place).relative_to(folder).parts)
        for path in (Path(place, file) for file in files):
            has_suffix = path.suffix.lower() in suffixes
            if has_suffix and not below_junk and not is_junk(path.name):
                pictures.append(path)
            elif has_suffix or (path.suffix and not below_junk and not is_junk(path.name)):
                others.append(path)
    return sorted(pictures), sorted(others)


def _passed_over(name: str, root: Path, others: Sequence[Path], what: str) -> list[str]:
    if not others:
        return []
    shown = named([path.relative_to(root).as_posix() for path in others], 2)
    return [f"data.{name}: passed over in {root}, as no {what} of a class: {shown}."]


def _check_folders(name: str, root: Path, found: Sequence[str], order: Sequence[str]) -> None:
    extra = sorted(set(found) - set(order))
    missing = [] if name == TEST or name.startswith(SHIFTS) else sorted(set(order) - set(found))
    if extra or missing:
        differences = [f"has {extra} besides"] * bool(extra) + [f"lacks {missing}"] * bool(missing)
        raise DataError(
            f"data.{name}: the class folders of {root} differ from the kitchen's classes: it "
            f"{' and '.join(differences)}. Every split has the classes of held_out or `classes:`, in their order; only "
            "test and shifts may have fewer."
        )


@dataclass(slots=True)
class Decoded:
    """What is known while a split is decoded: how many are done, which are corrupt and why, how many were deeper.

    shapes: of those that are kept, where each has its own.
    """

    done: int = 0
    corrupt: dict[str, str] = field(default_factory=dict)
    deep: int = 0
    kept: list[int] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    shapes: list[list[int]] = field(default_factory=list)


def decode(
    name: str,
    image: Callable[[int], "Image.Image"],
    names: Sequence[str],
    to_uint8: ToUint8,
    target: Path,
    progress: Progress,
    *,
    own_shapes: bool = False,
) -> Decoded:
    """Decode in parallel into inputs.npy; tells the positions kept, and the corrupt ones with the reason.

    Args:
        own_shapes: keep each picture in a shape of its own; else all must have one.
    Raises:
        DataError: none can be decoded, or a package that does it is missing.
    """
    with needed(f"data.{name}: decoding images", DataError):
        import torchvision.transforms  # noqa: F401 - of which every transform is made
        from PIL import Image

    def one(index: int) -> tuple[np.ndarray | str, bool]:
        try:
            opened = image(index)
        except SoupError:
            raise
        except Exception as error:  # whatever Pillow, or a data set, raises on a file that is damaged or missing
            return told(error), False
        try:
            with opened:
                picture = pixels.eight_bits(opened)
                return to_uint8(picture, index), picture is not opened
        except (OSError, ValueError, SyntaxError, Warning, Image.DecompressionBombError) as error:
            return told(error), False

    known = _taken_up(target)
    known.kept = [index for index in range(known.done) if names[index] not in known.corrupt]
    keeper: Keeper = (
        OwnShapes(name, target, known.shapes)
        if own_shapes
        else OneShape(name, target, len(names), [names[index] for index in known.kept])
    )
    with ThreadPoolExecutor(os.cpu_count()) as pool, (target / LOG).open("a", encoding="utf-8") as log:
        for start in range(known.done, len(names), CHUNK):
            progress(start, len(names), f"decoding {name}")
            span = range(start, min(start + CHUNK, len(names)))
            broken: dict[str, str] = {}
            for index, (result, is_deep) in zip(span, pool.map(one, span), strict=True):
                if isinstance(result, str):
                    broken[names[index]] = result
                    continue
                keeper.add(names[index], result)
                known.kept.append(index)
                known.deep += is_deep
            known.corrupt |= broken
            entry = {"done": span.stop, "corrupt": broken, "deep": known.deep} | keeper.logged()
            log.write(json.dumps(entry) + "\n")
            log.flush()
    progress(len(names), len(names), f"decoding {name}")
    _finish(name, known, keeper, len(names), target)
    return known


def _finish(name: str, known: Decoded, keeper: Keeper, number: int, target: Path) -> None:
    """Give the pixels the name by which they are found."""
    if not known.kept:
        first, reason = next(iter(known.corrupt.items()))
        raise DataError(f"data.{name}: none of {number} images can be decoded; {first}: {reason}.")
    keeper.finish()
    (target / LOG).unlink()
    if known.deep:
        known.notes.append(
            f"data.{name}: {known.deep} images of 16 bits or of floats are scaled to 8 bits by their type."
        )


def _taken_up(target: Path) -> Decoded:
    """How far a decoding that was killed had come, and which files it found corrupt."""
    known = Decoded()
    whole = ""
    if (target / LOG).is_file():
        for line in (target / LOG).read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n"):  # it was being written
                break
            entry = json.loads(line)
            known.done, known.deep = entry["done"], entry["deep"]
            known.corrupt, whole = known.corrupt | entry["corrupt"], whole + line
            known.shapes += entry.get(SHAPES, [])
        (target / LOG).write_text(whole, encoding="utf-8")
    return known
