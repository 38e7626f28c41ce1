"""A made kitchen of a timm model of real size: random weights with a fitted head, checkpoints near them, and images."""

from collections.abc import Iterator
from pathlib import Path

import timm
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

CLASSES = 100
GRID = 7
"""Of an image: so many patches of colour each way, which a class has in common, blurred into one another."""

SPREAD = 1.0
"""How far an image's patches lie from its class's, which have a standard deviation of one."""

NOISE = 0.2
"""Of a checkpoint's weights around the base's, in standard deviations of each tensor; the first one's is half of it."""

BATCH = 256


def make(folder: Path, *, model: str, images: int, size: int, ingredients: int, device: str) -> Path:
    """Make the kitchen, if it is not there; its kitchen.yaml.

    Args:
        device: that makes it.
    """
    file = folder / "kitchen.yaml"
    if file.is_file():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    arguments = {"num_classes": CLASSES}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        base = timm.create_model(model, **arguments).eval().requires_grad_(False).to(device)
    random = torch.Generator(device).manual_seed(0)
    patches = torch.randn(CLASSES, 3, GRID, GRID, generator=random, device=device)
    for split in ("train", "held_out", "test"):
        labels = torch.randint(CLASSES, (images,), generator=random, device=device)
        inputs = torch.cat(list(_images(patches, labels, size, random)))
        if split == "train":
            _fit_head(base, inputs, labels)
        else:
            save_file({"inputs": inputs, "labels": labels.cpu()}, folder / f"{split}.safetensors")
    for number in range(ingredients):
        noise = NOISE * (1 + number / ingredients) / 2
        near = {key: _near(tensor, noise, random) for key, tensor in base.state_dict().items()}
        save_file(near, folder / f"m_{number:02}.safetensors")
    document = {
        "name": f"{ingredients} {model}, {images:,} images",
        "model": {"factory": f"timm:{model}", "args": arguments},
        "ingredients": ["m_*.safetensors"],
        "data": {split: {"format": "arrays", "path": f"{split}.safetensors"} for split in ("held_out", "test")},
    }
    file.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return file


def _images(patches: Tensor, labels: Tensor, size: int, random: torch.Generator) -> Iterator[Tensor]:
    """Images of some classes, as a batch each in half precision, on the CPU."""
    for part in labels.split(BATCH):
        of_each = patches[part]
        of_each += SPREAD * torch.randn(of_each.shape, generator=random, device=random.device)
        yield F.interpolate(of_each, size=(size, size), mode="bilinear").half().cpu()


def _fit_head(model: nn.Module, inputs: Tensor, labels: Tensor) -> None:
    """Let the last layer tell the classes apart as well as the features before it allow: ridge regression."""
    features = torch.cat([_features(model, batch.to(labels.device)) for batch in inputs.split(BATCH)]).double()
    features = F.pad(features, (0, 1), value=1.0)
    wanted = F.one_hot(labels, CLASSES).double() - 1 / CLASSES
    products = features.T @ features
    ridge = 1e-2 * products.diagonal().mean() * torch.eye(len(products), device=products.device, dtype=products.dtype)
    found = torch.linalg.solve(products + ridge, features.T @ wanted).T.float()
    head = model.get_classifier()  # type: ignore[operator]
    head.weight.copy_(found[:, :-1])
    head.bias.copy_(found[:, -1])


def _features(model: nn.Module, batch: Tensor) -> Tensor:
    found = model.forward_features(batch.float())  # type: ignore[operator]
    return model.forward_head(found, pre_logits=True)  # type: ignore[operator, no-any-return]


def _near(tensor: Tensor, noise: float, random: torch.Generator) -> Tensor:
    """Weights near others; what has no spread, and what is not a matrix or a kernel, stays."""
    if tensor.ndim < 2 or not tensor.is_floating_point():
        return tensor.cpu()
    return (tensor + noise * tensor.std() * torch.randn(tensor.shape, generator=random, device=tensor.device)).cpu()
