"""Checkpoint files of every common format, as lazily read tensors. Nothing in a file is ever executed."""

import argparse
import json
import pathlib
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from soupviz.errors import CheckpointError
from soupviz.files import cache_folder, digest, replacing

PICKLE_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
INDEX_SUFFIX = ".index.json"
WRAPPERS = (
    "state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params",
    "ema", "ema_state_dict", "model_ema", "state_dict_ema", "ema_model",
)  # fmt: skip
PREFIXES = ("module.", "_orig_mod.", "model.")
METADATA_KEY = "soupviz"
METADATA_ATTRIBUTE = "_soupviz"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One file's tensors (memory-mapped) and the plain values found beside them.

    candidates: the state dicts that the file may mean, most likely first, before prefixes are stripped.
    """

    path: Path
    candidates: tuple[Mapping[str, Tensor], ...]
    metadata: Mapping[str, Any]
    soup: str | None = None

    def readings(self) -> Iterator[dict[str, Tensor]]:
        """Every state dict the file may mean: each candidate as it is, then with the usual prefixes stripped."""
        for candidate in self.candidates:
            pending = [dict(candidate)]
            while pending:
                tensors = pending.pop(0)
                yield tensors
                for prefix in PREFIXES:
                    if tensors and all(key.startswith(prefix) for key in tensors):
                        pending.append({key.removeprefix(prefix): tensor for key, tensor in tensors.items()})


def read(path: Path) -> Checkpoint:
    """Open a checkpoint: .safetensors, a sharded index, or .pt/.pth/.bin/.ckpt with weights only.

    Raises:
        CheckpointError: missing, empty, truncated, of unknown format, without tensors, or a pickle that needs code.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a checkpoint. Check the name.")
    if path.stat().st_size == 0:
        raise CheckpointError(f"{path}: the file is empty; expected a checkpoint. Copy it again.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    if path.name.endswith(INDEX_SUFFIX):
        return _read_sharded(path)
    if path.suffix in PICKLE_SUFFIXES:
        return _read_pickle(path)
    known = ", ".join((".safetensors", f".safetensors{INDEX_SUFFIX}", *PICKLE_SUFFIXES))
    raise CheckpointError(f"{path}: unknown checkpoint format {path.suffix!r}; expected one of {known}.")


def shards_of(index: Path) -> set[Path]:
    """The shard files that a sharded checkpoint's index names.

    Raises:
        CheckpointError: the index is not JSON with a `weight_map`.
    """
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"{index}: not a sharded checkpoint's index; expected JSON with a 'weight_map' of key: shard file."
        ) from None
    return {index.parent / name for name in names}


def _read_safetensors(path: Path) -> Checkpoint:
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}
            metadata = dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({error}); got {path.stat().st_size} bytes. Copy it again."
        ) from None
    soup = metadata.pop(METADATA_KEY, None)
    return Checkpoint(path, (_with_tensors(tensors, path),), metadata, soup)


def _read_sharded(path: Path) -> Checkpoint:
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, Any] = {}
    for shard in sorted(shards_of(path)):
        part = read(shard)
        tensors |= part.candidates[0]
        metadata |= part.metadata
    return Checkpoint(path, (_with_tensors(tensors, path),), metadata)


def _allowed_globals() -> list[Any]:
    """Harmless types that training scripts leave in checkpoints: plain containers of arguments and numbers."""
    scalar = np.float64(0).__reduce__()[0]
    array = np.zeros(1).__reduce__()[0]
    kinds = [type(np.dtype(code)) for code in "?bBhHiIlLqQefdFDSU"]
    paths = [pathlib.PosixPath, pathlib.PurePosixPath]
    numpy_types = [np.ndarray, np.dtype, scalar, array, *kinds]
    old_names = [(scalar, "numpy.core.multiarray.scalar"), (array, "numpy.core.multiarray._reconstruct")]
    return [argparse.Namespace, *paths, *numpy_types, *old_names]


def _read_pickle(path: Path) -> Checkpoint:
    if not zipfile.is_zipfile(path):
        return _read_legacy(path)
    loaded = _load(path, mmap=True)
    metadata = _plain_values(loaded)
    candidates = tuple(_candidates(loaded))
    if not candidates:
        raise CheckpointError(f"{path}: holds no tensors; expected a state dict, found {type(loaded).__name__}.")
    return Checkpoint(path, candidates, metadata, getattr(loaded, METADATA_ATTRIBUTE, None))


def _load(path: Path, *, mmap: bool) -> Any:
    remedy = "Save its state_dict() with torch.save, or as safetensors."
    try:
        with torch.serialization.safe_globals(_allowed_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols; what cannot be read raises
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # torch.load raises bare RuntimeError, EOFError, KeyError, ... on damaged files
        text = " ".join(str(error).split())
        if "Unsupported operand" in text:  # a byte that no pickle has
            text = "not a pickle"
        if "Unsupported global" in text or "weights_only" in text or "Weights only" in text:
            needs = text.partition("GLOBAL ")[2].partition(" ")[0] or "more than tensors, or is damaged"
            raise CheckpointError(
                f"{path}: a pickle that needs {needs}; soupviz reads weights only and never runs a file's code. "
                + remedy
            ) from None
        raise CheckpointError(
            f"{path}: cannot be read as a PyTorch checkpoint ({text[:120] or type(error).__name__}); "
            "it is damaged or of another format. Copy it again. " + remedy
        ) from None


def _read_legacy(path: Path) -> Checkpoint:
    """Read a file that is not a zip archive: such files cannot be mapped, so a mapped copy is made once."""
    stat = path.stat()
    name = digest([str(path.resolve()), stat.st_size, stat.st_mtime_ns]) + ".pt"
    copy = cache_folder("converted") / name
    if not copy.is_file():
        loaded = _load(path, mmap=False)
        with replacing(copy) as temporary:
            torch.save(loaded, temporary)
    mapped = _read_pickle(copy)
    return Checkpoint(path, mapped.candidates, mapped.metadata, mapped.soup)


def _with_tensors(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors; expected a state dict.")
    return tensors


def _candidates(value: Any, depth: int = 3) -> Iterator[dict[str, Tensor]]:
    if not isinstance(value, Mapping) or depth == 0:
        return
    tensors = {str(key): item for key, item in value.items() if isinstance(item, Tensor)}
    if tensors:
        yield tensors
    for wrapper in WRAPPERS:
        if wrapper in value:
            yield from _candidates(value[wrapper], depth - 1)


def _plain_values(value: Any, depth: int = 2) -> dict[str, Any]:
    """Numbers and short strings of a checkpoint's outer layers (epoch, args.lr, ...), for the table."""
    items = vars(value) if isinstance(value, argparse.Namespace) else value
    if not isinstance(items, Mapping) or depth == 0:
        return {}
    found: dict[str, Any] = {}
    for key, item in items.items():
        plain = item.item() if isinstance(item, np.generic) else item
        if isinstance(plain, (bool, int, float)) or (isinstance(plain, str) and len(plain) <= 100):
            found[str(key)] = plain
        elif key not in WRAPPERS and isinstance(item, (Mapping, argparse.Namespace)):
            found |= _plain_values(item, depth - 1)
    return found
