"""Pickles that need code, written as safetensors on the user's word."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from soupviz.errors import CheckpointError
from soupviz.files import replacing
from soupviz.weights.checkpoints import WEIGHTS_KEY
from soupviz.weights.containers import Kind, kind_of, refuse, without_suffix
from soupviz.weights.conversions import CONTENT, ORIGIN, content_of, told_by
from soupviz.weights.inert import plain
from soupviz.weights.pickles import is_plain
from soupviz.weights.states import Candidate, candidates
from soupviz.weights.vocabulary import WRAPPERS, says_average


@dataclass(frozen=True, slots=True)
class Converted:
    """What came of a pickle: the files, and where in it further weights are that were not written."""

    files: tuple[Path, ...]
    left_out: tuple[str, ...] = ()


def convert(path: Path) -> Converted:
    """Run a pickle's code, and write its weights as safetensors beside it.

    Modules are taken apart: their state dict is what is kept. Numbers and short strings beside the weights become the
    file's metadata, which says too whether they are raw weights or an average.

    Returns:
        NAME.safetensors, and NAME.ema.safetensors where the pickle holds raw weights and an average: of several sets
        of either the likeliest.
    Raises:
        CheckpointError: it is no pickle, fails to load, or holds no weights.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; expected a checkpoint. Check the name.")
    kind = kind_of(path)
    if kind not in (Kind.PICKLE, Kind.SCRIPT):
        raise refuse(path, kind)
    loaded = _load(path, kind)
    found = [one for one in candidates(loaded) if one.tensors and not one.in_order]
    if not found:
        raise CheckpointError(f"{path}: holds no weights; expected a module or a state dict, found {type(loaded)}.")
    raw = [one for one in found if not one.is_average]
    averages = [one for one in found if one.is_average]
    written = [*raw[:1], *averages[:1]]
    stem = without_suffix(path.name)
    facts = {key: str(value) for key, value in plain(loaded, WRAPPERS).items()} | {
        ORIGIN: path.name,
        CONTENT: content_of(path),
    }
    files = []
    for one in written:
        name = f"{stem}.ema.safetensors" if one.is_average and raw else f"{stem}.safetensors"
        is_average = one.is_average or (says_average(stem) and len(written) == 1)
        told = {**facts, WEIGHTS_KEY: "ema" if is_average else "raw"}
        files.append(_write(one, path.with_name(name), told))
    left_out = [one.place or "the top of the file" for one in found if one not in written]
    left_out += [f"{one.place}/{key}".lstrip("/") for one in written for key in one.odd]
    return Converted(tuple(files), tuple(left_out))


def _load(path: Path, kind: Kind) -> Any:
    try:
        if kind is Kind.SCRIPT:
            return torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        if is_plain(path):
            with path.open("rb") as file:
                return pickle.load(file)
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:  # the file's own code may raise anything
        missing = f" Install {error.name} first." if isinstance(error, ModuleNotFoundError) else ""
        raise CheckpointError(
            f"{path}: loading it failed with {type(error).__name__}: {' '.join(str(error).split())[:200]}.{missing}"
        ) from error


def _write(state: Candidate, target: Path, metadata: Mapping[str, str]) -> Path:
    if target.exists() and (kind_of(target) is not Kind.SAFETENSORS or told_by(target).get(ORIGIN) != metadata[ORIGIN]):
        raise CheckpointError(
            f"{target} is there already, and was not made from this file; move it away, and try again."
        )
    told = {"format": "pt", **metadata}
    try:
        with replacing(target) as temporary:
            save_file(
                {key: tensor.detach().clone().contiguous() for key, tensor in state.tensors.items()}, temporary, told
            )
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{target}: cannot be written ({error}). Free some space, or mend its folder.") from None
    return target
