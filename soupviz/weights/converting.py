"""Pickles that need code, written as safetensors on the user's word."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from soupviz.errors import CheckpointError
from soupviz.files import replacing
from soupviz.weights.checkpoints import EMA, NAMESPACES, OF_AVERAGE, TRAINING_STATE, WRAPPERS, plain_values
from soupviz.weights.containers import Kind, kind_of, refuse, without_suffix
from soupviz.weights.conversions import CONTENT, ORIGIN, content_of, told_by

DEPTH = 3


def convert(path: Path) -> list[Path]:
    """Run a pickle's code, and write each set of weights in it as a safetensors file beside it.

    Modules are taken apart: their state dict is what is kept. Numbers and short strings beside the weights become the
    file's metadata.

    Returns:
        The files: NAME.safetensors, and NAME.ema.safetensors where the pickle holds raw weights and an average.
    Raises:
        CheckpointError: it is no pickle, fails to load, or holds no weights.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a checkpoint. Check the name.")
    kind = kind_of(path)
    if kind not in (Kind.PICKLE, Kind.SCRIPT):
        raise refuse(path, kind)
    loaded = _load(path, kind)
    found = list(_state_dicts(loaded))
    if not found:
        raise CheckpointError(f"{path}: holds no weights; expected a module or a state dict, found {type(loaded)}.")
    raw = next((state for place, state in found if not EMA.search(place)), None)
    average = next((state for place, state in found if EMA.search(place)), None)
    stem = without_suffix(path.name)
    facts = _metadata(loaded) | {ORIGIN: path.name, CONTENT: content_of(path)}
    if raw is None or average is None:
        return [_write(found[0][1], path.with_name(f"{stem}.safetensors"), facts)]
    return [
        _write(raw, path.with_name(f"{stem}.safetensors"), facts),
        _write(average, path.with_name(f"{stem}.ema.safetensors"), facts | {OF_AVERAGE: "yes"}),
    ]


def _load(path: Path, kind: Kind) -> Any:
    try:
        if kind is Kind.SCRIPT:
            return torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # the file's own code may raise anything
        missing = f" Install {error.name} first." if isinstance(error, ModuleNotFoundError) else ""
        raise CheckpointError(
            f"{path}: loading it failed with {type(error).__name__}: {' '.join(str(error).split())[:200]}.{missing}"
        ) from error


def _state_dicts(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Each set of weights with the keys that lead to it, the likeliest first."""
    if isinstance(value, nn.Module):
        value = value.state_dict()
    if not isinstance(value, Mapping) or len(place) > DEPTH:
        return
    tensors = {str(key): item for key, item in value.items() if isinstance(item, Tensor)}
    if tensors:
        yield "/".join(place), tensors
    known = [key for key in WRAPPERS if key in value]
    for key in [*known, *(key for key in value if key not in known and not TRAINING_STATE.search(str(key)))]:
        yield from _state_dicts(value[key], (*place, str(key)))


def _metadata(loaded: Any) -> dict[str, str]:
    beside = loaded if isinstance(loaded, (Mapping, *NAMESPACES)) else {}
    return {key: str(value) for key, value in plain_values(beside).items()}


def _write(state: Mapping[str, Tensor], target: Path, metadata: Mapping[str, str]) -> Path:
    if target.exists() and (kind_of(target) is not Kind.SAFETENSORS or told_by(target).get(ORIGIN) != metadata[ORIGIN]):
        raise CheckpointError(
            f"{target} is there already, and was not made from this file; move it away, and try again."
        )
    told = {"format": "pt", **metadata}
    try:
        with replacing(target) as temporary:
            save_file({key: tensor.detach().clone().contiguous() for key, tensor in state.items()}, temporary, told)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{target}: cannot be written ({error}). Free some space, or mend its folder.") from None
    return target
