"""Spectral normalisation: the vectors that follow from a weight, which are computed anew and never averaged."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ITERATIONS = 200
"""Of the power method, at most."""

TOLERANCE = 1e-7
"""Of a unit vector from one iteration to the next, at which it stands still."""


@dataclass(frozen=True, slots=True)
class Normalised:
    """The keys of one spectrally normalised weight: the weight before, and its left and right singular vectors."""

    weight: str
    left: str
    right: str


def normalised(keys: Iterable[str]) -> dict[str, Normalised]:
    """By each vector's key, what it belongs to: torch's hook (weight_orig, _u, _v) and its parametrization."""
    there = set(keys)
    found: dict[str, Normalised] = {}
    for key in there:
        if key.endswith("_orig"):
            stem = key.removesuffix("_orig")
            one = Normalised(key, f"{stem}_u", f"{stem}_v")
        elif match := re.fullmatch(r"(.*parametrizations\.[^.]+)\.\d+\._u", key):
            one = Normalised(f"{match[1]}.original", key, f"{key.removesuffix('_u')}_v")
        else:
            continue
        if {one.weight, one.left, one.right} <= there:
            found |= {one.left: one, one.right: one}
    return found


def singular_vectors(weight: Tensor, left: Tensor, right: Tensor, dim: int = 0) -> tuple[Tensor, Tensor]:
    """The first left and right singular vectors of a weight, by the power method.

    Args:
        weight: any shape. left, right: where to start, of unit length, as an ingredient has them. dim: the weight's
            dimension that `left` lies along, the rest being flattened.
    Returns:
        In the dtype and with the signs of the start.
    Source:
        Miyato et al. 2018 (arXiv 1802.05957), algorithm 1, until it stands still.
    """
    matrix = _as_matrix(weight, dim)
    u = left.to(torch.float64)
    for _ in range(ITERATIONS):
        before = u
        v = torch.nn.functional.normalize(matrix.T @ u, dim=0)
        u = torch.nn.functional.normalize(matrix @ v, dim=0)
        if torch.linalg.vector_norm(u - before) < TOLERANCE:
            break
    return u.to(left.dtype), v.to(right.dtype)


def _as_matrix(weight: Tensor, dim: int) -> Tensor:
    return weight.to(torch.float64).movedim(dim, 0).flatten(1)


def _dim(one: Normalised, parts: Sequence[Mapping[str, Tensor]]) -> int:
    """Along which dimension of the weight the left vector lies: the first, or the second of a transposed convolution.

    Where both are as long, it is the one in which the parts' vectors are nearer to their weights'.
    """

    def value(dim: int) -> float:
        ends = [(part[one.left].double(), part[one.weight], part[one.right].double()) for part in parts]
        return sum(float((left @ _as_matrix(weight, dim) @ right).abs()) for left, weight, right in ends)

    weight, left = parts[0][one.weight], parts[0][one.left]
    fitting = [dim for dim in range(min(2, weight.ndim)) if weight.shape[dim] == len(left)]
    return max(fitting, key=value) if len(fitting) > 1 else fitting[0]


def settled(soup: Mapping[str, Tensor], parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The vectors of every weight of a soup that was made otherwise than by a weighted sum, by key."""
    found: dict[str, Tensor] = {}
    for one in set(normalised(soup).values()):
        found[one.left], found[one.right] = vectors_of(one, parts, lambda one=one: soup[one.weight])  # type: ignore[misc]
    return found


def vectors_of(
    one: Normalised, parts: Sequence[Mapping[str, Tensor]], weight: Callable[[], Tensor]
) -> tuple[Tensor, Tensor]:
    """The vectors of a mix: those of the first part where all parts are one function, else those of the mixed weight.

    Args:
        parts: what is mixed. weight: gives the mixed weight.
    """
    first, *others = parts
    left, right = first[one.left], first[one.right]

    def is_alike(other: Mapping[str, Tensor]) -> bool:
        signs = (1, -1)  # of both vectors together: the product is the same
        same = any(torch.equal(s * other[one.left], left) and torch.equal(s * other[one.right], right) for s in signs)
        return same and torch.equal(other[one.weight], first[one.weight])

    if all(is_alike(other) for other in others):
        return left.clone(), right.clone()
    return singular_vectors(weight(), left, right, _dim(one, parts))
