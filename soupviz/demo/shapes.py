"""The demo of detection: pictures of shapes that are made up, found by a tiny detector, eight fine-tunings of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from soupviz.demo.building import PRETRAIN, Examples, built, optimise, pretrained, write_fine_tunings, write_kitchen
from soupviz.extras import needed
from soupviz.spec import HELD_OUT, TEST, TRAIN
from soupviz.types import Progress, quiet

VERSION = "shapes-1"
NAMES = ("disc", "square", "cross")
SIZES = {PRETRAIN: 128, TRAIN: 160, HELD_OUT: 100, TEST: 200}
"""Pictures."""

SIDES = ((48, 64), (64, 56))
"""Height and width in turn; those that are trained on are all of the first."""

STEP = 4
"""Pixels of a cell of the map in which shapes are looked for."""

NOISE = 16.0
WRONG_NAMES = 0.15
"""Of train, so that what each fine-tuning learns by mistake averages out."""

SEEN = 80
BATCH = 16
MOST = 30
WIDTH = 24

Scene = tuple[NDArray[np.uint8], NDArray[np.float64]]
"""A picture, shape (height, width, 3), and its shapes: rows of x1, y1, x2, y2 and the place in NAMES."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """One fine-tuning: learning rate, weight decay, passes over its pictures."""

    lr: float
    weight_decay: float
    seed: int
    epochs: int = 10


TUNINGS = tuple(
    Tuning(lr, decay, seed)
    for seed, (lr, decay) in enumerate((lr, decay) for lr in (1e-3, 2e-3, 3e-3, 4e-3) for decay in (0.0, 0.1))
)


class ShapesNet(nn.Module):
    """Three convolutions, then for each cell how likely a shape of each name is centred there, and how large it is."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, WIDTH, 5, stride=2, padding=2), nn.BatchNorm2d(WIDTH), nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, stride=2, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU(),
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Conv2d(WIDTH, len(NAMES) + 4, 3, padding=1)

    def maps(self, images: Tensor) -> Tensor:
        """Logits of each name, then where in its cell a centre is, then width and height in cells."""
        found: Tensor = self.head(self.body(images - 0.5))
        return found

    def forward(self, images: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Of each image, shape (3, height, width), the MOST surest boxes; classes count from 1."""
        return [self._boxes(self.maps(image[None])[0]) for image in images]

    def _boxes(self, maps: Tensor) -> dict[str, Tensor]:
        heat = maps[: len(NAMES)].sigmoid()
        peaks = heat * (F.max_pool2d(heat[None], 3, 1, 1)[0] == heat)
        scores, places = peaks.flatten().topk(min(MOST, peaks.numel()))
        cells = heat.shape[1] * heat.shape[2]
        label, cell = places // cells, places % cells
        told = maps[len(NAMES) :].flatten(1)[:, cell]
        offset, size = told[:2], told[2:]
        corner = torch.stack([cell % heat.shape[2], cell // heat.shape[2]]) + offset
        half = size.clamp(min=0.1) / 2
        boxes = STEP * torch.cat([corner - half, corner + half]).T
        return {"boxes": boxes, "scores": scores, "labels": label + 1}


def shapes_kitchen(folder: Path | None = None, progress: Progress = quiet) -> Path:
    """The demo's kitchen.yaml, built at the first call and then kept.

    Args:
        folder: where; default: the user's cache folder.
    """
    return built(folder, VERSION, _build, progress)


def _build(folder: Path, progress: Progress, seed: int = 0) -> None:
    """seed: of the pictures, the base and every run; 0 is what ships, the others check what is claimed of it."""
    total = len(TUNINGS) + 2
    progress(0, total, "drawing shapes")
    made = {name: _scenes(name, number, 1000 * seed + place) for place, (name, number) in enumerate(SIZES.items())}
    for name in (TRAIN, HELD_OUT, TEST):
        _write(made[name], name, folder)
    progress(1, total, "pre-training")
    first = Tuning(1e-2, 0.1, seed, epochs=45)
    base = pretrained(ShapesNet, seed, lambda net: _train(net, _answers(made[PRETRAIN]), first), folder)
    write_fine_tunings(
        base,
        TUNINGS,
        lambda net, tuning: _train(net, _seen(made[TRAIN], 1000 * seed + tuning.seed), tuning),
        "shapes",
        folder,
        lambda index, what: progress(2 + index, total, what),
    )
    document: dict[str, Any] = {
        "name": "Demo: shapes that are made up",
        "task": "detection",
        "model": {"factory": "soupviz.demo:ShapesNet"},
        "ingredients": ["shapes_*.safetensors"],
        "base": "base.safetensors",
        "data": {
            name: {"format": "coco", "path": name, "annotations": f"{name}.json"} for name in (TRAIN, HELD_OUT, TEST)
        },
        "device": "cpu",
    }
    write_kitchen(document, folder)
    progress(total, total, "ready")


def _scenes(name: str, number: int, seed: int) -> list[Scene]:
    random = np.random.default_rng(seed)
    sides = SIDES[:1] if name in (PRETRAIN, TRAIN) else SIDES
    return [_scene(random, *sides[index % len(sides)]) for index in range(number)]


def _scene(random: np.random.Generator, height: int, width: int) -> Scene:
    """Up to six shapes that do not touch, each in a colour of its own on a background of its own."""
    picture = random.normal(random.uniform(60, 150), NOISE, (height, width, 3))
    rows: list[list[float]] = []
    for _ in range(random.integers(0, 7)):
        wide, high = random.integers(7, 19, 2)
        x, y = random.integers(0, width - wide), random.integers(0, height - high)
        if any(x < b[2] + 1 and b[0] < x + wide + 1 and y < b[3] + 1 and b[1] < y + high + 1 for b in rows):
            continue
        label = int(random.integers(len(NAMES)))
        color = random.uniform(35, 85, 3) * random.choice([-1, 1])
        picture[y : y + high, x : x + wide][_inside(label, wide, high)] += color
        rows.append([x, y, x + wide, y + high, label])
    return picture.clip(0, 255).astype(np.uint8), np.array(rows).reshape(-1, 5)


def _inside(label: int, wide: int, high: int) -> NDArray[np.bool_]:
    """Which pixels of its box belong to a shape."""
    y, x = np.mgrid[0:high, 0:wide]
    across, down = np.abs(2 * x + 1 - wide) / wide, np.abs(2 * y + 1 - high) / high
    found = {"disc": across**2 + down**2 <= 1, "square": across <= 1, "cross": (across < 0.4) | (down < 0.4)}
    return np.asarray(found[NAMES[label]])


def _write(made: Sequence[Scene], name: str, folder: Path) -> None:
    """A split as COCO has it."""
    with needed("the demo of boxes"):
        from PIL import Image
    (folder / name).mkdir()
    files = [f"{index:03d}.png" for index in range(len(made))]
    for file, (picture, _) in zip(files, made, strict=True):
        Image.fromarray(picture).save(folder / name / file)
    rows = [(image, row) for image, (_, of) in enumerate(made) for row in of.tolist()]
    told = {
        "images": [{"id": index, "file_name": file} for index, file in enumerate(files)],
        "annotations": [
            {"id": number, "image_id": image, "category_id": int(label) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            for number, (image, (x1, y1, x2, y2, label)) in enumerate(rows, 1)
        ],
        "categories": [{"id": place, "name": one} for place, one in enumerate(NAMES, 1)],
    }
    (folder / f"{name}.json").write_text(json.dumps(told), encoding="utf-8")


def _answers(made: Sequence[Scene]) -> Examples:
    """Pictures as the model takes them, and what its maps should say: nan where nothing is asked."""
    pictures = torch.stack([torch.from_numpy(picture) for picture, _ in made]).permute(0, 3, 1, 2).float() / 255
    maps = torch.full((len(made), len(NAMES) + 4, pictures.shape[2] // STEP, pictures.shape[3] // STEP), torch.nan)
    maps[:, : len(NAMES)] = 0.0
    for index, (_, rows) in enumerate(made):
        for x1, y1, x2, y2, label in rows.tolist():
            x, y = (x1 + x2) / 2 / STEP, (y1 + y2) / 2 / STEP
            column, row = min(int(x), maps.shape[3] - 1), min(int(y), maps.shape[2] - 1)
            maps[index, int(label), row, column] = 1.0
            told = [x - column, y - row, (x2 - x1) / STEP, (y2 - y1) / STEP]
            maps[index, len(NAMES) :, row, column] = torch.tensor(told)
    return pictures.contiguous(), maps


def _seen(train: Sequence[Scene], seed: int) -> Examples:
    """What one fine-tuning sees: a half of train of its own, some shapes called by a wrong name."""
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(train))[:SEEN]
    named = []
    for picture, rows in (train[index] for index in chosen.tolist()):
        wrong = rows.copy()
        changed = random.random(len(rows)) < WRONG_NAMES
        wrong[changed, 4] = random.integers(0, len(NAMES), int(changed.sum()))
        named.append((picture, wrong))
    return _answers(named)


def _train(model: ShapesNet, data: Examples, tuning: Tuning) -> None:
    def loss_of(pictures: Tensor, answers: Tensor, _generator: torch.Generator) -> Tensor:
        maps, names = model.maps(pictures), len(NAMES)
        goal, chance = answers[:, :names], maps[:, :names].sigmoid().detach()
        weight = torch.where(goal > 0, 4.0 * (1 - chance) ** 2, chance**2)  # easy cells count little
        heat = F.binary_cross_entropy_with_logits(maps[:, :names], goal, weight=weight, reduction="sum")
        asked = answers[:, names:].isfinite()
        size = F.smooth_l1_loss(maps[:, names:][asked], answers[:, names:][asked], reduction="sum")
        return (heat + 0.5 * size) / len(pictures)

    model.train()
    optimise(model, data, tuning, loss_of, batch_size=BATCH, weight_decay=tuning.weight_decay)
    model.eval()
