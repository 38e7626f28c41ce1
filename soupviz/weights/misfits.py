"""Why a state dict does not fit a model, and what makes one of it that does."""

import re
from collections.abc import Sequence
from pathlib import Path

from soupviz.errors import CompatibilityError
from soupviz.models.architecture import Architecture, Loading
from soupviz.weights import quantised
from soupviz.weights.containers import GATHER_ZERO
from soupviz.weights.layouts import Reading, fill_ties
from soupviz.weights.lora import lora_keys
from soupviz.weights.states import Candidate

PLAIN = {"a sparse tensor": "save its .to_dense()", "a quantised tensor": "save its .dequantize()"}


def refuse_flat(candidate: Candidate) -> None:
    """Shards of FSDP and ZeRO hold pieces of several layers in one tensor, and other machines hold the rest."""
    flat = next((key for key in candidate.tensors if re.search(r"(^|\.)_?flat_param", key)), None)
    if flat:
        raise CompatibilityError(
            f"holds flattened FSDP weights ({flat}), a part of the model each; gather them with "
            "torch.distributed.checkpoint.state_dict.get_model_state_dict(full_state_dict=True), and save that"
        )
    if candidate.place == "module" and candidate.tensors and all(not t.numel() for t in candidate.tensors.values()):
        raise CompatibilityError(
            f"holds no weights, which ZeRO keeps in shards beside it; gather them with {GATHER_ZERO}"
        )


def why(refused: Sequence[tuple[Reading, Loading]], architecture: Architecture, path: Path) -> str:
    """What is wrong with the reading that comes nearest, of a file."""
    state = architecture.state
    reading, loading = max(refused, key=lambda pair: len(pair[0].tensors.keys() & state.keys()))
    tensors = fill_ties(reading.tensors, architecture.ties)
    if told := quantised.told_of((key for key in reading.candidate.tensors if key not in state), path):
        return told
    if loading.reason:
        for key, expected in state.items():
            if key in tensors and tensors[key].shape != expected.shape:
                got, wanted = tuple(tensors[key].shape), tuple(expected.shape)
                return f"has {key} of shape {got}; expected {wanted}, as in the model"
        return f"is refused by the model's own loading code: {loading.reason[:300]}"
    odd = reading.candidate.odd
    for key in loading.missing:
        if name := next((name for name in odd if f".{name}".endswith(f".{key}")), ""):
            remedy = PLAIN.get(odd[name], "save its numbers, such as its .dequantize() or .full_tensor()")
            return f"has {name} as {odd[name]}; expected an array of numbers, as in the model: {remedy}"
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
