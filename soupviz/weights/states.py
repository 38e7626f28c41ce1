"""The state dicts in what a file holds, wherever they stand in it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from soupviz.weights.vocabulary import AVERAGED, WRAPPERS, is_training_state, says_average

DEPTH = 6
"""How deep state dicts are nested at most."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A state dict in a file.

    place: the keys that lead to it, joined by slashes. versions: of its modules, as torch.save keeps them. in_order:
    a list of tensors, of which the model's own order tells what each is. odd: keys of tensors that are no plain arrays
    of numbers, and what they are.
    """

    place: str
    tensors: Mapping[str, Tensor]
    is_average: bool = False
    versions: Mapping[str, Any] | None = None
    in_order: bool = False
    odd: Mapping[str, str] = field(default_factory=dict)


def candidates(value: Any, place: tuple[str, ...] = ()) -> Iterator[Candidate]:
    """Each state dict, the likeliest first; of what a training keeps beside its weights only the averages in it."""
    yield from _below(value, place, beside=False)


def _below(value: Any, place: tuple[str, ...], *, beside: bool) -> Iterator[Candidate]:
    items = _items(value)
    if not items or len(place) >= DEPTH:
        return
    name = "/".join(place)
    is_average = says_average(name) or AVERAGED in items
    in_order = isinstance(value, (list, tuple)) and all(isinstance(item, Tensor) for item in value)
    if is_average or not (beside or in_order):
        yield _candidate(name, items, is_average, in_order, getattr(items, "_metadata", None))
    known = [key for key in WRAPPERS if key in items]
    for key in [*known, *(key for key in items if key not in known)]:
        is_state = is_optimizer(items[key]) or (is_training_state(str(key)) and not says_average(str(key)))
        yield from _below(items[key], (*place, str(key)), beside=beside or is_state)


def _items(value: Any) -> Mapping[Any, Any]:
    """What is in a mapping, a module, a list, or a list of pairs, by key or by number; nothing of what is none."""
    if isinstance(value, nn.Module):
        return value.state_dict()
    if isinstance(value, Mapping):
        return {} if is_optimizer(value) else value
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, CONTAINERS) for item in value):
        return {}
    if all(isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[0], str) for item in value):
        return dict(value)
    return {str(index): item for index, item in enumerate(value)}


CONTAINERS = (Tensor, np.ndarray, Mapping, list, tuple, nn.Module)


def is_optimizer(value: Any) -> bool:
    """Whether it is what an optimizer's `state_dict()` returns."""
    return isinstance(value, Mapping) and value.keys() >= {"state", "param_groups"}


def _candidate(
    place: str, items: Mapping[Any, Any], is_average: bool, in_order: bool, versions: Mapping[str, Any] | None
) -> Candidate:
    given = {str(key): item for key, item in items.items() if isinstance(item, Tensor)}
    odd = {key: kind for key, tensor in given.items() if (kind := _oddness(tensor))}
    plain = {key: tensor for key, tensor in given.items() if key not in odd}
    arrays = {str(key): item for key, item in items.items() if isinstance(item, np.ndarray)}
    if not given and 2 * len(arrays) > len(items):  # a few arrays among other values are a history, say
        plain = {key: tensor for key, array in arrays.items() if (tensor := _tensor_of(array)) is not None}
        odd = {key: f"an array of {array.dtype}" for key, array in arrays.items() if key not in plain}
    return Candidate(place, plain, is_average, versions, in_order, odd)


def _oddness(tensor: Tensor) -> str:
    """What a tensor is that soups cannot be mixed of; empty for one that is an array of numbers."""
    if tensor.is_quantized:
        return "a quantised tensor"
    if is_traceable_wrapper_subclass(tensor):
        return f"a tensor of the class {type(tensor).__name__}"
    if tensor.is_meta:
        return "a tensor without values"
    return "" if tensor.layout is torch.strided else "a sparse tensor"


def _tensor_of(array: np.ndarray[Any, Any]) -> Tensor | None:
    try:
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("=")))
    except TypeError:  # texts, objects, and what torch has no type for
        return None
