"""Vectors of which a piece at a time is made: sums, norms and cosines of tensors that are never in memory together."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from soupviz.weights.scratch import PIECE, room, set_down

Tensors = Sequence[Tensor]
Weights = Sequence[float]
HELD = 4
"""Tensors of one key that are there together, where each is made when it is looked at."""

AT_ONCE = 24
"""Tensors of which a piece each is in float64 at a time; of more, the pieces are shorter."""

Pieces = Callable[[slice], Tensor]
"""A vector, shape (n,), of which parts are made when they are asked for: new tensors in float32."""


def are_held(states: Sequence[Mapping[str, Tensor]]) -> bool:
    """Whether the tensors of a key may be there together: few, or mapped into memory, not made at each look."""
    return len(states) <= HELD or all(isinstance(state, dict) for state in states)


def at_hand(key: str, states: Sequence[Mapping[str, Tensor]], start: Tensor | None) -> list[Tensor]:
    """The tensors of a key, to be looked at together, and as often as need be.

    Where many would be made, as adapters' are, each is made once, and set down in a file: memory holds one of them.

    Args:
        start: what they were trained from, which an adapter leaves as it is where it changes nothing.
    """
    if are_held(states):
        return [state[key] for state in states]

    def of(state: Mapping[str, Tensor]) -> Tensor:
        tensor = state[key]
        is_there = isinstance(state, dict) or (start is not None and tensor.is_set_to(start))
        return tensor if is_there else set_down(tensor)

    return [of(state) for state in states]


def pieces(size: int, step: int = PIECE) -> Iterator[slice]:
    """The parts of a vector in their order."""
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def difference(tensor: Tensor, base: Tensor) -> Pieces:
    """What a tensor adds to the base."""
    end, start = tensor.reshape(-1), base.reshape(-1)

    def piece(part: slice) -> Tensor:
        return end[part].to(torch.float32) - start[part].to(torch.float32)

    return piece


def as_float(tensor: Tensor) -> Pieces:
    """A tensor's own numbers, which are not copied where they are float32 already."""
    flat = tensor.reshape(-1)
    return lambda part: flat[part].to(torch.float32)


def norms_and_cosines(rows: Sequence[Pieces], size: int) -> tuple[Tensor, Tensor]:
    """Norms, shape (N,), and cosines, shape (N, N), in float64; those of a zero tensor are 0."""
    products = torch.zeros(len(rows), len(rows), dtype=torch.float64)
    step = PIECE if len(rows) <= AT_ONCE else PIECE * AT_ONCE // len(rows)
    for part in pieces(size, step):
        piece = torch.empty(len(rows), part.stop - part.start, dtype=torch.float64)
        for place, row in enumerate(rows):
            piece[place] = row(part)
        products += piece @ piece.T
        del piece  # or it would be in memory beside the next
    norms = products.diagonal().sqrt()
    both = norms.outer(norms)
    return norms, torch.where(both > 0, products / both, 0.0).clamp(-1, 1)


def sum_in_turn(tensors: Tensors, weights: Weights) -> Tensor:
    """The weighted sum in float32, one tensor after another."""
    return summed([as_float(tensor) for tensor in tensors], weights, tensors[0].numel()).view(tensors[0].shape)


def summed(vectors: Sequence[Pieces], weights: Weights, size: int, step: int = PIECE) -> Tensor:
    """The weighted sum in float32, shape (size,), one vector after another."""
    total = room(torch.Size([size]), torch.float32)
    for place, (vector, weight) in enumerate(zip(vectors, weights, strict=True)):
        for part in pieces(size, step):
            if place:
                total[part].add_(vector(part), alpha=weight)
            else:
                torch.mul(vector(part), weight, out=total[part])
    return total
