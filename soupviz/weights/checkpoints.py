"""Checkpoints: the state dicts that a file may mean, lazily read, and the plain values found beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from soupviz.errors import CheckpointError, shortened
from soupviz.weights import pickles
from soupviz.weights.containers import (
    GATHER_ZERO,
    INDEX_SUFFIX,
    Kind,
    checkpoints_in,
    gathering_of,
    index_metadata,
    kind_of,
    refuse,
    weight_map,
)
from soupviz.weights.distributed import read_distributed
from soupviz.weights.inert import plain
from soupviz.weights.states import Candidate, candidates, is_optimizer
from soupviz.weights.vocabulary import AVERAGED, METADATA_ATTRIBUTE, METADATA_KEY, WRAPPERS, is_training_state

WEIGHTS_KEY = "weights"
"""In the metadata of safetensors: whether they are raw or ema, where a file says so itself."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One file's tensors (memory-mapped) and the plain values found beside them.

    candidates: the state dicts that the file may mean, most likely first, keys as they are. says_weights: the file says
    itself whether they are raw or an average.
    """

    path: Path
    candidates: tuple[Candidate, ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    soup: str | None = None
    says_weights: bool = False


class NoWeightsError(CheckpointError):
    """A file of torch.save that holds nothing but what a training keeps beside its weights."""


def file_of(path: Path) -> Path:
    """The checkpoint's file: the path itself, or the one checkpoint in a folder.

    Raises:
        CheckpointError: it is missing, or a folder with no checkpoint or with several.
    """
    if not path.is_dir():
        return path
    found = checkpoints_in(path)
    if len(found) != 1:
        names = ", ".join(one.name for one in found[:4])
        told = f"holds {len(found)} checkpoints ({names}{', ...' if len(found) > 4 else ''})" if found else (
            "is a folder without a checkpoint"
        )  # fmt: skip
        if gathering := gathering_of(path):
            what, remedy = gathering
            raise CheckpointError(f"{path} {what}; expected a file, or a folder with one checkpoint in it.", remedy)
        raise CheckpointError(f"{path} {told}; expected a file, or a folder with one checkpoint in it.")
    return found[0]


def read(path: Path) -> Checkpoint:
    """Open a checkpoint, whatever it is called: safetensors, a sharded index, a pickle of tensors, a folder with one.

    Raises:
        CheckpointError: missing, empty, truncated, of unknown format, without tensors, or a pickle that needs code.
        NoWeightsError: the state of an optimizer, say.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: no such file; expected a checkpoint. Check the name.")
    file = file_of(path)
    kind = kind_of(file)
    if kind is Kind.SAFETENSORS or (file.suffix == ".safetensors" and kind in (Kind.UNKNOWN, Kind.TEXT)):
        return _read_safetensors(file)
    if kind is Kind.INDEX or file.name.endswith(INDEX_SUFFIX):
        return _read_sharded(file)
    if kind is Kind.PICKLE:
        return _read_pickle(file)
    if kind is Kind.DISTRIBUTED:
        return _read_distributed(file)
    raise refuse(file, kind)


def is_soup(file: Path) -> bool:
    """Whether a file holds weights that soupviz has exported."""
    try:
        return file.is_file() and read(file).soup is not None
    except CheckpointError:
        return False


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
    says_weights = metadata.get(WEIGHTS_KEY) in ("raw", "ema")
    is_average = metadata.pop(WEIGHTS_KEY) == "ema" if says_weights else AVERAGED in tensors
    return Checkpoint(path, (Candidate("", _with_tensors(tensors, path), is_average),), metadata, soup, says_weights)


def _read_sharded(path: Path) -> Checkpoint:
    """The tensors that the index names, each from the shard that it names; a shard may hold others."""
    tensors: dict[str, Tensor] = {}
    odd: dict[str, str] = {}
    metadata: dict[str, Any] = {}
    opened: dict[Path, Checkpoint] = {}
    for key, shard in weight_map(path).items():
        if shard not in opened:
            opened[shard] = read(shard)
            metadata |= opened[shard].metadata
        held = opened[shard].candidates[0]
        if key in held.odd:
            odd[key] = held.odd[key]
        elif key in held.tensors:
            tensors[key] = held.tensors[key]
        else:
            raise CheckpointError(
                f"{shard}: lacks {shortened(repr(key))}, which {path} says is in it. Copy both again."
            )
    soup = index_metadata(path).get(METADATA_KEY)
    return Checkpoint(path, (Candidate("", _with_tensors(tensors, path), odd=odd),), metadata, soup)


def _read_distributed(path: Path) -> Checkpoint:
    found, values = read_distributed(path)
    if not found:
        raise NoWeightsError(f"{path.parent}: {Kind.STATE.value}; expected a distributed checkpoint with a state dict.")
    return Checkpoint(path, tuple(sorted(found, key=lambda one: one.is_average)), values)


def _read_pickle(path: Path) -> Checkpoint:
    loaded = pickles.load(path)
    found = [one for one in candidates(loaded) if one.tensors or one.odd]
    if not found:
        raise _without_weights(loaded, path)
    if isinstance(loaded, Mapping) and "current_model_state" in loaded and "averaging_state" in loaded:
        found = _of_weight_averaging(found)
    found.sort(key=lambda one: one.is_average)
    return Checkpoint(path, tuple(found), plain(loaded, WRAPPERS), getattr(loaded, METADATA_ATTRIBUTE, None))


def _without_weights(loaded: Any, path: Path) -> CheckpointError:
    """Why a file without a state dict is no checkpoint."""
    kept = list(loaded) if isinstance(loaded, Mapping) else []
    inner = {key for item in kept if isinstance(loaded[item], Mapping) for key in loaded[item]}
    if {"ds_version", "ds_config", "param_shapes"} & set(kept) or "zero_stage" in inner:
        return CheckpointError(f"{path}: {Kind.ZERO.value}; expected a whole checkpoint: gather it with {GATHER_ZERO}.")
    if is_optimizer(loaded) or any(is_optimizer(loaded[key]) or is_training_state(str(key)) for key in kept):
        return NoWeightsError(
            f"{path}: {Kind.STATE.value}; expected a state dict, found {shortened(', '.join(map(str, kept)))}."
        )
    return CheckpointError(f"{path}: holds no tensors; expected a state dict, found {type(loaded).__name__}.")


def _of_weight_averaging(found: Sequence[Candidate]) -> list[Candidate]:
    """Lightning's WeightAveraging puts the average under `state_dict`, and the weights that were trained elsewhere."""
    return [replace(one, is_average=one.place == "state_dict") for one in found if one.place != "averaging_state"]


def _with_tensors(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors; expected a state dict.")
    return tensors
