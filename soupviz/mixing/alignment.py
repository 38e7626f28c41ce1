"""Checkpoints from other seeds: units permuted to match a reference's, and a mix whose activations are repaired."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import permutations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from soupviz.errors import CompatibilityError, DataError
from soupviz.mixing.activations import Batches, measure
from soupviz.mixing.permuting import Permuted, permutation_spec, permute, permute_tensor, traced_graph
from soupviz.models.architecture import RUNNING_STATISTICS
from soupviz.models.building import tensor_of, tied_keys
from soupviz.models.graph import CONVOLUTIONS
from soupviz.models.routes import answers_from
from soupviz.models.wiring import PermutationSpec

SAME = 1e-4
"""How far logits may lie apart, as a share of the largest, where two networks are one function; rounding is 1e-6."""

GAIN = 1e-10
"""A matching is better if the inner product of the weights grows by more than this share; rounding is 1e-13."""


def match_weights(
    reference: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    spec: PermutationSpec,
    *,
    seed: int = 0,
    max_iterations: int = 100,
) -> dict[str, Tensor]:
    """Permutations of a checkpoint's units that bring its weights nearest to a reference's, group after group.

    For each group, in an order drawn anew in every round, the assignment that is best while the other groups are
    held; until a round changes nothing. It is the best for one group alone, and a local optimum for several.

    Args:
        seed: of the order in which groups are visited.
        max_iterations: rounds after which to stop in any case.
    Returns:
        For each group of the specification, the number in `tensors` of each unit of the reference.
    Source:
        Ainsworth et al. 2022, algorithm 1: maximise <reference, permuted> over the weights. Differs: a group is
        changed only where the whole inner product, in float64, grows, and visited again only after a neighbour was
        changed; running statistics, which are no weights, do not count.
    """
    from scipy.optimize import linear_sum_assignment  # loading it takes most of a second

    generator = torch.Generator().manual_seed(seed)
    matching, groups = _Matching(reference, tensors, spec), list(spec.sizes)
    found = {group: torch.arange(size) for group, size in spec.sizes.items()}
    waiting = set(groups)
    for _ in range(max_iterations):
        for index in torch.randperm(len(groups), generator=generator).tolist():
            group = groups[index]
            if group not in waiting:  # none of its neighbours has changed since it was visited
                continue
            waiting.remove(group)
            _, assigned = linear_sum_assignment(matching.similarity(found, group).numpy(), maximize=True)
            changed = found | {group: torch.from_numpy(assigned)}
            before = matching.agreement(found, group)
            if matching.agreement(changed, group) - before > GAIN * abs(before):
                found = changed
                waiting |= matching.neighbours(group)
        if not waiting:
            break
    return found


@dataclass(frozen=True, slots=True)
class _Matching:
    """A reference, and a checkpoint whose units are brought into its order; what a group is to either of them."""

    reference: Mapping[str, Tensor]
    tensors: Mapping[str, Tensor]
    spec: PermutationSpec

    def weights_of(self, group: str) -> list[str]:
        return [
            key
            for key, axes in self.spec.axes.items()
            if not key.endswith(RUNNING_STATISTICS) and any(axis.group == group for axis in axes.values())
        ]

    def neighbours(self, group: str) -> set[str]:
        """The groups that lie along another dimension of a group's weights, itself among them if along both."""
        axes = [self.spec.axes[key].values() for key in self.weights_of(group)]
        pairs = [(one, other) for each in axes for one, other in permutations(each, 2)]
        return {other.group for one, other in pairs if one.group == group}

    def similarity(self, found: Mapping[str, Tensor], group: str) -> Tensor:
        """Inner products of each unit of the reference with each of the checkpoint's, over all weights of the unit."""
        size = self.spec.sizes[group]
        total = torch.zeros(size, size, dtype=torch.float64)
        for key in self.weights_of(group):
            axes = self.spec.axes[key]
            for dim in (dim for dim, axis in axes.items() if axis.group == group):
                others = {other: axis for other, axis in axes.items() if other != dim}
                rows = self.reference[key].float().movedim(dim, 0).reshape(size, -1)
                columns = permute_tensor(self.tensors[key].float(), others, found)
                total += rows @ columns.movedim(dim, 0).reshape(size, -1).T
        return total

    def agreement(self, found: Mapping[str, Tensor], group: str) -> float:
        """The inner product of the reference with the permuted checkpoint, over the weights that have this group."""
        total = 0.0
        for key in self.weights_of(group):
            permuted = permute_tensor(self.tensors[key].to(torch.float64), self.spec.axes[key], found)
            total += float(self.reference[key].to(torch.float64).flatten() @ permuted.flatten())
        return total


def align(
    model: nn.Module,
    reference: Mapping[str, Tensor],
    tensors: Mapping[str, Tensor],
    example: Mapping[str, Tensor] | Tensor,
    *,
    seed: int = 0,
) -> Permuted:
    """A checkpoint with its units in the order of a reference's, proved to compute what it computed before.

    Args:
        model: whose state dict both are; it is not changed.
        example: one batch as the model takes it; on it the logits before and after are compared.
        seed: as in match_weights.
    Returns:
        New tensors, each made when it is asked for: the same numbers in other places.
    Raises:
        CompatibilityError: the model has units that cannot be followed, or the logits differ by more than rounding.
    Source:
        Ainsworth et al. 2022, section 3.2.
    """
    spec = permutation_spec(model, example)
    aligned = permute(tensors, spec, match_weights(reference, tensors, spec, seed=seed))
    check_same_function(model, tensors, aligned, example)
    return aligned


@torch.inference_mode()
def check_same_function(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    permuted: Mapping[str, Tensor],
    example: Mapping[str, Tensor] | Tensor,
) -> None:
    """See that two sets of weights give the same logits up to rounding.

    Raises:
        CompatibilityError: they do not, so that the model does with its units what its graph does not show.
    """
    # On the CPU: on a GPU, convolutions in TF32 round more coarsely than what is looked for.
    batch = {name: tensor.cpu() for name, tensor in ({"": example} if isinstance(example, Tensor) else example).items()}
    expected, logits = (
        answers_from(_loaded(model, weights).cpu(), batch, tensor_of) for weights in (tensors, permuted)
    )
    largest = float(expected.abs().max())
    difference = float((logits - expected).abs().max())
    if not difference <= SAME * largest:
        raise CompatibilityError(
            f"the model with permuted weights gives logits that differ by {difference:.2g}, where the largest is "
            f"{largest:.2g}; expected at most {SAME:g} of it. It does with its units what its graph does not show: "
            "mix without alignment."
        )


def _loaded(model: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """A copy in evaluation mode; torch.func.functional_call leaves other weights in a module that has two names."""
    copy = deepcopy(model).eval().requires_grad_(False)
    copy.load_state_dict(dict(tensors))
    return copy


@dataclass(frozen=True, slots=True)
class Repaired:
    """A mix after REPAIR. corrected: layers, front to back; left: layers that stay as they were, and why."""

    tensors: dict[str, Tensor]
    corrected: tuple[str, ...]
    left: Mapping[str, str]


def repair(
    model: nn.Module,
    ends: Sequence[Mapping[str, Tensor]],
    shares: Sequence[float],
    mixed: Mapping[str, Tensor],
    batches: Batches,
) -> Repaired:
    """Give every hidden unit of a mix the mean and standard deviation that it has in the mixed networks, mixed alike.

    Layers are corrected front to back, each after what lies before it: one pass over the batches for each. Layers
    into BatchNorm are left, as re-estimating its running statistics on the same data is their repair; layers
    without bias, which cannot be shifted, and those that share a tensor with another are left too.

    Args:
        ends: the aligned networks that were mixed; two for an interpolation. shares: the coefficient of each.
        mixed: their mix, the sum of shares[i] ends[i].
        batches: gives the same training inputs, without labels, each time it is called.
    Returns:
        A new state dict, and which layers were corrected or left; nothing that was given is changed.
    Raises:
        DataError: no batches.
        CompatibilityError: the model has units that cannot be followed.
    Source:
        Jordan et al. 2022, section 4. Differs: statistics over all batches, and layer by layer, where the paper
        measures all at once behind normalising layers; any number of ends; a unit that is constant in the mix is
        only shifted.
    """
    example = next(iter(batches()), None)
    if example is None:
        raise DataError("REPAIR measures activations on training examples, and there are none; give train data.")
    layers, left = _hidden_layers(model, permutation_spec(model, example))
    measured = [measure(_loaded(model, tensors), layers, batches) for tensors in ends]
    network = _loaded(model, mixed)
    for name in layers:
        layer: Any = network.get_submodule(name)
        now = measure(network, [name], batches)[name]
        mean = _mixed(shares, [end[name].mean for end in measured])
        std = _mixed(shares, [end[name].std for end in measured]).clamp(min=0.0)  # beyond [0, 1] it can be negative
        scale = torch.where(now.std > 0, std / now.std, 1.0)
        shape = (-1, *[1] * (layer.weight.ndim - 1))
        layer.weight.copy_(layer.weight.cpu().double() * scale.view(shape))
        layer.bias.copy_(layer.bias.cpu().double() * scale + (mean - now.mean * scale))
    state = network.state_dict()
    changed = {f"{name}.{kind}" for name in layers for kind in ("weight", "bias")}
    tensors = {key: (state[key].to(old) if key in changed else old.clone()) for key, old in mixed.items()}
    return Repaired(tensors, tuple(layers), left)


def _mixed(shares: Sequence[float], statistics: Sequence[Tensor]) -> Tensor:
    return torch.stack([share * one for share, one in zip(shares, statistics, strict=True)]).sum(0)


def _hidden_layers(model: nn.Module, spec: PermutationSpec) -> tuple[list[str], dict[str, str]]:
    """The Linear and convolution layers, front to back: those to correct, and those to leave, with the reason."""
    ties = tied_keys(model)
    tied = ties.keys() | set(ties.values())
    layers: list[str] = []
    left: dict[str, str] = {}
    for node in traced_graph(model).graph.nodes:
        name = str(node.target)
        layer = model.get_submodule(name) if node.op == "call_module" else None
        if not isinstance(layer, (nn.Linear, *CONVOLUTIONS)) or name in layers or name in left:
            continue
        after = [model.get_submodule(str(user.target)) for user in node.users if user.op == "call_module"]
        if f"{name}.weight" not in spec.axes or 0 not in spec.axes[f"{name}.weight"]:
            left[name] = "its units are the output, or are joined to the input or the output"
        elif any(isinstance(module, _BatchNorm) for module in after):
            left[name] = "BatchNorm follows: re-estimate its statistics"
        elif layer.bias is None:
            left[name] = "it has no bias to shift"
        elif tied & {f"{name}.weight", f"{name}.bias"}:
            left[name] = "it shares a tensor with another layer"
        else:
            layers.append(name)
    return layers, left
