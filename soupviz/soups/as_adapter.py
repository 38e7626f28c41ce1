"""A soup of adapters as one adapter, which peft loads: what its file holds, and its description."""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from soupviz.errors import ExportError
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import Mix, effective, is_affine, mix_tensors
from soupviz.mixing.factors import Parts, as_updates, joined, nearest, norm
from soupviz.mixing.formulas import Formula
from soupviz.soups.content import Content
from soupviz.soups.forms import AdapterForm
from soupviz.types import Coefficients
from soupviz.weights.adapters.adapted import Adapter, Update
from soupviz.weights.adapters.keys import PREFIX, renamed
from soupviz.weights.ingredients import Ingredient, same_bits


@dataclass(frozen=True)
class OneAdapter:
    """The sum of adapters' updates by module, and what they keep whole.

    items: the mix, in order. parts: by the model's name of a module, its updates with their coefficients. whole: keys
    of tensors that members have instead of the base's, or biases that they change: these are averaged as they are.
    """

    items: Mix
    parts: Mapping[str, Parts]
    whole: tuple[str, ...]
    rank: int | None

    @property
    def first(self) -> Adapter:
        return next(item.adapter for item, _ in self.items if item.adapter)

    def content(self) -> Content:
        """What the file holds."""
        return Content(self._like(), self._tensors, None, 1.0)

    def form(self) -> AdapterForm:
        """What there is to tell of it."""
        if self.rank is None:
            most = max((self._rank(parts) for parts in self.parts.values()), default=None)
            return AdapterForm(summed=most, norm=math.hypot(*(norm(parts) for parts in self.parts.values())))
        sizes = {module: (lost, size) for module, (_, _, lost, size) in self._nearest.items()}
        lost, size = (math.hypot(*values) for values in zip(*sizes.values(), strict=True)) if sizes else (0.0, 0.0)
        by_module = {module: one / own if own else 0.0 for module, (one, own) in sizes.items()}
        return AdapterForm(rank=self.rank, norm=size, lost=lost / size if size else 0.0, lost_by_module=by_module)

    def description(self) -> str:
        """The text of adapter_config.json: the first member's, with ranks of its own, and all scales one."""
        ranks = {self._name(module): self._rank(parts) for module, parts in self.parts.items()}
        usual = max(ranks.values(), default=1)
        others = {f"^{re.escape(name)}": rank for name, rank in ranks.items() if rank != usual}
        members = [item.adapter.config.told for item, _ in self.items if item.adapter]
        saved = dict.fromkeys(name for one in members for name in one.modules_to_save or ())
        values = dict(self.first.config.values) | {
            "r": usual, "lora_alpha": usual, "rank_pattern": others, "alpha_pattern": others, "use_rslora": False,
            "lora_bias": False, "target_modules": list(ranks), "modules_to_save": list(saved) or None,
            "bias": next((one.bias for one in members if (one.bias or "none") != "none"), "none"),
            "layers_to_transform": None, "layers_pattern": None, "exclude_modules": None, "init_lora_weights": True,
            "inference_mode": True,
        }  # fmt: skip
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"

    @cached_property
    def _nearest(self) -> Mapping[str, tuple[Tensor, Tensor, float, float]]:
        """Kept: of a rank that was asked for they are small."""
        assert self.rank is not None
        return {module: nearest(parts, self.rank) for module, parts in self.parts.items()}

    def _name(self, module: str) -> str:
        """A module, or a key, as the first member's file calls it."""
        names = self.first.names
        return names.taken + module.removeprefix(names.put)

    def _rank(self, parts: Parts) -> int:
        summed = sum(one.rank for one, _ in parts)
        if self.rank is None:
            return summed
        first = parts[0][0]
        return min(self.rank, summed, first.b.shape[0], first.a[0].numel())

    def _keys(self, module: str) -> tuple[str, str]:
        is_embedding = self.parts[module][0][0].kind == "lora_embedding_"
        start, end = ("lora_embedding_", "") if is_embedding else ("lora_", ".weight")
        return f"{PREFIX}{self._name(module)}.{start}A{end}", f"{PREFIX}{self._name(module)}.{start}B{end}"

    def _whole_key(self, key: str) -> str:
        module, _, last = key.rpartition(".")
        between = ".base_layer" if module in self.parts else ""
        return f"{PREFIX}{self._name(module)}{between}.{last}"

    def _like(self) -> dict[str, Tensor]:
        like: dict[str, Tensor] = {}
        for module, parts in self.parts.items():
            first, rank = parts[0][0], self._rank(parts)
            shapes = (rank, *first.a.shape[1:]), (first.b.shape[0], rank, *first.b.shape[2:])
            like |= {
                key: torch.empty(shape, device="meta") for key, shape in zip(self._keys(module), shapes, strict=True)
            }
        for key in self.whole:
            tensor = next(item.tensors[key] for item, _ in self.items if key in item.tensors)
            like[self._whole_key(key)] = torch.empty_like(tensor, device="meta")
        return like

    def _tensors(self, keys: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        modules = {key: (module, side) for module in self.parts for side, key in enumerate(self._keys(module))}
        whole = {self._whole_key(key): key for key in self.whole}
        last: tuple[str, tuple[Tensor, Tensor]] | None = None  # A and B of one module are asked for one after the other
        for key in keys:
            if key in whole:
                ((_, tensor),) = mix_tensors(self.items, keys=[whole[key]])
                yield key, tensor
                continue
            module, side = modules[key]
            if last is None or last[0] != module:
                last = module, self._factors(module)
            yield key, last[1][side]

    def _factors(self, module: str) -> tuple[Tensor, Tensor]:
        return joined(self.parts[module]) if self.rank is None else self._nearest[module][:2]


def as_adapter(
    mix: Coefficients,
    rank: int | None,
    formula_of: Callable[[str], Formula | None],
    resolve: Callable[[str], Ingredient],
) -> OneAdapter:
    """A mix as one adapter over its members' base.

    Raises:
        ExportError: it is no weighted sum of adapters over one base, or a rank below 1.
    """
    if rank is not None and rank < 1:
        raise ExportError(f"rank is {rank}; expected at least 1, or none for the exact sum.")
    summed = as_updates(mix, formula_of)
    if summed is None:
        raise ExportError(
            "this soup is no weighted sum of its members, so that it is no sum of their updates either; write it dense."
        )
    items = effective([(resolve(name), weight) for name, weight in summed])
    adapters = [(item.adapter, weight) for item, weight in items if item.adapter]
    if not adapters:
        raise ExportError("no member of this soup is a LoRA adapter; write it dense.")
    base = adapters[0][0].base
    for item, _ in items:
        own = item.adapter.base if item.adapter else item
        if own.fingerprint != base.fingerprint:
            raise ExportError(f"{item.name!r} is no LoRA adapter over {base.path}; write the soup dense.")
    if not is_affine(items):
        total = math.fsum(weight for _, weight in items)
        raise ExportError(
            f"the coefficients sum to {total:.6g}; expected 1, or the base would be scaled, too: write the soup dense."
        )
    whole = _whole(items, base)
    parts: dict[str, list[tuple[Update, float]]] = {}
    for one, weight in adapters:
        for key, updates in one.updates.items():
            for update in updates if key not in whole else ():
                module = renamed(update.module, one.names.taken, one.names.put)
                parts.setdefault(module, []).append((update, weight))
    return OneAdapter(items, parts, whole, rank)


def adapter_of(kitchen: Kitchen, mix: Coefficients, rank: int | None = None) -> OneAdapter:
    """A kitchen's mix as one adapter.

    Raises:
        ExportError: it is none, and why.
    """
    return as_adapter(mix, rank, kitchen.weights.formula, kitchen.weights.resolve)


def _whole(items: Mix, base: Ingredient) -> tuple[str, ...]:
    """The keys that a member has otherwise than by a product: trained whole, or a bias with an update of its own."""
    found: dict[str, None] = {}
    for adapter in (item.adapter for item, _ in items if item.adapter):
        for key in adapter.names.whole.values():
            own, tensor = base.tensors.get(key), adapter.whole[adapter.ties.get(key, key)]
            is_same = own is not None and own.shape == tensor.shape and own.dtype == tensor.dtype
            if own is None or not is_same or not same_bits(own, tensor):
                found[key] = None
        found |= dict.fromkeys(key for key, several in adapter.updates.items() if several[0].kind == "bias")
    return tuple(found)
