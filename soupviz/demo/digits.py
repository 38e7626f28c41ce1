"""The demo: scikit-learn's handwritten digits, twelve fine-tunings of a small network, and one run over time."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from soupviz.demo.building import (
    PRETRAIN,
    Examples,
    array_files,
    built,
    divided,
    optimise,
    pretrained,
    write_fine_tunings,
    write_kitchen,
    write_splits,
)
from soupviz.extras import needed
from soupviz.spec import HELD_OUT, TEST, TRAIN
from soupviz.types import Progress, quiet
from soupviz.weights.training import SWARecorder

VERSION = "digits-3"
PIXEL_NOISE = 0.15
WRONG_LABELS = 0.3
SIZES = {PRETRAIN: 80, TRAIN: 320, HELD_OUT: 400, TEST: 997}
SEEN = 160
"""Training images of one fine-tuning. It sees a half of its own, with wrong labels of its own: what each learned by
mistake differs, and averages out. `docs/explanation/demo.md` tells how these numbers were chosen."""

WIDTH = 64


@dataclass(frozen=True, slots=True)
class Tuning:
    """One fine-tuning: learning rate, label smoothing, standard deviation of the noise added to its pixels."""

    lr: float
    label_smoothing: float
    augmentation: float
    seed: int
    epochs: int = 16


TUNINGS = tuple(
    Tuning(lr, smoothing, noise, seed)
    for seed, (lr, smoothing, noise) in enumerate(
        [
            (1e-3, 0.0, 0.1), (2e-3, 0.1, 0.2), (2e-3, 0.0, 0.3), (2e-3, 0.0, 0.2), (3e-3, 0.1, 0.1), (3e-3, 0.1, 0.3),
            (4e-3, 0.0, 0.2), (4e-3, 0.1, 0.3), (6e-3, 0.0, 0.4), (8e-3, 0.1, 0.3), (1e-3, 0.0, 0.0), (1e-1, 0.0, 0.0),
        ]
    )
)  # fmt: skip
"""The last one's learning rate is far too high, on purpose: it spoils the plain average of all."""

RUN = Tuning(lr=8e-3, label_smoothing=0.0, augmentation=0.3, seed=len(TUNINGS), epochs=20)
"""One more, whose checkpoints over time are kept. Its learning rate is high: the weights wander about what is good."""

RECORDED_EVERY = 20
"""Steps from one checkpoint of that run to the next: two epochs."""


class DigitsNet(nn.Module):
    """Two hidden layers with LayerNorm on 8 x 8 pixels; ten logits."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(64, WIDTH), nn.LayerNorm(WIDTH), nn.GELU(),
            nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.GELU(),
        )  # fmt: skip
        self.head = nn.Linear(WIDTH, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images, shape (batch, 1, 8, 8)."""
        logits: Tensor = self.head(self.body(images))
        return logits


def demo_kitchen(folder: Path | None = None, progress: Progress = quiet) -> Path:
    """The demo's kitchen.yaml, built at the first call and then kept.

    Args:
        folder: where; default: the user's cache folder.
    """
    return built(folder, VERSION, _build, progress)


def _build(folder: Path, progress: Progress, seed: int = 0) -> None:
    """seed: of the split, the base and every run; 0 is what ships, the others check what is claimed of it."""
    total = len(TUNINGS) + 3
    progress(0, total, "preparing digits")
    splits = _splits(seed)
    images, labels = splits[TRAIN]
    splits[TRAIN] = images, _mislabelled(labels, torch.Generator().manual_seed(seed))
    write_splits(splits, folder)
    progress(1, total, "pre-training")
    first = Tuning(lr=2e-3, label_smoothing=0.0, augmentation=0.0, seed=seed, epochs=15)
    base = pretrained(DigitsNet, seed, lambda net: _train(net, splits[PRETRAIN], first), folder)
    write_fine_tunings(
        base,
        [_seeded(tuning, seed) for tuning in TUNINGS],
        lambda net, tuning: _train(net, _seen(images, labels, tuning.seed), tuning),
        "digits",
        folder,
        lambda index, what: progress(2 + index, total, what),
    )
    progress(total - 1, total, "one run over time")
    _record_run(base, splits[TRAIN], _seeded(RUN, seed), folder / "run")
    _write_kitchen(folder, "Demo: handwritten digits", "digits_*.safetensors")
    progress(total, total, "ready")


def _seeded(tuning: Tuning, seed: int) -> Tuning:
    return replace(tuning, seed=tuning.seed + 100 * seed)


def _record_run(base: nn.Module, data: Examples, run: Tuning, folder: Path) -> None:
    """A kitchen of its own, below the demo's, with the same base and data."""
    model = copy.deepcopy(base)
    recorder = SWARecorder(model, folder, every=RECORDED_EVERY)
    _train(model, data, run, after_step=lambda loss: recorder.step(loss=loss, lr=run.lr))
    recorder.finish()
    _write_kitchen(folder, "Demo: one run over time", "step_*.safetensors", above="../")


def _write_kitchen(folder: Path, name: str, ingredients: str, above: str = "") -> None:
    shifts = array_files(("rotated", "noisy"), above)
    document: dict[str, Any] = {
        "name": name,
        "model": {"factory": "soupviz.demo:DigitsNet"},
        "ingredients": [ingredients],
        "base": f"{above}base.safetensors",
        "classes": [str(digit) for digit in range(10)],
        "data": array_files((HELD_OUT, TEST, TRAIN), above) | {"shifts": shifts},
        "device": "cpu",
    }
    write_kitchen(document, folder)


def _splits(seed: int = 0) -> dict[str, Examples]:
    """Noisy digits in disjoint parts, and two shifted copies of test."""
    with needed("the demo"):
        from sklearn.datasets import load_digits
    pixels, digits = load_digits(return_X_y=True)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(pixels), generator=generator)
    images = torch.tensor(pixels, dtype=torch.float32)[order].view(-1, 1, 8, 8) / 16
    images = images + PIXEL_NOISE * torch.randn(images.shape, generator=generator)
    labels = torch.tensor(digits)[order]
    splits = divided(images, labels, SIZES)
    test, answers = splits[TEST]
    splits["rotated"] = (_rotated(test, 20.0), answers.clone())
    splits["noisy"] = (test + 0.2 * torch.randn(test.shape, generator=generator), answers.clone())
    return splits


def _rotated(images: Tensor, degrees: float) -> Tensor:
    # By PyTorch itself: to import torchvision for this one picture took longer than all the training.
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]]).expand(len(images), 2, 3)
    return F.grid_sample(images, F.affine_grid(turn, list(images.shape), align_corners=False), align_corners=False)


def _seen(images: Tensor, labels: Tensor, seed: int) -> Examples:
    """What one fine-tuning sees of the training images, and how they are labelled for it."""
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(images), generator=generator)[:SEEN]
    return images[chosen], _mislabelled(labels[chosen], generator)


def _mislabelled(labels: Tensor, generator: torch.Generator) -> Tensor:
    wrong = torch.rand(len(labels), generator=generator) < WRONG_LABELS
    return torch.where(wrong, torch.randint(0, 10, labels.shape, generator=generator), labels)


def _train(
    model: nn.Module, data: Examples, tuning: Tuning, after_step: Callable[[Tensor], object] = lambda _loss: None
) -> None:
    def loss_of(images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        noise = tuning.augmentation * torch.randn(images.shape, generator=generator)
        return F.cross_entropy(model(images + noise), labels, label_smoothing=tuning.label_smoothing)

    optimise(model, data, tuning, loss_of, batch_size=32, after_step=after_step)
