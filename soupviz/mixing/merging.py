"""The field's merge formulas, each of one tensor of the model at a time.

What fine-tuning added to the common base, `tensor - base`, is a task vector. Weights are not negative and sum to
one; they and the tensors' equal shapes were checked by the caller. Tensors of any float dtype are read as float32
and the result is float32; nothing given is changed. All of them are worked on by pieces: beside the tensors, which may
be mapped from files, and the result no more is in memory than does not grow with them or with their number.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from soupviz.errors import RecipeError
from soupviz.mixing.pieces import (
    Pieces,
    Tensors,
    Weights,
    as_float,
    difference,
    norms_and_cosines,
    pieces,
    sum_in_turn,
    summed,
)
from soupviz.mixing.trimming import largest
from soupviz.weights.scratch import PIECE

COLINEAR = 0.9995
"""A cosine beyond it, of either sign: two directions are too close for an arc to be told from its chord."""

CANCELLED = 1e-4
"""A mean of unit vectors that is shorter has no direction that float32 could tell."""


def task_arithmetic(base: Tensor, tensors: Tensors, weights: Weights, *, scale: float) -> Tensor:
    """The base and the weighted sum of the task vectors.

    Returns:
        base + scale * sum over i of weights[i] * (tensors[i] - base); the weighted mean where scale is 1.
    Source:
        Ilharco et al. 2023, arXiv 2212.04089. Differs: weights, which are all 1 in the paper.
    """
    return _add(base, [difference(tensor, base) for tensor in tensors], weights, scale)


def ties(base: Tensor, tensors: Tensors, weights: Weights, *, density: float, scale: float) -> Tensor:
    """Trim the task vectors, elect a sign for each element, and average those that agree with it.

    Args:
        density: share of each task vector that is kept, the largest magnitudes: floor(density * elements), at
            least one. Of equal magnitudes the earlier in the tensor are kept.
    Returns:
        base + scale * m; an element of m is the weighted mean of the trimmed task vectors whose sign is that of
        their weighted sum, and 0 where the sum is 0.
    Raises:
        RecipeError: density is not in (0, 1].
    Source:
        Yadav et al. 2023, arXiv 2306.01708. Differs: trims tensor by tensor, not over all parameters of a task
        vector; has weights, in the election and in the mean; keeps a fixed number, where the authors' code keeps
        all that equal the last; a sum of 0 elects nobody, where the authors' code takes the sign of most elements
        and mergekit takes plus.
    """
    _check_shares(density)
    size, vectors = base.numel(), [difference(tensor, base) for tensor in tensors]
    trims = [_trim(vector, size, density) for vector in vectors]
    # A product of two float32 is exact in float64, so that what cancels sums to 0 whatever the order of ingredients.
    weights = torch.tensor(weights, dtype=torch.float32).tolist()

    def mean(part: slice) -> Tensor:
        trimmed = [trim(vector(part)) for trim, vector in zip(trims, vectors, strict=True)]
        elected = torch.zeros_like(trimmed[0], dtype=torch.float64)
        for vector, weight in zip(trimmed, weights, strict=True):
            elected.add_(vector, alpha=weight)
        signs = elected.sign_().to(torch.float32)
        total, agreeing = torch.zeros_like(signs), torch.zeros_like(signs)
        for vector, weight in zip(trimmed, weights, strict=True):
            agrees = vector.sign() == signs
            total.add_(vector.mul_(agrees), alpha=weight)
            agreeing.add_(agrees, alpha=weight)
        return total.div_(agreeing.masked_fill_(agreeing == 0, 1.0))

    return _add(base, [mean], [1.0], scale, step=_step(len(tensors)))


def dare(
    base: Tensor, tensors: Tensors, weights: Weights, *, density: float, scale: float, generator_seed: int
) -> Tensor:
    """Drop elements of each task vector at random, and enlarge the rest so that its expectation stays.

    Args:
        density: probability that an element is kept, independently of all others.
        generator_seed: of the masks, drawn in the order of the tensors. Give each tensor of a model its own, or
            their masks begin alike.
    Returns:
        base + scale * sum over i of weights[i] * mask_i * (tensors[i] - base) / density.
    Raises:
        RecipeError: density is not in (0, 1].
    Source:
        Yu et al. 2024, arXiv 2311.03099; density is 1 - p there. Differs from mergekit's `dare_linear`, which by
        default rescales to the task vector's l1 norm instead of by 1 / density.
    """
    _check_shares(density)
    generator = torch.Generator().manual_seed(generator_seed)
    # Not bernoulli_, whose bits depend on the library that torch was built with. What rand gives is below 1.

    def masked(vector: Pieces) -> Pieces:
        def piece(part: slice) -> Tensor:
            kept = torch.rand(part.stop - part.start, generator=generator) < density
            return vector(part).mul_(kept)

        return piece

    vectors = [masked(difference(tensor, base)) for tensor in tensors]
    return _add(base, vectors, [weight / density for weight in weights], scale)


def breadcrumbs(
    base: Tensor, tensors: Tensors, weights: Weights, *, density: float, gamma: float, scale: float
) -> Tensor:
    """Drop the largest and the smallest magnitudes of each task vector, then add the weighted sum to the base.

    Args:
        density: share of the elements that is kept: floor(density * elements), at least one. Of equal magnitudes
            the earlier in the tensor counts as the larger.
        gamma: share of the largest that is dropped: floor(gamma * elements), and fewer where the rest would not
            suffice for density, which goes first; none where density is 1.
    Raises:
        RecipeError: density is not in (0, 1], or gamma not in [0, 1).
    Source:
        Davari & Belilovsky 2023, arXiv 2312.06795; their beta, the share of the smallest that is dropped, is
        1 - density - gamma. Differs: weights, which are all 1 in the paper.
    """
    _check_shares(density, gamma)

    def trimmed(vector: Pieces) -> Pieces:
        trim: Callable[[Tensor], Tensor] | None = None

        def piece(part: slice) -> Tensor:  # the first of them finds what is kept of all
            nonlocal trim
            trim = trim or _trim(vector, base.numel(), density, gamma)
            return trim(vector(part))

        return piece

    return _add(base, [trimmed(difference(tensor, base)) for tensor in tensors], weights, scale)


def model_stock(base: Tensor, tensors: Tensors) -> Tensor:
    """The point between the base and the mean that is closest to where fine-tuned weights centre.

    Returns:
        t * mean + (1 - t) * base, with t = N c / (1 + (N - 1) c) for N tensors, c the mean of the cosines between
        each two task vectors, and t = 0 where c is negative. The mean for a single tensor, and where a task vector
        is zero, which has no angle to the others.
    Source:
        Jang et al. 2024, arXiv 2403.19522. For N > 2 some take the mean of the angles; this takes the cosines'.
        Differs: t is at least 0. The paper's geometry has no c below 0, where its formula steps away from the
        mean, without bound as c nears -1 / (N - 1). mergekit follows the formula there, and takes task vectors
        whose norms' product is below 1e-6 for closer to orthogonal than they are.
    """
    num_tensors = len(tensors)
    norms, cosines = norms_and_cosines([difference(tensor, base) for tensor in tensors], base.numel())
    mean = sum_in_turn(tensors, [1.0 / num_tensors] * num_tensors)
    if num_tensors == 1 or bool((norms == 0).any()):
        return mean
    cosine = max(0.0, float(cosines.triu(1).sum()) * 2 / (num_tensors * (num_tensors - 1)))
    share = num_tensors * cosine / (1 + (num_tensors - 1) * cosine)
    return sum_in_turn([mean, base], [share, 1 - share])


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical interpolation from a (t = 0, bit for bit) to b (t = 1, bit for bit).

    Returns:
        sin((1 - t) angle) / sin(angle) * a + sin(t angle) / sin(angle) * b. The angle is that of the normalised
        tensors, the coefficients are of the tensors as they are: on the way norms are not interpolated linearly.
        (1 - t) a + t b where the angle's cosine is beyond +-0.9995, as it mostly is among fine-tunings of one base,
        or where a or b is zero.
    Source:
        Shoemake 1985, "Animating rotation with quaternion curves". Differs: norms other than 1, as in mergekit.
    """
    if t in (0.0, 1.0):
        return (b if t else a).to(torch.float32, copy=True)
    norms, cosines = norms_and_cosines([as_float(a), as_float(b)], a.numel())
    cosine = float(cosines[0, 1])
    shares = [1 - t, t]
    if bool((norms > 0).all()) and abs(cosine) <= COLINEAR:
        angle = math.acos(cosine)
        shares = [math.sin(share * angle) / math.sin(angle) for share in shares]
    return sum_in_turn([a, b], shares)


def karcher(tensors: Tensors, weights: Weights, *, iterations: int = 50, tolerance: float = 1e-6) -> Tensor:
    """The mean of the directions on the sphere, as long as the tensors are on average.

    Args:
        iterations: at most so many steps.
        tolerance: in radians; the search ends with a step that would be shorter.
    Returns:
        The weighted mean of the norms times the unit vector whose weighted squared angles to the tensors' directions
        are least. A tensor whose weight is 1 comes back bit for bit. A zero tensor counts for the norm only; zero
        where all are. Where directions all but cancel, the search starts from the heaviest tensor's (the first of
        equals); one that is opposite to the present mean does not pull, as every way to it is equally short.
    Source:
        Karcher 1977; Buss & Fillmore 2001, "Spherical averages and applications to spherical splines and
        interpolation", algorithm A1. Differs: the sphere is that of one tensor, and norms are averaged apart.
    """
    if 1.0 in weights:
        return tensors[weights.index(1.0)].to(torch.float32, copy=True)
    norms, cosines = norms_and_cosines([as_float(tensor) for tensor in tensors], tensors[0].numel())
    exact = torch.tensor(weights, dtype=torch.float64)
    pulling = exact * (norms > 0)
    if not bool(pulling.any()):
        return torch.zeros_like(tensors[0], dtype=torch.float32)
    direction = _mean_direction(cosines, pulling / pulling.sum(), iterations, tolerance)
    shares = torch.where(norms > 0, direction / norms, 0.0) * (exact @ norms)
    return sum_in_turn(tensors, shares.tolist())


def _mean_direction(cosines: Tensor, shares: Tensor, iterations: int, tolerance: float) -> Tensor:
    """The Karcher mean of unit vectors, as its coefficients: all steps stay in their span, so cosines suffice."""
    mean = shares
    if float(mean @ cosines @ mean) < CANCELLED**2:
        mean = torch.zeros_like(shares).index_fill_(0, shares.argmax(), 1.0)
    mean = mean / (mean @ cosines @ mean).sqrt()
    for _ in range(iterations):
        dots = (cosines @ mean).clamp(-1, 1)
        angles = dots.acos()
        # angle / sin(angle) of each, which torch knows upside down and without a gap at 0.
        pulls = shares * torch.where(angles < math.pi - 1e-6, 1 / torch.sinc(angles / math.pi), 0.0)
        tangent = pulls - (pulls @ dots) * mean
        step = float((tangent @ cosines @ tangent).clamp(min=0).sqrt())
        if step < tolerance:
            break
        mean = math.cos(step) * mean + math.sin(step) / step * tangent
        mean = mean / (mean @ cosines @ mean).sqrt()
    return mean


def _trim(vector: Pieces, size: int, density: float, gamma: float = 0.0) -> Callable[[Tensor], Tensor]:
    """What puts zeros for all but a share of density into a vector, after a share gamma of the largest.

    Returns:
        Called with its pieces in their order, which are changed in place.
    """
    if density == 1:
        return lambda piece: piece
    num_kept = max(1, int(density * size))
    num_dropped = min(int(gamma * size), size - num_kept)
    kept, dropped = largest(vector, size, [num_dropped + num_kept, num_dropped])

    def trim(piece: Tensor) -> Tensor:
        magnitudes = piece.abs()
        return piece.mul_(kept.of(magnitudes) & ~dropped.of(magnitudes))

    return trim


def _step(num_tensors: int) -> int:
    """How long pieces are of which one of each tensor is in memory; a multiple of what processors add at once."""
    return PIECE if num_tensors <= 8 else max(2**12, PIECE >> ((num_tensors - 1).bit_length() - 3))


def _add(base: Tensor, vectors: Sequence[Pieces], weights: Weights, scale: float, *, step: int = PIECE) -> Tensor:
    """The base and `scale` times the weighted sum of the vectors, which are made one after another."""
    total = summed(vectors, weights, base.numel(), step).mul_(scale)
    start = as_float(base)
    for part in pieces(base.numel()):
        total[part].add_(start(part))
    return total.view(base.shape)


def _check_shares(density: float, gamma: float = 0.0) -> None:
    if not 0 < density <= 1:
        raise RecipeError(f"density is {density}; expected the share of elements to keep, above 0 and at most 1.")
    if not 0 <= gamma < 1:
        raise RecipeError(f"gamma is {gamma}; expected the share of largest elements to drop, from 0 to below 1.")
