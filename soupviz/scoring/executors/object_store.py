"""A kitchen's weights in Ray's object store: put there once, and mapped into the memory of each worker."""

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import replace as replaced
from pathlib import Path
from typing import Any

from soupviz.errors import ExecutorError
from soupviz.mixing.formulas import Formula
from soupviz.mixing.named import NamedWeights
from soupviz.scoring.executors.messages import MixOf
from soupviz.scoring.executors.packing import num_bytes, packed, unpacked
from soupviz.weights.discovery import Gathered
from soupviz.weights.ingredients import Ingredient
from soupviz.weights.selection import BASE

OBJECT_STORE_BYTES = 2**28
"""For outcomes on their way; containers often have little shared memory."""

MEMORY = Path("/proc/meminfo")
SHARED = Path("/dev/shm")
GB = 1e9
FILES = "take --ray-weights files, where all machines have the checkpoints"


@dataclass(frozen=True, slots=True)
class Stock:
    """References into the store. bases: the kitchen's own, and those of adapters. base: which is the kitchen's."""

    bases: Sequence[Any]
    items: Sequence[Any]
    base: int | None


class Shelf:
    """The driver's side. What is put stays as long as this does, and as a worker reads it."""

    def __init__(self, weights: NamedWeights):
        self._weights = weights
        self._pool = list(weights.ingredients.values())
        found = [weights.base, *(item.adapter.base for item in self._pool if item.adapter)]
        self._bases = list({id(one): one for one in found if one}.values())
        self._others: dict[str, Any] = {}
        self._formulas: set[str] = set()

    def num_bytes(self) -> int:
        """That all of it takes in the store."""
        bases = sum(num_bytes(packed(one)) for one in self._bases)
        return bases + sum(num_bytes(packed(item, self._bases)) for item in self._pool)

    def stock(self, ray: Any) -> Stock:
        """Put it there, one ingredient after the other."""
        return Stock(
            [ray.put(packed(one)) for one in self._bases],
            [ray.put(packed(item, self._bases)) for item in self._pool],
            None if self._weights.base is None else 0,
        )

    def beside(self, ray: Any, mix: MixOf) -> dict[str, Any]:
        """References to what a mix needs that is no ingredient: weights that were trained, and files named by path."""
        named = {name for name, _, _ in mix.parts}
        for text in mix.formulas.values():
            named |= set(Formula.model_validate_json(text).names)
        self._formulas |= mix.formulas.keys()
        read = named - self._weights.ingredients.keys() - self._formulas - {BASE}
        for name in read - self._others.keys():
            self._put(ray, name, self._weights.resolve(name))
        for name in mix.files.keys() - self._others.keys():
            self._put(ray, name, self._weights.read(mix.files[name]))
        return {name: self._others[name] for name in (*read, *mix.files)}

    def _put(self, ray: Any, name: str, item: Ingredient) -> None:
        self._others[name] = ray.put(packed(replaced(item, name=name), self._bases))


class Held:
    """A worker's side: the same weights, over the store's own memory."""

    def __init__(self, ray: Any, stock: Stock):
        self._ray = ray
        self._bases = [unpacked(one) for one in ray.get(list(stock.bases))]
        items = tuple(unpacked(one, self._bases) for one in ray.get(list(stock.items)))
        self.gathered = Gathered(items, None if stock.base is None else self._bases[stock.base])
        self._others: set[str] = set()

    def others(self, references: Mapping[str, Any]) -> Iterator[Ingredient]:
        """What is new of what a mix needs."""
        for name in references.keys() - self._others:
            yield unpacked(self._ray.get(references[name]), self._bases)
            self._others.add(name)


def check_fits(ray: Any, needed: int, *, is_own: bool) -> None:
    """Refuse weights for which the object store of some machine is too small: Ray would write them to its disk.

    Args:
        is_own: the cluster was started here, for these or for other workers of this process.
    Raises:
        ExecutorError: with the sizes.
    """
    sizes = {
        node["NodeManagerAddress"]: int(node["Resources"].get("object_store_memory", 0))
        for node in ray.nodes()
        if node["Alive"]
    }
    place, size = min(sizes.items(), key=lambda one: one[1])
    if needed > size:
        larger = f"Start Ray with a larger one on each machine (ray start --object-store-memory={_with_room(needed)})"
        remedy = "It was started for other workers of this process: end these" if is_own else larger
        raise ExecutorError(
            f"ray: the checkpoints take {needed / GB:.2f} GB, and the object store of {place} has {size / GB:.2f} GB. "
            f"{remedy}, or {FILES}."
        )


def own_size(needed: int) -> int:
    """Bytes of the object store of a cluster that is started here.

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
    return size


def _with_room(needed: int) -> int:
    return needed + OBJECT_STORE_BYTES


def _free_here() -> dict[str, int]:
    """By place, the bytes that an object store may take; nothing where that is not told."""
    if sys.platform != "linux":
        return {}
    lines = dict(line.split(":", 1) for line in MEMORY.read_text(encoding="ascii").splitlines())
    return {str(SHARED): shutil.disk_usage(SHARED).free, "memory": int(lines["MemAvailable"].split()[0]) * 1024}
