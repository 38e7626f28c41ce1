"""A soup's temperature: fitted on held_out, judged on every split, and divided into its last layer on request."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from soupviz.calibration import Bin, Calibration, fit_temperature, measure, reliability
from soupviz.errors import ExportError
from soupviz.kitchen import Kitchen
from soupviz.models import logits_of
from soupviz.paths import call
from soupviz.records import Coefficients, Progress, quiet
from soupviz.soups import Soup


@dataclass(frozen=True, slots=True)
class Scaled:
    """What temperature scaling does to a soup, by split, and the bars before and after on the split that reports."""

    temperature: float
    before: Mapping[str, Calibration]
    after: Mapping[str, Calibration]
    reported: str
    bins_before: tuple[Bin, ...]
    bins_after: tuple[Bin, ...]

    def as_dict(self) -> dict[str, Any]:
        """As plain data: the temperature, and by split the figures before and after."""
        splits = {
            split: {"before": self.before[split].as_dict(), "after": self.after[split].as_dict()}
            for split in self.before
        }
        return {"temperature": self.temperature, "splits": splits}


def calibrate(soup: Soup, progress: Progress = quiet) -> Scaled:
    """Fit a soup's temperature on held_out, and measure what it changes on held_out, test and the shifts.

    Logits are kept in the store: asked again it costs nothing.

    Raises:
        RecipeError: no temperature fits.
    """
    return scale(soup.kitchen, soup.mix, soup.recipe.treatment, progress)


def scale(kitchen: Kitchen, mixture: Coefficients, treatment: str, progress: Progress = quiet) -> Scaled:
    """The same of any mix, or ensemble."""
    splits = kitchen.report_splits()
    logits = {split: kitchen.logits(mixture, split, treatment, progress) for split in splits}
    labels = {split: kitchen.split(split).labels.numpy() for split in splits}
    temperature = fit_temperature(logits["held_out"], labels["held_out"])
    reported = "test" if "test" in splits else "held_out"
    return Scaled(
        temperature=temperature,
        before={split: measure(logits[split], labels[split]) for split in splits},
        after={split: measure(logits[split], labels[split], temperature) for split in splits},
        reported=reported,
        bins_before=tuple(reliability(logits[reported], labels[reported])),
        bins_after=tuple(reliability(logits[reported], labels[reported], temperature)),
    )


def last_linear(kitchen: Kitchen) -> str:
    """The name of the linear layer whose output is the logits.

    Raises:
        ExportError: the logits come from something else, or the layer shares its weights with another.
    """
    model = kitchen.evaluator.model
    split = kitchen.split("held_out")
    outputs: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: outputs.update({name: output}))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        with torch.inference_mode():
            logits = logits_of(call(model, split.take(torch.arange(1), kitchen.device)))
    finally:
        for hook in hooks:
            hook.remove()
    found = [name for name, output in outputs.items() if output.shape == logits.shape and torch.equal(output, logits)]
    if not found:
        raise ExportError(
            "the temperature cannot be divided into the weights: the model's logits do not come straight from a linear "
            "layer. Write the soup without it; the card names the temperature."
        )
    tied = {key for pair in kitchen.ties.items() for key in pair}
    if f"{found[-1]}.weight".lstrip(".") in tied:
        raise ExportError(
            f"the temperature cannot be divided into {found[-1]}: it shares its weights with another layer. Write the "
            "soup without it; the card names the temperature."
        )
    return found[-1]


def divided(weights: Iterable[tuple[str, Tensor]], layer: str, temperature: float) -> Iterator[tuple[str, Tensor]]:
    """The weights with a linear layer divided by the temperature, so that its logits are."""
    for key, tensor in weights:
        is_scaled = key in (f"{layer}.weight".lstrip("."), f"{layer}.bias".lstrip("."))
        yield key, (tensor.float() / temperature).to(tensor.dtype) if is_scaled else tensor
