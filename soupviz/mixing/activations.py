"""Means and standard deviations of a network's units, measured on data."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from soupviz.models.routes import call

Batches = Callable[[], Iterable[Mapping[str, Tensor]]]
"""Gives the same batches, as the model takes them, each time it is called."""


@dataclass(slots=True)
class ActivationStatistics:
    """Mean and standard deviation of each unit, over examples and positions, summed in float64."""

    count: int = 0
    total: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))
    squares: Tensor = field(default_factory=lambda: torch.zeros(1, dtype=torch.float64))

    def add(self, values: Tensor) -> None:
        """Take in values of shape (examples and positions, units)."""
        self.count += len(values)
        self.total = self.total + values.sum(0)
        self.squares = self.squares + values.square().sum(0)

    @property
    def mean(self) -> Tensor:
        return self.total / self.count

    @property
    def std(self) -> Tensor:
        variance = self.squares / self.count - self.mean**2
        # What float32 activations cannot show is rounding: the unit is constant.
        return torch.where(variance > 1e-12 * self.mean**2, variance, 0.0).clamp(min=0.0).sqrt()


@torch.inference_mode()
def measure(network: nn.Module, layers: Iterable[str], batches: Batches) -> dict[str, ActivationStatistics]:
    """Of what each of these Linear or convolution layers gives before its activation, over the batches."""
    statistics = {name: ActivationStatistics() for name in layers}

    def watch(name: str) -> Any:
        layer: Any = network.get_submodule(name)
        dim = -1 if isinstance(layer, nn.Linear) else -len(layer.kernel_size) - 1

        def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
            statistics[name].add(output.movedim(dim, -1).flatten(0, -2).cpu().double())

        return layer.register_forward_hook(hook)

    with ExitStack() as hooks:
        for name in statistics:
            hooks.enter_context(watch(name))
        for batch in batches():
            call(network, batch)
    return statistics
