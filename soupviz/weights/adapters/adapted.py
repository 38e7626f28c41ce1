"""An adapter's weights over its base: the base's own tensors, and those that it changes, made at each look."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from soupviz.errors import CompatibilityError
from soupviz.models.architecture import Architecture
from soupviz.weights.adapters.config import AdapterConfig
from soupviz.weights.adapters.keys import Kind, Named, named, renamed, renaming, weight_of
from soupviz.weights.adapters.products import product_of
from soupviz.weights.checkpoints import Checkpoint
from soupviz.weights.key_maps import AdapterMap

if TYPE_CHECKING:
    from soupviz.weights.ingredients import Ingredient

PIECE = 2**20
"""Elements that are made at a time, in float64."""


@dataclass(frozen=True, slots=True)
class Update:
    """A product of two factors that is added to a weight: `scale * B A`, transposed where the weight is.

    kind: of keys in the file. module: as the file calls it. a, b: as the file has them.
    """

    kind: Kind
    module: str
    a: Tensor
    b: Tensor
    scale: float
    is_turned: bool

    @property
    def rank(self) -> int:
        return int(self.a.shape[0])

    def sides(self) -> tuple[Tensor, Tensor]:
        """The matrices whose product has the weight's rows and columns."""
        a, b = self.a.flatten(1), self.b.flatten(1)
        return (a.T, b.T) if self.is_turned else (b, a)


@dataclass(frozen=True, slots=True, eq=False)
class Adapter:
    """What makes an ingredient of its base.

    updates: by key of the model, of tied keys the first. whole: tensors that take the place of the base's. names: how
    the file's names became the model's. ties: keys that are one tensor with an earlier one, and which.
    """

    config: AdapterConfig
    base: "Ingredient"
    updates: Mapping[str, tuple[Update, ...]]
    whole: Mapping[str, Tensor]
    names: AdapterMap
    ties: Mapping[str, str]

    @property
    def tied(self) -> tuple[str, ...]:
        """The keys of updates that another key shares its tensor with."""
        shared = {*self.ties, *self.ties.values()}
        return tuple(key for key in self.updates if key in shared)

    @property
    def ranks(self) -> list[int]:
        """The ranks that occur."""
        return sorted({one.rank for several in self.updates.values() for one in several if one.kind != "bias"})


class Adapted(Mapping[str, Tensor]):
    """A state dict whose changed tensors are made at each look, and kept nowhere; the others are the base's own.

    An ingredient is what merging its adapter gives: `base + scale * B A`, rounded once to the base's dtype. Soups are
    mixed of these tensors, as of any others: so the mean of products is a mean of products, whatever the ranks, the
    fingerprint says all that a mix depends on, and an adapter and the file that `merge_and_unload` saved of it are one
    ingredient. Were updates summed before anything is rounded, two ingredients of one fingerprint would make two soups.
    In float32 both are the same up to 2**-24 of a weight. Over a base in bfloat16, rounding each member first loses 7 %
    more than storing the sum alone does (measured, eight members); who wants neither exports the soup as an adapter,
    which is made from the factors.

    Products are made so that they depend on no order in which a processor's library sums (products.py), and so neither
    does the fingerprint.
    """

    def __init__(self, adapter: Adapter, like: Mapping[str, Tensor]):
        """Args:
        like: key, dtype and shape of every tensor, on no device.
        """
        self.adapter = adapter
        self.like = like

    def __getitem__(self, key: str) -> Tensor:
        if key not in self.like:
            raise KeyError(key)
        first = self.adapter.ties.get(key, key)
        start = _start(self.adapter, first)
        updates = self.adapter.updates.get(first, ())
        return _added(start, updates) if updates else start

    def __contains__(self, key: object) -> bool:
        return key in self.like

    def __iter__(self) -> Iterator[str]:
        return iter(self.like)

    def __len__(self) -> int:
        return len(self.like)


def _start(adapter: Adapter, key: str) -> Tensor:
    return adapter.whole[key] if key in adapter.whole else adapter.base.tensors[key]


def _added(start: Tensor, updates: tuple[Update, ...]) -> Tensor:
    """A weight with its updates, by pieces of its rows."""
    made = torch.empty(start.shape, dtype=start.dtype)
    rows = made.shape[0]
    step = max(1, PIECE // max(1, made.numel() // rows))
    flat, source = made.view(rows, -1), start.reshape(rows, -1)
    products = [(product_of(*one.sides()), one.scale) for one in updates]
    buffer = torch.empty(min(step, rows), source.shape[1], dtype=torch.float64)
    for top in range(0, rows, step):
        piece = buffer[: rows - top].copy_(source[top : top + step])
        for product, scale in products:
            piece += product(slice(top, top + step)).mul_(scale)
        flat[top : top + step] = piece  # rounded here, once
    return made


def shapes_of(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Tensors that tell keys, dtypes and shapes, none of which has to be made for it."""
    return tensors.like if isinstance(tensors, Adapted) else tensors


def fit_adapter(
    checkpoint: Checkpoint, config: AdapterConfig, base: "Ingredient", architecture: Architecture
) -> tuple[Adapted, tuple[str, ...]]:
    """An adapter as the model holds it after merging, and the keys of its file that are left over.

    Raises:
        CompatibilityError: it is no LoRA, or one of another model or another base; the message begins with the verb.
    """
    found = named(checkpoint.candidates[0].tensors)
    names = renaming(found, architecture.state)
    kinds = architecture.kinds()
    turned = [
        renamed(weight_of(kind, module), names.taken, names.put)
        for kind, module in found.factors
        if _is_turned(kinds.get(renamed(module, names.taken, names.put), ""), config)
    ]
    squares = [key for key in turned if len(set(architecture.state[key].shape)) == 1]  # of others the shape tells
    held = base.fitted.tensors if base.fitted else base.tensors  # what bake, without a model, finds in its file
    without = tuple(key for key in held if key not in architecture.state)
    names = names.model_copy(update={"turned": tuple(squares), "without": without})
    adapter = assembled(found, names, config, base, architecture.ties)
    _check_ties(adapter, architecture)
    like = {}
    for key in architecture.state:
        first = architecture.ties.get(key, key)
        if first not in adapter.whole and first not in base.tensors:
            raise CompatibilityError(
                f"has no {key} of its own, and neither has its base, '{base.name}' ({base.path}): name the "
                "base that it was trained on; what was new then has to be saved with it (peft: modules_to_save)"
            )
        like[key] = torch.empty_like(_start(adapter, first), device="meta")
    return Adapted(adapter, like), found.left_over


def _is_turned(kind: str, config: AdapterConfig) -> bool:
    """Whether a layer keeps its weight as (in, out): transformers' Conv1D does, torch's Linear does not."""
    return kind == "Conv1D" or (config.fan_in_fan_out and kind != "Linear")


def read_again(
    checkpoint: Checkpoint, config: AdapterConfig, base: "Ingredient", names: AdapterMap, ties: Mapping[str, str]
) -> Adapted:
    """An adapter as it was read before, without a model to ask.

    Raises:
        CompatibilityError: its file, or its base, is laid out in another way.
    """
    found = named(checkpoint.candidates[0].tensors)
    if missing := found.whole.keys() ^ names.whole.keys():
        raise CompatibilityError(f"has other tensors than it had, such as {min(missing)}")
    adapter = assembled(found, names, config, base, ties)
    keys = dict.fromkeys([*(key for key in base.tensors if key not in names.without), *adapter.whole])
    like = {key: torch.empty_like(_start(adapter, ties.get(key, key)), device="meta") for key in keys}
    return Adapted(adapter, like)


def assembled(
    found: Named, names: AdapterMap, config: AdapterConfig, base: "Ingredient", ties: Mapping[str, str]
) -> Adapter:
    """An adapter's tensors by the model's keys.

    Raises:
        CompatibilityError: factors that make another shape than the weight has.
    """
    whole = {ties.get(names.whole[key], names.whole[key]): tensor for key, tensor in found.whole.items()}
    adapter = Adapter(config, base, {}, whole, names, ties)
    updates: dict[str, tuple[Update, ...]] = {}
    for (kind, module), pair in found.factors.items():
        key = renamed(weight_of(kind, module), names.taken, names.put)
        first = ties.get(key, key)
        if first not in whole and first not in base.tensors:
            raise CompatibilityError(f"changes {key}, which its base, '{base.name}' ({base.path}), lacks")
        start = _start(adapter, first)
        rank = next(int(one["A"].shape[0]) for (_, name), one in found.factors.items() if name == module and "A" in one)
        update = _update(kind, module, pair, config.scale(module, rank))
        update = replace(update, is_turned=_direction(key, update, start, names))
        updates[first] = (*updates.get(first, ()), update)
    return replace(adapter, updates=updates)


def _update(kind: Kind, module: str, pair: Mapping[str, Tensor], scale: float) -> Update:
    b = pair["B"]
    a = pair.get("A", torch.ones(1, 1))  # of a bias
    if kind == "bias":
        b = b[:, None]
    if a.ndim > 2 and a.ndim == b.ndim and b.shape[1] and a.shape[0] > b.shape[1] and not a.shape[0] % b.shape[1]:
        raise CompatibilityError(
            f"adapts {module}, a convolution in {a.shape[0] // b.shape[1]} groups, whose update peft can add to no "
            "weight either; train it without that layer among its target_modules"
        )
    if not (a.is_floating_point() and b.is_floating_point()) or min(a.ndim, b.ndim) < 2 or a.shape[0] != b.shape[1]:
        raise CompatibilityError(
            f"has factors of {tuple(a.shape)} and {tuple(b.shape)} for {module}, which make no product; save it again"
        )
    if not bool(torch.isfinite(a.float()).all() and torch.isfinite(b.float()).all()):
        raise CompatibilityError(f"has NaN or infinite values in the factors of {module}; its training diverged")
    return Update(kind, module, a, b, scale, is_turned=False)


def _direction(key: str, update: Update, start: Tensor, names: AdapterMap) -> bool:
    """Whether the weight holds the product transposed.

    Raises:
        CompatibilityError: it can hold it neither way.
    """
    if not start.is_floating_point():
        raise CompatibilityError(
            f"changes {key}, which its base holds as {start.dtype}: quantised? Name the whole base"
        )
    rows, columns = update.b.shape[0], math.prod(update.a.shape[1:])
    shape = (int(start.shape[0]), start.numel() // int(start.shape[0]))
    if update.kind == "lora_embedding_":
        fits, turned = shape == (columns, rows), True
    elif start.ndim == 2 and rows != columns:
        fits, turned = shape in ((rows, columns), (columns, rows)), shape != (rows, columns)
    else:
        fits = shape == (rows, columns) and update.a.shape[2:] == start.shape[2:]
        turned = key in names.turned
    if not fits:
        raise CompatibilityError(
            f"changes {key} by a product of shape {(rows, columns)}; its base has {tuple(start.shape)}: an adapter of "
            "another model?"
        )
    return turned


def _check_ties(adapter: Adapter, architecture: Architecture) -> None:
    """Refuse what a model with tied weights cannot hold: a tensor that was trained on one side of a tie alone."""
    for name in adapter.names.whole.values():
        first = architecture.ties.get(name, name)
        tied = [first, *(key for key, other in architecture.ties.items() if other == first)]
        given = [key for key in tied if key in adapter.names.whole.values()]
        base = adapter.base.tensors.get(first)
        if len(tied) > len(given) and (base is None or not torch.equal(adapter.whole[first], base)):
            raise CompatibilityError(
                f"keeps {name} of its own, which the model ties to {next(key for key in tied if key not in given)}; "
                "give model.args tie_word_embeddings: false and a base that holds both, or train both as one (peft: "
                "ensure_weight_tying)"
            )
