"""Weights that are not one weighted sum: what they are made of, as plain data, and how they are made, key by key."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from soupviz.files import digest
from soupviz.mixing import merging
from soupviz.mixing.averaging import BatchNorm, Mix, mix_tensors, refuse_lora
from soupviz.mixing.pieces import at_hand
from soupviz.mixing.spectral import normalised, vectors_of
from soupviz.models.architecture import RUNNING_STATISTICS
from soupviz.models.layers import layer_groups
from soupviz.types import Coefficients
from soupviz.weights.ingredients import Ingredient, same_bits
from soupviz.weights.scratch import cast, copied

Resolve = Callable[[str], Ingredient]
KEPT = "kept"
"""Weights that cannot be made again from a formula alone: they were trained, and are kept as a file."""

PRECISE_SUM = "precise_sum"
"""The one weighted sum, accumulated in float64: of coefficients that cancel, float32 would lose digits."""


class Formula(BaseModel):
    """What weights are made of.

    kind: which formula. parts: ingredients with their weights, in order. base: where the formula has one. batchnorm:
    running statistics, which are mixed by the weights whatever the formula.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: str
    parts: Coefficients
    base: str | None = None
    parameters: dict[str, Any] = {}
    batchnorm: BatchNorm = "average"

    @property
    def names(self) -> list[str]:
        """Every ingredient it is made of."""
        return [name for name, _ in self.parts] + ([self.base] if self.base else [])

    def fingerprint(self, resolve: Resolve) -> str:
        """The same for the same formula over the same weights, whatever they are called."""
        parts = [[resolve(name).fingerprint, weight.hex()] for name, weight in self.parts]
        base = self.base and resolve(self.base).fingerprint
        return digest([self.kind, parts, base, self.parameters, self.batchnorm])

    def renamed(self, names: Mapping[str, str]) -> "Formula":
        """The same over ingredients that are called otherwise."""
        parts = tuple((names[name], weight) for name, weight in self.parts)
        return self.model_copy(update={"parts": parts, "base": self.base and names[self.base]})


Merge = Callable[[str, Tensor, Sequence[Tensor], Sequence[float], Mapping[str, Any]], Tensor]
"""Called with key, base, the parts' tensors, their weights and the parameters; float32 in and out."""


def _dare(
    key: str, base: Tensor, tensors: Sequence[Tensor], weights: Sequence[float], parameters: Mapping[str, Any]
) -> Tensor:
    seed = int(digest([parameters["seed"], key])[:15], 16)
    return merging.dare(
        base, tensors, weights, density=parameters["density"], scale=parameters["scale"], generator_seed=seed
    )


MERGES: Mapping[str, Merge] = {
    "task_arithmetic": lambda _, base, tensors, weights, p: merging.task_arithmetic(base, tensors, weights, **p),
    "ties": lambda _, base, tensors, weights, p: merging.ties(base, tensors, weights, **p),
    "dare": _dare,
    "breadcrumbs": lambda _, base, tensors, weights, p: merging.breadcrumbs(base, tensors, weights, **p),
    "model_stock": lambda _, base, tensors, weights, p: merging.model_stock(base, tensors),
    "slerp": lambda _, base, tensors, weights, p: merging.slerp(tensors[0], tensors[1], p["alpha"]),
    "karcher": lambda _, base, tensors, weights, p: merging.karcher(tensors, weights, **p),
}


def made(name: str, formula: Formula, resolve: Resolve, ties: Mapping[str, str]) -> Ingredient:
    """An ingredient whose tensors are computed when they are asked for, one at a time, and not kept.

    Args:
        ties: keys that are the same tensor as another in the model, and which: what is random is drawn for both alike.
    """
    parts = [(resolve(part), weight) for part, weight in formula.parts]
    base = resolve(formula.base) if formula.base else None
    first = parts[0][0]
    if formula.kind == "layered":
        # Only what is not by block says by what: formulas that were kept before there was a choice keep their name.
        groups = layer_groups(first.tensors, formula.parameters["ties"], formula.parameters.get("by", "block"))

        def tensor(key: str) -> Tensor:
            weights = formula.parameters["groups"][groups[key]]
            mixed = [(item, weight) for (item, _), weight in zip(parts, weights, strict=True)]
            return _mixed(key, mixed, formula.batchnorm)
    elif formula.kind == PRECISE_SUM:

        def tensor(key: str) -> Tensor:
            return _mixed(key, parts, formula.batchnorm, torch.float64)
    else:
        vectors = normalised(first.tensors)

        def tensor(key: str) -> Tensor:
            if one := vectors.get(key):
                ends = [item.tensors for item, _ in parts]
                left, right = vectors_of(one, ends, lambda: tensor(one.weight))
                return left if key == one.left else right
            return _merged(ties.get(key, key), formula, parts, base)

    return Ingredient(name, first.path, Computed(tuple(first.tensors), tensor), formula.fingerprint(resolve))


def _mixed(key: str, items: Mix, batchnorm: BatchNorm, accumulator: torch.dtype = torch.float32) -> Tensor:
    ((_, tensor),) = mix_tensors(items, batchnorm, [key], accumulator=accumulator)
    return tensor


def _merged(key: str, formula: Formula, parts: Mix, base: Ingredient | None) -> Tensor:
    refuse_lora(key, parts)
    first = parts[0][0].tensors[key]
    lacks_start = base is not None and key not in base.tensors  # a base with another head
    if not first.is_floating_point() or key.endswith(RUNNING_STATISTICS) or lacks_start:
        # Directions and signs of differences say nothing about variances: statistics are averaged as in any mix.
        return _mixed(key, parts, formula.batchnorm)
    start = base.tensors[key] if base else first
    tensors = at_hand(key, [item.tensors for item, _ in parts], start)
    if all(same_bits(tensor, start) for tensor in tensors):
        return copied(first)  # a frozen layer stays bit for bit what it is
    merged = MERGES[formula.kind](key, start, tensors, [weight for _, weight in parts], formula.parameters)
    return cast(merged, first.dtype)


class Computed(Mapping[str, Tensor]):
    """A state dict whose tensors are computed at each look."""

    def __init__(self, keys: Sequence[str], tensor: Callable[[str], Tensor]):
        self._keys = dict.fromkeys(keys)
        self._tensor = tensor

    def __getitem__(self, key: str) -> Tensor:
        if key not in self._keys:
            raise KeyError(key)
        return self._tensor(key)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)
