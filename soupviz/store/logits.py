"""Answers of single models, which ensembles are made of: one array for each, in files beside the database."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from soupviz.files import folder_bytes, replacing

BUDGET = 2**30
"""Bytes of answers that a kitchen keeps without being asked for them; what is asked for is kept beyond that too."""

FOLDER = "logits"


def find(folder: Path, key: str) -> NDArray[np.float32] | None:
    """What was kept under a key, shape (num_examples, num_classes), mapped into memory."""
    path = folder / FOLDER / f"{key}.npy"
    kept: NDArray[np.float32] | None = np.load(path, mmap_mode="r") if path.is_file() else None
    return kept


def keep(folder: Path, key: str, logits: NDArray[np.float32]) -> None:
    """Keep an array under a key."""
    (folder / FOLDER).mkdir(exist_ok=True)
    with replacing(folder / FOLDER / f"{key}.npy") as temporary, temporary.open("wb") as file:
        np.save(file, logits)


def held(folder: Path) -> int:
    """Bytes of all that is kept."""
    return folder_bytes(folder / FOLDER)


def has_room(folder: Path, num_bytes: int) -> bool:
    """Whether so much more may be kept unasked."""
    return held(folder) + num_bytes <= BUDGET
