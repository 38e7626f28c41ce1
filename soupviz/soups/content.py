"""What an exported soup's file holds, mixed when it is asked for, and its own fingerprint."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import starmap

import torch
from torch import Tensor

from soupviz.soups.provenance import Dtype, Record
from soupviz.weights.adapters.adapted import shapes_of
from soupviz.weights.ingredients import fingerprint
from soupviz.weights.scratch import cast
from soupviz.weights.writing import aligned

DIGITS = 8
"""Of a tensor's own fingerprint, which tells where two soups differ."""

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")

Mixed = Callable[[Iterable[str]], Iterable[tuple[str, Tensor]]]


@dataclass(frozen=True, slots=True)
class Identity:
    """fingerprint: of all tensors, as an ingredient's is. tensors: the first digits of that of each tensor alone, in
    the order of their keys, separated by spaces."""

    fingerprint: str
    tensors: str


@dataclass(frozen=True, slots=True)
class Content:
    """like: tells key, dtype and shape, in the file's order. mixed: the soup's weights of some keys, in their order.
    layer: what is divided by the temperature, if any is."""

    like: Mapping[str, Tensor]
    mixed: Mixed
    layer: str | None
    temperature: float

    def tensors(self, keys: Iterable[str] | None = None) -> Iterator[tuple[str, Tensor]]:
        """The file's tensors one by one, in its order or in that of the keys."""
        scaled = scaled_keys(self.like, self.layer) if self.layer is not None else ()
        for key, tensor in self.mixed(self.like if keys is None else keys):
            kept = cast(tensor, self.like[key].dtype)
            yield key, (kept.float() / self.temperature).to(kept.dtype) if key in scaled else kept

    def identity(self) -> Identity:
        """Mixes every tensor once; none is kept."""
        digests: list[str] = []

        def seen(key: str, tensor: Tensor) -> tuple[str, Tensor]:
            digests.append(fingerprint({key: tensor})[:DIGITS])
            return key, tensor

        keys = sorted(self.like)
        return Identity(fingerprint(InTurn(keys, starmap(seen, self.tensors(keys)))), " ".join(digests))


class InTurn(Mapping[str, Tensor]):
    """Tensors that are made one by one, for who looks at each of them once, in the order of the keys."""

    def __init__(self, keys: Iterable[str], tensors: Iterator[tuple[str, Tensor]]):
        self._keys = list(keys)
        self._tensors = tensors

    def __getitem__(self, key: str) -> Tensor:
        made, tensor = next(self._tensors)
        assert made == key
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def content_of(record: Record, tensors: Mapping[str, Tensor], mixed: Mixed) -> Content:
    """What the file of a soup holds.

    Args:
        tensors: of an ingredient, whose dtypes it has unless the record says float32.
    """
    return Content(_like(tensors, record.dtype), mixed, record.scaled_layer, record.temperature or 1.0)


def _like(tensors: Mapping[str, Tensor], dtype: Dtype) -> dict[str, Tensor]:
    """What the file will hold, without the numbers."""
    is_wide = dtype == "float32"
    tensors = shapes_of(tensors)
    kinds = {key: torch.float32 if is_wide and t.is_floating_point() else t.dtype for key, t in tensors.items()}
    return aligned({key: torch.empty(tensors[key].shape, dtype=kinds[key], device="meta") for key in tensors})


def scaled_keys(keys: Iterable[str], layer: str) -> frozenset[str]:
    """What of a linear layer is divided so that its output is: its weight and bias, and of a normalised weight,
    `g * v / |v|`, g alone. None of it is there where the weight is computed in another way."""
    prefix = f"{layer}." if layer else ""
    names = ("weight", "weight_g", "parametrizations.weight.original0", "bias")
    return frozenset(keys) & {prefix + name for name in names}


def differing(keys: Iterable[str], one: Identity, other: Identity) -> list[str]:
    """The keys of the tensors that are not the same in both; empty where they have other keys altogether."""
    pairs = zip(one.tensors.split(), other.tensors.split(), strict=False)
    return [key for key, (first, second) in zip(sorted(keys), pairs, strict=False) if first != second]


def are_statistics(keys: Sequence[str]) -> bool:
    """Whether only running statistics are among these: re-estimated on data they repeat up to rounding."""
    return bool(keys) and all(key.endswith(STATISTICS) for key in keys)
