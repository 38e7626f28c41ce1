"""Pickles that need code, written as safetensors on the user's word."""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from soupviz.errors import CheckpointError
from soupviz.files import digest, file_digest, replacing
from soupviz.weights.checkpoints import EMA, NAMESPACES, OF_AVERAGE, TRAINING_STATE, WRAPPERS, plain_values
from soupviz.weights.containers import Kind, kind_of, refuse, without_suffix
from soupviz.weights.fitting import Weights

DEPTH = 3

ORIGIN, CONTENT = "converted_from", "converted_content"
"""In a converted file's metadata: the name of what it was made from, and may be made from again, and its content."""


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
    facts = _metadata(loaded) | {ORIGIN: path.name, CONTENT: _content(path)}
    if raw is None or average is None:
        return [_write(found[0][1], path.with_name(f"{stem}.safetensors"), facts)]
    return [
        _write(raw, path.with_name(f"{stem}.safetensors"), facts),
        _write(average, path.with_name(f"{stem}.ema.safetensors"), facts | {OF_AVERAGE: "yes"}),
    ]


def stand_ins(path: Path) -> dict[Weights, Path]:
    """What `convert` wrote of a pickle as it is now: its weights, and their average where it held both.

    One that was written to since has none: its weights may be others by now.
    """
    stem = without_suffix(path.name)
    named: dict[Weights, Path] = {
        "raw": path.with_name(f"{stem}.safetensors"),
        "ema": path.with_name(f"{stem}.ema.safetensors"),
    }
    told = {weights: _told_by(file) for weights, file in named.items() if file != path and file.is_file()}
    made = [weights for weights, facts in told.items() if facts.get(ORIGIN) == path.name]
    content = _content(path) if made and path.is_file() else ""
    return {weights: named[weights] for weights in made if told[weights].get(CONTENT) == content}


def _told_by(file: Path) -> dict[str, str]:
    try:
        with safe_open(file, "pt") as opened:
            return dict(opened.metadata() or {})
    except (SafetensorError, OSError):  # not of `convert`
        return {}


def _content(path: Path) -> str:
    """What tells a pickle's content from another's: the checksums of its archive, or a digest of all of it."""
    if not zipfile.is_zipfile(path):
        return file_digest(path)
    with zipfile.ZipFile(path) as archive:
        return digest([[entry.filename, entry.file_size, entry.CRC] for entry in archive.infolist()])


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
    if target.exists() and (
        kind_of(target) is not Kind.SAFETENSORS or _told_by(target).get(ORIGIN) != metadata[ORIGIN]
    ):
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
