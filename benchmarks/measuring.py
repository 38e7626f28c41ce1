"""What the benchmark measures with: empty stores and caches, a clock, a kitchen whose backbone is frozen."""

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from soupviz.kitchen import Kitchen, changed
from soupviz.store.database import Store
from soupviz.version import __version__


@contextmanager
def fresh(kitchen: Kitchen) -> Iterator[Kitchen]:
    """The kitchen with an empty store, so that nothing is taken from what was measured before."""
    with tempfile.TemporaryDirectory(prefix="soupviz-bench-") as folder:
        yield changed(kitchen, store=Store(Path(folder, "store.sqlite")))


def timed(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """(seconds, what the work returned); what a GPU was given to do has been done."""
    _settle()
    started = time.perf_counter()
    result = work(*arguments)
    _settle()
    return time.perf_counter() - started, result


def _settle() -> None:
    """Wait for a GPU, whose work goes on after a call has returned."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def run_bare(model: torch.nn.Module, batches: list[dict[str, torch.Tensor]]) -> None:
    """Nothing but the model on batches that lie ready."""
    for batch in batches:
        model(batch[""]) if "" in batch else model(**batch)


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


FROZEN_PART = 0.75
"""Of a model's layers, in the order in which it defines them: for a ShuffleNet or a ResNet all but the last stage."""


def frozen_copy(kitchen: Kitchen, folder: Path) -> Kitchen:
    """The kitchen as if only the last quarter of the layers had been fine-tuned: the others are the first ingredient's.

    The checkpoints are written to the folder; data and model stay where they are.
    """
    model = kitchen.evaluator.model
    layers = [name for name, layer in model.named_modules() if any(True for _ in layer.parameters(recurse=False))]
    trained = set(layers[int(FROZEN_PART * len(layers)) :])
    first = kitchen.ingredients[0].tensors
    for item in kitchen.ingredients:
        tensors = {
            key: (tensor if key.rpartition(".")[0] in trained else first[key]).clone()
            for key, tensor in item.tensors.items()
        }
        save_file(tensors, folder / f"{item.name.replace(os.sep, '_')}.safetensors")
    names = {name: str(folder / f"{name.replace(os.sep, '_')}.safetensors") for name in kitchen.names}
    return Kitchen.open(kitchen.spec.model_copy(update={"ingredients": names, "base": None}), kitchen.file)
