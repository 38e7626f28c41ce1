"""A model called with weights that are not its own; nothing of the model is changed."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.func import functional_call

from soupviz.models.building import tied_keys
from soupviz.models.routes import Answer, answers_from, call


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within it the model is in evaluation mode; after it every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        model.eval()
        yield
    finally:
        for module, was_training in modes:
            module.training = was_training


def call_with(model: nn.Module, weights: Mapping[str, Tensor], batch: Mapping[str, Any]) -> Any:
    """What the model returns for a batch with these parameters and buffers in place of its own."""

    return call(_standing_in(model, weights), batch)


def _standing_in(model: nn.Module, weights: Mapping[str, Tensor]) -> Callable[..., Any]:
    def stand_in(*arguments: Tensor, **named: Tensor) -> Any:
        return functional_call(model, dict(weights), arguments, named)

    return stand_in


def logits_with(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    batch: Mapping[str, Any],
    answer: Answer = answers_from,
) -> Tensor:
    """The logits for a batch, shape (batch, classes), with these parameters and buffers in place of the model's own.

    Args:
        answer: calls the model for other answers than logits.
    """
    return answer(_standing_in(model, weights), batch)


def placed(model: nn.Module, tensors: Iterable[tuple[str, Tensor]]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights as the model holds them: on its device, in its dtypes, a tied tensor once, under its first name.

    Returns:
        (parameters that can have a gradient, all else). The former may share memory with what was given.
    """
    slots, ties = model.state_dict(keep_vars=True), tied_keys(model)
    parameters: dict[str, Tensor] = {}
    others: dict[str, Tensor] = {}
    for key, tensor in tensors:
        if key in ties:
            continue
        slot = slots[key]
        if isinstance(slot, nn.Parameter) and slot.is_floating_point():
            parameters[key] = tensor.detach().to(slot.device, slot.dtype)
        else:  # a model may write into its buffers
            others[key] = tensor.detach().to(slot.device, slot.dtype, copy=True)
    return parameters, others
