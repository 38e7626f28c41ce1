"""Pickled checkpoints, read with weights only: nothing in a file is ever executed."""

import argparse
import collections
import datetime
import pathlib
import re
import shlex
import threading
import types
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from soupviz.errors import CheckpointError
from soupviz.files import cache_folder, digest, replacing
from soupviz.weights.arrays import read_arrays
from soupviz.weights.quantised import REMEDY, needed_by
from soupviz.weights.states import candidates

ZIP = b"PK\x03\x04"
"""How files of today's torch.save begin; older ones cannot be mapped into memory."""

OLD = bytes.fromhex("8a0a6cfc9c46f9206aa85019")
"""The number near the beginning of older files of torch.save."""

HEAD = 32

_ONE_AT_A_TIME = threading.Lock()


class Arguments(dict[str, Any]):
    """What a framework's dictionary of arguments is read as."""


ARGUMENT_DICTS = (
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)


def emptied(*_arguments: Any) -> dict[Any, Any]:
    """What a defaultdict is read as: the items come after it. Its factory, and other built-in types, are this, too."""
    return {}


def listed(items: Iterable[Any] = (), *_length: Any) -> list[Any]:
    """What a deque is read as."""
    return list(items)


def as_text(*parts: Any) -> str:
    """What a range, a slice or an exact number is read as: nothing that could be counted through."""
    return " ".join(str(part) for part in parts if isinstance(part, (int, str)))


STAND_INS: tuple[tuple[Callable[..., Any], str], ...] = (
    (emptied, "collections.defaultdict"),
    *((emptied, f"builtins.{name}") for name in ("list", "dict", "tuple", "int", "float", "str", "bool", "bytes")),
    (listed, "collections.deque"),
    *((as_text, name) for name in ("builtins.range", "builtins.slice", "decimal.Decimal", "fractions.Fraction")),
    *((Arguments, name) for name in ARGUMENT_DICTS),
)
"""What is read for harmless types of the standard library, and of frameworks, of which torch would read none."""


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
        collections.Counter,
        collections.UserDict,
        frozenset,
        datetime.date,
        datetime.time,
        datetime.datetime,
        datetime.timedelta,
        datetime.timezone,
    ]
    return [*plain, *paths, *numpy_types, *old_names, *STAND_INS, emptied, listed, as_text, Arguments]


@contextmanager
def _allowed() -> Iterator[None]:
    """What is harmless may be read, by one thread at a time: torch has one list for all, which each would take back
    from the others."""
    with _ONE_AT_A_TIME, torch.serialization.safe_globals(_allowed_globals()):
        yield


def load(path: Path) -> Any:
    """What a file of torch.save holds, its tensors mapped into memory.

    Raises:
        CheckpointError: it needs code to be read, or is damaged.
    """
    if is_plain(path):
        return _load_plain(path)
    with path.open("rb") as file:
        is_zip = file.read(len(ZIP)) == ZIP
    return _load(path if is_zip else _mappable_copy(path), path, mmap=True)


def is_plain(path: Path) -> bool:
    """Whether a file is a pickle that torch.save did not write."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    return head[:1] == b"\x80" and OLD not in head


def _load_plain(path: Path) -> Any:
    try:
        loaded, needed = read_arrays(path)
    except Exception as error:  # whatever the opcodes of a damaged file run into
        raise _damaged(path, f"{type(error).__name__}: {error}") from None
    if needed and not any(one.tensors for one in candidates(loaded)):
        raise _refusal(path, needed)
    return loaded


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
    if packed := _packed_in(path):
        raise CheckpointError(
            f"{named}: its part {packed!r} is compressed; torch.save writes none so, and it would be read as other "
            "numbers. Unpack the archive, and save the checkpoint again."
        )
    try:
        with _allowed(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols; what cannot be read raises
            if path.suffix == ".safetensors":  # of which torch believes the name, where it has one
                with path.open("rb") as file:
                    return torch.load(file, map_location="cpu", weights_only=True)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch.load raises bare RuntimeError, EOFError, KeyError, ... on damaged files
        text = " ".join(str(error).split())
        if needed := _needed_classes(path, text):
            raise _refusal(named, needed) from None
        if "Unsupported operand" in text:  # a byte that no pickle has
            text = "not a pickle"
        raise _damaged(named, text or type(error).__name__) from None


def _packed_in(path: Path) -> str:
    """The first part of a zip archive that is compressed, if one is: it may be a thousand times as large."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = (one.filename for one in archive.infolist() if one.compress_type != zipfile.ZIP_STORED)
            return next(packed, "")
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):  # torch says what is wrong with it
        return ""


def _damaged(path: Path, reason: str) -> CheckpointError:
    told = " ".join(reason.split()).partition(". ")[0][:120]
    return CheckpointError(
        f"{path}: cannot be read as a PyTorch checkpoint ({told}); it is damaged or of another format. Copy it again."
    )


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


def _refusal(path: Path, classes: list[str]) -> CheckpointError:
    """Why a pickle is not read: of quantised tensors running its code would make no weights."""
    if name := needed_by(classes):
        library = name.partition(".")[0]
        return CheckpointError(f"{path}: holds {name}, tensors that {library} has quantised; {REMEDY}.")
    return NeedsCodeError(path, classes)


def command_of(paths: Sequence[Path]) -> str:
    """What converts pickles on the user's word, to be pasted."""
    return f"python -m soupviz convert {' '.join(shlex.quote(str(path)) for path in paths)} --trust"


def _needed_classes(path: Path, refusal: str) -> list[str]:
    """The classes and functions that a pickle calls for and that are not among the harmless; none where it is damaged.

    Args:
        refusal: what torch.load said, which names one of them.
    """
    try:
        with _allowed():
            found = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # not a zip archive, or one as damaged as torch.load has found it
        found = []
    return sorted(found) or re.findall(r"(?:GLOBAL |got <class ')([\w.]+)", refusal)[:1]
