"""Whether all that a model computes on the way to its answer is a number: a detector drops boxes that are none."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def watched(model: Callable[..., Any], *, exactly: bool) -> Iterator[Callable[[], bool]]:
    """Look at what each layer gives while the model is called.

    Args:
        model: what is no module is not looked into. exactly: at every number; else at the sum of each layer's, which is
            cheap, and never a number where one of them is none, but may overflow by itself.
    Yields:
        A function that says whether all was finite so far.
    """
    seen: list[Tensor] = []

    def look(_module: nn.Module, _inputs: Any, output: Any) -> None:
        for one in _tensors(output):
            seen.append(one.isfinite().all() if exactly else one.sum(dtype=torch.float32).isfinite())

    hooks = [module.register_forward_hook(look) for module in _layers(model)]
    try:
        yield lambda: not seen or bool(torch.stack(seen).all())
    finally:
        for hook in hooks:
            hook.remove()


def _layers(model: Callable[..., Any]) -> list[nn.Module]:
    """What has matrices of its own, and is not passed on within a Sequential: what is no number there, shows behind it.

    Norms have no matrices; so most of a backbone is not looked at, and a head is.
    """
    if not isinstance(model, nn.Module):
        return []
    passed_on = {one for module in model.modules() if isinstance(module, nn.Sequential) for one in list(module)[:-1]}
    return [
        module
        for module in model.modules()
        if any(one.ndim > 1 for one in module.parameters(recurse=False))
        and module not in passed_on
        and not isinstance(module, torch.jit.ScriptModule)
    ]


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor) and output.is_floating_point():
        yield output
    elif isinstance(output, (tuple, list)):
        for one in output:
            yield from _tensors(one)
    elif isinstance(output, Mapping):
        yield from _tensors(list(output.values()))
