"""Products of two factors whose bits depend on nothing but the factors: on no processor, library, or number of threads.

Libraries add the terms of a product in orders of their own, and each rounds otherwise. Here each factor is split into
two that are whole multiples of a unit, of so few digits that sums of their products are exact in float64, in whatever
order they are added.

Source:
    Ozaki, Ogita, Oishi & Rump 2012, "Error-free transformations of matrix multiplication by using fast routines of
    matrix multiplication and its applications", Numerical Algorithms 59. Differs: always two parts, which hold what
    factors in float32 have unless they are 2**-20 of their row's or column's largest.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

DIGITS = 53
"""Of a float64, in base 2."""

LEAST = -200
"""The least exponent of a row that is told from zeros: beyond it units would be no normal numbers."""


@dataclass(frozen=True, slots=True)
class _Split:
    """A factor as the sum of two, in float64."""

    upper: Tensor
    lower: Tensor


def product_of(left: Tensor, right: Tensor) -> Callable[[slice], Tensor]:
    """The product of (m, r) and (r, n), in float64: called with some rows, it gives these."""
    rank = left.shape[1]
    digits = (DIGITS - 1 - (2 * rank - 1).bit_length()) // 2
    one, other = _split(left, 1, digits), _split(right, 0, digits)
    both_left = torch.cat([one.upper, one.lower], dim=1)
    both_right = torch.cat([other.lower, other.upper])

    def rows(part: slice) -> Tensor:
        total = one.lower[part] @ other.lower
        total += both_left[part] @ both_right
        total += one.upper[part] @ other.upper
        return total

    return rows


def _split(factor: Tensor, along: int, digits: int) -> _Split:
    """Parts of so many digits each; the unit is that of the largest along the dimension that is summed over."""
    exact = factor.to(torch.float64)
    _, exponents = torch.frexp(exact.abs().amax(along, keepdim=True))
    unit = torch.from_numpy(np.ldexp(1.0, np.maximum(exponents.numpy(), LEAST) - digits))
    upper = (exact / unit).round_().mul_(unit)
    unit = unit * 2.0**-digits
    return _Split(upper, (exact - upper).div_(unit).round_().mul_(unit))
