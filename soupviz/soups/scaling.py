"""A soup's temperature: fitted on held_out, judged on every split, and divided into its last layer on request."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from soupviz.errors import ExportError, RecipeError
from soupviz.kitchen import Kitchen, at_precision
from soupviz.models.routes import answers_from
from soupviz.scoring.evaluator import Trial
from soupviz.soups.content import Content, scaled_keys
from soupviz.soups.soup import Soup
from soupviz.spec import HELD_OUT, TEST
from soupviz.tasks.calibration import Bin, Calibration, fit_temperature, measure, reliability
from soupviz.tasks.task import Task
from soupviz.types import Coefficients, Progress, quiet

SAME = 1e-3
"""Of the largest logit: by how much rounding may move one."""

CARD_ALONE = "Write the soup without it; the card names the temperature."


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


def no_temperature(task: Task) -> str:
    """Why a task has no temperature."""
    otherwise = "its answers say not how likely each of several would be, so there is no confidence that one mends"
    return f"The task {task.name} has no temperature, because {task.lacks.get('temperature', otherwise)}."


def no_division(task: Task) -> str:
    """Why the last layer of a task's models cannot be divided by a temperature; empty where nothing speaks against."""
    if not task.has_temperature:
        return no_temperature(task)
    reason = task.lacks.get("division")
    return (reason and f"The temperature cannot be divided into the weights, because {reason}. {CARD_ALONE}") or ""


def calibrate(soup: Soup, progress: Progress = quiet) -> Scaled:
    """Fit a soup's temperature on held_out, and measure what it changes on held_out, test and the shifts.

    Logits are kept in the store: asked again it costs nothing.

    Raises:
        RecipeError: no temperature fits, or the task has none.
    """
    return scale(soup.kitchen, soup.mix, soup.recipe.aggregation, progress)


def scale(kitchen: Kitchen, mixture: Coefficients, aggregation: str, progress: Progress = quiet) -> Scaled:
    """The same of any mix, or ensemble."""
    if not kitchen.task.has_temperature:
        raise RecipeError(no_temperature(kitchen.task))
    decided = {
        split: kitchen.task.decisions(
            kitchen.scores.logits(mixture, split, aggregation, progress), kitchen.splits.load(split).labels
        )
        for split in kitchen.splits.reporting
    }
    temperature = fit_temperature(decided[HELD_OUT])
    reported = TEST if TEST in decided else HELD_OUT
    return Scaled(
        temperature=temperature,
        before={split: measure(one) for split, one in decided.items()},
        after={split: measure(one, temperature) for split, one in decided.items()},
        reported=reported,
        bins_before=tuple(reliability(decided[reported])),
        bins_after=tuple(reliability(decided[reported], temperature)),
    )


def last_linear(kitchen: Kitchen) -> str:
    """The name of the linear layer whose output is the logits.

    Raises:
        ExportError: the logits come from something else, or the layer shares its weights with another, or what a
            temperature divides is no such layer's output.
    """
    if reason := no_division(kitchen.task):
        raise ExportError(reason)
    model = kitchen.evaluator.model
    split = kitchen.splits.load(HELD_OUT)
    outputs: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: outputs.update({name: output}))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    try:
        with kitchen.evaluator.running():
            batch = next(iter(kitchen.task.inputs(split.take(torch.arange(1), kitchen.device))))
            logits = answers_from(model, batch, kitchen.task.answers)
    finally:
        for hook in hooks:
            hook.remove()
    found = [name for name, output in outputs.items() if output.shape == logits.shape and torch.equal(output, logits)]
    if not found:
        raise ExportError(
            "the temperature cannot be divided into the weights: the model's logits do not come straight from a linear "
            f"layer. {CARD_ALONE}"
        )
    tied = {key for pair in kitchen.architecture.ties.items() for key in pair}
    if scaled_keys(tied, found[-1]):
        raise ExportError(
            f"the temperature cannot be divided into {found[-1]}: it shares its weights with another layer. "
            f"{CARD_ALONE}"
        )
    return found[-1]


def check_division(soup: Soup, layer: str, content: Content) -> None:
    """Whether the file's answers are the soup's: every one of held_out is asked of both, in float32.

    Raises:
        ExportError: the layer's weight is computed from others, is of fewer bits than float32, or an answer changes.
    """
    keys = scaled_keys(content.like, layer)
    if all(key.endswith("bias") for key in keys):
        raise ExportError(
            f"the temperature cannot be divided into {layer}: its weight is computed from others, of which none can be "
            f"divided alone. {CARD_ALONE}"
        )
    narrow = [key for key in keys if content.like[key].dtype.itemsize < 4]
    if narrow:
        kind = str(content.like[narrow[0]].dtype).removeprefix("torch.")
        raise ExportError(
            f"the temperature cannot be divided into {layer}: its weights are {kind}, and rounding them again changes "
            "answers. Write the soup as float32 (--dtype float32), or without it; the card names the temperature."
        )
    (before, logits), (after, divided) = (_answers(soup.kitchen, make) for make in (_whole(soup), content.tensors))
    finite = np.isfinite(logits)
    if not np.allclose(
        divided[finite] * content.temperature, logits[finite], rtol=0.0, atol=SAME * abs(logits[finite]).max()
    ):
        raise ExportError(
            f"the temperature cannot be divided into {layer}: the logits would not be divided by it, as the layer is "
            f"used elsewhere, or its weight is computed from others. {CARD_ALONE}"
        )
    if changed := int((before != after).any(axis=1).sum()):
        raise ExportError(
            f"the temperature cannot be divided into {layer}: {changed:,} of {len(before):,} {soup.kitchen.task.unit}s "
            f"of held_out would get another answer. {CARD_ALONE}"
        )


def _whole(soup: Soup) -> Callable[[], Iterable[tuple[str, Tensor]]]:
    return lambda: soup.kitchen.scores.mixed(soup.mix, soup.recipe.aggregation)


def _answers(
    kitchen: Kitchen, weights: Callable[[], Iterable[tuple[str, Tensor]]]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """What is chosen for every unit of held_out, and logits, computed in float32 whatever the kitchen does."""
    exact = kitchen if kitchen.spec.precision == "float32" else at_precision(kitchen, "float32")
    split = kitchen.splits.load(HELD_OUT)
    trial = Trial(weights, exact.evaluator.blank(split))
    logits = exact.evaluator.evaluate(split, trial, keep_logits=True)
    assert logits is not None  # there is no split without examples
    chosen = kitchen.task.choices(trial.found)
    assert chosen is not None  # what has a likelihood is a choice
    return chosen, logits.numpy()
