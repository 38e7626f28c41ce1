"""The one place where weights are averaged."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from soupviz.errors import CompatibilityError, RecipeError
from soupviz.mixing.pieces import HELD, are_held
from soupviz.mixing.spectral import Normalised, normalised, vectors_of
from soupviz.models.architecture import RUNNING_STATISTICS
from soupviz.types import Coefficients
from soupviz.weights.ingredients import COUNTER, Ingredient, same_bits
from soupviz.weights.lora import partner_of
from soupviz.weights.scratch import PIECE, by_pieces, cast, copied, room

BatchNorm = Literal["average", "first"]
Mix = Sequence[tuple[Ingredient, float]]
AFFINE = 1e-9
"""How far from one coefficients may sum to and still mix what is the same in all into the same."""

LARGEST = torch.finfo(torch.float32).max
"""Beyond it a coefficient is infinite where soups are mixed."""


def mix(items: Mix, batchnorm: BatchNorm = "average") -> dict[str, Tensor]:
    """The weighted sum of ingredients' weights, by DESIGN's one definition of a mix.

    Args:
        items: ingredients with their coefficients, in the order in which they are accumulated.
        batchnorm: running statistics are averaged as the weights are, or taken from the first ingredient.
    Returns:
        A new state dict; tensors that are one in the model stay equal; nothing in `items` is changed.
    Raises:
        RecipeError: no item with a coefficient other than zero, or a coefficient that is not finite.
    Source:
        Wortsman et al. 2022, section 2 and table 1 (uniform and greedy are plain means).
    """
    return dict(mix_tensors(items, batchnorm))


def mix_tensors(
    items: Mix,
    batchnorm: BatchNorm = "average",
    keys: Iterable[str] | None = None,
    *,
    accumulator: torch.dtype = torch.float32,
) -> Iterator[tuple[str, Tensor]]:
    """Yield a mix tensor by tensor, so that no more than one tensor per ingredient is looked at at a time.

    Args:
        keys: which, in this order; default: all, in the model's order. accumulator: what sums are made in: float64
            only by a formula that says so, of coefficients that cancel.
    Raises:
        CompatibilityError: LoRA factors that would be averaged apart, or a key that no ingredient has.
    """
    items = effective(items)
    if all(ingredient.lacking for ingredient, _ in items):
        raise _lacks(items[0][0], items[0][0].lacking[0])
    whole = next(ingredient.tensors for ingredient, _ in items if not ingredient.lacking)
    derived = normalised(whole)
    for key in whole if keys is None else keys:
        if one := derived.get(key):
            yield key, _vector(key, one, items, accumulator)
        else:
            yield key, _mix_one(key, _parts(key, items), batchnorm, accumulator)


def _vector(key: str, one: Normalised, items: Mix, accumulator: torch.dtype) -> Tensor:
    """A singular vector of the mixed weight, not a mean of vectors, whose signs are arbitrary."""
    parts = [ingredient.tensors for ingredient, _ in items]
    left, right = vectors_of(
        one, parts, lambda: _mix_one(one.weight, _parts(one.weight, items), "average", accumulator)
    )
    return left if key == one.left else right


def _parts(key: str, items: Mix) -> Mix:
    """The ingredients that a mix has a key of, with their coefficients.

    What an ingredient lacks (a base with another head) is mixed of the others, each with a larger part in the same sum.
    """
    refuse_lora(key, items)
    parts = [(ingredient, weight) for ingredient, weight in items if key in ingredient.tensors]
    if len(parts) == len(items):
        return parts
    kept = math.fsum(weight for _, weight in parts)
    if kept == 0.0:
        raise _lacks(next(ingredient for ingredient, _ in items if key not in ingredient.tensors), key)
    scale = math.fsum(weight for _, weight in items) / kept
    return [(ingredient, weight * scale) for ingredient, weight in parts]


def _lacks(ingredient: Ingredient, key: str) -> CompatibilityError:
    return CompatibilityError(
        f"'{ingredient.name}' ({ingredient.path}) has no {key} as the model has it (another head?), so that there is "
        "none to mix; it can only have a part in a mix with others."
    )


def refuse_lora(key: str, items: Mix) -> None:
    """The mean of products is not the product of means, unless one of the two factors is the same in all."""
    other = partner_of(key) if len(items) > 1 else None
    first = items[0][0].tensors
    if other is None or other not in first:
        return
    if _is_same(key, items) or _is_same(other, items):
        return
    raise CompatibilityError(
        f"{key} and {other} are the factors of a LoRA update, which differ in '{items[0][0].name}' and "
        f"'{items[1][0].name}': the mean of products is not the product of means. Merge each adapter into its layers "
        "first (peft: merge_and_unload), and save the whole model."
    )


def _is_same(key: str, items: Mix) -> bool:
    first = items[0][0].tensors[key]
    return all(same_bits(ingredient.tensors[key], first) for ingredient, _ in items[1:])


def is_affine(items: Mix) -> bool:
    """Whether the coefficients sum to one, so that what is the same in all is the same in the mix."""
    return math.isclose(math.fsum(weight for _, weight in items), 1.0, abs_tol=AFFINE)


def effective(items: Mix) -> Mix:
    """The items whose coefficient is not zero.

    Raises:
        RecipeError: none is left, or a coefficient is not finite.
    """
    for ingredient, weight in items:
        if not abs(weight) <= LARGEST:
            raise RecipeError(f"the coefficient of {ingredient.name!r} is {weight}; expected a finite number.")
    kept = [(ingredient, weight) for ingredient, weight in items if weight != 0.0]
    if not kept:
        raise RecipeError("every coefficient is zero; a soup needs at least one ingredient.")
    return kept


def _mix_one(key: str, parts: Mix, batchnorm: BatchNorm, accumulator: torch.dtype) -> Tensor:
    looks = _looks(key, parts)
    first = looks[0]()
    if key.endswith(COUNTER):
        # A count of batches says how long statistics were gathered; the longest is kept, a mean means nothing.
        return torch.stack([look() for look in looks]).amax(0)
    if not first.is_floating_point() or (batchnorm == "first" and key.endswith(RUNNING_STATISTICS)):
        return copied(first)
    if (is_affine(parts) or _is_mask(first)) and all(same_bits(look(), first) for look in looks[1:]):
        return copied(first)
    weights = [weight for _, weight in parts]
    together = len(parts) if are_held([ingredient.tensors for ingredient, _ in parts]) else HELD
    total = _sum_by_pieces(first.shape, looks, weights, together, accumulator)
    if key.endswith("running_var"):
        # Beyond [0, 1] a difference of variances can be negative, and its square root is not a number.
        total.clamp_(min=0.0)
    return cast(total, first.dtype)


def _looks(key: str, parts: Mix) -> list[Callable[[], Tensor]]:
    """What gives the parts' tensors of a key."""
    tensors = [ingredient.tensors for ingredient, _ in parts]
    if are_held(tensors):
        held = [one[key] for one in tensors]
        return [partial(held.__getitem__, index) for index in range(len(held))]
    return [partial(one.__getitem__, key) for one in tensors]


def _is_mask(tensor: Tensor) -> bool:
    """Whether it holds infinities: ingredients that do agree on them, and no multiple of them means anything."""
    return any(bool(piece.to(torch.float32).isinf().any()) for (piece,) in by_pieces(tensor))


def _sum_by_pieces(
    shape: torch.Size,
    looks: Sequence[Callable[[], Tensor]],
    weights: Sequence[float],
    together: int,
    accumulator: torch.dtype,
) -> Tensor:
    """The sum in the order of the parts; by pieces, so that the sum stays in the processor's cache.

    Threads divide each piece, and what is added up is the same however many there are.

    Args:
        together: how many parts are looked at in turn.
    """
    total = room(shape, accumulator)
    size = PIECE * torch.get_num_threads()  # each has its own cache, and waits for the others at the end of a piece
    for at in range(0, len(looks), together):
        for piece, *parts in by_pieces(total, *(look() for look in looks[at : at + together]), size=size):
            for part, weight in zip(parts, weights[at:], strict=False):
                piece.add_(part.to(accumulator), alpha=weight)
        del piece, parts  # or these tensors would be in memory beside the next
    return total


def count_clamped(items: Mix, batchnorm: BatchNorm = "average") -> int:
    """How many running variances a mix beyond [0, 1] would make negative, and so are clamped at 0."""
    items = effective(items)
    if batchnorm == "first" or all(weight > 0 for _, weight in items):
        return 0
    negative = 0
    for key in items[0][0].tensors:
        if key.endswith("running_var"):
            total = sum(ingredient.tensors[key].to(torch.float32) * weight for ingredient, weight in items)
            negative += int((torch.as_tensor(total) < 0).sum())
    return negative


def combined(mixes: Iterable[tuple[Coefficients, float]]) -> Coefficients:
    """Coefficients of a weighted sum of mixes, in float64.

    A mix whose weight is zero is left out before shared names are added up, so that the others keep their order.
    """
    total: dict[str, float] = {}
    for mix, weight in mixes:
        if weight != 0.0:
            for name, coefficient in mix:
                total[name] = total.get(name, 0.0) + weight * coefficient
    return tuple(total.items())


def combine(first: Coefficients, second: Coefficients, alpha: float) -> Coefficients:
    """Coefficients of `(1 - alpha) * first + alpha * second`, in float64; alpha 0 and 1 give the ends bit for bit."""
    return combined([(first, 1.0 - alpha), (second, alpha)])


def mean_of(names: Sequence[str]) -> Coefficients:
    """Equal coefficients."""
    return tuple((name, 1.0 / len(names)) for name in names)


def resolve(coefficients: Coefficients, ingredients: Mapping[str, Ingredient]) -> Mix:
    """A mix by name as a mix of ingredients."""
    return [(ingredients[name], coefficient) for name, coefficient in coefficients]
