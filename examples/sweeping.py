"""Sweeps of fine-tunes that all start from one file, and the kitchens of them."""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

import soupviz as sv
from examples.common import COMPARED, Order, compare, found_in, missing_runs, save, say, table, tell, write_kitchen


@dataclass(frozen=True, slots=True)
class FineTune:
    """How one was made; its learning rate falls to 0 along a line, epoch by epoch."""

    learning_rate: float
    epochs: int
    seed: int

    @property
    def file(self) -> str:
        return f"lr{self.learning_rate:g}-{self.epochs}-epochs-seed{self.seed}.safetensors"

    def run(self, model: nn.Module, parameters: Iterable[nn.Parameter], epoch: Callable[..., Any], quick: bool) -> None:
        """Train a model. epoch: what does one, given an optimizer and a random.Random."""
        optimizer = torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=0.01)
        rng, epochs = random.Random(self.seed), 1 if quick else self.epochs
        torch.manual_seed(self.seed)
        for done in range(epochs):
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate * (1 - done / epochs)
            epoch(model, optimizer, rng)


def fine_tune(
    order: Order,
    folder: Path,
    start: Path,
    runs: Sequence[FineTune],
    build: Callable[[], nn.Module],
    epoch: Callable[..., Any],
    trainable: Callable[[Any], Iterable[nn.Parameter]] = nn.Module.parameters,
) -> Path:
    """The folder, with those of the runs that were not there yet. start: the file that all begin with."""
    by_file = {one.file: one for one in runs}
    for name in missing_runs(folder, list(by_file)[: 2 if order.quick else None]):
        model = build()
        model.load_state_dict(load_file(start))
        by_file[name].run(model, trainable(model), epoch, order.quick)
        save(model.state_dict(), folder / name, **asdict(by_file[name]))
        say(f"trained {name}")
    return folder


def base(order: Order, folder: Path, run: FineTune, start: Callable[[], nn.Module], epoch: Callable[..., Any]) -> Path:
    """The file that a sweep begins with, trained once. start: what makes the model that is trained for it."""
    for name in missing_runs(folder, ["base.safetensors"]):
        model = start()
        run.run(model, [one for one in model.parameters() if one.requires_grad], epoch, order.quick)
        save(model.state_dict(), folder / name, **asdict(run))
    return folder / "base.safetensors"


def judged(order: Order, name: str, folder: Path, document: Mapping[str, Any]) -> None:
    """Cook the soups of a sweep, hold them against its best checkpoint, and tell it. name: of the example."""
    told = {**document, "ingredients": ["lr*.safetensors"], "base": "base.safetensors"}
    kitchen = sv.Kitchen.load(write_kitchen(folder, told))
    rows = compare(kitchen, COMPARED)
    tell(order, name, table(kitchen, rows), {"sweep": found_in(kitchen, rows)})
