"""What the benchmark measures with: empty stores and caches, a clock, plain reads, memory in a process of its own."""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from soupviz.kitchen import Kitchen
from soupviz.mixing import mean_of, mix_tensors
from soupviz.store import Store
from soupviz.textbook import average
from soupviz.version import __version__
from soupviz.writing import write


@contextmanager
def fresh(kitchen: Kitchen) -> Iterator[Kitchen]:
    """The kitchen with an empty store, so that nothing is taken from what was measured before."""
    kept = kitchen.store
    with tempfile.TemporaryDirectory(prefix="soupviz-bench-") as folder:
        kitchen.store = kitchen.scorer.store = Store(Path(folder, "store.sqlite"))
        try:
            yield kitchen
        finally:
            kitchen.store = kitchen.scorer.store = kept


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """(seconds, what the work returned)."""
    started = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - started, result


def run_bare(model: torch.nn.Module, batches: list[dict[str, torch.Tensor]]) -> None:
    """Nothing but the model on batches that lie ready."""
    for batch in batches:
        model(batch[""]) if "" in batch else model(**batch)


def read_files(files: Sequence[Path]) -> None:
    """A plain read of whole files."""
    buffer = bytearray(2**24)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


@contextmanager
def cold_cache() -> Iterator[None]:
    """An empty cache folder, so that the split is decoded again."""
    kept = os.environ.get("SOUPVIZ_CACHE")
    with tempfile.TemporaryDirectory(prefix="soupviz-bench-") as folder:
        os.environ["SOUPVIZ_CACHE"] = folder
        try:
            yield
        finally:
            if kept is None:
                del os.environ["SOUPVIZ_CACHE"]
            else:
                os.environ["SOUPVIZ_CACHE"] = kept


def machine(kitchen: Kitchen) -> dict[str, Any]:
    """What the figures were measured on."""
    device = str(kitchen.device)
    if kitchen.device.type == "cuda":
        device = torch.cuda.get_device_name(kitchen.device)
    return {
        "device": device, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__,
        "python": platform.python_version(), "soupviz": __version__, "precision": kitchen.spec.precision,
    }  # fmt: skip


def peak_of_mixing(kind: str, path: Path) -> float:
    """Anonymous memory (RssAnon, in MB) that the uniform soup takes at its peak, in a process of its own.

    Args:
        kind: "textbook" averages state dicts in memory and saves them, "soupviz" writes while it mixes.
    """
    command = [sys.executable, "-m", "soupviz.measuring", kind, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout)


def _measure(kind: str, path: Path) -> float:
    kitchen = Kitchen.load(path)
    items = kitchen.resolved(mean_of(kitchen.names))
    before = peak = _anonymous()

    def watched(tensors: Iterator[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        nonlocal peak
        for item in tensors:
            peak = max(peak, _anonymous())
            yield item

    with tempfile.TemporaryDirectory(prefix="soupviz-bench-") as folder:
        target = Path(folder, "soup.safetensors")
        if kind == "soupviz":
            write(watched(mix_tensors(items)), items[0][0].tensors, target, "{}", ".safetensors")
        else:
            weights = [{key: tensor.clone() for key, tensor in item.tensors.items()} for item, _ in items]
            mixed = average(weights)
            write(watched(iter(mixed.items())), mixed, target, "{}", ".safetensors")
    return peak - before


def _anonymous() -> float:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) / 1e3 for line in lines if line.startswith("RssAnon"))


if __name__ == "__main__":
    sys.stdout.write(str(_measure(sys.argv[1], Path(sys.argv[2]))))
