"""What soupviz keeps outside checkpoints and soups: how large it is, and forgetting it."""

import shutil
from pathlib import Path

from soupviz.errors import KitchenError
from soupviz.files import cache_folder, folder_bytes
from soupviz.store.database import open_store
from soupviz.store.recording import system_user
from soupviz.store.runs import at_stake
from soupviz.yaml_file import kitchen_file

KEPT = ("decoded", "converted", "downloads", "uploads", "remote")
"""Folders below the cache that can be made again: decoded splits, mappable copies of old checkpoints, the files that
passed through the browser, and those that were fetched from elsewhere."""


def sizes() -> dict[str, int]:
    """Bytes of each kind of thing kept in the cache folder."""
    return {name: folder_bytes(cache_folder(name)) for name in KEPT}


def clear_caches() -> None:
    """Remove what can be made again when it is needed."""
    for name in KEPT:
        shutil.rmtree(cache_folder(name))


def store_size(kitchen: Path) -> dict[str, int]:
    """Bytes, scores and runs of a kitchen's store."""
    return open_store(_file(kitchen)).size()


def runs_at_stake(kitchen: Path) -> str:
    """What goes with a kitchen's store that others started, or that was pinned, in a sentence."""
    return at_stake(open_store(_file(kitchen)).runs(), system_user())


def clear_store(kitchen: Path) -> None:
    """Forget a kitchen's scores and runs."""
    open_store(_file(kitchen)).clear()


def _file(kitchen: Path) -> Path:
    file = kitchen_file(kitchen)
    if not file.is_file():
        raise KitchenError(f"{file}: no such file; expected a kitchen.yaml, or the folder that holds one.")
    return file
