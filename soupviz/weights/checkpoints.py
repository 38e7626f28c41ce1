"""Checkpoints: the state dicts that a file may mean, lazily read, and the plain values found beside them."""

import argparse
import re
import shlex
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from torch import Tensor

from soupviz.errors import CheckpointError
from soupviz.weights import pickles
from soupviz.weights.containers import Kind, checkpoints_in, kind_of, refuse, weight_map

WRAPPERS = (
    "state_dict", "model_state_dict", "model", "module", "net", "network", "weights", "params",
    "ema", "ema_state_dict", "model_ema", "state_dict_ema", "ema_model",
)  # fmt: skip
"""Under what training scripts usually keep a state dict, the likeliest first; others are looked into after these."""

TRAINING_STATE = re.compile(r"optim|sched|scaler|callback|loops|rng|\bamp\b|hyper_param|\bargs\b|config", re.IGNORECASE)
"""What lies beside the weights in a checkpoint and holds tensors that are none."""

EMA = re.compile(r"(^|[_.\-/ ])(ema|shadow|averaged?|avg|swa)([_.\-/ \d]|$)", re.IGNORECASE)
"""In the name of what holds an average over training."""

NAMESPACES = (argparse.Namespace, types.SimpleNamespace)

DEPTH = 4
"""How deep state dicts are nested at most."""

OF_AVERAGE = "converted_average"
"""In a converted file's metadata: its weights are the average, and the raw ones lie beside it."""

METADATA_KEY = "soupviz"
METADATA_ATTRIBUTE = "_soupviz"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A state dict in a file.

    place: the keys that lead to it, joined by slashes. versions: of its modules, as torch.save keeps them.
    """

    place: str
    tensors: Mapping[str, Tensor]
    is_average: bool = False
    versions: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One file's tensors (memory-mapped) and the plain values found beside them.

    candidates: the state dicts that the file may mean, most likely first, keys as they are.
    """

    path: Path
    candidates: tuple[Candidate, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    soup: str | None = None


def file_of(path: Path) -> Path:
    """The checkpoint's file: the path itself, or the one checkpoint in a folder.

    Raises:
        CheckpointError: it is missing, or a folder with no checkpoint or with several.
    """
    if not path.is_dir():
        return path
    found = checkpoints_in(path)
    if len(found) != 1:
        if list(path.glob("*.distcp")):
            named = f"{shlex.quote(str(path))} {shlex.quote(f'{path.name}.pt')}"
            raise CheckpointError(
                f"{path} is a sharded checkpoint of torch.distributed; expected a file.",
                f"Gather it with: python -m torch.distributed.checkpoint.format_utils dcp_to_torch {named}",
            )
        names = ", ".join(one.name for one in found[:4])
        told = f"holds {len(found)} checkpoints ({names}{', ...' if len(found) > 4 else ''})" if found else (
            "is a folder without a checkpoint"
        )  # fmt: skip
        raise CheckpointError(f"{path} {told}; expected a file, or a folder with one checkpoint in it.")
    return found[0]


def read(path: Path) -> Checkpoint:
    """Open a checkpoint, whatever it is called: safetensors, a sharded index, a pickle of tensors, a folder with one.

    Raises:
        CheckpointError: missing, empty, truncated, of unknown format, without tensors, or a pickle that needs code.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no such file; expected a checkpoint. Check the name.")
    file = file_of(path)
    kind = kind_of(file)
    if kind is Kind.SAFETENSORS or (file.suffix == ".safetensors" and kind in (Kind.UNKNOWN, Kind.TEXT)):
        return _read_safetensors(file)
    if kind is Kind.INDEX:
        return _read_sharded(file)
    if kind is Kind.PICKLE:
        return _read_pickle(file)
    raise refuse(file, kind)


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
    is_average = bool(metadata.pop(OF_AVERAGE, ""))
    return Checkpoint(path, (Candidate("", _with_tensors(tensors, path), is_average),), metadata, soup)


def _read_sharded(path: Path) -> Checkpoint:
    """The tensors that the index names, each from the shard that it names; a shard may hold others."""
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, Any] = {}
    opened: dict[Path, Checkpoint] = {}
    for key, shard in weight_map(path).items():
        if shard not in opened:
            opened[shard] = read(shard)
            metadata |= opened[shard].metadata
        held = opened[shard].candidates[0].tensors
        if key not in held:
            raise CheckpointError(f"{shard}: lacks {key!r}, which {path} says is in it. Copy both again.")
        tensors[key] = held[key]
    return Checkpoint(path, (Candidate("", _with_tensors(tensors, path)),), metadata)


def _read_pickle(path: Path) -> Checkpoint:
    loaded = pickles.load(path)
    candidates = [one for one in _candidates(loaded) if one.tensors]
    if not candidates:
        raise CheckpointError(f"{path}: holds no tensors; expected a state dict, found {type(loaded).__name__}.")
    if isinstance(loaded, Mapping) and "current_model_state" in loaded and "averaging_state" in loaded:
        candidates = _of_weight_averaging(candidates)
    candidates.sort(key=lambda one: one.is_average)
    return Checkpoint(path, tuple(candidates), plain_values(loaded), getattr(loaded, METADATA_ATTRIBUTE, None))


def _of_weight_averaging(candidates: list[Candidate]) -> list[Candidate]:
    """Lightning's WeightAveraging puts the average under `state_dict`, and the weights that were trained elsewhere."""
    return [
        Candidate(one.place, one.tensors, one.place == "state_dict", one.versions)
        for one in candidates
        if one.place != "averaging_state"
    ]


def _with_tensors(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors; expected a state dict.")
    return tensors


def _candidates(value: Any, place: tuple[str, ...] = ()) -> Iterator[Candidate]:
    if not isinstance(value, Mapping) or len(place) >= DEPTH:
        return
    tensors = {str(key): item for key, item in value.items() if isinstance(item, Tensor)}
    name = "/".join(place)
    yield Candidate(name, tensors, bool(EMA.search(name)), getattr(value, "_metadata", None))
    known = [key for key in WRAPPERS if key in value]
    others = [key for key in value if key not in known and not TRAINING_STATE.search(str(key))]
    for key in [*known, *others]:
        yield from _candidates(value[key], (*place, str(key)))


def plain_values(value: Any, depth: int = 2) -> dict[str, Any]:
    """Numbers and short strings of a checkpoint's outer layers (epoch, args.lr, ...), for the table."""
    items = vars(value) if isinstance(value, NAMESPACES) else value
    if not isinstance(items, Mapping) or depth == 0:
        return {}
    found: dict[str, Any] = {}
    for key, item in items.items():
        plain = item.item() if isinstance(item, np.generic) else item
        if isinstance(plain, (bool, int, float)) or (isinstance(plain, str) and len(plain) <= 100):
            found[str(key)] = plain
        elif key not in WRAPPERS and isinstance(item, (Mapping, *NAMESPACES)):
            found |= plain_values(item, depth - 1)
    return found
