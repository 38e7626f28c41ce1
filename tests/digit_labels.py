"""A multilabel kitchen of real data: scikit-learn's digits, of which four things are true or not."""

from pathlib import Path
from typing import Any

import torch
from kitchens import build_model, save, write_arrays, write_yaml
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = {
    "even": (0, 2, 4, 6, 8),
    "prime": (2, 3, 5, 7),
    "has a closed loop": (0, 6, 8, 9),
    "greater than 4": (5, 6, 7, 8, 9),
}
"""The digits of each."""

MODEL = """
from torch import nn

def build():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(), nn.Flatten(),
        nn.Linear(72, 24), nn.ReLU(), nn.Linear(24, 4),
    )
"""

SIZES = {"pretrain": 60, "train": 500, "held_out": 500, "test": 737}
"""Digits of 1,797."""

SEEN = 120
"""Digits of one fine-tuning: some of train, so that what each learns by mistake averages out."""


def multilabel_digits(folder: Path, *, num_ingredients: int = 10, seed: int = 0) -> Path:
    """A base and fine-tunes of it, a shift that is noise, and train; all in three seconds."""
    from sklearn.datasets import load_digits

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(MODEL.lstrip(), encoding="utf-8")
    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(seed))
    images = torch.tensor(found.images, dtype=torch.float32)[order, None] / 16
    digits = torch.tensor(found.target)[order]
    labels = torch.stack([torch.isin(digits, torch.tensor(own)) for own in CLASSES.values()], dim=1).long()
    parts = zip(SIZES, images.split(list(SIZES.values())), labels.split(list(SIZES.values())), strict=True)
    splits = {name: (inputs.clone(), told.clone()) for name, inputs, told in parts}
    noise = torch.randn(splits["test"][0].shape, generator=torch.Generator().manual_seed(seed + 1))
    splits["noise"] = splits["test"][0] + 0.3 * noise, splits["test"][1]
    for name, (inputs, told) in splits.items():
        write_arrays(folder / f"{name}.safetensors", inputs, told)
    model = build_model(MODEL)
    _trained(model, *splits["pretrain"], epochs=40, rate=3e-3, seed=seed)
    base = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    save(base, folder / "base.safetensors")
    for index in range(num_ingredients):
        model.load_state_dict(base)
        rate = 1e-3 * (3, 4, 6, 8, 10)[index % 5]
        chosen = torch.randperm(SIZES["train"], generator=torch.Generator().manual_seed(index))[:SEEN]
        _trained(model, *(part[chosen] for part in splits["train"]), epochs=8, rate=rate, seed=index)
        save(model.state_dict(), folder / f"digits_{index}.safetensors", {"lr": f"{rate:g}", "seed": str(index)})
    arrays: dict[str, Any] = {
        name: {"format": "arrays", "path": f"{name}.safetensors"} for name in splits if name != "pretrain"
    }
    return write_yaml(
        folder,
        name="What is true of a digit",
        task="multilabel",
        model={"factory": "model.py:build"},
        ingredients=["digits_*.safetensors"],
        base="base.safetensors",
        classes=list(CLASSES),
        data={name: arrays[name] for name in ("held_out", "test", "train")} | {"shifts": {"noise": arrays["noise"]}},
        device="cpu",
    )


def _trained(model: nn.Module, inputs: Tensor, labels: Tensor, *, epochs: int, rate: float, seed: int) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs), generator=generator).split(20):
            optimizer.zero_grad()
            F.binary_cross_entropy_with_logits(model(inputs[batch]), labels[batch].float()).backward()
            optimizer.step()
