"""Kitchens of the task segmentation: round and square shapes on a noisy ground, as images and masks in folders."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from kitchens import build_model, perturbed, save, write_yaml
from PIL import Image
from torch import Tensor, nn

CLASSES = ["background", "disc", "square"]
PALETTE = [0, 0, 0, 200, 40, 40, 40, 40, 200] + [128] * 759  # of fewer colours Pillow saves fewer bits
VOID = 255

CONVOLUTIONS = """
from torch import nn


class Pixels(nn.Module):
    def __init__(self, classes=3, coarse=1):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 10, 5, padding=2, stride=coarse), nn.BatchNorm2d(10), nn.ReLU(),
            nn.Conv2d(10, 10, 5, padding=2), nn.ReLU(),
        )
        self.head = nn.Conv2d(10, classes, 1)

    def forward(self, x):
        return {"out": self.head(self.features(x))}


def build(classes=3, coarse=1):
    return Pixels(classes, coarse)
"""


def drawn(random: np.random.Generator, side: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """A picture, uint8 (side, side, 3), and its mask, with a rim around each shape that is not judged."""
    rows, columns = np.mgrid[:side, :side]
    picture = random.normal(110, 28, size=(side, side, 3))
    mask = np.zeros((side, side), dtype=np.uint8)
    for kind in random.permutation([1, 2])[: random.integers(1, 3)]:
        middle, radius = random.integers(5, side - 5, 2), random.integers(3, 6)
        away = np.stack([np.abs(rows - middle[0]), np.abs(columns - middle[1])])
        far = np.hypot(*away) if kind == 1 else away.max(axis=0)
        mask[far <= radius + 1] = VOID
        mask[far <= radius] = kind
        picture[far <= radius] += (45, -20, 10) if kind == 1 else (15, 20, -35)
    return picture.clip(0, 255).astype(np.uint8), mask


def write_split(folder: Path, seed: int, number: int, side: int = 24) -> dict[str, Any]:
    """Images and masks in two folders, and the split as kitchen.yaml names it."""
    random = np.random.default_rng(seed)
    for index in range(number):
        picture, mask = drawn(random, side)
        write_pair(folder, f"{index:03}", picture, mask)
    return {"format": "masks", "path": f"{folder.name}/images", "masks": f"{folder.name}/masks"}


def write_pair(folder: Path, stem: str, picture: np.ndarray, mask: np.ndarray) -> None:
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(folder / "images" / f"{stem}.png")
    painted = Image.fromarray(mask)
    painted.putpalette(PALETTE)
    painted.save(folder / "masks" / f"{stem}.png")


def shapes_kitchen(
    folder: Path, *, num_ingredients: int = 4, number: int = 24, steps: int = 150, args: Any = None, **keys: Any
) -> Path:
    """A whole kitchen: a base that learned shapes, fine-tunes of it, held_out, test, train and a shift."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(CONVOLUTIONS.lstrip(), encoding="utf-8")
    model = build_model(CONVOLUTIONS, **(args or {}))
    splits = {name: write_split(folder / name, seed, number) for seed, name in enumerate(("held_out", "test", "train"))}
    _learn(model, np.random.default_rng(10), steps, rate=0.02)
    base = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    save(base, folder / "base.safetensors")
    for index in range(num_ingredients):
        model.load_state_dict(perturbed(base, 0.005, seed=index))
        _learn(model, np.random.default_rng(20 + index), steps // 5, rate=0.003 * (1 + index % 3))
        save(model.state_dict(), folder / f"m_{index}.safetensors")
    noisy = splits["test"] | {"transform": {"corrupt": "gaussian_noise", "severity": 1}}
    document: dict[str, Any] = {
        "name": "shapes",
        "task": "segmentation",
        "model": {"factory": "model.py:build", "args": args or {}},
        "ingredients": ["m_*.safetensors"],
        "base": "base.safetensors",
        "classes": CLASSES,
        "data": splits | {"shifts": {"noise": noisy}},
        "device": "cpu",
    }
    return write_yaml(folder, **(document | keys))


def _learn(model: nn.Module, random: np.random.Generator, steps: int, rate: float) -> None:
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for _ in range(steps):
        pairs = [drawn(random) for _ in range(8)]
        pictures = torch.from_numpy(np.stack([one for one, _ in pairs])).permute(0, 3, 1, 2).float() / 255
        masks = torch.from_numpy(np.stack([one for _, one in pairs])).long()
        optimizer.zero_grad()
        _loss(model(pictures)["out"], masks).backward()
        optimizer.step()
    model.eval()


def _loss(logits: Tensor, masks: Tensor) -> Tensor:
    larger = nn.functional.interpolate(logits, masks.shape[-2:], mode="bilinear", align_corners=False)
    return nn.functional.cross_entropy(larger, masks, ignore_index=VOID)
