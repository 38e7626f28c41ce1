"""The ways through the model: its own code, its graph with BatchNorm folded, or only what lies behind a cut."""

from collections.abc import Callable, Mapping, Set
from typing import Any

import torch
from torch import Tensor, nn

from soupviz.errors import ModelError, told
from soupviz.models import graph
from soupviz.models.building import logits_of, tensor_of
from soupviz.models.frames import lengths_of
from soupviz.models.usercode import guarded

AGREES = 1e-3
"""How far the graph's logits may lie from the model's, as a share of the largest; rounding is about 1e-6."""

WHOLE = "every soup runs through the whole model: scores are right, only slower than where soups can share layers"
"""What it means for a user that there is no graph to cut."""

AT_CUT = "boundary_"
"""Before the number of an activation at a cut, as graphs name them."""


Answer = Callable[[Callable[..., Any], Mapping[str, Any]], Tensor]
"""Calls a model with a batch, and finds what it says of each example, a row for each, in what it returns."""


def call(module: Callable[..., Any], batch: Mapping[str, Any]) -> Any:
    """Call a model with one tensor (under the name ""), or with named ones; some models take lists of tensors.

    Raises:
        RuntimeError: memory ran out, where a smaller batch may go.
        ModelError: whatever else the model's own code raises.
    """
    with guarded(lambda told: ModelError(f"the model fails on its examples with {told}"), RuntimeError):
        try:
            return module(batch[""]) if "" in batch else module(**batch)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise ModelError(f"the model fails on its examples with {told(error)}") from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch, or another device, may go where this one did not."""
    lacks = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in told(error)
    return lacks or (error.__cause__ is not None and is_out_of_memory(error.__cause__))


def answers_from(
    module: Callable[..., Any], batch: Mapping[str, Any], read: Callable[[Any], Tensor] = logits_of
) -> Tensor:
    """What a model says of a batch, a row for each example; of a classifier its logits, shape (batch, classes).

    Args:
        read: finds it in what the model returns.
    Raises:
        RuntimeError, ModelError: as of `call`; the latter also where there is not one row for each example.
    """
    output = call(module, batch)
    with guarded(lambda told: ModelError(f"what the model returns cannot be read: {told}")):
        found = read(output)
    number = len(next(iter(batch.values())))
    if len(found) != number:
        raise ModelError(
            f"the model returned logits of {len(found)} examples for a batch of {number}; expected one row for each."
        )
    return found


class Routes:
    """The faster ways are taken only after they were seen to give what the model's own code gives."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.note = "not run since it was opened"
        self.is_inspected = False
        self._shared: frozenset[str] = frozenset()
        self._traced: graph.Traced | None = None
        self._cut: graph.Cut | None = None

    def share(self, keys: Set[str]) -> None:
        """Say which entries of the state dict are the same in every soup that will be called shared."""
        self._shared = frozenset(keys)
        self.is_inspected = False

    def weights_changed(self) -> None:
        """To be called after weights were loaded: what is derived from them is computed anew."""
        for fold in self._traced.folds if self._traced else ():
            fold.update()

    def inspect(self, example: Callable[[int], Mapping[str, Tensor]]) -> None:
        """Trace the model, compare the graph with it on a few examples, and look for a cut.

        Args:
            example: the first so many examples, as the model takes them.
        """
        self.is_inspected = True
        self._traced = self._cut = None
        found = graph.trace(self.model)
        if isinstance(found, str):
            self.take_none(f"Its code cannot be traced: {found}")
            return
        try:
            with guarded(ModelError), torch.inference_mode():
                self._compare(found, example)
        except ModelError as error:  # what the graph raises; where the model itself does not work, scoring says so
            self.take_none(f"Its graph does not run: {error}")

    def _compare(self, found: graph.Traced, example: Callable[[int], Mapping[str, Tensor]]) -> None:
        for fold in found.folds:
            fold.update()
        if not _agree(call(found.module, example(3)), call(self.model, example(3))):
            self.note = f"{WHOLE}. Its traced graph differs from the model"
            return
        self._traced = found
        layers = "1 BatchNorm layer is" if len(found.folds) == 1 else f"{len(found.folds)} BatchNorm layers are"
        self.note = f"{layers} folded into convolutions" if found.folds else "traced"
        if not self._shared:
            self.note += "; no weights are the same in all ingredients"
            return
        self._cut = graph.cut(found, self._shared, example)
        if self._cut is None:
            self.note += "; the first layers differ, so nothing is shared by all soups"
        elif not _agree(self._cut.suffix(*call(self._cut.prefix, example(3))), call(self.model, example(3))):
            self.forget_cut("the graph in two parts differs from the model")
        else:
            self.note += (
                f"; {self._cut.num_layers} of {self._cut.num_all} layers are the same in all ingredients: "
                "their activations are computed once"
            )

    def take_none(self, reason: str) -> None:
        """Every soup runs through the model's own code."""
        self.is_inspected = True
        self._traced = self._cut = None
        self.note = f"{WHOLE}. {reason}"

    def forget_cut(self, reason: str) -> None:
        self._cut = None
        self.note += f"; no cut: {reason}"

    @property
    def has_cut(self) -> bool:
        return self._cut is not None

    def before(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The activations at the cut, as `after` takes them."""
        assert self._cut is not None
        values: tuple[Tensor, ...] = call(self._cut.prefix, batch)
        return {f"{AT_CUT}{index}": value for index, value in enumerate(values)}

    def after(self, **batch: Tensor) -> Any:
        """What the model returns, from the activations at the cut; what else is in the batch is left alone."""
        assert self._cut is not None
        return self._cut.suffix(**{name: value for name, value in batch.items() if name.startswith(AT_CUT)})

    @property
    def whole(self) -> Callable[..., Any]:
        """The fastest way through the whole model."""
        return self._traced.module if self._traced else self.model


def _agree(output: Any, expected: Any) -> bool:
    """Whether two outputs are the same up to rounding, with as many frames where they tell of frames."""
    frames, wanted = lengths_of(output), lengths_of(expected)
    is_same = frames is wanted if frames is None or wanted is None else torch.equal(frames, wanted)
    if not is_same:
        return False
    one, other = tensor_of(output), tensor_of(expected)
    finite = torch.isfinite(other)
    if not torch.equal(torch.isfinite(one), finite):
        return False
    return not finite.any() or bool((one - other)[finite].abs().max() <= AGREES * other[finite].abs().max())
