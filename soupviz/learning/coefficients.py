"""Learned soups: mixing coefficients by gradient descent, for all of a model at once or for each group of layers."""

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from soupviz.errors import RecipeError
from soupviz.mixing.averaging import LARGEST, BatchNorm, mix_tensors
from soupviz.models.building import tied_keys
from soupviz.models.functional import evaluating, logits_with, placed
from soupviz.tasks.classes.classification import Classification
from soupviz.tasks.task import Task
from soupviz.types import Progress, quiet
from soupviz.weights.ingredients import Ingredient
from soupviz.weights.scratch import by_pieces

Normalise = Literal["softmax", "free"]
Batches = Callable[[int], Iterable[tuple[Mapping[str, Tensor], Tensor]]]
"""Given an epoch, from 0: inputs by name ("" for a single tensor) and labels, as the model and the task take them."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What was learned.

    coefficients: by group, one number per ingredient, in their order. logit_scale: what the logits were multiplied by
    while learning (the paper's beta); it is no part of the soup, whose predictions are the same without it, but not its
    loss. losses: the mean loss in nats of every epoch, each batch's before the step that it led to.
    """

    coefficients: Mapping[str, tuple[float, ...]]
    logit_scale: float
    losses: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class _Setting:
    """What stays the same while coefficients are learned. groups: the keys of each, by name."""

    model: nn.Module
    pool: Sequence[Ingredient]
    groups: Mapping[str, Sequence[str]]
    batchnorm: BatchNorm
    task: Task


def learn(
    model: nn.Module,
    ingredients: Sequence[Mapping[str, Tensor]],
    batches: Batches,
    *,
    group_of: Callable[[str], str] = lambda _key: "",
    normalise: Normalise = "softmax",
    epochs: int,
    learning_rate: float,
    start: Sequence[float] | None = None,
    batchnorm: BatchNorm = "average",
    task: Task | None = None,
    num_batches: int = 1,
    progress: Progress = quiet,
) -> Learned:
    """Mixing coefficients by gradient descent on the loss of the soup, of a classifier its cross-entropy.

    Every step mixes one soup, takes the gradient of the loss at its weights, and has the gradient of each coefficient
    as its inner product with that ingredient, tensor by tensor: memory holds a soup and a gradient, however many
    ingredients are memory-mapped. The model is in evaluation mode: dropout is off, and BatchNorm takes the running
    statistics of the soup, which are mixed by the coefficients of their group but give these no gradient. What is
    rounded to the stored dtype is rounded while learning too, and the gradient passes as if it were not.

    Args:
        model: its own weights and mode are left as they are.
        ingredients: state dicts as the model holds them.
        batches: called once an epoch, which may have its own order.
        group_of: the group of a key. A tied tensor is in the group of its first name.
        normalise: "softmax" gives coefficients above 0 that sum to one in every group; "free" gives any.
        start: the coefficients to start from, in every group; default: all alike.
        task: whose loss it is; default: classification. Without logits there is no scale.
        num_batches: of an epoch, for progress alone.
    Raises:
        RecipeError: fewer than two ingredients, an epoch without batches, a start that does not fit, or a loss or a
            coefficient that is not finite.
    Source:
        Wortsman et al. 2022, appendix I; the authors' code by layer takes AdamW without weight decay (which is Adam), a
        learning rate of 0.05 and 5 epochs. Differs: the scale is learned as its logarithm; their layers are
        single tensors; they hold all models in memory.
    """
    pool = [Ingredient(f"ingredient {number}", Path(), tensors, "") for number, tensors in enumerate(ingredients, 1)]
    if len(pool) < 2:
        raise RecipeError(f"a learned soup needs at least 2 ingredients, and has {len(pool)}; add some.")
    setting = _Setting(
        model, pool, _keys_by_group(pool[0].tensors, group_of, tied_keys(model)), batchnorm, task or Classification()
    )
    raw = _raw(start, normalise, len(pool)).repeat(len(setting.groups), 1).requires_grad_()
    log_scale = torch.zeros((), dtype=torch.float64, requires_grad=True)
    step = _adam([raw, log_scale], learning_rate)
    losses: list[float] = []
    with evaluating(model), torch.enable_grad():
        for epoch in range(epochs):
            total, num_examples = 0.0, 0
            for number, (batch, labels) in enumerate(batches(epoch), 1):
                coefficients = _coefficients(raw, normalise)
                loss, gradient, slope = _descent(setting, coefficients.tolist(), log_scale, batch, labels)
                _check(loss, f"epoch {epoch + 1}", learning_rate, is_start=(epoch, number) == (0, 1))
                step([*torch.autograd.grad(coefficients, raw, gradient), slope])
                _check_step(raw, log_scale, f"epoch {epoch + 1}", learning_rate)
                total, num_examples = total + loss * len(labels), num_examples + len(labels)
                done = epoch * num_batches + min(number, num_batches)
                progress(done, epochs * num_batches, f"epoch {epoch + 1} of {epochs}: loss {total / num_examples:.4f}")
            if not num_examples:
                raise RecipeError(f"epoch {epoch + 1} has no batches; expected examples to learn from.")
            losses.append(total / num_examples)
    rows = _coefficients(raw, normalise).tolist()
    learned = {group: tuple(row) for group, row in zip(setting.groups, rows, strict=True)}
    return Learned(learned, log_scale.detach().exp().item(), tuple(losses))


def _keys_by_group(
    keys: Iterable[str], group_of: Callable[[str], str], ties: Mapping[str, str]
) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key in keys:
        if key not in ties:
            groups.setdefault(group_of(key), []).append(key)
    return groups


def _raw(start: Sequence[float] | None, normalise: Normalise, num_ingredients: int) -> Tensor:
    """What is learned instead of the coefficients themselves, shape (num_ingredients,)."""
    if start is None:
        start = [1.0 / num_ingredients] * num_ingredients
    if len(start) != num_ingredients:
        raise RecipeError(f"start has {len(start)} coefficients for {num_ingredients} ingredients; give one for each.")
    if not all(abs(value) <= LARGEST and (value > 0 or normalise == "free") for value in start):
        expected = "finite numbers" if normalise == "free" else "numbers above 0, as a softmax gives"
        raise RecipeError(f"start is {', '.join(f'{value:g}' for value in start)}; expected {expected}.")
    values = torch.tensor(start, dtype=torch.float64)
    return values.log() if normalise == "softmax" else values


def _coefficients(raw: Tensor, normalise: Normalise) -> Tensor:
    """Shape (num_groups, num_ingredients), float64."""
    return raw.softmax(dim=1) if normalise == "softmax" else raw


def _mixed(setting: _Setting, coefficients: Sequence[Sequence[float]]) -> Iterator[tuple[str, Tensor]]:
    """The soup, each group by its own coefficients."""
    for keys, row in zip(setting.groups.values(), coefficients, strict=True):
        yield from mix_tensors(list(zip(setting.pool, row, strict=True)), setting.batchnorm, keys)


def _adam(values: Sequence[Tensor], learning_rate: float) -> Callable[[Sequence[Tensor]], None]:
    """A step of Adam, given gradients, as torch.optim has it by default; that one loads a compiler, for seconds.

    Source:
        Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1.
    """
    means = [torch.zeros_like(value, requires_grad=False) for value in values]
    squares = [torch.zeros_like(value, requires_grad=False) for value in values]
    numbers = itertools.count(1)

    def step(gradients: Sequence[Tensor]) -> None:
        number = next(numbers)
        with torch.no_grad():
            for value, gradient, mean, square in zip(values, gradients, means, squares, strict=True):
                mean.lerp_(gradient, 1 - 0.9)
                square.lerp_(gradient.square(), 1 - 0.999)
                rate = learning_rate / (1 - 0.9**number)
                value -= rate * mean / ((square / (1 - 0.999**number)).sqrt() + 1e-8)

    return step


def _descent(
    setting: _Setting,
    coefficients: Sequence[Sequence[float]],
    log_scale: Tensor,
    batch: Mapping[str, Tensor],
    labels: Tensor,
) -> tuple[float, Tensor, Tensor]:
    """The mean loss, and its gradients: by coefficient, shape (num_groups, num_ingredients), and by log_scale."""
    parameters, buffers = placed(setting.model, _mixed(setting, coefficients))
    leaves = {key: tensor.requires_grad_() for key, tensor in parameters.items()}
    answers = logits_with(setting.model, leaves | buffers, batch, setting.task.answer_batch).float()
    if setting.task.has_logits:
        answers = answers * log_scale.exp().to(answers)
    loss = setting.task.loss(answers, labels)
    slope, *found = torch.autograd.grad(loss, [log_scale, *leaves.values()], allow_unused=True)
    slope = torch.zeros_like(log_scale) if slope is None else slope
    slopes = dict(zip(leaves, found, strict=True))
    gradient = torch.zeros(len(setting.groups), len(setting.pool), dtype=torch.float64)
    for row, keys in enumerate(setting.groups.values()):
        for key in keys:
            if slopes.get(key) is not None:  # a buffer, or a parameter that the model does not use, has none
                gradient[row] += _inner_products(slopes[key], key, setting.pool)
    return loss.item(), gradient, slope


def _inner_products(slope: Tensor, key: str, pool: Sequence[Ingredient]) -> Tensor:
    """The inner product of a gradient with each ingredient's tensor, in float32 by pieces; one of them is there."""
    slope = slope.to("cpu", torch.float32)
    products = torch.zeros(len(pool), dtype=torch.float64)
    for place, item in enumerate(pool):
        for piece, part in by_pieces(slope, item.tensors[key]):
            products[place] += torch.dot(piece, part.to(torch.float32))
    return products


def _check(loss: float, when: str, learning_rate: float, *, is_start: bool) -> None:
    if math.isfinite(loss):
        return
    if is_start:
        raise RecipeError(
            f"the soup that learning starts from has loss {loss}; expected a finite number. "
            "Leave out ingredients whose own loss is not finite."
        )
    raise RecipeError(
        f"the learned soup diverged at {when}: loss is {loss}; expected a finite number. "
        f"Lower the learning rate, which is {learning_rate:g}."
    )


def _check_step(raw: Tensor, log_scale: Tensor, when: str, learning_rate: float) -> None:
    """A step may leave what no batch comes to judge: after the last one."""
    values = torch.cat([raw.detach().flatten(), log_scale.detach().exp().reshape(1)])
    if not bool((values.abs() <= LARGEST).all()):
        raise RecipeError(
            f"the learned soup diverged at {when}: a coefficient or the logits' scale is too large or not a number; "
            f"expected finite ones. Lower the learning rate, which is {learning_rate:g}."
        )
