"""Running statistics of a mix, re-estimated: the average of statistics is not the statistics of the average."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from soupviz.data.split import Split
from soupviz.errors import RecipeError
from soupviz.scoring.evaluator import Evaluator
from soupviz.scoring.precision import arithmetic_of

SEED = 0
"""Of the choice among the training examples, which may lie sorted by class."""


def norms_of(model: nn.Module) -> dict[str, _NormBase]:
    """The layers that keep running statistics, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _NormBase) and module.running_mean is not None
    }


def reestimate(evaluator: Evaluator, train: Split, num_examples: int, batch_size: int) -> dict[str, Tensor]:
    """The running statistics of the weights that the evaluator holds, over examples of train.

    Nothing of the old statistics is left, and only the layers that keep statistics are in training mode: dropout is
    off. Batches that are as mixed as each other count alike: the statistics are the averages of theirs. What fills up
    the shorter examples of a batch is counted as the model's layers see it; examples of varying length are therefore
    batched with those of about their own, with little of it. Such batches differ, so that each counts by its size, and
    variances have in them how far its mean lies from that of all.

    Args:
        num_examples: drawn from train with a fixed seed; all of it where it has fewer.
        batch_size: the kitchen's. What memory has made of the evaluator's own does not count: statistics within
            batches depend on how large these are, and scores are kept under the kitchen's number.
    Returns:
        By key of the state dict. The evaluator's model is left as it was, but for its statistics.
    Raises:
        RecipeError: memory does not suffice for a batch.
    Source:
        Izmailov et al. 2018 (arXiv 1803.05407), section 3.2. Differs from `torch.optim.swa_utils.update_bn`, which puts
        the whole model into training mode.
    """
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(SEED))[:num_examples]
    norms = norms_of(evaluator.model)
    momenta = {name: norm.momentum for name, norm in norms.items()}
    pooled = {name: _Pooled() for name in norms if train.lengths is not None}
    hooks = [norms[name].register_forward_hook(one.add) for name, one in pooled.items()]
    try:
        for norm in norms.values():
            norm.reset_running_stats()
            norm.momentum = None  # the cumulative average
            norm.train()
        with torch.inference_mode(), arithmetic_of(evaluator.precision):
            for number, rows in enumerate(_batches(train, order, batch_size), 1):
                for norm in norms.values():
                    if pooled:
                        norm.momentum = 1.0  # those of the batch alone
                    elif not isinstance(norm, _BatchNorm):  # InstanceNorm takes None for 0, and keeps nothing
                        norm.momentum = 1.0 / number
                _run(evaluator, train, rows)
            for name, one in pooled.items():
                one.write(norms[name])
    finally:
        for hook in hooks:
            hook.remove()
        for name, norm in norms.items():
            norm.momentum = momenta[name]
            norm.eval()
    return {
        f"{name}.{kind}" if name else kind: tensor.clone()
        for name, norm in norms.items()
        for kind, tensor in (("running_mean", norm.running_mean), ("running_var", norm.running_var))
        if tensor is not None
    }


@dataclass(slots=True)
class _Pooled:
    """The statistics of batches of several sizes as those of all in one: their first two moments, in float64."""

    size: float = 0.0
    mean: Tensor | float = 0.0
    square: Tensor | float = 0.0

    def add(self, norm: nn.Module, given: tuple[Tensor, ...], _returned: Tensor) -> None:
        """After a layer's call, which left the statistics of what it was given alone."""
        mean, variance = _of(norm)
        size = given[0].numel() / len(mean)
        self.size += size
        self.mean = self.mean + (mean.double() - self.mean) * (size / self.size)
        self.square = self.square + (variance.double() + mean.double() ** 2 - self.square) * (size / self.size)

    def write(self, norm: nn.Module) -> None:
        mean, variance = _of(norm)
        mean.copy_(torch.as_tensor(self.mean))
        variance.copy_(torch.as_tensor(self.square - self.mean**2))


def _of(norm: nn.Module) -> tuple[Tensor, Tensor]:
    assert isinstance(norm, _NormBase) and norm.running_mean is not None and norm.running_var is not None
    return norm.running_mean, norm.running_var


def _batches(train: Split, order: Tensor, batch_size: int) -> Sequence[Tensor]:
    """As large as each other, and as mixed as their lengths allow: train may lie class by class. None is of one
    example, which has no variance."""
    if train.lengths is not None:
        order = order[train.lengths[order].argsort(descending=True, stable=True)]
    return order.tensor_split(min(-(-len(order) // batch_size), max(1, len(order) // 2)))


def padding_told(model: nn.Module, train: Split, batch_size: int) -> list[str]:
    """How much of what statistics are re-estimated on is padding, in a sentence; of all examples of train."""
    if train.lengths is None or not norms_of(model):
        return []
    lengths = train.lengths.double()
    batches = [lengths[rows] for rows in _batches(train, torch.arange(len(train)), batch_size)]
    padded = sum(float(one.max()) * len(one) for one in batches)
    share = 1 - float(lengths.sum()) / padded
    if share == 0:
        return []
    return [
        f"where BatchNorm statistics are re-estimated, {share:.1%} of what the model is given is padding, which they "
        f"count: batches are of {batch_size} examples of about one length. A smaller batch_size leaves less of it."
    ]


def _run(evaluator: Evaluator, train: Split, rows: Tensor) -> None:
    try:
        evaluator.task.answer_batch(evaluator.model, train.take(rows, evaluator.device))
    except RuntimeError as error:  # memory ran out
        raise RecipeError(
            f"re-estimating BatchNorm statistics on {len(rows)} examples of train at a time takes more memory than "
            "there is, and smaller batches would give other statistics: set a lower batch_size in kitchen.yaml."
        ) from error
