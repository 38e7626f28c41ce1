"""Which units of a model may change places, read off its graph, and a checkpoint with its units in another order."""

import inspect
from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx, nn

from soupviz.errors import CompatibilityError
from soupviz.models.graph import NotesShapes, symbolic_graph
from soupviz.models.routes import call
from soupviz.models.units import layout_of
from soupviz.models.wiring import Axis, PermutationSpec, Wiring


def permutation_spec(model: nn.Module, example: Mapping[str, Tensor] | Tensor) -> PermutationSpec:
    """Follow every layer's units through the model's graph.

    Units that meet the input or the output, as in a residual connection from either, keep their order.

    Args:
        example: one batch as the model takes it, by argument name, under "", or as it is; two examples or more,
            so that no dimension is taken for another.
    Raises:
        CompatibilityError: the graph cannot be traced, does with units what is not followed, or has none to permute.
    Source:
        Ainsworth et al. 2022, section 3 and appendix A.4. Differs: theirs is written by hand for each architecture.
    """
    traced = traced_graph(model)
    wiring = Wiring(model, _shapes(traced, {"": example} if isinstance(example, Tensor) else example))
    for node in traced.graph.nodes:
        wiring.layouts[node] = layout_of(wiring, node, traced)
    return wiring.spec()


def permute(tensors: Mapping[str, Tensor], spec: PermutationSpec, permutations: Mapping[str, Tensor]) -> "Permuted":
    """The checkpoint with its units in another order: unit i of a group is what was its unit permutation[i].

    Args:
        permutations: for each group of the specification, its units' numbers in their new order.
    Returns:
        New tensors, each made when it is asked for; nothing in `tensors` is changed.
    Raises:
        CompatibilityError: a group without permutation, or one that is not a permutation of its units.
    """
    for group, size in spec.sizes.items():
        if group not in permutations or permutations[group].sort().values.tolist() != list(range(size)):
            raise CompatibilityError(
                f"group {group!r} has {size} units; expected a permutation of 0 to {size - 1} for it, such as "
                "match_weights gives."
            )
    return Permuted(tensors, spec, permutations)


class Permuted(Mapping[str, Tensor]):
    """A checkpoint in another order of units, of which only the permutations are held: many fit into memory at once."""

    def __init__(self, tensors: Mapping[str, Tensor], spec: PermutationSpec, permutations: Mapping[str, Tensor]):
        self._tensors = tensors
        self._axes = spec.axes
        self._permutations = permutations

    def __getitem__(self, key: str) -> Tensor:
        tensor = self._tensors[key]
        return permute_tensor(tensor, self._axes[key], self._permutations) if key in self._axes else tensor.clone()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def permute_tensor(tensor: Tensor, axes: Mapping[int, Axis], permutations: Mapping[str, Tensor]) -> Tensor:
    """One tensor with these of its dimensions in the groups' new orders."""
    for dim, axis in axes.items():
        rows = permutations[axis.group][:, None] * axis.block + torch.arange(axis.block)
        tensor = tensor.index_select(dim, rows.flatten())
    return tensor


def traced_graph(model: nn.Module) -> fx.GraphModule:
    """The graph of a copy of the model in evaluation mode.

    Raises:
        CompatibilityError: the model's code cannot be traced.
    """

    def refusal(told: str) -> CompatibilityError:
        return CompatibilityError(
            "the model cannot be aligned: its graph, off which the order of units is read, cannot be traced "
            f"({told}). Mix without alignment."
        )

    return symbolic_graph(deepcopy(model).eval(), refusal)


@torch.inference_mode()
def _shapes(traced: fx.GraphModule, batch: Mapping[str, Tensor]) -> dict[fx.Node, tuple[int, ...] | None]:
    interpreter = NotesShapes(traced)

    def run(*args: Any, **kwargs: Any) -> None:
        bound = inspect.signature(traced.forward).bind(*args, **kwargs)
        bound.apply_defaults()
        interpreter.run(*bound.args)

    call(run, batch)
    return interpreter.shapes
