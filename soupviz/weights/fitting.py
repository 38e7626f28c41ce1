"""Which of the state dicts in a file is the model's, under which prefix, and whether it is raw or an average."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from soupviz.errors import CompatibilityError
from soupviz.models.architecture import EXTRA_STATE, Architecture, Loading
from soupviz.weights.checkpoints import Checkpoint
from soupviz.weights.key_maps import KeyMap, traced
from soupviz.weights.layouts import SPELLINGS, Reading, fill_ties, readings_of
from soupviz.weights.misfits import refuse_flat, why
from soupviz.weights.states import Candidate
from soupviz.weights.vocabulary import AVERAGED, says_average

Weights = Literal["raw", "ema"]


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a file says of the model.

    tensors: as the model holds them, in its order. place: where they stand in the file. weights: raw, or an average
    over training; has_twin: the file has the other, too. left_over: keys that are no part of the model. constants:
    integer tensors among these that stand inside the model's prefix, to be compared with other files'. averaged: how
    many models it is the mean of, where it says so. others: further places whose weights fit, too. unread: places of
    averages that do not fit. by_name: only the file's name says that it is an average. key_map: which
    of the file's tensors each of the model's is.
    """

    tensors: Mapping[str, Tensor]
    place: str = ""
    weights: Weights = "raw"
    has_twin: bool = False
    left_over: tuple[str, ...] = ()
    constants: Mapping[str, Tensor] = field(default_factory=dict)
    averaged: int | None = None
    others: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()
    by_name: bool = False
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
    unread: list[str] = []
    for candidate in checkpoint.candidates:  # averages come last
        refuse_flat(candidate)
        fitting = list(_of_candidate(candidate, architecture, refused))
        if candidate.is_average and not fitting:
            fitting = _of_parameters(candidate, architecture, found["raw"])
            if not fitting and _is_large(candidate, architecture):
                unread.append(candidate.place)
        for one in fitting:
            found[one.weights].append(one)
    if not found["raw"] and not found["ema"]:
        raise CompatibilityError(why(refused, architecture, checkpoint.path))
    other: Weights = "ema" if wanted == "raw" else "raw"
    first, *more = found[wanted] or found[other]
    has_twin = bool(found[wanted] and found[other])
    others = tuple(one.place for one in more if one.place != first.place)
    return replace(first, has_twin=has_twin, others=others, unread=tuple(unread))


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
            if says_average(prefix):
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


def _of_parameters(candidate: Candidate, architecture: Architecture, raw: Sequence[Fitted]) -> list[Fitted]:
    """What fits of an average of the parameters alone, with the buffers of the raw weights beside it.

    As torch_ema and diffusers' EMAModel keep it: a list in the model's order, or a dictionary of what is learned.
    """
    names = architecture.parameters
    buffers = {
        key: tensor for one in raw[:1] for key, tensor in one.tensors.items() if key not in {*names, *architecture.ties}
    }
    if candidate.in_order:
        tensors = dict(zip(names, candidate.tensors.values(), strict=False))
        readings = [Reading(candidate, "", tensors)] if len(names) == len(candidate.tensors) else []
    else:
        readings = [one for wrappers in SPELLINGS for one in readings_of(candidate, architecture, wrappers)]
    for reading in readings:
        whole = replace(reading, tensors=buffers | dict(reading.tensors))
        if one := _accepted(whole, whole.loaded(architecture), architecture):
            return [one]
    return []


def _is_large(candidate: Candidate, architecture: Architecture) -> bool:
    """Whether it may be weights of this model, and no decay or count."""
    held = sum(tensor.numel() for tensor in candidate.tensors.values())
    return 2 * held > sum(architecture.state[key].numel() for key in architecture.parameters)


def _accepted(reading: Reading, loading: Loading, architecture: Architecture) -> Fitted | None:
    """The reading, if a fresh model takes it and what is left over is no part of the model."""
    if loading.reason or loading.missing:
        return None
    left = {key: reading.tensors[key] for key in loading.unexpected if key in reading.tensors}
    left = {
        key: tensor
        for key, tensor in left.items()
        if not architecture.ignores(key) and key != AVERAGED and not key.endswith(EXTRA_STATE)
    }
    constants = {key: tensor for key, tensor in left.items() if not (tensor.is_floating_point() or tensor.is_complex())}
    if left.keys() != constants.keys():
        return None
    counted = next((t for key, t in reading.candidate.tensors.items() if key.rpartition(".")[2] == AVERAGED), None)
    return Fitted(
        loading.held,
        reading.place,
        "ema" if reading.is_average else "raw",
        left_over=(*reading.outside, *loading.unexpected, *reading.candidate.odd),
        constants=constants,
        averaged=None if counted is None or counted.numel() != 1 else int(counted),
        key_map=traced(reading.candidate, reading.prefix, loading.held),
    )


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
