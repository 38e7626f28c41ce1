"""Ingredients: checkpoints read as the kitchen's model holds them, checked once, with a fingerprint each."""

import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from soupviz.errors import CompatibilityError, KitchenError
from soupviz.weights.checkpoints import INDEX_SUFFIX, Checkpoint

COUNTER = "num_batches_tracked"


@dataclass(frozen=True, slots=True, eq=False)
class Ingredient:
    """One checkpoint as the model holds it: unwrapped, ties filled, memory-mapped."""

    name: str
    path: Path
    tensors: Mapping[str, Tensor]
    fingerprint: str
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def num_bytes(self) -> int:
        return self.path.stat().st_size


def natural_key(text: str) -> list[tuple[int, int | str]]:
    """Sorts ft_2 before ft_10."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", text)]


def short_names(paths: Sequence[Path]) -> list[str]:
    """Each path's shortest unique ending, without suffix: a/model.pt and b/model.pt become a/model and b/model."""

    def stem(path: Path) -> tuple[str, ...]:
        name = path.name.removesuffix(INDEX_SUFFIX)
        return (*path.parts[:-1], name.rpartition(".")[0] or name)

    stems = [stem(path) for path in paths]
    same = Counter(stems)
    stems = [path.parts if same[parts] > 1 else parts for path, parts in zip(paths, stems, strict=True)]
    names = []
    for index, parts in enumerate(stems):
        others = stems[:index] + stems[index + 1 :]
        lengths = (n for n in range(1, len(parts)) if all(other[-n:] != parts[-n:] for other in others))
        length = next(lengths, len(parts))  # a whole path may end another: a.pt beside b/a.pt
        names.append("/".join(parts[-length:]))
    return names


def fit(checkpoint: Checkpoint, model_state: Mapping[str, Tensor], ties: Mapping[str, str]) -> dict[str, Tensor]:
    """The reading of a checkpoint that fits the model: unwrapped, prefixes stripped, tied tensors filled in.

    Raises:
        CompatibilityError: no reading fits; the message is about the nearest one and names key and values.
    """
    readings = [fill_ties(tensors, ties) for tensors in checkpoint.readings()]
    for tensors in readings:
        if tensors.keys() == model_state.keys():
            return {key: tensors[key] for key in model_state}
    nearest = max(readings, key=lambda tensors: len(tensors.keys() & model_state.keys()))
    missing = [key for key in model_state if key not in nearest]
    extra = [key for key in nearest if key not in model_state]
    if len(missing) == len(model_state):
        raise CompatibilityError(
            f"is of another architecture: none of the model's {len(model_state)} keys is in it; "
            f"it has {extra[0]!r}, the model {missing[0]!r}"
        )
    parts = [f"lacks {_listed(missing)}"] if missing else []
    parts += [f"has {_listed(extra)}, which the model lacks"] if extra else []
    raise CompatibilityError(" and ".join(parts))


def _listed(keys: Sequence[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{keys[0]} and {len(keys) - 1} more keys"


def fill_ties(tensors: Mapping[str, Tensor], ties: Mapping[str, str]) -> dict[str, Tensor]:
    """The tensors with those that a file holds under only one of their names under each of them."""
    filled = dict(tensors)
    for key, first in ties.items():
        if key not in filled and first in filled:
            filled[key] = filled[first]
        elif first not in filled and key in filled:
            filled[first] = filled[key]
    return filled


def check_against_model(tensors: Mapping[str, Tensor], state: Mapping[str, Tensor], ties: Mapping[str, str]) -> None:
    """Shapes, kinds, ties and finiteness of one ingredient's tensors.

    Raises:
        CompatibilityError: the first disagreement, by key.
    """
    for key, expected in state.items():
        tensor = tensors[key]
        if tensor.shape != expected.shape:
            raise CompatibilityError(
                f"has {key} of shape {tuple(tensor.shape)}; expected {tuple(expected.shape)}, as in the model"
            )
        if tensor.is_floating_point() != expected.is_floating_point() or tensor.is_complex():
            raise CompatibilityError(f"has {key} of type {tensor.dtype}; expected {expected.dtype}, as in the model")
        # As float32, in which soups are mixed: what is infinite there spoils a soup, and float8 has no isfinite.
        if tensor.is_floating_point() and (bad := int((~torch.isfinite(tensor.to(torch.float32))).sum())):
            raise CompatibilityError(f"has {bad} NaN or infinite values in {key}; its training diverged")
    for key, first in ties.items():
        if not torch.equal(tensors[key], tensors[first]):
            raise CompatibilityError(f"has different values in {key} and {first}, which are one tensor in the model")


def signature(tensors: Mapping[str, Tensor]) -> tuple[torch.dtype, ...]:
    """The dtypes, in the model's order of keys."""
    return tuple(tensor.dtype for tensor in tensors.values())


def disagreement(ingredient: Ingredient, reference: Ingredient) -> str | None:
    """Why two ingredients that each fit the model do not fit each other: another dtype or integer buffer."""
    for key, tensor in ingredient.tensors.items():
        other = reference.tensors[key]
        if tensor.dtype != other.dtype:
            return f"has {key} of type {tensor.dtype}; '{reference.name}' ({reference.path}) has {other.dtype}"
        must_agree = not tensor.is_floating_point() and not key.endswith(COUNTER)
        if must_agree and not torch.equal(tensor, other):
            return (
                f"has an integer buffer {key} with other values than '{reference.name}' ({reference.path}): "
                f"{_first_difference(tensor, other)}; such buffers cannot be averaged"
            )
    return None


def narrowed(ingredient: Ingredient, reference: Ingredient) -> Ingredient:
    """The ingredient, float32 tensors in the reference's dtype where that loses nothing: `export` may have widened."""
    tensors = dict(ingredient.tensors)
    for key, tensor in tensors.items():
        as_reference = tensor.to(reference.tensors[key].dtype)
        if tensor.dtype == torch.float32 and torch.equal(as_reference.to(tensor.dtype), tensor):
            tensors[key] = as_reference
    return replace(ingredient, tensors=tensors)


def _first_difference(tensor: Tensor, other: Tensor) -> str:
    place = int((tensor.flatten() != other.flatten()).nonzero()[0])
    return f"{tensor.flatten()[place].item()} and {other.flatten()[place].item()} at position {place}"


def reference_of(ingredients: Sequence[Ingredient]) -> Ingredient:
    """The first ingredient with the most common dtypes: what the others are compared with."""
    common = Counter(signature(ingredient.tensors) for ingredient in ingredients).most_common(1)[0][0]
    return next(item for item in ingredients if signature(item.tensors) == common)


def fingerprint(tensors: Mapping[str, Tensor], progress: Callable[[int], None] = lambda _bytes: None) -> str:
    """SHA-256 over the sorted keys: key, dtype, shape, contiguous little-endian bytes.

    The same weights give the same fingerprint in every file format.
    """
    sha = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        header = f"{key}\0{str(tensor.dtype).removeprefix('torch.')}\0{tuple(tensor.shape)}\0"
        sha.update(header.encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
        progress(tensor.nbytes)
    return sha.hexdigest()


GLANCE = 4096
"""Elements that are compared before all are."""


def same_bits(tensor: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape and dtype are the same bit for bit: 0.0 and -0.0 are not."""
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    one, two = (each.reshape(-1).view(integers) for each in (tensor, other))
    # Tensors that differ mostly differ at once: most are not read to their end.
    return torch.equal(one[:GLANCE], two[:GLANCE]) and torch.equal(one, two)


def shared_keys(ingredients: Sequence[Ingredient]) -> frozenset[str]:
    """The keys whose tensors are the same bit for bit in all ingredients: a frozen backbone, say."""
    first, *others = ingredients
    return frozenset(
        key for key, tensor in first.tensors.items() if all(same_bits(tensor, item.tensors[key]) for item in others)
    )


def pick(ingredients: Iterable[Ingredient], names: Sequence[str] | None) -> list[Ingredient]:
    """The named ingredients in kitchen order; all of them for None.

    Raises:
        KitchenError: an unknown name (the nearest known one is named), a repeated one, or an empty choice.
    """
    known = {item.name: item for item in ingredients}
    if names is None:
        return list(known.values())
    if not names:
        raise KitchenError("no ingredient is chosen; choose at least one.")
    for name in names:
        if name not in known:
            raise KitchenError(unknown_name(name, known))
    if len(set(names)) < len(names):
        raise KitchenError(f"an ingredient is named twice in {', '.join(names)}; name each once.")
    wanted = set(names)
    return [item for name, item in known.items() if name in wanted]


def unknown_name(name: str, known: Iterable[str]) -> str:
    """The message for a name that the kitchen lacks."""
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}."
    return f"no ingredient {name!r} in this kitchen; {remedy}"
