"""The format `masks`: images, and for each a mask of its size, an image whose pixel values are classes."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.format import open_memmap

from soupviz.data.classes import named
from soupviz.data.images.imagefolder import SUFFIXES, decode, files_below
from soupviz.data.images.pixels import SIXTEEN_BITS
from soupviz.data.images.transforms import mask_cut
from soupviz.data.sources import Contents, Source, ToUint8, identity_of
from soupviz.errors import DataError, told
from soupviz.spec import SplitSpec
from soupviz.types import Progress

if TYPE_CHECKING:
    from PIL import Image

EIGHT_BITS = ("L", "P", "1")
DEEPER = (*SIXTEEN_BITS, "I")
SHOWN = 3


def source(name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None) -> Source:
    """Images and masks in two folders, each pair of one name, without its suffix."""
    where, root, of_masks = f"data.{name}", folder / str(spec.path), folder / str(spec.masks)
    for place, holds in ((root, "images"), (of_masks, "masks, as `masks:` says")):
        if not place.is_dir():
            raise DataError(f"{where}: {place} is not a folder; expected one of {holds}.")
    pictures, passed = _by_stem(where, root, of_masks)
    masks, _ = _by_stem(where, of_masks)
    if not pictures:
        raise DataError(f"{where}: {root} holds no images; expected files such as {root}/x.jpg.")
    _check_all_there(where, pictures, masks, of_masks)
    stems, cut = list(pictures), mask_cut(where, spec.transform)
    names = [pictures[stem].relative_to(root).as_posix() for stem in stems]

    def read(to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        def image(index: int) -> "Image.Image":
            from PIL import Image

            _check_mask(where, masks[stems[index]], pictures[stems[index]])
            return Image.open(pictures[stems[index]])

        done = decode(name, image, [str(pictures[stem]) for stem in stems], to_uint8, target, progress)
        answers = _decoded(where, [masks[stems[index]] for index in done.kept], cut, target)
        return Contents({"": "inputs"}, answers, [names[index] for index in done.kept], done.corrupt, done.notes)

    used = [masks[stem] for stem in stems]
    identity = ["masks", *identity_of(root, list(pictures.values())), *identity_of(of_masks, used)]
    idle = [masks[stem] for stem in masks.keys() - pictures.keys()]
    notes = _told(where, root, passed, "as no images") + _told(where, of_masks, sorted(idle), "as masks of no image")
    return Source(identity, classes, True, read, notes=notes)


def _by_stem(where: str, root: Path, without: Path | None = None) -> tuple[dict[str, Path], list[Path]]:
    """The images below a folder by their path without its suffix, and what may be taken for one but is passed over."""
    pictures, others = files_below(root, SUFFIXES)
    found: dict[str, Path] = {}
    for path in pictures:
        if without is not None and without != root and path.is_relative_to(without):
            continue
        stem = path.relative_to(root).with_suffix("").as_posix()
        if stem in found:
            raise DataError(
                f"{where}: {found[stem]} and {path.name} have one name but for the suffix; expected one of each: "
                "remove one."
            )
        found[stem] = path
    return found, others


def _check_all_there(where: str, pictures: dict[str, Path], masks: dict[str, Path], folder: Path) -> None:
    if missing := [stem for stem in pictures if stem not in masks]:
        raise DataError(
            f"{where}: {len(missing)} of {len(pictures)} images have no mask in {folder}: {named(missing, SHOWN)}; "
            f"expected {folder.name}/{missing[0]}.png. Add the masks, or take these images out."
        )


def _told(where: str, folder: Path, paths: Sequence[Path], what: str) -> list[str]:
    if not paths:
        return []
    shown = named([path.relative_to(folder).as_posix() for path in paths], SHOWN)
    return [f"{where}: {len(paths)} files are passed over in {folder}, {what}: {shown}."]


def _check_mask(where: str, mask: Path, picture: Path) -> None:
    """Refuse a mask that cannot be one of its image.

    Raises:
        OSError: it cannot be decoded, so that its image is left out with it where such are.
    """
    from PIL import Image

    try:
        with Image.open(mask) as opened, Image.open(picture) as image:
            opened.load()
            mode, size, expected = opened.mode, opened.size, image.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise OSError(f"it or its mask {mask}: {told(error)}") from error
    if mode not in (*EIGHT_BITS, *DEEPER):
        raise DataError(
            f"{where}: the mask {mask} has colours ({mode}); expected a grey or palette image whose pixel values are "
            "the numbers of classes: convert it."
        )
    if size != expected:
        raise DataError(
            f"{where}: the mask {mask} has {size[0]} x {size[1]} pixels, its image {expected[0]} x {expected[1]}; "
            "expected the same: make the mask anew for this image."
        )


def _decoded(where: str, paths: Sequence[Path], cut: Callable[[np.ndarray], np.ndarray], target: Path) -> np.ndarray:
    """All masks as one array, which is written as it is read; cut as their images are."""
    from PIL import Image

    def is_deep(path: Path) -> bool:
        with Image.open(path) as opened:
            return opened.mode in DEEPER

    def one(path: Path) -> np.ndarray:
        with Image.open(path) as opened:
            values = np.asarray(opened)
        try:
            return cut(values.astype(dtype))
        except ValueError as error:
            raise DataError(f"{where}: {path} {error}") from None

    with ThreadPoolExecutor() as pool:
        dtype = np.int32 if any(pool.map(is_deep, paths)) else np.uint8
        first = one(paths[0])
        found = open_memmap(target / "labels.npy", mode="w+", dtype=dtype, shape=(len(paths), *first.shape))
        for row, mask in enumerate(pool.map(one, paths)):
            found[row] = mask
    found.flush()
    return found
