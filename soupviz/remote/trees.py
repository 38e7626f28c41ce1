"""Folders elsewhere, fetched as a whole or in part: to be read as folders here are."""

from collections.abc import Callable
from pathlib import Path

from soupviz import trust
from soupviz.addresses import is_remote, mirror, place_of
from soupviz.errors import RemoteError
from soupviz.remote import keeping, listing
from soupviz.remote.calling import Calls
from soupviz.remote.fetching import fetch
from soupviz.remote.listing import Found
from soupviz.types import Progress, quiet

OF_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".tar", ".zip")


def fetched(
    address: str,
    progress: Progress = quiet,
    *,
    wanted: Callable[[Found], bool] = lambda _: True,
    with_folder: bool = False,
) -> Path:
    """A file, or a folder with all that is in and below it, in the cache; what is no longer there is removed here.

    Args:
        wanted: which files of a folder. with_folder: of a file, too, the folder that it lies in.
    Raises:
        RemoteError: nothing is there, or it cannot be reached.
    """
    with Calls(lambda: progress(0, 1, f"listing {address}")) as calls:
        one = listing.at(address, calls)
        folder = None if one and not with_folder else address.rpartition("/")[0] if one else address
        found = listing.children(folder, calls, deep=True) if folder else [one] if one else []
    if folder:
        keeping.forget_others(folder, found, deep=True)
        found = [each for each in found if wanted(each)]
    if not found:
        raise RemoteError(f"{address}: a folder without a file in it that is of use; check the name.")
    fetch(found, progress)
    return place_of(address, mirror())


def settings_of(address: str, progress: Progress = quiet) -> Path:
    """A folder of a checkpoint without the weights: a model's configuration, a tokenizer, a feature extractor."""
    inside = address.rstrip("/") + "/"
    return fetched(
        address,
        progress,
        wanted=lambda one: (
            "/" not in one.address.removeprefix(inside) and not one.name.lower().endswith((*OF_WEIGHTS, ".py"))
        ),
    )


def settings_at(place: str, folder: Path) -> Path:
    """The folder that a name stands for: at an address, or relative to a folder."""
    if not is_remote(place):
        return folder / place
    trust.check_place(place, folder)
    return settings_of(place)
