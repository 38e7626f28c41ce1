"""Two checkpoints tensor by tensor, and which tensors are the same bit for bit in which checkpoints."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.models.architecture import RUNNING_STATISTICS
from soupviz.models.layers import layer_groups
from soupviz.types import Progress, quiet
from soupviz.weights.ingredients import COUNTER, GLANCE, same_bits

PIECE = 2**18
"""Elements that are looked at in float64 at a time."""


@dataclass(frozen=True, slots=True)
class Difference:
    """From a to b, of one tensor or of several together.

    name: the key, or the layer. layer: its group. numbers: how many the tensors hold. changed: how many of them
    differ. largest: the largest absolute change. before, after, moved: sums of squares of a, of b, and of b - a.
    product: inner product of a and b.
    """

    name: str
    layer: str
    numbers: int
    changed: int
    largest: float
    before: float
    after: float
    moved: float
    product: float

    @property
    def relative(self) -> float | None:
        """||b - a|| / ||a||; None where a is zero and b is not."""
        if self.moved == 0:
            return 0.0
        return math.sqrt(self.moved / self.before) if self.before else None

    @property
    def cosine(self) -> float | None:
        """Of the angle between a and b, in [-1, 1]; None where either is zero."""
        lengths = math.sqrt(self.before) * math.sqrt(self.after)
        return max(-1.0, min(1.0, self.product / lengths)) if lengths else None

    @property
    def share(self) -> float:
        """Of the numbers that differ."""
        return self.changed / self.numbers if self.numbers else 0.0

    @property
    def is_identical(self) -> bool:
        """Whether no number differs; 0.0 and -0.0 are one number here."""
        return self.changed == 0

    def as_dict(self) -> dict[str, Any]:
        """The figures that people read."""
        return {
            "name": self.name, "layer": self.layer, "numbers": self.numbers, "relative": self.relative,
            "cosine": self.cosine, "largest": self.largest, "share": self.share, "identical": self.is_identical,
        }  # fmt: skip


def difference(
    a: Mapping[str, Tensor],
    b: Mapping[str, Tensor],
    *,
    ties: Mapping[str, str] | None = None,
    progress: Progress = quiet,
) -> list[Difference]:
    """What changed from a to b, tensor by tensor, in the model's order.

    Args:
        a, b: state dicts of one architecture, read tensor by tensor. ties: keys that are the same tensor as another,
            which are left out. Running statistics and integer buffers are in.
    """
    layers = layer_groups(a, ties)
    keys = [key for key in a if key not in (ties or {})]
    found = []
    for index, key in enumerate(keys):
        progress(index, len(keys), "comparing tensors")
        parts = [
            _one(key, layers[key], left, right) for left, right in zip(_pieces(a[key]), _pieces(b[key]), strict=True)
        ]
        found.append(_sum(key, parts))
    progress(len(keys), len(keys), "comparing tensors")
    return found


def by_layer(rows: Iterable[Difference]) -> list[Difference]:
    """The same by layer group, in the model's order.

    Running statistics and counters are left out: a count of batches is so large that nothing else would be seen.
    """
    groups: dict[str, list[Difference]] = {}
    for row in rows:
        if not row.name.endswith((*RUNNING_STATISTICS, COUNTER)):
            groups.setdefault(row.layer, []).append(row)
    return [_sum(layer, parts) for layer, parts in groups.items()]


def _pieces(tensor: Tensor) -> list[Tensor]:
    return list(torch.split(tensor.reshape(-1), PIECE))


def _one(key: str, layer: str, left: Tensor, right: Tensor) -> Difference:
    a, b = left.to(torch.float64), right.to(torch.float64)
    moved = b - a
    return Difference(
        name=key, layer=layer, numbers=a.numel(), changed=int((left != right).sum()),
        largest=float(moved.abs().max()) if a.numel() else 0.0,
        before=float(a @ a), after=float(b @ b), moved=float(moved @ moved), product=float(a @ b),
    )  # fmt: skip


def _sum(name: str, parts: Sequence[Difference]) -> Difference:
    summed = {
        field: sum(getattr(part, field) for part in parts)
        for field in ("numbers", "changed", "before", "after", "moved", "product")
    }
    return Difference(name=name, layer=parts[0].layer, largest=max(part.largest for part in parts), **summed)


@dataclass(frozen=True, slots=True, eq=False)
class Sameness:
    """Which tensors are the same bit for bit in which checkpoints.

    names: of the checkpoints, `base` last where there is one. layers: of each floating-point tensor its group.
    numbers: how many each holds, shape (t,). classes: shape (t, n): checkpoints of the same class have the same tensor.
    """

    names: tuple[str, ...]
    layers: tuple[str, ...]
    numbers: NDArray[np.int64]
    classes: NDArray[np.int64]

    def shares(self, *, of_numbers: bool = False) -> NDArray[np.float64]:
        """Share of the tensors (or of the numbers in them) that each two have in common, shape (n, n)."""
        weights = self.numbers if of_numbers else np.ones(len(self.layers))
        same = self.classes[:, :, None] == self.classes[:, None, :]
        return np.asarray(np.einsum("t,tij->ij", weights, same) / max(1, weights.sum()))

    def frozen(self, names: Sequence[str]) -> list[str]:
        """The layer groups of which every tensor is the same in all of these checkpoints, in the model's order."""
        columns = [self.names.index(name) for name in names]
        chosen = self.classes[:, columns]
        same = (chosen == chosen[:, :1]).all(1)
        moved = {layer for layer, is_same in zip(self.layers, same, strict=True) if not is_same}
        return [layer for layer in dict.fromkeys(self.layers) if layer not in moved]


def sameness(kitchen: Kitchen, *, progress: Progress = quiet) -> Sameness:
    """Compare all ingredients and the base, tensor by tensor; kept in the store under their fingerprints.

    Raises:
        Cancelled: from progress.
    """
    items = [*kitchen.ingredients, *([kitchen.base] if kitchen.base else [])]
    first = items[0].tensors
    keys = [key for key, tensor in first.items() if tensor.is_floating_point() and key not in kitchen.architecture.ties]
    layers = layer_groups(first, kitchen.architecture.ties)
    key_of_finding = digest(["sameness 1", [item.fingerprint for item in items], sorted(kitchen.architecture.ties)])
    classes = kitchen.store.finding(key_of_finding)
    if classes is None:
        classes = []
        for index, key in enumerate(keys):
            progress(index, len(keys), "looking for identical tensors")
            classes.append(_classes([item.tensors[key] for item in items]))
        kitchen.store.keep_finding(key_of_finding, classes)
    return Sameness(
        tuple(item.name for item in kitchen.ingredients) + (("base",) if kitchen.base else ()),
        tuple(layers[key] for key in keys),
        np.asarray([first[key].numel() for key in keys], dtype=np.int64),
        np.asarray(classes, dtype=np.int64).reshape(len(keys), len(items)),
    )


def _classes(tensors: Sequence[Tensor]) -> list[int]:
    """For each tensor the index of the first that is the same; only those that begin alike are compared whole."""
    alike: dict[bytes, list[int]] = {}
    found = []
    for index, tensor in enumerate(tensors):
        start = tensor.reshape(-1)[:GLANCE].contiguous().view(torch.uint8).numpy().tobytes()
        candidates = alike.setdefault(start, [])
        same = next((other for other in candidates if same_bits(tensors[other], tensor)), index)
        if same == index:
            candidates.append(index)
        found.append(same)
    return found
