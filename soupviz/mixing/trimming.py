"""The largest magnitudes of a task vector, found by pieces: no copy of a tensor is made, however large it is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from soupviz.mixing.pieces import Pieces, pieces

HALF = 16
"""Bits of a float32 that are counted at a time."""


@dataclass(slots=True)
class Largest:
    """Which of a vector's magnitudes are its largest, of equals the earlier: asked for piece after piece.

    least: of these. num_equal: how many that equal it are still to come among them.
    """

    least: float
    num_equal: int

    def of(self, magnitudes: Tensor) -> Tensor:
        """Which of the next magnitudes are among them."""
        found = magnitudes > self.least
        if self.num_equal:
            equal = magnitudes == self.least
            if (number := int(equal.sum())) > self.num_equal:
                number = self.num_equal
                equal[equal.nonzero().squeeze(1)[number:]] = False
            found |= equal
            self.num_equal -= number
        return found


def largest(vector: Pieces, size: int, counts: Sequence[int]) -> list[Largest]:
    """For each count the so many largest magnitudes of a vector; none for 0, all from its size on.

    Magnitudes are ordered as their bits are, so that two rounds of counting find the last of them exactly: first the
    upper halves of the bits, then the lower halves of those that have its upper one.
    """
    wanted = [count for count in counts if 0 < count < size]
    if wanted:
        upper = _counted(vector, size, lambda bits: bits >> HALF)
        places = [_place(upper, count) for count in wanted]
        lower = {
            half: _counted(vector, size, lambda bits, half=half: bits[bits >> HALF == half] & (2**HALF - 1))  # type: ignore[misc]
            for half in {half for half, _ in places}
        }
    found: list[Largest] = []
    for count in counts:
        if not 0 < count < size:
            found.append(Largest(-1.0 if count else torch.inf, 0))
            continue
        half, above = places[wanted.index(count)]
        low, above_here = _place(lower[half], count - above)
        bits = torch.tensor(half << HALF | low, dtype=torch.int32)
        found.append(Largest(float(bits.view(torch.float32)), count - above - above_here))
    return found


def _counted(vector: Pieces, size: int, key: Callable[[Tensor], Tensor]) -> Tensor:
    """How often each half occurs among the bits of the magnitudes."""
    total = torch.zeros(2**HALF, dtype=torch.int64)
    for part in pieces(size):
        total += torch.bincount(key(vector(part).abs_().view(torch.int32)), minlength=2**HALF)
    return total


def _place(counted: Tensor, count: int) -> tuple[int, int]:
    """Among which of the halves the last of the `count` largest is, and how many are in larger ones."""
    from_above = counted.flip(0).cumsum(0)
    place = int(torch.searchsorted(from_above, count))
    return len(counted) - 1 - place, int(from_above[place - 1]) if place else 0
