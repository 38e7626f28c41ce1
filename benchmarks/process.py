"""What a process does whose time and memory are measured; it loads no more than a mix needs."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from safetensors.torch import load_file, save_file

from soupviz.mixing.averaging import mix_tensors
from soupviz.weights.checkpoints import read
from soupviz.weights.ingredients import Ingredient
from soupviz.weights.writing import write


def ingredients_of(paths: Sequence[Path]) -> list[tuple[Ingredient, float]]:
    """The checkpoints as a uniform soup's items."""
    return [
        (Ingredient(path.stem, path, read(path).candidates[0].tensors, path.stem), 1 / len(paths)) for path in paths
    ]


def mix_and_write(kind: str, paths: Sequence[Path]) -> None:
    target = paths[0].parent / "soup.safetensors"
    if kind == "soupviz":
        items = ingredients_of(paths)
        write(mix_tensors(items), items[0][0].tensors, target, "{}", ".safetensors")
    else:
        from benchmarks.textbook import average  # with all that its other loops need

        save_file(average([load_file(path) for path in paths]), target)
    target.unlink()


class Watched:
    """Bytes of anonymous memory while something is done, looked at every 2 ms; mapped pages of files are not counted.

    before: when it began; grown: how many more there are when it ended; peak: how many more at most.
    """

    def __enter__(self) -> Self:
        self.before = self._most = anonymous()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_failure: object) -> None:
        self._done.set()
        self._thread.join()
        self.grown = anonymous() - self.before
        self.peak = self._most - self.before

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self._most = max(self._most, anonymous())


def peak_during(work: Callable[[], None]) -> float:
    """Bytes of anonymous memory at the peak."""
    with Watched() as memory:
        work()
    return memory.before + memory.peak


def anonymous(process: int | str = "self") -> float:
    """Bytes of memory of a process, by default this one, that no file holds."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))
