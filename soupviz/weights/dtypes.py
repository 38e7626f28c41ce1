"""Ingredients in one another's types of numbers."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from soupviz.weights.ingredients import Ingredient, fingerprint, num_spoilt
from soupviz.weights.key_maps import name_of


def in_types_of(base: Ingredient, reference: Ingredient) -> Ingredient:
    """The base with its floats in the types of an ingredient's, as PyTorch's own loading would copy them.

    One whose numbers the other type cannot hold stays as it is.
    """
    assert base.fitted is not None
    floats = next(tensor.dtype for tensor in reference.tensors.values() if tensor.is_floating_point())
    types = {key: tensor.dtype for key, tensor in reference.tensors.items()}
    cast = cast_floats(base.tensors, types)
    if all(tensor.dtype == base.tensors[key].dtype for key, tensor in cast.items()):
        return base
    if any(_num_lost(base.tensors[key], tensor) for key, tensor in cast.items() if tensor.is_floating_point()):
        return base
    whole = cast_floats(base.fitted.tensors, {key: types.get(key, floats) for key in base.fitted.tensors})
    return replace(base, tensors=cast, fingerprint=fingerprint(whole))


def _num_lost(tensor: Tensor, cast: Tensor) -> int:
    """How many numbers are too large for the other type."""
    return num_spoilt(cast, may_be_infinite=False) - num_spoilt(tensor, may_be_infinite=False)


def cast_floats(tensors: Mapping[str, Tensor], types: Mapping[str, torch.dtype]) -> dict[str, Tensor]:
    """The tensors, floats in other types of floats."""
    return {
        key: tensor.to(types[key]) if tensor.is_floating_point() and types[key].is_floating_point else tensor
        for key, tensor in tensors.items()
    }


def narrowed(ingredient: Ingredient, reference: Ingredient) -> Ingredient:
    """The ingredient, float32 tensors in the reference's dtype where that loses nothing: `export` may have widened."""
    if ingredient.adapter:  # in the types of its base
        return ingredient
    tensors = dict(ingredient.tensors)
    narrower: dict[str, str] = {}
    for key, tensor in tensors.items():
        as_reference = tensor.to(reference.tensors[key].dtype)
        is_wide = tensor.dtype == torch.float32 != as_reference.dtype
        if is_wide and torch.equal(as_reference.to(tensor.dtype), tensor):
            tensors[key] = as_reference
            narrower[key] = name_of(as_reference.dtype)
    if ingredient.fitted is None or not narrower:
        return ingredient
    key_map = ingredient.fitted.key_map.model_copy(update={"narrowed": narrower})
    return replace(ingredient, tensors=tensors, fitted=replace(ingredient.fitted, key_map=key_map))
