"""Where ingredients lie in the space of weights: inner products, distances, angles, a map and an order.

Weights are the floating-point tensors of a state dict without BatchNorm's running statistics, which are data about
activations; tensors that are one in the model count once. Nothing here evaluates a model.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soupviz.errors import SoupError
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.mixing.pieces import at_hand
from soupviz.models.architecture import RUNNING_STATISTICS
from soupviz.types import Coefficients, Progress, quiet
from soupviz.weights.adapters.adapted import shapes_of
from soupviz.weights.selection import BASE

Matrix = NDArray[np.float64]
PIECE = 2**16
"""Elements that are looked at in float64 at a time, of each item: half a megabyte."""

MEAN = "mean"
"""The reference where there is no base: the mean of the items."""


class GeometryError(SoupError):
    """What was asked for has no place among these weights."""


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """Inner products of updates, `theta_i - reference`.

    names: of the items, in order. reference_name: `base`, `mean` (of the items), or another name. gram: float64,
    shape (n, n). matrices: inner products of the items themselves, from the origin, over tensors of two dimensions or
    more (nets of any initialisation share the ones and zeros of their vectors), float64, shape (n + 1, n + 1); the
    last is the reference.
    """

    names: tuple[str, ...]
    reference_name: str
    gram: Matrix
    matrices: Matrix

    @property
    def norms(self) -> Matrix:
        """Each item's distance to the reference, shape (n,)."""
        return np.asarray(np.sqrt(np.clip(np.diagonal(self.gram), 0, None)))

    @property
    def distances(self) -> Matrix:
        """Distances between the items, shape (n, n), zero on the diagonal."""
        return distances_of(self.gram)

    @property
    def cosines(self) -> Matrix:
        """Cosines of the angles between updates, shape (n, n); 0 where an update is zero."""
        return cosines_of(self.gram)

    def of_mixes(self, mixes: Sequence[Coefficients]) -> Matrix:
        """Inner products of the updates of linear mixes, shape (m, m), without reading a weight.

        Args:
            mixes: of these names and the reference's; each one's coefficients sum to one. What rounding to a half
                precision does to a real mix is not in it.
        Raises:
            GeometryError: an unknown name, or coefficients that do not sum to one.
        """
        rows = np.stack([self._weights(mixture) for mixture in mixes])
        return np.asarray(rows @ self.gram @ rows.T)

    def _weights(self, mixture: Coefficients) -> Matrix:
        weights = np.zeros(len(self.names))
        for name, weight in mixture:
            if name in self.names:
                weights[self.names.index(name)] += weight
            elif name != self.reference_name:  # whose update is zero
                raise GeometryError(f"the geometry has no {name!r}; it has {', '.join(self.names)}.")
        if not np.isclose(total := sum(weight for _, weight in mixture), 1.0, atol=1e-9):
            raise GeometryError(f"the coefficients of a mix sum to {total:g}; only mixes whose sum is 1 have a place.")
        return weights


def weight_keys(tensors: Mapping[str, Tensor], ties: Iterable[str] = ()) -> list[str]:
    """The keys of the weights: floating-point, no running statistics, tied ones once.

    Args:
        ties: keys that are the same tensor as another one.
    """
    again = set(ties)
    return [
        key
        for key, tensor in tensors.items()
        if key not in again and tensor.is_floating_point() and not key.endswith(RUNNING_STATISTICS)
    ]


def inner_products(
    items: Sequence[Mapping[str, Tensor]],
    reference: Mapping[str, Tensor] | None = None,
    *,
    ties: Iterable[str] = (),
    progress: Progress = quiet,
) -> Matrix:
    """Inner products of the items' differences from a reference, over all weights.

    Args:
        items: state dicts of one architecture; they are read tensor by tensor. reference: default: their mean.
    Returns:
        float64, shape (n, n): <items[i] - reference, items[j] - reference>.
    """
    return _products(items, reference, ties, progress)[0]


def gram(
    kitchen: Kitchen, names: Sequence[str] | None = None, *, reference: str | None = None, progress: Progress = quiet
) -> Geometry:
    """The geometry of weights by name; kept in the store under their fingerprints.

    Args:
        names: whatever the kitchen resolves; default: its ingredients. reference: a name; default: the base, and in a
            kitchen without one the mean of the items.
    Raises:
        SoupError: a name that nothing is found for. Cancelled: from progress.
    """
    chosen = tuple(kitchen.names if names is None else names)
    items = [kitchen.weights.resolve(name) for name in chosen]
    reference = reference or (BASE if kitchen.base else None)
    start = kitchen.weights.resolve(reference) if reference else None
    fingerprints = [item.fingerprint for item in items]
    key = digest(["geometry 1", fingerprints, start.fingerprint if start else None, sorted(kitchen.architecture.ties)])
    found = kitchen.store.finding(key)
    if found is None:
        origin = start.tensors if start else None
        both = _products([item.tensors for item in items], origin, kitchen.architecture.ties, progress)
        found = [matrix.tolist() for matrix in both]
        kitchen.store.keep_finding(key, found)
    return Geometry(chosen, reference or MEAN, np.asarray(found[0]), np.asarray(found[1]))


def bytes_to_read(kitchen: Kitchen) -> int:
    """Bytes of the weights of the ingredients and the base: what their geometry reads."""
    items = [*kitchen.ingredients, *([kitchen.base] if kitchen.base else [])]
    keys = weight_keys(items[0].shapes, kitchen.architecture.ties)
    return sum(item.shapes[key].nbytes for item in items for key in keys)


def _products(
    items: Sequence[Mapping[str, Tensor]],
    reference: Mapping[str, Tensor] | None,
    ties: Iterable[str],
    progress: Progress,
) -> tuple[Matrix, Matrix]:
    """(of the updates, shape (n, n); of the matrices themselves and the reference's, shape (n + 1, n + 1))."""
    shapes = shapes_of(items[0])
    keys = weight_keys(shapes, ties)
    total = sum(shapes[key].numel() for key in keys)
    updates = torch.zeros(len(items), len(items), dtype=torch.float64)
    matrices = torch.zeros(len(items) + 1, len(items) + 1, dtype=torch.float64)
    done = 0
    for key in keys:
        progress(done, total, "comparing weights")
        origin = None if reference is None else reference[key]
        for rows, start in _pieces(at_hand(key, items, origin), origin):
            differences = rows - start
            updates += differences @ differences.T
            if shapes[key].ndim > 1:
                both = torch.cat([rows, start[None]])
                matrices += both @ both.T
        done += shapes[key].numel()
    progress(total, total, "comparing weights")
    return updates.numpy(), matrices.numpy()


def _pieces(tensors: Sequence[Tensor], reference: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Pieces of one tensor in float64: of all items, shape (n, size), and of the reference, shape (size,)."""
    flat = [tensor.reshape(-1) for tensor in tensors]
    for start in range(0, flat[0].numel(), PIECE):
        rows = torch.stack([each[start : start + PIECE].to(torch.float64) for each in flat])
        origin = rows.mean(0) if reference is None else reference.reshape(-1)[start : start + PIECE].to(torch.float64)
        yield rows, origin


def distances_of(gram: Matrix) -> Matrix:
    """Distances from inner products, shape (n, n); exactly symmetric, zero on the diagonal."""
    squares = np.diagonal(gram)
    found = np.sqrt(np.clip(squares[:, None] + squares[None, :] - gram - gram.T, 0, None))
    np.fill_diagonal(found, 0.0)
    return np.asarray(found)


def cosines_of(gram: Matrix) -> Matrix:
    """Cosines from inner products, shape (n, n), in [-1, 1]; 0 where a vector is zero, but 1 on the diagonal."""
    norms = np.sqrt(np.clip(np.diagonal(gram), 0, None))
    both = np.outer(norms, norms)
    found = np.divide(gram, both, out=np.zeros_like(gram), where=both > 0).clip(-1, 1)
    np.fill_diagonal(found, 1.0)
    return np.asarray((found + found.T) / 2)


@dataclass(frozen=True, slots=True, eq=False)
class Map:
    """A flat map. places: shape (n, 2), in the unit of the distances. share: of the squared distances that it shows."""

    places: Matrix
    share: float


def flat_map(distances: Matrix) -> Map:
    """The map in the plane that keeps distances best, by classical scaling.

    Args:
        distances: shape (n, n).
    Returns:
        Places whose mean is zero, along the two longest axes; each axis points to where its largest value is
        positive. The share is 1 where the plane shows everything.
    Source:
        Torgerson 1952; Borg & Groenen 2005, section 12.1.
    """
    n = len(distances)
    centring = np.eye(n) - 1.0 / n
    values, vectors = np.linalg.eigh(-0.5 * centring @ (distances**2) @ centring)
    order = np.argsort(values)[::-1][:2]
    kept = np.clip(values[order], 0, None)
    places = np.zeros((n, 2))
    places[:, : len(order)] = vectors[:, order] * np.sqrt(kept)
    largest = np.abs(places).argmax(0)
    places *= np.where(places[largest, [0, 1]] < 0, -1.0, 1.0)
    everything = np.clip(values, 0, None).sum()
    return Map(places, float(kept.sum() / everything) if everything > 0 else 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Clustering:
    """A tree of n things. order: their indices, so that what is alike stands side by side. linkage: as scipy has it,
    shape (n - 1, 4): which two join, at what distance, and how many there are then."""

    order: tuple[int, ...]
    linkage: Matrix


def cluster(distances: Matrix) -> Clustering:
    """Average linkage, its leaves ordered so that neighbours are as near as the tree allows.

    Args:
        distances: symmetric, zero on the diagonal, shape (n, n).
    Source:
        Sokal & Michener 1958 (UPGMA); Bar-Joseph et al. 2001 (the order of the leaves).
    """
    from scipy.cluster import hierarchy  # loads slowly
    from scipy.spatial.distance import squareform

    if len(distances) < 2:
        return Clustering(tuple(range(len(distances))), np.zeros((0, 4)))
    linkage = hierarchy.linkage(squareform(distances, checks=False), "average", optimal_ordering=True)
    return Clustering(tuple(int(leaf) for leaf in hierarchy.leaves_list(linkage)), linkage)
