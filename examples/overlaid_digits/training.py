"""Images of two digits, one over the other, and a sweep. No digit is in two images that judge, nor in two splits."""

import random
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torchvision.transforms.v2.functional import resize

from examples.common import Order
from examples.overlaid_digits.model import build
from examples.sweeping import FineTune, base, fine_tune

SIDE, DIGIT, NOISE = 24, 16, 0.1
INK = 0.5
"""A pixel with as much of it is the digit's."""
SIZES = {"pretrain": 350, "train": 447, "held_out": 400, "test": 600}
"""Digits of 1,797."""
BATCH = 16
WEIGHTS = torch.tensor([0.3] + [1.0] * 10)
"""Of a pixel in the loss: most are the ground's."""
START = FineTune(3e-3, 150, 0)
RATES, SEEDS = (5e-4, 1e-3, 2e-3), (1, 2, 3)
FINE_TUNES = tuple(FineTune(rate, 30, seed) for rate in RATES for seed in SEEDS)

Digits = tuple[Tensor, Tensor]
"""Ink from 0 to 1, shape (n, 16, 16), and what they are, shape (n,)."""


def divided() -> dict[str, Digits]:
    """The digits, twice as large, in disjoint parts."""
    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))
    ink = resize(torch.tensor(found.images, dtype=torch.float32) / 16, [DIGIT, DIGIT]).clamp(0, 1)[order]
    parts = list(SIZES.values())
    return dict(
        zip(SIZES, zip(ink.split(parts), torch.tensor(found.target)[order].split(parts), strict=True), strict=True)
    )


def drawn(digits: Digits, chosen: tuple[int, ...], rng: random.Random) -> tuple[Tensor, Tensor]:
    """An image, uint8 (24, 24), and its mask: 0 for the ground, 1 to 10 for the digit that is uppermost."""
    image, mask = torch.zeros(SIDE, SIDE), torch.zeros(SIDE, SIDE, dtype=torch.uint8)
    for index in chosen:
        rows, columns = (
            slice(first, first + DIGIT) for first in (rng.randint(0, SIDE - DIGIT), rng.randint(0, SIDE - DIGIT))
        )
        ink, there = digits[0][index], digits[0][index] >= INK
        image[rows, columns] = torch.where(there, ink, torch.maximum(ink, image[rows, columns]))
        mask[rows, columns][there] = 1 + int(digits[1][index])
    noise = torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(rng.getrandbits(32)))
    noisy = image * 0.7 + 0.15 + NOISE * noise
    return (noisy * 255).clamp(0, 255).byte(), mask


def pairs(number: int, rng: random.Random) -> list[tuple[int, ...]]:
    """All digits by twos."""
    order = rng.sample(range(number), number)
    return [tuple(order[first : first + 2]) for first in range(0, number - 1, 2)]


def write_data(order: Order, splits: dict[str, Digits]) -> Path:
    """A folder of images and one of masks for each split that judges, each digit in one image."""
    folder = order.folder / "data"
    for name in ("held_out", "test"):
        rng = random.Random(name)
        for number, chosen in enumerate(pairs(len(splits[name][1]), rng)[: 20 if order.quick else None]):
            for kind, picture in zip(("images", "masks"), drawn(splits[name], chosen, rng), strict=True):
                file = folder / name / kind / f"{number:03}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(np.asarray(picture)).save(file)
    return folder


def epoch(model: nn.Module, optimizer: torch.optim.Optimizer, rng: random.Random, seen: Digits) -> None:
    """New images of all digits."""
    model.train()
    images = [drawn(seen, chosen, rng) for chosen in pairs(len(seen[1]), rng)]
    for first in range(0, len(images), BATCH):
        pictures, masks = (torch.stack(one) for one in zip(*images[first : first + BATCH], strict=True))
        loss = nn.functional.cross_entropy(model(pictures[:, None] / 255), masks.long(), weight=WEIGHTS)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def start() -> nn.Module:
    torch.manual_seed(0)
    return build()


def train(order: Order, splits: dict[str, Digits]) -> Path:
    """The folder of the sweep, with the runs that were not there yet."""
    folder = order.folder / "sweep"
    first = base(order, folder, START, start, partial(epoch, seen=splits["pretrain"]))
    return fine_tune(order, folder, first, FINE_TUNES, build, partial(epoch, seen=splits["train"]))
