"""Pickled checkpoints, read with weights only: nothing in a file is ever executed."""

import argparse
import collections
import datetime
import pathlib
import re
import shlex
import types
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from soupviz.errors import CheckpointError
from soupviz.files import cache_folder, digest, replacing

ZIP = b"PK\x03\x04"
"""How files of today's torch.save begin; older ones cannot be mapped into memory."""


class Arguments(dict[str, Any]):
    """What a framework's dictionary of arguments is read as."""


ARGUMENT_DICTS = (
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)


def _allowed_globals() -> list[Any]:
    """Harmless types that training scripts leave in checkpoints: plain containers of arguments, paths and numbers."""
    scalar = np.float64(0).__reduce__()[0]
    array = np.zeros(1).__reduce__()[0]
    kinds = [type(np.dtype(code)) for code in "?bBhHiIlLqQefdFDSU"]
    numpy_types = [np.ndarray, np.dtype, scalar, array, *kinds]
    old_names = [(scalar, "numpy.core.multiarray.scalar"), (array, "numpy.core.multiarray._reconstruct")]
    # A path of another system, or of another Python, is only its parts.
    paths = [
        (pathlib.PureWindowsPath if "Windows" in kind else pathlib.PurePosixPath, f"{module}.{kind}")
        for module in ("pathlib", "pathlib._local")
        for kind in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
    ]
    plain = [
        argparse.Namespace,
        types.SimpleNamespace,
        collections.defaultdict,
        collections.Counter,
        datetime.datetime,
        datetime.timedelta,
    ]
    return [*plain, *paths, *numpy_types, *old_names, *((Arguments, name) for name in ARGUMENT_DICTS)]


def load(path: Path) -> Any:
    """What a file of torch.save holds, its tensors mapped into memory.

    Raises:
        CheckpointError: it needs code to be read, or is damaged.
    """
    with path.open("rb") as file:
        is_zip = file.read(len(ZIP)) == ZIP
    return _load(path if is_zip else _mappable_copy(path), path, mmap=True)


def _mappable_copy(path: Path) -> Path:
    """Files of before the zip format cannot be mapped: a copy that can is made once."""
    stat = path.stat()
    name = digest([str(path.resolve()), stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns]) + ".pt"
    copy = cache_folder("converted") / name
    if not copy.is_file():
        loaded = _load(path, path, mmap=False)
        with replacing(copy) as temporary:
            torch.save(loaded, temporary)
    return copy


def _load(path: Path, named: Path, *, mmap: bool) -> Any:
    """Read a file; `named` is what messages call it."""
    try:
        with torch.serialization.safe_globals(_allowed_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols; what cannot be read raises
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch.load raises bare RuntimeError, EOFError, KeyError, ... on damaged files
        text = " ".join(str(error).split())
        if needed := _needed_classes(path, text):
            raise NeedsCodeError(named, needed) from None
        if "Unsupported operand" in text:  # a byte that no pickle has
            text = "not a pickle"
        why = text.partition(". ")[0][:120] or type(error).__name__
        raise CheckpointError(
            f"{named}: cannot be read as a PyTorch checkpoint ({why}); it is damaged or of another format. "
            "Copy it again."
        ) from None


class NeedsCodeError(CheckpointError):
    """A pickle that only its own classes can read."""

    def __init__(self, path: Path, classes: list[str]):
        self.path = path
        self.classes = classes
        listed = ", ".join(classes[:5]) + (f" and {len(classes) - 5} more" if len(classes) > 5 else "")
        reason = f"{path}: a pickle that needs {listed}; soupviz reads weights only and never runs a file's code."
        super().__init__(reason, self.remedy_for([path]))

    @staticmethod
    def remedy_for(paths: Sequence[Path]) -> str:
        """The command that mends them all."""
        it, its = ("it", "its") if len(paths) == 1 else ("them", "their")
        return f"If you trust {it}, write {its} weights as safetensors with: {command_of(paths)}"


def command_of(paths: Sequence[Path]) -> str:
    """What converts pickles on the user's word, to be pasted."""
    return f"soupviz convert {' '.join(shlex.quote(str(path)) for path in paths)} --trust"


def _needed_classes(path: Path, refusal: str) -> list[str]:
    """The classes and functions that a pickle calls for and that are not among the harmless; none where it is damaged.

    Args:
        refusal: what torch.load said, which names one of them.
    """
    try:
        with torch.serialization.safe_globals(_allowed_globals()):
            found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # not a zip archive, or one as damaged as torch.load has found it
        found = []
    return sorted(found) or re.findall(r"(?:GLOBAL |got <class ')([\w.]+)", refusal)[:1]
