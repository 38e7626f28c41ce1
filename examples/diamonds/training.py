"""The diamonds that plotnine ships, divided once, and a sweep that begins with a net that few of them trained."""

import csv
import random
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from examples.common import Order
from examples.diamonds.model import build
from examples.sweeping import FineTune, base, fine_tune

SIDES = ("x", "y", "z")
MEASURED = ("carat", "depth", "table", *SIDES)
GRADES = {
    "cut": ("Fair", "Good", "Very Good", "Premium", "Ideal"),
    "color": tuple("DEFGHIJ"),
    "clarity": ("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"),
}
SIZES = {"pretrain": 1000, "train": 4000, "held_out": 5000, "test": 10_000}
QUICK = {"pretrain": 100, "train": 200, "held_out": 200, "test": 300}
BATCH = 64
START = FineTune(2e-3, 20, 0)
RATES, SEEDS = (5e-4, 1e-3, 2e-3), (1, 2, 3, 4)
FINE_TUNES = tuple(FineTune(rate, 20, seed) for rate in RATES for seed in SEEDS)

Diamonds = tuple[Tensor, Tensor]
"""Measurements, shape (n, 26), and the logarithms of the prices in dollars, shape (n, 1)."""


def read() -> list[dict[str, str]]:
    """Each diamond once, in a random order; the table has some twice, and some with sides of 0 or more than 20 mm."""
    spec = find_spec("plotnine")
    assert spec is not None and spec.submodule_search_locations
    file = Path(spec.submodule_search_locations[0]) / "data" / "diamonds.csv"
    with file.open(newline="", encoding="utf-8") as opened:
        rows = list({tuple(row.values()): row for row in csv.DictReader(opened)}.values())
    random.Random(0).shuffle(rows)
    return [row for row in rows if all(0 < float(row[side]) < 20 for side in SIDES)]


def divided(quick: bool) -> dict[str, Diamonds]:
    """The splits, measured in standard deviations of train."""
    rows, sizes = read(), QUICK if quick else SIZES
    rows = rows[: sum(sizes.values())]
    numbers = torch.tensor([[float(row[name]) for name in MEASURED] for row in rows])
    grades = [[float(row[name] == value) for name, values in GRADES.items() for value in values] for row in rows]
    prices = torch.tensor([[float(row["price"])] for row in rows]).log()
    seen = numbers[sizes["pretrain"] :][: sizes["train"]]
    inputs = torch.cat([(numbers - seen.mean(0)) / seen.std(0), torch.tensor(grades)], 1)
    parts = zip(inputs.split(list(sizes.values())), prices.split(list(sizes.values())), strict=True)
    return dict(zip(sizes, parts, strict=True))


def write_data(order: Order, splits: dict[str, Diamonds]) -> Path:
    """A file for each split that judges."""
    folder = order.folder / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("held_out", "test"):
        inputs, labels = splits[name]
        save_file({"inputs": inputs.contiguous(), "labels": labels.contiguous()}, folder / f"{name}.safetensors")
    return folder


def epoch(model: nn.Module, optimizer: torch.optim.Optimizer, rng: random.Random, seen: Diamonds) -> None:
    inputs, prices = seen
    order = torch.tensor(rng.sample(range(len(inputs)), len(inputs)))
    for chosen in order.split(BATCH):
        loss = nn.functional.mse_loss(model(inputs[chosen]), prices[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def start() -> nn.Module:
    """Prices lie about their mean from the first step on."""
    torch.manual_seed(0)
    model = build()
    assert isinstance(model, nn.Sequential)
    nn.init.constant_(model[-1].bias, 8.0)
    return model


def train(order: Order, splits: dict[str, Diamonds]) -> Path:
    """The folder of the sweep, with the runs that were not there yet."""
    folder = order.folder / "sweep"
    first = base(order, folder, START, start, partial(epoch, seen=splits["pretrain"]))
    return fine_tune(order, folder, first, FINE_TUNES, build, partial(epoch, seen=splits["train"]))
