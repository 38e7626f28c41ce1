"""What the keys of an adapter's file mean: factors of a product, or whole tensors that were trained beside them."""

import re
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from soupviz.errors import CompatibilityError
from soupviz.weights.adapters.config import MERGE
from soupviz.weights.key_maps import AdapterMap

PREFIX = "base_model.model."
"""Before every key that peft writes."""

FACTOR = re.compile(
    r"(?P<module>.+)\.(?P<kind>lora_embedding_|lora_)(?P<factor>[AB])(?:\.(?P<name>[^.]+))??(?:\.(?P<what>weight|bias))?"
)
SAVED = re.compile(r"(?P<module>.+?)\.modules_to_save\.(?P<rest>.+)")
ORIGINAL = ".original_module."
"""In keys of a whole peft model: the weights that modules_to_save stand for."""

Kind = Literal["lora_", "lora_embedding_", "bias"]


@dataclass(frozen=True, slots=True)
class Named:
    """What an adapter's file holds, by the names of the modules and keys in it.

    factors: by kind and module, A and B; of a bias, B alone. whole: by their keys in the file, tensors that take the
    place of the base's. left_over: keys that mean nothing here.
    """

    factors: Mapping[tuple[Kind, str], Mapping[str, Tensor]]
    whole: Mapping[str, Tensor]
    left_over: tuple[str, ...] = ()


def weight_of(kind: Kind, module: str) -> str:
    """The key of what a module's factors change."""
    return f"{module}.bias" if kind == "bias" else f"{module}.weight"


def named(tensors: Mapping[str, Tensor]) -> Named:
    """Sort an adapter's tensors, with or without the adapter's own name in their keys.

    Raises:
        CompatibilityError: two adapters in one file, one factor without the other, or what is no LoRA.
    """
    factors: dict[tuple[Kind, str], dict[str, Tensor]] = {}
    whole: dict[str, Tensor] = {}
    left: list[str] = []
    names: dict[str, None] = {}
    for full, tensor in tensors.items():
        key = full.removeprefix(PREFIX)
        if found := FACTOR.fullmatch(key):
            kind: Kind = "bias" if found["what"] == "bias" else "lora_embedding_" if "emb" in found["kind"] else "lora_"
            module = found["module"]
            if ".base_layer" in module:
                # peft 0.21 adds the update of its out_proj twice, in training as in merging: the version decides.
                raise CompatibilityError(
                    f"adapts {module}, a layer in torch's MultiheadAttention, whose update peft's versions count "
                    f"differently: with the one that trained it, {MERGE}"
                )
            names |= {found["name"]: None} if found["name"] else {}
            if factors.setdefault((kind, module), {}).setdefault(found["factor"], tensor) is not tensor:
                raise CompatibilityError(f"holds two updates of {module} ({', '.join(names)}); save each by itself")
        elif ORIGINAL in key:
            left.append(full)
        elif "lora_" in key or "ranknum" in key:
            raise CompatibilityError(f"holds {full}, which is no factor of a LoRA: {MERGE}")
        else:
            whole[full] = tensor
    for (kind, module), pair in factors.items():
        if kind != "bias" and pair.keys() != {"A", "B"}:
            raise CompatibilityError(f"holds only the factor {next(iter(pair))} of {module}; save it again")
    if not factors and not whole:
        raise CompatibilityError("holds no factors; expected lora_A and lora_B of some modules")
    return Named(factors, whole, tuple(left))


def renaming(found: Named, model: Iterable[str]) -> AdapterMap:
    """How an adapter's names become the model's: as they are, or under the one prefix more or less that fits all.

    Raises:
        CompatibilityError: none does, or several do, naming the first key.
    """
    state = set(model)
    weights = [weight_of(kind, module) for kind, module in found.factors]
    first = next(iter(weights), None) or _spellings(next(iter(found.whole)))[0]
    fitting = []
    for taken, put in _renamings(first, state):
        whole = {key: _spelled(key, taken, put, state) for key in found.whole}
        if all(one in state for one in (*(renamed(key, taken, put) for key in weights), *whole.values())):
            fitting.append(AdapterMap(taken=taken, put=put, whole=whole))
            if not taken + put:
                break
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        places = " and ".join(repr(one.put or one.taken) for one in fitting[:2])
        raise CompatibilityError(f"fits the model in two places, {places}; name its modules as the model does")
    names = [*weights, *(_spellings(key)[0] for key in found.whole)]
    missing = next((key for key in names if key not in state), first)
    raise CompatibilityError(f"changes {missing}, which the model lacks: an adapter of another model?")


def _renamings(first: str, state: Set[str]) -> list[tuple[str, str]]:
    """What may be taken off names and put before them, by one of them: nothing first."""
    more = sorted({key.removesuffix(first) for key in state if key.endswith(f".{first}")})
    parts = first.split(".")[:-1]
    less = ["".join(f"{part}." for part in parts[:end]) for end in range(1, len(parts))]
    return [("", ""), *(("", put) for put in more), *((taken, "") for taken in less)]


def renamed(key: str, taken: str, put: str) -> str:
    """A name in the file as the model has it."""
    return put + key.removeprefix(taken)


def _spelled(key: str, taken: str, put: str, state: Set[str]) -> str:
    names = [renamed(one, taken, put) for one in _spellings(key)]
    return next((name for name in names if name in state), names[0])


def _spellings(key: str) -> list[str]:
    """What a whole tensor may be called in the model: modules that are trained or adapted have a part more."""
    plain = key.removeprefix(PREFIX).replace(".base_layer.", ".")
    found = SAVED.fullmatch(plain)
    if found is None:
        return [plain]
    rest = found["rest"]  # with the adapter's own name before it, or without
    return [f"{found['module']}.{one}" for one in (rest, rest.partition(".")[2]) if one]
