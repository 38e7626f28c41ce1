"""What data say of a model's weights: Fisher information of parameters, Gram matrices of what layers are given."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import grad, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.hooks import RemovableHandle

from soupviz.errors import ModelError, RecipeError
from soupviz.models.building import tied_keys
from soupviz.models.functional import call_with, evaluating, logits_with, placed
from soupviz.weights.scratch import give_back, product, set_down, zeros

Batches = Callable[[], Iterable[Mapping[str, Tensor]]]
"""Inputs by name ("" for a single tensor), as the model takes them; labels are not needed."""

FEW_CLASSES = 10
"""Up to so many, the expectation over a model's predictions is exact unless told otherwise."""

GRADIENTS = 2**26
"""Numbers that per-example gradients hold at a time: 256 MB of float32; one example's where it alone has more."""


def fisher_diagonal(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    batches: Batches,
    *,
    exact_up_to: int = FEW_CLASSES,
    seed: int = 0,
    on_batch: Callable[[], None] = lambda: None,
) -> dict[str, Tensor]:
    """How much a model's predictions depend on each of its parameters: the diagonal of its Fisher information.

    `F = mean over x of E_y [(d log p(y|x) / d theta)^2]`, y by the model's own prediction p(.|x): exactly where classes
    are few, in a pass for each of them, else by one draw for each example, in one pass. Gradients of single examples
    are computed together by torch.func.vmap, as many as fit 256 MB, or one by one where the model cannot be vectorised.

    Args:
        model: in evaluation mode meanwhile; its own weights and mode are left as they are.
        tensors: the state dict whose Fisher information it is, as the model holds it.
        exact_up_to: so many classes; 0 draws always.
        seed: of the draws, which depend on the batches too.
        on_batch: called after every batch; what it raises (Cancelled) ends the work.
    Returns:
        By key, for floating-point parameters: float32, on the CPU; tied keys share one tensor.
    Raises:
        RecipeError: no examples, or information that is not finite.
    Source:
        Matena and Raffel 2022 (arXiv 2111.09832), whose code has both the exact and the sampled expectation.
    """
    parameters, buffers = placed(model, tensors.items())
    total = {
        key: zeros(tensor.shape) if tensor.device.type == "cpu" else torch.zeros_like(tensor, dtype=torch.float32)
        for key, tensor in parameters.items()
    }
    size = max(1, GRADIENTS // sum(tensor.numel() for tensor in parameters.values()))
    generator = torch.Generator().manual_seed(seed)
    squares: Squares | None = None
    num_examples = 0
    with evaluating(model):
        for batch in batches():
            with torch.no_grad():
                logits = logits_with(model, parameters | buffers, batch).float()
            for examples in _labelled(batch, logits, generator, exact_up_to):
                squares = squares or _way(model, parameters, buffers, examples.part(0, min(2, size)))
                for start in range(0, len(examples), size):
                    found = squares(model, parameters, buffers, examples.part(start, size))
                    for key in list(found):
                        total[key] += found.pop(key)
                    if (
                        size == 1
                    ):  # gradients are as large as the model: what is left of them has no room beside the next
                        give_back()
            num_examples += len(logits)
            on_batch()
    if not num_examples:
        raise RecipeError("there are no examples to compute Fisher information from; expected some.")
    means = {key: tensor.div_(num_examples).cpu() for key, tensor in total.items()}
    _check_finite(means, "Fisher information")
    return _with_ties(means, tied_keys(model))


def gram_matrices(
    model: nn.Module,
    tensors: Mapping[str, Tensor],
    batches: Batches,
    *,
    on_batch: Callable[[], None] = lambda: None,
) -> dict[str, Tensor]:
    """The inner products `X^T X` of the inputs of every linear layer, summed over examples (and over positions).

    Args:
        model: in evaluation mode meanwhile; its own weights and mode are left as they are.
        tensors: the state dict with which the inputs are computed, as the model holds it.
        on_batch: called after every batch; what it raises (Cancelled) ends the work.
    Returns:
        By the key of the weight, for every nn.Linear that is called: float32 of shape (in, in), on the CPU; tied keys
        share one. Convolutions have none, nor have layers whose weights are used by another: nn.MultiheadAttention.
    Raises:
        RecipeError: no linear layer is called, no examples, or inputs that are not finite.
    Source:
        Jin et al. 2023 (arXiv 2212.09849).
    """
    parameters, buffers = placed(model, tensors.items())
    ties = tied_keys(model)
    grams: dict[str, Tensor] = {}

    def watch(module: nn.Module, key: str) -> RemovableHandle:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor]) -> None:
            rows = (*inputs, *named.values())[0].detach().float()
            rows = rows.reshape(-1, rows.shape[-1])
            add_to(grams, key, product(rows.T, rows), set_down)

        return module.register_forward_pre_hook(hook, with_kwargs=True)

    linear = {
        f"{name}.weight".removeprefix("."): part for name, part in model.named_modules() if isinstance(part, nn.Linear)
    }
    handles = [watch(part, ties.get(key, key)) for key, part in linear.items() if key in tensors]
    try:
        with evaluating(model), torch.no_grad():
            for batch in batches():
                call_with(model, parameters | buffers, batch)
                on_batch()
    finally:
        for handle in handles:
            handle.remove()
    if not grams:
        raise RecipeError("no linear layer was called, or there are no examples; without either RegMean is the mean.")
    found = {key: gram.cpu() for key, gram in grams.items()}
    _check_finite(found, "Gram matrix")
    return _with_ties(found, ties)


def add_to(
    totals: dict[str, Tensor], key: str, value: Tensor, kept: Callable[[Tensor], Tensor] = lambda value: value
) -> None:
    """Add to a total in place; the first value becomes the total, as it is kept."""
    if key in totals:
        totals[key] += value
    else:
        totals[key] = kept(value)


@dataclass(frozen=True, slots=True, eq=False)
class _Examples:
    """Some examples with a label each, and what the square of each one's gradient counts."""

    batch: Mapping[str, Tensor]
    labels: Tensor
    shares: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def part(self, start: int, size: int) -> "_Examples":
        rows = slice(start, start + size)
        batch = {name: tensor[rows] for name, tensor in self.batch.items()}
        return _Examples(batch, self.labels[rows], self.shares[rows])


Squares = Callable[[nn.Module, Mapping[str, Tensor], Mapping[str, Tensor], _Examples], dict[str, Tensor]]
"""Squared gradients of log p(label), summed over examples by their shares; of a model, parameters and buffers."""


def _labelled(
    batch: Mapping[str, Tensor], logits: Tensor, generator: torch.Generator, exact_up_to: int
) -> Iterator[_Examples]:
    """A batch with every class in turn, by its probability, or with labels that are drawn."""
    if not bool(torch.isfinite(logits).all()):
        raise RecipeError(
            "the logits are not all finite, so there is no Fisher information; leave out ingredients that diverged."
        )
    predictions = logits.softmax(dim=1)
    if predictions.shape[1] <= exact_up_to:
        for label, shares in enumerate(predictions.T):
            yield _Examples(batch, torch.full_like(shares, label, dtype=torch.int64), shares)
    else:
        drawn = torch.multinomial(predictions.cpu(), 1, generator=generator)[:, 0]
        yield _Examples(batch, drawn.to(predictions.device), torch.ones_like(predictions[:, 0]))


def _together(
    model: nn.Module, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], examples: _Examples
) -> dict[str, Tensor]:
    def loss(weights: dict[str, Tensor], inputs: dict[str, Tensor], label: Tensor) -> Tensor:
        batch = {name: tensor.unsqueeze(0) for name, tensor in inputs.items()}
        return F.cross_entropy(logits_with(model, weights | dict(buffers), batch).float(), label.unsqueeze(0))

    of_each = vmap(grad(loss), in_dims=(None, 0, 0))
    with sdpa_kernel(SDPBackend.MATH):  # the others cannot be vectorised
        gradients: dict[str, Tensor] = of_each(dict(parameters), dict(examples.batch), examples.labels)
    return {
        key: torch.einsum("i,i...->...", examples.shares, gradients.pop(key).float().square_())
        for key in list(gradients)
    }


def _one_by_one(
    model: nn.Module, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], examples: _Examples
) -> dict[str, Tensor]:
    leaves = {key: tensor.detach().requires_grad_() for key, tensor in parameters.items()}
    total: dict[str, Tensor] = {}
    for place in range(len(examples)):
        one = examples.part(place, 1)
        loss = F.cross_entropy(logits_with(model, leaves | dict(buffers), one.batch).float(), one.labels)
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
        gradients = dict(zip(leaves, found, strict=True))
        del found
        for key in leaves:
            if (gradient := gradients.pop(key)) is not None:
                add_to(total, key, one.shares[0] * gradient.float().square())
    return total


def _way(
    model: nn.Module, parameters: Mapping[str, Tensor], buffers: Mapping[str, Tensor], examples: _Examples
) -> Squares:
    """The way that works for this model, tried on examples: of a large model on one, whose gradients are as large."""
    try:
        _together(model, parameters, buffers, examples)
        give_back()
    except (RuntimeError, ModelError):  # what vmap cannot vectorise; what the model cannot do fails one by one too
        return _one_by_one
    return _together


def _with_ties(tensors: Mapping[str, Tensor], ties: Mapping[str, str]) -> dict[str, Tensor]:
    return dict(tensors) | {key: tensors[first] for key, first in ties.items() if first in tensors}


def _check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    for key, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise RecipeError(
                f"the {what} of {key} has NaN or infinite values; expected finite numbers. "
                "Leave out the ingredient that it is of, or data that are not finite."
            )
