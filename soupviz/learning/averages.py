"""Averages that weigh each number by what data say of it: Fisher-weighted averaging, and RegMean."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from soupviz.errors import RecipeError
from soupviz.learning.curvature import add_to
from soupviz.mixing.averaging import LARGEST, mix_tensors
from soupviz.weights.ingredients import Ingredient
from soupviz.weights.scratch import by_pieces, cast, copied, product, room, set_down, zeros

FLOOR = 1e-6
"""As a share of the mean Fisher information: far below it a number is averaged as if nothing were known of it."""

TINY = torch.finfo(torch.float32).tiny

RIDGE = 1e-6
"""As a share of a Gram matrix's mean diagonal: keeps the plain mean where no input says anything."""


def fisher_average(
    ingredients: Sequence[Mapping[str, Tensor]],
    fisher_of: Callable[[int], Mapping[str, Tensor]],
    weights: Sequence[float] | None = None,
    *,
    floor: float = FLOOR,
) -> dict[str, Tensor]:
    """The average in which each number counts by its Fisher information: `sum w_i F_i theta_i / sum w_i F_i`.

    Every F is raised by `floor` times the mean of all, so that a number of which no ingredient's data say anything is
    the plain weighted mean; only ratios of Fishers matter. Buffers, which have none, are mixed as everywhere.

    Args:
        fisher_of: the Fisher information of the ingredient at a position, asked for once. What is summed is set down
            in files: memory holds one tensor of it.
        weights: of the ingredients, at least 0; default: all alike.
    Returns:
        A new state dict in the ingredients' order and dtypes; tensors that all have in common are copied.
    Raises:
        RecipeError: no ingredients, weights that do not fit, or that are all zero.
    Source:
        Matena and Raffel 2022 (arXiv 2111.09832). Differs: the floor is added, and relative, where the authors' code
        clamps normalised Fishers at 1e-6.
    """
    weights = _shares([1.0] * len(ingredients) if weights is None else weights, len(ingredients))
    soup = _mean(ingredients, weights)
    numerator: dict[str, Tensor] = {}
    denominator: dict[str, Tensor] = {}
    for position, (tensors, weight) in enumerate(zip(ingredients, weights, strict=True)):
        for key, information in fisher_of(position).items():
            if key not in numerator:
                numerator[key], denominator[key] = zeros(information.shape), zeros(information.shape)
            sums = (numerator[key], denominator[key])
            for known, tensor, mean, above, below in by_pieces(information, tensors[key], soup[key], *sums):
                weighted = known.to(torch.float32) * weight
                # Differences from the mean are averaged: rounding is of them, and what is known of nowhere stays it.
                pull = weighted * (tensor.to(torch.float32) - mean.to(torch.float32))
                above.copy_(above + pull if position else pull)
                below.copy_(below + weighted if position else weighted)
    least = floor * _mean_of_all(denominator.values())
    for key, change in numerator.items():
        if change.any():  # else it is the same in all, bit for bit
            for above, below, mean in by_pieces(change, denominator[key], soup[key]):
                above /= (below + least).clamp_min_(TINY)  # 0 where nothing is known, and no floor asked for
                mean.copy_(mean.to(torch.float32) + above)
    return soup


def regmean(
    ingredients: Sequence[Mapping[str, Tensor]],
    grams_of: Callable[[int], Mapping[str, Tensor]],
    *,
    shrink: float = 0.9,
) -> dict[str, Tensor]:
    """Linear layers whose outputs come nearest to every ingredient's own, on its own inputs; all else is the mean.

    `W = (sum G_i)^-1 sum G_i W_i`, W of shape (in, out), off-diagonals of the G_i multiplied by `shrink`. A ridge of
    1e-6 of the mean diagonal keeps the plain mean along inputs that never occur. Convolutions and biases are the mean.

    Args:
        grams_of: the Gram matrices of the ingredient at a position, asked for once. What is summed is set down in
            files: memory holds one tensor of it.
        shrink: from 0, each input by itself, to 1, the exact solution, for which inputs should be many.
    Returns:
        A new state dict in the ingredients' order and dtypes.
    Raises:
        RecipeError: no ingredients, or `shrink` out of range.
    Source:
        Jin et al. 2023 (arXiv 2212.09849). Differs: the ridge, towards the mean.
    """
    if not 0.0 <= shrink <= 1.0:
        raise RecipeError(f"shrink is {shrink}; expected a number from 0 to 1, such as 0.9.")
    soup = _mean(ingredients, _shares([1.0] * len(ingredients), len(ingredients)))
    total: dict[str, Tensor] = {}
    pull: dict[str, Tensor] = {}
    for position, tensors in enumerate(ingredients):
        for key, gram in grams_of(position).items():
            shrunk = copied(gram).mul_(shrink)
            shrunk.diagonal().copy_(gram.diagonal())
            difference = room(soup[key].shape, torch.float32).copy_(tensors[key]).sub_(soup[key])
            add_to(pull, key, product(shrunk, difference.T), set_down)
            add_to(total, key, shrunk, set_down)
            del shrunk, difference  # or they would be in memory beside the next
    for key, gram in total.items():
        if pull[key].any():  # else it is the same in all, bit for bit
            change = _solved(cast(gram, torch.float64), cast(pull[key], torch.float64)).T
            soup[key].copy_(cast(soup[key], torch.float64).add_(change))
    return soup


def _solved(gram: Tensor, pull: Tensor) -> Tensor:
    """Least squares by the normal equations."""
    gram.diagonal().add_(RIDGE * float(gram.diagonal().mean()))
    solution: Tensor = torch.linalg.solve(gram, pull)
    return solution


def _shares(weights: Sequence[float], num_ingredients: int) -> list[float]:
    """Weights that sum to one."""
    if len(weights) != num_ingredients:
        raise RecipeError(f"there are {len(weights)} weights for {num_ingredients} ingredients; give one for each.")
    if not all(0.0 <= weight <= LARGEST for weight in weights) or not math.fsum(weights) > 0.0:
        listed = ", ".join(f"{weight:g}" for weight in weights) or "empty"
        raise RecipeError(f"the weights are {listed}; expected numbers of at least 0, and one above 0.")
    total = math.fsum(weights)
    return [weight / total for weight in weights]


def _mean(ingredients: Sequence[Mapping[str, Tensor]], shares: Sequence[float]) -> dict[str, Tensor]:
    """The plain weighted mean, by the one definition of a mix."""
    items = [Ingredient(f"ingredient {number}", Path(), tensors, "") for number, tensors in enumerate(ingredients, 1)]
    return {key: set_down(tensor) for key, tensor in mix_tensors(list(zip(items, shares, strict=True)))}


def _mean_of_all(tensors: Iterable[Tensor]) -> float:
    """The mean over all numbers in all tensors; 0.0 for none."""
    total, count = 0.0, 0
    for tensor in tensors:
        total, count = total + float(tensor.sum(dtype=torch.float64)), count + tensor.numel()
    return total / max(count, 1)
