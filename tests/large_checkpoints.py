"""A kitchen of large checkpoints in sparse files, and the anonymous memory that work on it takes at its peak.

`python tests/large_checkpoints.py FOLDER ACTION...` prints as JSON the bytes at the peak of each, and at the start.
"""

import ctypes
import gc
import json
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file, save_file

SOURCE = """
from torch import nn

class Wide(nn.Module):
    def __init__(self, width, depth, rows):
        super().__init__()
        self.table = nn.Embedding(rows, width)
        self.layers = nn.Sequential(*(nn.Linear(width, width) for _ in range(depth)))
        self.head = nn.Linear(width, 3)

    def forward(self, x):
        return self.head(self.layers(x + self.table.weight[:4].sum()))

def build(width, depth, rows=64):
    return Wide(width, depth, rows)
"""
TOUCHED = 64
"""Numbers of each tensor that are not 0, in its first row: all else is a hole of the file, and takes no disk."""


def sparse(file: Path, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype, seed: int) -> None:
    """A safetensors file in which a few numbers of each tensor are not 0."""
    header, start = {}, 0
    names = {torch.float32: "F32", torch.bfloat16: "BF16"}
    for key, shape in shapes.items():
        end = start + torch.Size(shape).numel() * dtype.itemsize
        header[key] = {"dtype": names[dtype], "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    generator = torch.Generator().manual_seed(seed)
    with file.open("wb") as opened:
        opened.write(len(text).to_bytes(8, "little") + text)
        opened.truncate(8 + len(text) + start)
        for key, shape in shapes.items():
            number = min(TOUCHED, torch.Size(shape).numel())
            values = (0.01 * torch.randn(number, generator=generator)).to(dtype)
            opened.seek(8 + len(text) + header[key]["data_offsets"][0])
            opened.write(values.view(torch.uint8).numpy().tobytes())


def as_shards(tensors: dict[str, Any], folder: Path) -> None:
    """Two shards of safetensors, and their index."""
    _divided(tensors, folder, ".safetensors", save_file)


def as_pickled_shards(tensors: dict[str, Any], folder: Path) -> None:
    """Two shards of torch.save, and their index."""
    _divided(tensors, folder, ".bin", torch.save)


def _divided(tensors: dict[str, Any], folder: Path, suffix: str, write: Callable[[dict[str, Any], Path], None]) -> None:
    folder.mkdir()
    keys = list(tensors)
    shards = {f"shard-{at}{suffix}": keys[at::2] for at in (0, 1)}
    for name, held in shards.items():
        write({key: tensors[key] for key in held}, folder / name)
    index = {"weight_map": {key: name for name, held in shards.items() for key in held}}
    (folder / f"model{suffix}.index.json").write_text(json.dumps(index))


def as_chunks(tensors: dict[str, Any], folder: Path) -> None:
    """What torch.distributed.checkpoint writes."""
    from torch.distributed.checkpoint import save

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there is one process
        save({"model": tensors}, checkpoint_id=folder, no_dist=True)


FORMS: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "sharded": as_shards, "pickled_shards": as_pickled_shards, "distributed": as_chunks,
}  # fmt: skip


def large_kitchen(
    folder: Path,
    number: int,
    width: int,
    depth: int,
    *,
    rows: int = 64,
    dtype: torch.dtype = torch.float32,
    form: str | None = None,
) -> Path:
    """A kitchen of so many ingredients and a base, each of about `(depth * width + rows) * width` numbers.

    Args:
        form: of the ingredients, one of FORMS, a folder each that takes its size of the disk; default: a sparse file.
    """
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(SOURCE)
    shapes: dict[str, tuple[int, ...]] = {"table.weight": (rows, width)}
    for layer in range(depth):
        shapes |= {f"layers.{layer}.weight": (width, width), f"layers.{layer}.bias": (width,)}
    shapes |= {"head.weight": (3, width), "head.bias": (3,)}
    for at in range(number + 1):
        sparse(folder / (f"m_{at}.safetensors" if at else "base.safetensors"), shapes, dtype, at)
    for file in folder.glob("m_*") if form else ():
        FORMS[form](load_file(file), file.with_suffix(""))
        file.unlink()
    generator = torch.Generator().manual_seed(0)
    for split in ("held_out", "test"):
        inputs = torch.randn(6, width, generator=generator)
        save_file({"inputs": inputs, "labels": torch.arange(6) % 3}, folder / f"{split}.safetensors")
    file = folder / "kitchen.yaml"
    document = {
        "model": {"factory": "model.py:build", "args": {"width": width, "depth": depth, "rows": rows}},
        "ingredients": ["m_*"], "base": "base.safetensors", "device": "cpu", "batch_size": 2,
        "data": {split: {"format": "arrays", "path": f"{split}.safetensors"} for split in ("held_out", "test")},
    }  # fmt: skip
    file.write_text(yaml.safe_dump(document))
    return file


def anonymous() -> int:
    """Bytes of this process's own memory, files that are mapped left out."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon:"))


@contextmanager
def watched(peaks: dict[str, int], name: str) -> Iterator[None]:
    """Keep the peak of what runs within."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    peaks[name] = anonymous()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.001):
            peaks[name] = max(peaks[name], anonymous())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def recipe(**values: Any) -> Callable[[Any, Path], Any]:
    import soupviz as sv

    def cook(kitchen: Any, folder: Path) -> Any:
        return sv.cook(kitchen, values)

    return cook


def exported(name: str, **options: Any) -> Callable[[Any, Path], Any]:
    import soupviz as sv

    return lambda kitchen, folder: sv.export(sv.cook(kitchen, {"method": "uniform"}), folder / name, **options)


def baked(kitchen: Any, folder: Path) -> Any:
    import soupviz as sv

    return sv.bake(folder / "whole.safetensors", folder / "baked.safetensors")


def of_weights(kitchen: Any, folder: Path) -> Any:
    from soupviz.analysis import geometry

    return geometry.gram(kitchen)


def inspected(kitchen: Any, folder: Path) -> Any:
    from soupviz.analysis import preflight

    return preflight.inspect(kitchen)


ACTIONS: dict[str, Callable[[], Callable[[Any, Path], Any]]] = {
    **{name: lambda name=name: recipe(method=name) for name in (
        "uniform", "task_arithmetic", "ties", "dare", "breadcrumbs", "model_stock", "karcher", "slerp",
    )},
    "fisher": lambda: recipe(method="fisher", examples=2),
    "regmean": lambda: recipe(method="regmean", examples=2),
    "learned": lambda: recipe(method="learned", examples=2, epochs=1),
    "learned_by_layer": lambda: recipe(method="learned", examples=2, epochs=1, per="layer"),
    "greedy": lambda: recipe(method="greedy"),
    "geometry": lambda: of_weights,
    "inspect": lambda: inspected,
    "export": lambda: exported("whole.safetensors"),
    "export_sharded": lambda: exported("soup.safetensors", shard_size="100MB"),
    "export_pt": lambda: exported("soup.pt"),
    "bake": lambda: baked,
}  # fmt: skip


def main(folder: Path, actions: list[str]) -> dict[str, int]:
    """Open the kitchen, and do each of the actions."""
    import soupviz as sv

    torch.set_num_threads(1)
    sv.Kitchen  # noqa: B018 - loads what every kitchen needs
    sv.export, sv.cook  # noqa: B018
    peaks = {"start": anonymous()}
    with watched(peaks, "open"):
        kitchen = sv.Kitchen.load(folder / "kitchen.yaml")
    for name in actions:
        act = ACTIONS[name]()
        with watched(peaks, name):
            act(kitchen, folder)
    return peaks


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]), sys.argv[2:])))
