"""The loops as the field writes them, to be timed against: a model built per soup, a DataLoader over the files."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from soupviz.data.images.transforms import Pipeline, pipeline
from soupviz.data.split import Split
from soupviz.kitchen import Kitchen
from soupviz.models import building
from soupviz.models.building import logits_of
from soupviz.scoring.precision import arithmetic_of
from soupviz.tasks.classes.class_metrics import CLOSE_LOGITS

Weights = dict[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Count:
    """Which examples are right, and which have two top logits so close that another batch size may rank them anew."""

    right: NDArray[np.bool_]
    close: NDArray[np.bool_]

    @property
    def correct(self) -> int:
        return int(self.right.sum())


class _Files(Dataset[tuple[Tensor, int]]):
    """Decodes a picture each time it is asked for."""

    def __init__(self, root: Path, split: Split, steps: Pipeline):
        self.root, self.split, self.steps = root, split, steps
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (steps.mean, steps.std))

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        with Image.open(self.root / self.split.files[index]) as image:
            pixels = torch.from_numpy(self.steps.to_uint8(image, index)).to(torch.float32) / 255
        return (pixels - self.mean) / self.std, int(self.split.labels[index])


class _Rows(Dataset[tuple[dict[str, Tensor], int]]):
    """Examples that are no image files are taken as they were read."""

    def __init__(self, split: Split):
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[dict[str, Tensor], int]:
        rows = self.split.take(torch.tensor([index]), torch.device("cpu"), is_cut=False)
        return {name: tensor[0] for name, tensor in rows.items()}, int(self.split.labels[index])


@dataclass(slots=True)
class Textbook:
    """Naive evaluation of state dicts on a kitchen's splits; every pass is counted and timed."""

    kitchen: Kitchen
    num_workers: int | None = None
    weights: dict[str, Weights] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Read every checkpoint into memory, and take the better of no and two workers unless told."""
        self.weights = {
            item.name: {key: tensor.clone() for key, tensor in item.tensors.items()}
            for item in self.kitchen.ingredients
        }
        if self.num_workers is None:
            times = {}
            for self.num_workers in (0, 2):
                self.count(self.first)
                times[self.num_workers] = self.seconds[-1]
            self.num_workers = min(times, key=times.__getitem__)

    @property
    def first(self) -> Weights:
        """Any weights, where only time matters."""
        return next(iter(self.weights.values()))

    def _examples(self, split: Split) -> Dataset[object]:
        spec = self.kitchen.spec.split_specs()[split.name]
        if spec.format != "imagefolder":
            return _Rows(split)
        steps = pipeline(spec.transform, self.kitchen.evaluator.model)
        return _Files(self.kitchen.folder / str(spec.path), split, steps)

    def count(self, weights: Weights, split_name: str = "held_out") -> Count:
        """One pass: build the model, load the weights, decode and score every example, in float32."""
        split = self.kitchen.splits.load(split_name)
        started = time.perf_counter()
        device = self.kitchen.device
        model = building.build(self.kitchen.spec.model, self.kitchen.folder).to(device)
        model.load_state_dict(weights)
        model.eval()
        loader = DataLoader(self._examples(split), self.kitchen.spec.batch_size, num_workers=self.num_workers or 0)
        right, close = [], []
        with torch.no_grad(), arithmetic_of("float32"):
            for inputs, labels in loader:
                batch = inputs if isinstance(inputs, dict) else {"": inputs}
                moved = {name: tensor.to(device) for name, tensor in batch.items()}
                logits = logits_of(model(moved[""]) if "" in moved else model(**moved)).cpu()
                top = logits.topk(2, dim=1).values
                right.append(logits.argmax(1) == labels)
                close.append(top[:, 0] - top[:, 1] < CLOSE_LOGITS)
        self.seconds.append(time.perf_counter() - started)
        return Count(torch.cat(right).numpy(), torch.cat(close).numpy())

    def score(self) -> dict[str, Count]:
        return {name: self.count(weights) for name, weights in self.weights.items()}

    def uniform(self) -> Count:
        return self.count(average(list(self.weights.values())))

    def greedy(self, alpha: str | float, singles: dict[str, Count]) -> list[tuple[str, bool, Count]]:
        """The search, every candidate scored whole: (ingredient, accepted, its count)."""
        names = list(singles)
        first, *others = sorted(names, key=lambda name: -singles[name].correct)
        chosen, soup, best = [first], self.weights[first], singles[first]
        decisions = [(first, True, best)]
        for name in others:
            if alpha == "mean":
                candidate = average([self.weights[member] for member in [*chosen, name]])
            else:
                candidate = blend(soup, self.weights[name], float(alpha))
            found = self.count(candidate)
            accepted = found.correct > best.correct
            decisions.append((name, accepted, found))
            if accepted:
                chosen, soup, best = [*chosen, name], candidate, found
        return decisions

    def curve(self, a: str, b: str, alphas: Sequence[float]) -> list[Count]:
        return [self.count(blend(self.weights[a], self.weights[b], alpha)) for alpha in alphas]


def average(state_dicts: Sequence[Weights]) -> Weights:
    """sum(state_dicts) / n; counters of batches take the largest."""
    return _each(state_dicts, lambda tensors: sum(tensors[1:], tensors[0].float()) / len(tensors))


def blend(soup: Weights, newcomer: Weights, alpha: float) -> Weights:
    """(1 - alpha) * soup + alpha * newcomer."""
    return _each([soup, newcomer], lambda pair: (1 - alpha) * pair[0].float() + alpha * pair[1].float())


def _each(state_dicts: Sequence[Weights], combine: Callable[[list[Tensor]], Tensor]) -> Weights:
    mixed = {}
    for key, first in state_dicts[0].items():
        tensors = [weights[key] for weights in state_dicts]
        is_float = first.is_floating_point()
        mixed[key] = combine(tensors).to(first.dtype) if is_float else torch.stack(tensors).amax(0)
    return mixed
