"""Sums of low-rank updates as one low-rank update: exact at the summed rank, or the nearest of a given rank."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from soupviz.mixing.formulas import PRECISE_SUM, Formula
from soupviz.types import Coefficients
from soupviz.weights.adapters.adapted import Update

Parts = Sequence[tuple[Update, float]]
"""One module's updates, with their coefficients; all of one shape, whatever their ranks."""


def joined(parts: Parts) -> tuple[Tensor, Tensor]:
    """Factors whose product is the sum: A's one below the other, B's beside each other, scaled, in float32.

    Returns:
        A, of shape (summed rank, ...), and B, of shape (..., summed rank, ...), as layers of that rank have them. Each
        number is rounded once, that of B after scale and coefficient.
    Source:
        sum over i of c_i s_i B_i A_i = [c_1 s_1 B_1, c_2 s_2 B_2, ...] [A_1; A_2; ...].
    """
    a = torch.cat([one.a.to(torch.float32) for one, _ in parts])
    b = torch.cat([(one.b.to(torch.float64) * (one.scale * weight)).to(torch.float32) for one, weight in parts], dim=1)
    return a, b


def nearest(parts: Parts, rank: int) -> tuple[Tensor, Tensor, float, float]:
    """Factors of at most a rank whose product is nearest to the sum, and what is lost.

    Two thin QRs leave a core of the summed rank, whose singular values are the sum's own; the matrix itself is never
    made. The singular values are shared out evenly between the two factors.

    Returns:
        A and B as of `joined`; the Frobenius norm of what is lost, and that of the sum.
    Source:
        Eckart and Young 1936: truncating the singular values is best in the Frobenius norm.
    """
    first = parts[0][0]
    a = torch.cat([one.a.flatten(1).to(torch.float64) for one, _ in parts])
    b = torch.cat([one.b.flatten(1).to(torch.float64) * (one.scale * weight) for one, weight in parts], dim=1)
    left, left_core = torch.linalg.qr(b)
    right, right_core = torch.linalg.qr(a.T)
    u, values, vh = torch.linalg.svd(left_core @ right_core.T, full_matrices=False)
    kept = min(rank, len(values))
    half = values[:kept].sqrt()
    b, a = left @ (u[:, :kept] * half), (vh[:kept] * half[:, None]) @ right.T
    a = a.to(torch.float32).reshape(kept, *first.a.shape[1:])
    b = b.to(torch.float32).reshape(first.b.shape[0], kept, *first.b.shape[2:])
    return a, b, float(values[kept:].norm()), float(values.norm())


def norm(parts: Parts) -> float:
    """The Frobenius norm of a sum of updates, from the small matrices of their inner products."""
    a = torch.cat([one.a.flatten(1).to(torch.float64) for one, _ in parts])
    b = torch.cat([one.b.flatten(1).to(torch.float64) * (one.scale * weight) for one, weight in parts], dim=1)
    return math.sqrt(max(0.0, float(((b.T @ b) * (a @ a.T)).sum())))


def as_updates(mix: Coefficients, formula_of: Callable[[str], Formula | None]) -> Coefficients | None:
    """A mix as one weighted sum of checkpoints; None where a formula in it is none.

    A sum of task vectors is one, too: base + scale * sum of w_i (x_i - base).
    """
    total: dict[str, float] = {}
    for name, weight in mix:
        formula = formula_of(name)
        parts: Coefficients = ((name, 1.0),)
        if formula is not None:
            inner = _linear(formula)
            found = None if inner is None else as_updates(inner, formula_of)
            if found is None:
                return None
            parts = found
        for part, inside in parts:
            total[part] = total.get(part, 0.0) + weight * inside
    return tuple(total.items())


def _linear(formula: Formula) -> Coefficients | None:
    if formula.kind == PRECISE_SUM:
        return formula.parts
    if formula.kind != "task_arithmetic" or formula.base is None:
        return None
    scale = formula.parameters["scale"]
    own = tuple((name, scale * weight) for name, weight in formula.parts)
    return (*own, (formula.base, 1.0 - scale * math.fsum(weight for _, weight in formula.parts)))
