"""A kitchen's weights in Ray's object store: put there once, and mapped into the memory of each worker."""

import shutil
import sys
import weakref
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from functools import cached_property
from pathlib import Path
from typing import Any

from soupviz.errors import ExecutorError
from soupviz.mixing.formulas import KEPT
from soupviz.mixing.named import NamedWeights
from soupviz.scoring.executors.launching import Tell
from soupviz.scoring.executors.messages import MixOf
from soupviz.scoring.executors.packing import Packed, num_bytes, packed, unpacked
from soupviz.weights.discovery import Gathered
from soupviz.weights.ingredients import Ingredient
from soupviz.weights.selection import BASE

OBJECT_STORE_BYTES = 2**28
"""For outcomes on their way; containers often have little shared memory."""

MEMORY = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")
SHARED = Path("/dev/shm")
OTHERS_HELD = 4
"""Weights that are no ingredients, such as those that were trained, in the store: the last ones."""

GB = 1e9
FILES = "take --ray-weights files, where all machines have the checkpoints"


@dataclass(frozen=True, slots=True)
class Stock:
    """References into the store. bases: the kitchen's own, and those of adapters. base: which is the kitchen's."""

    bases: Sequence[Any]
    items: Sequence[Any]
    base: int | None


class Shelf:
    """The driver's side. What is put stays as long as this does, and as a worker reads it.

    num_bytes: that it has put there.
    """

    def __init__(self, weights: NamedWeights):
        self._weights = weights
        self._pool = list(weights.ingredients.values())
        found = [weights.base, *(item.adapter.base for item in self._pool if item.adapter)]
        self._bases = list({id(one): one for one in found if one}.values())
        self._others: dict[str, tuple[Any, int]] = {}
        self._stocked = 0
        _shelves.add(self)

    @property
    def num_bytes(self) -> int:
        return self._stocked + sum(size for _, size in self._others.values())

    @cached_property
    def _sizes(self) -> list[int]:
        return [num_bytes(one) for one in self._packed()]

    def _packed(self) -> Iterator[Packed]:
        yield from map(packed, self._bases)
        yield from (packed(item, self._bases) for item in self._pool)

    def needed(self) -> int:
        """Bytes that the store has to hold."""
        return sum(self._sizes)

    def spare(self, num_workers: int) -> int:
        """Bytes that it is good to have for other weights beside them: the last, and those of each worker's mix."""
        return (OTHERS_HELD + num_workers) * max(self._sizes)

    def stock(self, ray: Any, tell: Tell, *, is_own: bool) -> Stock:
        """Put it there, one ingredient after the other.

        Raises:
            ExecutorError: there is no room.
        """
        check_fits(ray, self.needed(), is_own=is_own)
        self._stocked = self.needed()
        references, total = [], len(self._bases) + len(self._pool)
        for number, content in enumerate(self._packed(), 1):
            tell(f"putting weights into the object store, {number} of {total}")
            references.append(ray.put(content))
        bases = len(self._bases)
        return Stock(references[:bases], references[bases:], None if self._weights.base is None else 0)

    def beside(self, ray: Any, mix: MixOf, *, is_own: bool) -> dict[str, Any]:
        """References to what a mix needs that is no ingredient: weights that were trained, and files named by path.

        Raises:
            ExecutorError: there is no room.
        """
        needed = self._beside([name for name, _, _ in mix.parts])
        known = [name for name in needed if name in self._others]
        for name in known:  # those asked for last are at the end
            self._others[name] = self._others.pop(name)
        new = [name for name in needed if name not in known]
        while len(self._others) > max(OTHERS_HELD, len(needed)) - len(new):
            del self._others[next(iter(self._others))]
        for name in new:
            self._others[name] = self._put(ray, name, needed, is_own=is_own)
        return {name: self._others[name][0] for name in needed}

    def _beside(self, names: Sequence[str]) -> list[str]:
        """All that names are made of in the end, but the ingredients and the base."""
        found: dict[str, None] = {}
        for name in names:
            if name in self._weights.ingredients or name == BASE:
                continue
            formula = self._weights.formula(name)
            is_made = formula is not None and formula.kind != KEPT
            found |= dict.fromkeys(self._beside(formula.names) if formula and is_made else [name])
        return list(found)

    def _put(self, ray: Any, name: str, needed: Sequence[str], *, is_own: bool) -> tuple[Any, int]:
        """Put weights there; what is not needed beside them makes room, if there is none."""
        content = packed(replaced(self._weights.resolve(name), name=name), self._bases)
        size = num_bytes(content)
        while True:
            try:
                check_fits(ray, size, is_own=is_own)
            except ExecutorError:
                oldest = next((other for other in self._others if other not in needed), None)
                if oldest is None:
                    raise
                del self._others[oldest]
            else:
                return ray.put(content), size


_shelves: "weakref.WeakSet[Shelf]" = weakref.WeakSet()
"""Of this process, whose kitchens share a store."""


class Held:
    """A worker's side: the same weights, over the store's own memory. others: those of the last mix beside them."""

    def __init__(self, ray: Any, stock: Stock):
        self._ray = ray
        self._bases = [unpacked(one) for one in ray.get(list(stock.bases))]
        items = tuple(unpacked(one, self._bases) for one in ray.get(list(stock.items)))
        self.gathered = Gathered(items, None if stock.base is None else self._bases[stock.base])
        self._others: dict[str, Ingredient] = {}

    @property
    def others(self) -> list[Ingredient]:
        return list(self._others.values())

    def take(self, references: Mapping[str, Any]) -> bool:
        """Take over what a mix needs in place of what the last one did; whether that is something else."""
        if not references or references.keys() == self._others.keys():
            return False
        before = self._others
        self._others = {
            name: before.get(name) or unpacked(self._ray.get(reference), self._bases)
            for name, reference in references.items()
        }
        return True


def check_fits(ray: Any, needed: int, *, is_own: bool) -> None:
    """Refuse weights for which the object store of some machine is too small: Ray would write them to its disk.

    Args:
        needed: bytes beside those that this process has put there. is_own: the cluster was started here, for these or
            for other workers of this process.
    Raises:
        ExecutorError: with the sizes.
    """
    sizes = {
        node["NodeManagerAddress"]: int(node["Resources"].get("object_store_memory", 0))
        for node in ray.nodes()
        if node["Alive"]
    }
    place, size = min(sizes.items(), key=lambda one: one[1])
    there = sum(shelf.num_bytes for shelf in _shelves)
    if needed + there > size:
        room = _with_room(needed + there)
        larger = f"Start Ray with a larger one on each machine (ray start --object-store-memory={room})"
        remedy = "It was started for other workers of this process: end these" if is_own else larger
        taken = f", of which weights of this process take {there / GB:.2f} GB" if there else ""
        raise ExecutorError(
            f"ray: weights of {needed / GB:.2f} GB are to be put there, and the object store of {place} has "
            f"{size / GB:.2f} GB{taken}. {remedy}, or {FILES}."
        )


def own_size(needed: int, spare: int) -> int:
    """Bytes of the object store of a cluster that is started here.

    Args:
        spare: that are good to have beside those that are needed.
    Raises:
        ExecutorError: there is no room for so many; where there are no weights among them, Ray finds a way.
    """
    size = _with_room(needed)
    free = _free_here() if needed else {}
    if lacking := next((place for place, room in free.items() if room < size), None):
        raise ExecutorError(
            f"ray: the checkpoints take {needed / GB:.2f} GB, so that an object store of {size / GB:.2f} GB is needed, "
            f"and {lacking} has {free[lacking] / GB:.2f} GB free. Free some (a container: --shm-size), or {FILES}."
        )
    return min([size + spare, *free.values()])


def _with_room(needed: int) -> int:
    return needed + OBJECT_STORE_BYTES


def _free_here() -> dict[str, int]:
    """By place, the bytes that an object store may take; nothing where that is not told."""
    if sys.platform != "linux":
        return {}
    lines = dict(line.split(":", 1) for line in MEMORY.read_text(encoding="ascii").splitlines())
    found = {str(SHARED): shutil.disk_usage(SHARED).free, "memory": int(lines["MemAvailable"].split()[0]) * 1024}
    limit, used = (GROUP / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and (most := limit.read_text(encoding="ascii").strip()) != "max":
        found["the container"] = int(most) - int(used.read_text(encoding="ascii"))
    return found
