"""The demo of a regression: scikit-learn's diabetes data, ten fine-tunings of a small network."""

import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.adamw import adamw

from soupviz.demo.building import built
from soupviz.spec import HELD_OUT, TEST, TRAIN
from soupviz.types import Progress, quiet

VERSION = "diabetes-1"
SIZES = {"pretrain": 50, TRAIN: 160, HELD_OUT: 100, TEST: 132}
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
    for name, (patients, answers) in splits.items():
        if name != "pretrain":
            save_file({"inputs": patients, "labels": answers}, folder / f"{name}.safetensors")
    progress(0, total, "pre-training")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        base = DiabetesNet()
    _train(base, splits["pretrain"], Tuning(2e-3, 0.1, seed, epochs=40))
    save_file(base.state_dict(), folder / "base.safetensors", metadata={"note": "pre-trained"})
    for index, tuning in enumerate(TUNINGS):
        progress(1 + index, total, f"fine-tuning {index + 1} of {len(TUNINGS)}")
        model = copy.deepcopy(base)
        patients, answers = splits[TRAIN]
        generator = torch.Generator().manual_seed(1000 * seed + tuning.seed)
        chosen = torch.randperm(len(patients), generator=generator)[:SEEN]
        _train(model, (patients[chosen], answers[chosen]), tuning)
        values = {name: f"{value:g}" for name, value in asdict(tuning).items()}
        save_file(model.state_dict(), folder / f"diabetes_{index:02d}.safetensors", metadata=values)
    document: dict[str, Any] = {
        "name": "Demo: diabetes of 442 patients",
        "task": "regression",
        "model": {"factory": "soupviz.demo:DiabetesNet"},
        "ingredients": ["diabetes_*.safetensors"],
        "base": "base.safetensors",
        "data": {name: {"format": "arrays", "path": f"{name}.safetensors"} for name in splits if name != "pretrain"},
        "device": "cpu",
    }
    (folder / "kitchen.yaml").write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    progress(total, total, "ready")


def _splits(seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Patients in disjoint parts; measurements as scikit-learn scales them, times their number's root."""
    from sklearn.datasets import load_diabetes

    measured, answers = load_diabetes(return_X_y=True)
    order = torch.randperm(len(measured), generator=torch.Generator().manual_seed(seed))
    # Each column has length 1: made to have the standard deviation 1.
    patients = torch.tensor(measured, dtype=torch.float32)[order] * len(measured) ** 0.5
    parts = zip(
        torch.split(patients, list(SIZES.values())),
        torch.split(torch.tensor(answers, dtype=torch.float32)[order], list(SIZES.values())),
        strict=True,
    )
    return {name: (part.clone(), told.clone()) for name, (part, told) in zip(SIZES, parts, strict=True)}


def _train(model: nn.Module, data: tuple[Tensor, Tensor], tuning: Tuning, batch_size: int = 16) -> None:
    # AdamW as a function: the class imports PyTorch's compiler, which took as long as all the training.
    patients, answers = data
    generator = torch.Generator().manual_seed(tuning.seed)
    parameters: list[Tensor] = list(model.parameters())
    means, squares = ([torch.zeros_like(parameter) for parameter in parameters] for _ in range(2))
    steps = [torch.tensor(0.0) for _ in parameters]
    for _ in range(tuning.epochs):
        for batch in torch.split(torch.randperm(len(patients), generator=generator), batch_size):
            loss = F.mse_loss(model(patients[batch])[:, 0] / SPREAD, answers[batch] / SPREAD)
            gradients = list(torch.autograd.grad(loss, parameters))
            with torch.no_grad():
                adamw(
                    parameters, gradients, means, squares, [], steps, amsgrad=False, maximize=False,
                    beta1=0.9, beta2=0.999, lr=tuning.lr, weight_decay=tuning.weight_decay, eps=1e-8,
                )  # fmt: skip
