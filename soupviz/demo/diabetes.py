"""The demo of a regression: scikit-learn's diabetes data, ten fine-tunings of a small network."""

from dataclasses import dataclass
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

VERSION = "diabetes-1"
SIZES = {PRETRAIN: 50, TRAIN: 160, HELD_OUT: 100, TEST: 132}
"""Patients of 442."""

SEEN = 80
"""Patients of one fine-tuning: a half of train of its own, so that what each learns by mistake averages out."""

CENTRE, SPREAD = 152.0, 77.0
"""About the mean and the standard deviation of what is predicted: how far the disease is after a year."""


@dataclass(frozen=True, slots=True)
class Tuning:
    """One fine-tuning: learning rate, weight decay, passes over its patients."""

    lr: float
    weight_decay: float
    seed: int
    epochs: int = 15


TUNINGS = tuple(
    Tuning(lr, decay, seed)
    for seed, (lr, decay) in enumerate((lr, decay) for lr in (1e-3, 2e-3, 3e-3, 4e-3, 6e-3) for decay in (0.0, 0.1))
)


class DiabetesNet(nn.Module):
    """Two hidden layers on ten measurements of a patient; one number."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(10, 32), nn.GELU(), nn.Linear(32, 32), nn.GELU())
        self.head = nn.Linear(32, 1)

    def forward(self, patients: Tensor) -> Tensor:
        """How far the disease is, shape (batch, 1), of measurements, shape (batch, 10)."""
        return CENTRE + SPREAD * self.head(self.body(patients))  # type: ignore[no-any-return]


def diabetes_kitchen(folder: Path | None = None, progress: Progress = quiet) -> Path:
    """The demo's kitchen.yaml, built at the first call and then kept.

    Args:
        folder: where; default: the user's cache folder.
    """
    return built(folder, VERSION, _build, progress)


def _build(folder: Path, progress: Progress, seed: int = 0) -> None:
    """seed: of the split, the base and every run; 0 is what ships, the others check what is claimed of it."""
    total = len(TUNINGS) + 1
    splits = _splits(seed)
    write_splits(splits, folder)
    progress(0, total, "pre-training")
    first = Tuning(2e-3, 0.1, seed, epochs=40)
    base = pretrained(DiabetesNet, seed, lambda net: _train(net, splits[PRETRAIN], first), folder)
    write_fine_tunings(
        base,
        TUNINGS,
        lambda net, tuning: _train(net, _seen(splits[TRAIN], 1000 * seed + tuning.seed), tuning),
        "diabetes",
        folder,
        lambda index, what: progress(1 + index, total, what),
    )
    document: dict[str, Any] = {
        "name": "Demo: diabetes of 442 patients",
        "task": "regression",
        "model": {"factory": "soupviz.demo:DiabetesNet"},
        "ingredients": ["diabetes_*.safetensors"],
        "base": "base.safetensors",
        "data": array_files((TRAIN, HELD_OUT, TEST)),
        "device": "cpu",
    }
    write_kitchen(document, folder)
    progress(total, total, "ready")


def _splits(seed: int) -> dict[str, Examples]:
    """Patients in disjoint parts; measurements as scikit-learn scales them, times their number's root."""
    with needed("the demo of numbers"):
        from sklearn.datasets import load_diabetes
    measured, answers = load_diabetes(return_X_y=True)
    order = torch.randperm(len(measured), generator=torch.Generator().manual_seed(seed))
    # Each column has length 1: made to have the standard deviation 1.
    patients = torch.tensor(measured, dtype=torch.float32)[order] * len(measured) ** 0.5
    return divided(patients, torch.tensor(answers, dtype=torch.float32)[order], SIZES)


def _seen(train: Examples, seed: int) -> Examples:
    """What one fine-tuning sees."""
    patients, answers = train
    chosen = torch.randperm(len(patients), generator=torch.Generator().manual_seed(seed))[:SEEN]
    return patients[chosen], answers[chosen]


def _train(model: nn.Module, data: Examples, tuning: Tuning) -> None:
    def loss_of(patients: Tensor, answers: Tensor, _generator: torch.Generator) -> Tensor:
        return F.mse_loss(model(patients)[:, 0] / SPREAD, answers / SPREAD)

    optimise(model, data, tuning, loss_of, batch_size=16, weight_decay=tuning.weight_decay)
