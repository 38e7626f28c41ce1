"""A kitchen whose model pauses: a stand-in for a device, which the processor waits for without computing."""

from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

MODEL = """import time

from torch import nn


class Pausing(nn.Module):
    def __init__(self, seconds):
        super().__init__()
        self.head = nn.Linear(8, 4)
        self.seconds = seconds

    def forward(self, x):
        if len(x):  # so that no graph is traced, which would leave the pause out
            time.sleep(self.seconds)
        return self.head(x)


def build(seconds=0.02):
    return Pausing(seconds)
"""
BATCH = 32


def make(folder: Path, *, seconds: float = 0.02, ingredients: int = 12, batches: int = 64) -> Path:
    """Make the kitchen, if it is not there; its kitchen.yaml.

    Args:
        seconds: that a batch takes. batches: of held_out.
    """
    file = folder / "kitchen.yaml"
    if file.is_file():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(MODEL, encoding="utf-8")
    generator = torch.Generator().manual_seed(0)
    base = {"head.weight": torch.randn(4, 8, generator=generator), "head.bias": torch.zeros(4)}
    for number in range(ingredients):
        near = {key: value + 0.3 * torch.randn(value.shape, generator=generator) for key, value in base.items()}
        save_file(near, folder / f"m_{number:02}.safetensors")
    inputs = torch.randn(BATCH * batches, 8, generator=generator)
    labels = (inputs @ base["head.weight"].T).argmax(1)
    save_file({"inputs": inputs, "labels": labels}, folder / "held_out.safetensors")
    document = {
        "model": {"factory": "model.py:build", "args": {"seconds": seconds}},
        "ingredients": ["m_*.safetensors"],
        "data": {"held_out": {"format": "arrays", "path": "held_out.safetensors"}},
        "device": "cpu",
        "batch_size": BATCH,
    }
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return file
