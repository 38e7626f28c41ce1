"""Which of the state dicts in a file is the model's, under which prefix, and whether it is raw or an average."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from soupviz.architecture import EXTRA_STATE, Architecture, Loading
from soupviz.errors import CompatibilityError
from soupviz.weights.checkpoints import EMA, Candidate, Checkpoint
from soupviz.weights.key_maps import KeyMap, traced
from soupviz.weights.layouts import SPELLINGS, Reading, fill_ties, readings_of
from soupviz.weights.lora import lora_keys

Weights = Literal["raw", "ema"]
AVERAGED = "n_averaged"
"""Where torch's AveragedModel counts the models that it is the mean of."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a file says of the model.

    tensors: as the model holds them, in its order. place: where they stand in the file. weights: raw, or an average
    over training; has_twin: the file has the other, too. left_over: keys that are no part of the model. constants:
    integer tensors among these that stand inside the model's prefix, to be compared with other files'. averaged: how
    many models it is the mean of, where it says so. others: further places whose weights fit, too. key_map: which of
    the file's tensors each of the model's is.
    """

    tensors: Mapping[str, Tensor]
    place: str = ""
    weights: Weights = "raw"
    has_twin: bool = False
    left_over: tuple[str, ...] = ()
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    averaged: int | None = None
    others: tuple[str, ...] = ()
    key_map: KeyMap = field(default_factory=KeyMap)


def fit(checkpoint: Checkpoint, architecture: Architecture, wanted: Weights = "raw") -> Fitted:
    """The reading of a checkpoint that a fresh model accepts, as the model then holds it.

    Args:
        wanted: which of the two to take where a file has raw weights and an average.
    Raises:
        CompatibilityError: no reading fits (the message is about the nearest one and names key and values), or two
            copies of the model lie side by side.
    """
    refused: list[tuple[Reading, Loading]] = []
    found: dict[Weights, list[Fitted]] = {"raw": [], "ema": []}
    for candidate in checkpoint.candidates:
        _refuse_flat(candidate)
        for one in _of_candidate(candidate, architecture, refused):
            found[one.weights].append(one)
    if not found["raw"] and not found["ema"]:
        raise CompatibilityError(_why(refused, architecture))
    other: Weights = "ema" if wanted == "raw" else "raw"
    first, *more = found[wanted] or found[other]
    has_twin = bool(found[wanted] and found[other])
    others = tuple(one.place for one in more if one.place != first.place)
    return replace(first, has_twin=has_twin, others=others)


def _of_candidate(
    candidate: Candidate, architecture: Architecture, refused: list[tuple[Reading, Loading]]
) -> Iterator[Fitted]:
    """What fits of one state dict: at most one copy of raw weights, and averages beside it."""
    for wrappers in SPELLINGS:
        accepted: list[tuple[Reading, Fitted]] = []
        known_elsewhere: set[str] = set()
        readings = list(readings_of(candidate, architecture, wrappers))
        # Averages first: beside the raw weights, their keys are no part of the model.
        for reading in sorted(readings, key=lambda one: not one.is_apart):
            prefix = reading.prefix
            own = {key: tensor for key, tensor in reading.tensors.items() if prefix + key not in known_elsewhere}
            reading = replace(reading, tensors=own)
            loading = reading.loaded(architecture)
            if (one := _accepted(reading, loading, architecture)) is None:
                refused.append((reading, loading))
                continue
            accepted.append((reading, one))
            if EMA.search(prefix):
                known_elsewhere |= {prefix + key for key in reading.tensors}
        raw = [one for one in accepted if not one[0].is_apart]
        if len(raw) > 1:
            places = " and under ".join(repr(reading.prefix) for reading, _ in raw[:2])
            raise CompatibilityError(
                f"holds the model's keys twice, under {places}; save the one that you mean by itself"
            )
        yield from (one for _, one in accepted)
        if accepted:
            return


def _accepted(reading: Reading, loading: Loading, architecture: Architecture) -> Fitted | None:
    """The reading, if a fresh model takes it and what is left over is no part of the model."""
    if loading.reason or loading.missing:
        return None
    left = {key: reading.tensors[key] for key in loading.unexpected if key in reading.tensors}
    left = {key: tensor for key, tensor in left.items() if not architecture.ignores(key)}
    constants = {
        key: tensor
        for key, tensor in left.items()
        if key != AVERAGED and not (tensor.is_floating_point() or tensor.is_complex())
    }
    if any(key not in constants and key != AVERAGED and not key.endswith(EXTRA_STATE) for key in left):
        return None
    counted = next((t for key, t in reading.candidate.tensors.items() if key.rpartition(".")[2] == AVERAGED), None)
    return Fitted(
        loading.held,
        reading.place,
        "ema" if reading.is_average else "raw",
        left_over=(*reading.outside, *loading.unexpected),
        constants=constants,
        averaged=None if counted is None or counted.numel() != 1 else int(counted),
        key_map=traced(reading.candidate, reading.prefix, loading.held),
    )


def _refuse_flat(candidate: Candidate) -> None:
    """Shards of FSDP and ZeRO hold pieces of several layers in one tensor, and other machines hold the rest."""
    flat = next((key for key in candidate.tensors if re.search(r"(^|\.)_?flat_param", key)), None)
    if flat:
        raise CompatibilityError(
            f"holds flattened FSDP weights ({flat}), a part of the model each; gather them with "
            "torch.distributed.checkpoint.state_dict.get_model_state_dict(full_state_dict=True), and save that"
        )
    if candidate.place == "module" and candidate.tensors and all(not t.numel() for t in candidate.tensors.values()):
        raise CompatibilityError(
            "holds no weights, which ZeRO keeps in shards beside it; gather them with DeepSpeed's zero_to_fp32.py"
        )


def _why(refused: Sequence[tuple[Reading, Loading]], architecture: Architecture) -> str:
    """What is wrong with the reading that comes nearest."""
    state = architecture.state
    reading, loading = max(refused, key=lambda pair: len(pair[0].tensors.keys() & state.keys()))
    tensors = fill_ties(reading.tensors, architecture.ties)
    if loading.reason:
        for key, expected in state.items():
            if key in tensors and tensors[key].shape != expected.shape:
                got, wanted = tuple(tensors[key].shape), tuple(expected.shape)
                return f"has {key} of shape {got}; expected {wanted}, as in the model"
        return f"is refused by the model's own loading code: {loading.reason[:300]}"
    if len(loading.missing) == len(state) and not lora_keys(tensors):
        return (
            f"is of another architecture: none of the model's {len(state)} keys is in it; "
            f"it has {next(iter(tensors), 'none')!r}, the model {next(iter(state))!r}"
        )
    extra = [key for key in loading.unexpected if key in tensors]
    if factors := lora_keys(extra):
        return (
            f"holds LoRA factors ({_listed(factors)}) apart from the layers that they change, as the model does not; "
            "merge them first (peft: merge_and_unload), and save the whole model"
        )
    parts = [f"lacks {_listed(loading.missing)}"] if loading.missing else []
    parts += [f"has {_listed(extra)}, which the model lacks"] if extra else []
    return " and ".join(parts)


def _listed(keys: Sequence[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more keys"


def fit_body(checkpoint: Checkpoint, architecture: Architecture, wanted: Weights = "raw") -> Fitted:
    """As `fit`, or of a base with another head the reading that shares most of the model's tensors, keys as they are.

    Raises:
        CompatibilityError: it shares less than half of the model's keys, shape for shape.
    """
    try:
        return fit(checkpoint, architecture, wanted)
    except CompatibilityError:
        state = architecture.state

        def num_shared(reading: Reading) -> int:
            whole = fill_ties(reading.tensors, architecture.ties)
            return sum(key in state and tensor.shape == state[key].shape for key, tensor in whole.items())

        readings = [
            reading
            for candidate in checkpoint.candidates
            for wrappers in SPELLINGS
            for reading in readings_of(candidate, architecture, wrappers)
        ]
        nearest = max(readings, key=num_shared, default=None)
        if nearest is None or 2 * num_shared(nearest) < len(state):
            raise
        weights: Weights = "ema" if nearest.is_average else "raw"
        tensors = fill_ties(nearest.tensors, architecture.ties)
        key_map = traced(nearest.candidate, nearest.prefix, tensors)
        return Fitted(tensors, nearest.place, weights, left_over=nearest.outside, key_map=key_map)
