"""Mixing alone: large checkpoints made for it, against a plain read, the textbook's sum and mergekit's command."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file, save_file

from benchmarks.measuring import timed
from benchmarks.process import ingredients_of
from benchmarks.textbook import average
from soupviz.errors import RecipeError
from soupviz.mixing.averaging import mix_tensors

NUM_CHECKPOINTS = 12
NUM_LAYERS = 15
"""Of a checkpoint: square weights and a bias each; those of 1 GB are 4,096 wide."""


def make_checkpoints(folder: Path, num_bytes: int) -> list[Path]:
    """Twelve checkpoints of one shape, no two tensors of which are the same.

    Raises:
        RecipeError: the disk lacks the room.
    """
    needed = (NUM_CHECKPOINTS + 2) * num_bytes
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RecipeError(
            f"{folder}: {free / 1e9:.1f} GB are free, {needed / 1e9:.1f} GB are needed for figure mix. "
            "Set TMPDIR to a larger disk, give a smaller --mix-mb, or leave mix and mergekit out with --only."
        )
    width = max(2, int((num_bytes / 4 / NUM_LAYERS) ** 0.5))
    block = torch.rand(width, width, generator=torch.Generator().manual_seed(0))
    paths = [folder / f"large_{index:02d}.safetensors" for index in range(NUM_CHECKPOINTS)]
    for index, path in enumerate(paths):
        tensors = {f"layer_{layer}.weight": block + (index + layer / 16) for layer in range(NUM_LAYERS)}
        save_file(tensors | {f"layer_{layer}.bias": block[layer % width] + index for layer in range(NUM_LAYERS)}, path)
    os.sync()  # what is still being written to the disk would slow whoever is measured first
    return paths


def read_files(files: Sequence[Path]) -> None:
    """A plain read of whole files."""
    buffer = bytearray(2**24)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def measure(paths: Sequence[Path]) -> dict[str, float]:
    """Seconds of a plain read, of our mix and of the textbook's, all of files that lie in memory; then the peaks."""
    items = ingredients_of(paths)

    def mix_all() -> None:
        for _ in mix_tensors(items):
            pass

    read_files(paths)
    return {
        "mix_read_seconds": timed(read_files, paths)[0],
        "mix_soupviz_seconds": timed(mix_all)[0],
        "mix_textbook_seconds": timed(lambda: average([load_file(path) for path in paths]))[0],
        "mix_peak_bytes": peak_bytes("soupviz", paths),
        "mix_textbook_peak_bytes": peak_bytes("textbook", paths),
    }


def mergekit() -> str | None:
    """The command `mergekit-pytorch` of another environment: SOUPVIZ_MERGEKIT, or on the path."""
    return shutil.which(os.environ.get("SOUPVIZ_MERGEKIT", "mergekit-pytorch"))


def measure_mergekit(command: str, paths: Sequence[Path]) -> dict[str, float]:
    """Seconds of the whole process that mixes the checkpoints and writes the soup."""
    out = paths[0].parent / "mergekit"
    models = [{"model": str(path), "parameters": {"weight": 1.0}} for path in paths]
    config = paths[0].parent / "mergekit.yaml"
    config.write_text(yaml.safe_dump({"merge_method": "linear", "models": models, "dtype": "float32"}))
    seconds, _ = timed(lambda: subprocess.run([command, str(config), str(out)], check=True, capture_output=True))
    shutil.rmtree(out)
    return {"mergekit_seconds": seconds, "mergekit_soupviz_seconds": timed(in_a_process, "soupviz", paths)[0]}


def peak_bytes(kind: str, paths: Sequence[Path]) -> float:
    """Anonymous memory at the peak of a process that mixes the checkpoints and writes the soup."""
    return float(in_a_process(kind, paths, "--watch"))


def in_a_process(kind: str, paths: Sequence[Path], *options: str) -> str:
    """What a process prints that mixes the checkpoints and writes the soup.

    Args:
        kind: "textbook" sums state dicts and saves the result, "soupviz" writes while it mixes.
    """
    command = [sys.executable, "-m", "benchmarks", *options, kind, *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
