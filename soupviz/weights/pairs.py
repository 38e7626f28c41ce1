"""Ingredients that are one checkpoint: copies, and the raw weights and the average of one in two files."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch

from soupviz.weights.fitting import Weights
from soupviz.weights.ingredients import COUNTER, Ingredient, same_bits
from soupviz.weights.names import counters_in
from soupviz.weights.vocabulary import AVERAGES, WORD

FEW = 8
"""Elements of each tensor that are looked at before whole checkpoints are compared."""


def set_aside(ingredients: Sequence[Ingredient], wanted: Weights) -> Mapping[str, str]:
    """Ingredients that count only where they are chosen by name, and which counts for each."""
    others = twins(ingredients, wanted)
    return others | copies([item for item in ingredients if item.name not in others])


def twins(ingredients: Sequence[Ingredient], wanted: Weights) -> dict[str, str]:
    """Of checkpoints whose raw weights and average are two files that are called alike, those not wanted."""
    raw: dict[str, str] = {}
    averages: dict[str, list[str]] = defaultdict(list)
    for item in ingredients:
        if item.fitted is None or item.fitted.has_twin:
            continue
        if item.fitted.weights == "ema":
            averages[_common_name(item.name)].append(item.name)
        else:
            raw.setdefault(_common_name(item.name), item.name)
    both = [(raw[name], found) for name, found in averages.items() if name in raw]
    if wanted == "ema":
        return {name: found[0] for name, found in both}
    return {average: name for name, found in both for average in found}


def _common_name(name: str) -> str:
    """A name without the words that say which weights they are, and without signs."""
    said = WORD.sub(lambda word: "" if word[0].lower() in AVERAGES | {"raw"} else word[0].lower(), name)
    return re.sub(r"[\W_]+", " ", said).strip()


def copies(ingredients: Sequence[Ingredient]) -> dict[str, str]:
    """Ingredients with the weights of another, and which: that whose name has a step, else the first.

    Counts of batches, in which two files of the same weights may differ, are not looked at.
    """
    similar: dict[object, list[list[Ingredient]]] = defaultdict(list)
    for item in ingredients:
        groups = similar[_glance(item)]
        group = next((group for group in groups if _are_same(group[0], item)), None)
        groups.append([item]) if group is None else group.append(item)
    kept: dict[str, str] = {}
    for group in (group for groups in similar.values() for group in groups):
        names = [item.name for item in group]
        first = next((name for name in names if counters_in(name)), names[0])
        kept |= {name: first for name in names if name != first}
    return kept


def _glance(item: Ingredient) -> object:
    """What is the same in copies, and quickly seen."""
    if not any(key.endswith(COUNTER) for key in item.tensors):
        return item.fingerprint
    starts = [tensor.reshape(-1)[:FEW] for key, tensor in item.tensors.items() if not key.endswith(COUNTER)]
    return b"".join(start.view(torch.uint8).numpy().tobytes() for start in starts)


def _are_same(one: Ingredient, other: Ingredient) -> bool:
    return one.fingerprint == other.fingerprint or all(
        tensor.dtype == other.tensors[key].dtype and same_bits(tensor, other.tensors[key])
        for key, tensor in one.tensors.items()
        if not key.endswith(COUNTER)
    )
