"""Ingredients: checkpoints read as the kitchen's model holds them, checked once, with a fingerprint each."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from soupviz.addresses import address_of
from soupviz.errors import CheckpointError, CompatibilityError, KitchenError, did_you_mean
from soupviz.remote.watching import has_changed
from soupviz.weights.adapters.adapted import Adapted, Adapter, shapes_of
from soupviz.weights.containers import files_of
from soupviz.weights.fitting import Fitted
from soupviz.weights.quantised import REMEDY
from soupviz.weights.scratch import by_pieces

COUNTER = "num_batches_tracked"

Stamp = tuple[tuple[str, int, int, int], ...]
"""Of each file of a checkpoint: path, bytes, inode, and when it was written."""


@dataclass(frozen=True, slots=True, eq=False)
class Ingredient:
    """One checkpoint as the model holds it: unwrapped, ties filled, memory-mapped.

    fitted: how its file was read. stamp: of its files when they were opened; empty for weights that have none.
    lacking: keys in which a base with another head differs from the model, and which are not among its tensors.
    unread_logs: what lies beside its file and cannot be read, a sentence each.
    """

    name: str
    path: Path
    tensors: Mapping[str, Tensor]
    fingerprint: str
    metadata: Mapping[str, Any] = field(default_factory=dict)
    fitted: Fitted | None = None
    stamp: Stamp = ()
    lacking: tuple[str, ...] = ()
    unread_logs: tuple[str, ...] = ()

    @property
    def adapter(self) -> Adapter | None:
        """What makes these weights of a base, where its file is an adapter's."""
        return self.tensors.adapter if isinstance(self.tensors, Adapted) else None

    @property
    def shapes(self) -> Mapping[str, Tensor]:
        """Tensors that tell keys, dtypes and shapes, for who does not look at numbers."""
        return shapes_of(self.tensors)

    @property
    def num_bytes(self) -> int:
        """Of its own files; those of an adapter's base are shared."""
        shared = set(self.adapter.base.stamp) if self.adapter else set()
        return sum(one[1] for one in self.stamp if one not in shared)

    def check_unchanged(self) -> None:
        """Refuse weights whose file was written to since it was mapped into memory: they are other weights by now.

        Of a file that was fetched, what lies at its address is asked for, which is not fetched for it.

        Raises:
            CheckpointError: naming the file.
        """
        files = [Path(file) for file, *_ in self.stamp]
        if gone := next((file for file in files if address_of(file) and not file.exists()), None):
            raise CheckpointError(
                f"{gone} is no longer among the files that were fetched, {self.path} with it; open the kitchen again, "
                "which fetches it again."
            )
        if _stamp(files) != self.stamp or any(map(has_changed, files)):
            raise CheckpointError(
                f"{self.path} has changed since the kitchen was opened; its scores are of other weights. Open the "
                "kitchen again (Look for new files)."
            )


def stamp_of(path: Path) -> Stamp:
    """What tells that a checkpoint's files are those that were opened; nothing where one is gone."""
    try:
        return _stamp(files_of(path))
    except CheckpointError:
        return ()


def _stamp(files: Sequence[Path]) -> Stamp:
    try:
        stats = [(str(file.absolute()), file.stat()) for file in files]
    except OSError:
        return ()
    return tuple((name, stat.st_size, stat.st_ino, stat.st_mtime_ns) for name, stat in stats)


def check_against_model(
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    ties: Mapping[str, str],
    buffers: frozenset[str] = frozenset(),
) -> None:
    """Shapes, kinds, ties and finiteness of one ingredient's tensors.

    Args:
        buffers: keys that may hold infinities, as masks do; such have to agree.
    Raises:
        CompatibilityError: the first disagreement, by key.
    """
    for key, expected in state.items():
        tensor = tensors[key]
        if tensor.shape != expected.shape:
            raise CompatibilityError(
                f"has {key} of shape {tuple(tensor.shape)}; expected {tuple(expected.shape)}, as in the model"
            )
        if tensor.is_floating_point() != expected.is_floating_point() or tensor.is_complex():
            told = f"has {key} of type {tensor.dtype}; expected {expected.dtype}, as in the model"
            is_code = expected.is_floating_point() and tensor.dtype in (torch.int8, torch.uint8)
            raise CompatibilityError(
                f"{told}: the codes of a quantised layer are no weights; {REMEDY}" if is_code else told
            )
        if tensor.is_floating_point() and (bad := num_spoilt(tensor, may_be_infinite=key in buffers)):
            raise CompatibilityError(f"has {bad} NaN or infinite values in {key}; its training diverged")
    for key, first in ties.items():
        if not torch.equal(tensors[key], tensors[first]):
            raise CompatibilityError(f"has different values in {key} and {first}, which are one tensor in the model")


def num_spoilt(tensor: Tensor, *, may_be_infinite: bool) -> int:
    """How many values would spoil a soup, as float32, in which soups are mixed; float8 has no isfinite of its own."""
    pieces = (piece.to(torch.float32) for (piece,) in by_pieces(tensor))
    return sum(int((piece.isnan() if may_be_infinite else ~torch.isfinite(piece)).sum()) for piece in pieces)


def signature(tensors: Mapping[str, Tensor]) -> tuple[torch.dtype, ...]:
    """The dtypes, in the model's order of keys."""
    return tuple(tensor.dtype for tensor in tensors.values())


def disagreement(ingredient: Ingredient, reference: Ingredient, buffers: frozenset[str] = frozenset()) -> str | None:
    """Why two ingredients that each fit the model do not fit each other: another dtype, integer buffer or mask.

    Args:
        buffers: keys of the model's buffers.
    """
    others = reference.shapes
    for key, shape in ingredient.shapes.items():
        if shape.dtype != others[key].dtype:
            return f"has {key} of type {shape.dtype}; '{reference.name}' ({reference.path}) has {others[key].dtype}"
        if shape.is_floating_point() and key not in buffers:
            continue
        tensor, other = ingredient.tensors[key], reference.tensors[key]
        if key in buffers and tensor.is_floating_point() and _differ_in_infinities(tensor, other):
            return (
                f"has infinite values in the buffer {key} where '{reference.name}' ({reference.path}) has others; such "
                "buffers cannot be averaged"
            )
        must_agree = not tensor.is_floating_point() and not key.endswith(COUNTER)
        if must_agree and not torch.equal(tensor, other):
            return (
                f"has an integer buffer {key} with other values than '{reference.name}' ({reference.path}): "
                f"{_first_difference(tensor, other)}; such buffers cannot be averaged"
            )
    return None


def _differ_in_infinities(tensor: Tensor, other: Tensor) -> bool:
    infinite, other_infinite = (each.to(torch.float32).isinf() for each in (tensor, other))
    return bool((infinite | other_infinite).any()) and not same_bits(tensor, other)


def unsteady(ingredients: Iterable[Ingredient]) -> Mapping[str, str]:
    """Which ingredients have something left over that is not the same wherever it occurs, and so no constant."""
    first: dict[str, Ingredient] = {}
    found: dict[str, str] = {}
    for item in ingredients:
        for key, tensor in item.fitted.constants.items() if item.fitted else ():
            earlier = first.setdefault(key, item)
            assert earlier.fitted is not None
            other = earlier.fitted.constants[key]
            if tensor.shape != other.shape or not torch.equal(tensor, other):
                found[item.name] = (
                    f"has {key}, which the model lacks, with other values than '{earlier.name}' ({earlier.path}); what "
                    "is no part of the model may only be left over where it is constant"
                )
    return found


def body_of(base: Ingredient, ingredient: Ingredient) -> Ingredient:
    """The base without what it has otherwise than an ingredient: another head."""
    shapes = {key: tensor.shape for key, tensor in ingredient.shapes.items()}
    body = {key: tensor for key, tensor in base.tensors.items() if shapes.get(key) == tensor.shape}
    return replace(base, tensors=body, lacking=tuple(key for key in shapes if key not in body))


def _first_difference(tensor: Tensor, other: Tensor) -> str:
    place = int((tensor.flatten() != other.flatten()).nonzero()[0])
    return f"{tensor.flatten()[place].item()} and {other.flatten()[place].item()} at position {place}"


def reference_of(ingredients: Sequence[Ingredient]) -> Ingredient:
    """The first ingredient with the most common dtypes: what the others are compared with."""
    common = Counter(signature(ingredient.shapes) for ingredient in ingredients).most_common(1)[0][0]
    return next(item for item in ingredients if signature(item.shapes) == common)


def fingerprint(tensors: Mapping[str, Tensor], progress: Callable[[int], None] = lambda _bytes: None) -> str:
    """SHA-256 over the sorted keys: key, dtype, shape, contiguous little-endian bytes.

    The same weights give the same fingerprint in every file format.
    """
    sha = hashlib.sha256()
    for key in sorted(tensors):
        tensor = tensors[key].detach().cpu().contiguous()
        header = f"{key}\0{str(tensor.dtype).removeprefix('torch.')}\0{tuple(tensor.shape)}\0"
        sha.update(header.encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
        progress(tensor.nbytes)
    return sha.hexdigest()


GLANCE = 4096
"""Elements that are compared before all are."""


def same_bits(tensor: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape and dtype are the same bit for bit: 0.0 and -0.0 are not."""
    if tensor.is_set_to(other):  # an adapter leaves most of its base as it is
        return True
    integers = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    one, two = (each.reshape(-1).view(integers) for each in (tensor, other))
    # Tensors that differ mostly differ at once: most are not read to their end.
    return torch.equal(one[:GLANCE], two[:GLANCE]) and torch.equal(one, two)


def shared_keys(ingredients: Sequence[Ingredient]) -> frozenset[str]:
    """The keys whose tensors are the same bit for bit in all ingredients: a frozen backbone, say."""
    first, *others = ingredients
    return frozenset(
        key
        for key, tensor in first.tensors.items()
        if all(key in item.tensors and same_bits(tensor, item.tensors[key]) for item in others)
    )


def pick(ingredients: Iterable[Ingredient], names: Sequence[str] | None) -> list[Ingredient]:
    """The named ingredients in kitchen order; all of them for None.

    Raises:
        KitchenError: an unknown name (the nearest known one is named), a repeated one, or an empty choice.
    """
    known = {item.name: item for item in ingredients}
    if names is None:
        return list(known.values())
    if not names:
        raise KitchenError("no ingredient is chosen; choose at least one.")
    for name in names:
        if name not in known:
            raise KitchenError(unknown_name(name, known))
    if len(set(names)) < len(names):
        raise KitchenError(f"an ingredient is named twice in {', '.join(names)}; name each once.")
    wanted = set(names)
    return [item for name, item in known.items() if name in wanted]


def unknown_name(name: str, known: Iterable[str]) -> str:
    """The message for a name that the kitchen lacks."""
    return f"no ingredient {name!r} in this kitchen; {did_you_mean(name, list(known))}"
