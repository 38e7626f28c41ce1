import copy
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from kitchens import BATCHNORM, MLP, TIED, build_model, labelled, perturbed
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from soupviz.errors import Cancelled, RecipeError
from soupviz.learning import coefficients
from soupviz.learning.coefficients import Batches, Learned, learn
from soupviz.mixing.averaging import mix
from soupviz.models.layers import layer_groups
from soupviz.weights.ingredients import Ingredient, same_bits

SHAPES = {MLP: (6,), TIED: (6,), BATCHNORM: (3, 5, 5)}

DROPOUT = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3))
"""


def in_batches(inputs: Tensor, labels: Tensor, size: int = 64) -> Batches:
    """The same batches in every epoch."""
    parts = list(zip(inputs.split(size), labels.split(size), strict=True))
    return lambda _epoch: (({"": batch}, answers) for batch, answers in parts)


def kitchen_of(source: str, num_ingredients: int = 3, num_examples: int = 128, scale: float = 0.3):
    """(model, ingredients near it, its inputs and labels)"""
    model = build_model(source)
    states = [perturbed(model.state_dict(), scale, seed=seed + 1) for seed in range(num_ingredients)]
    return model, states, *labelled(model, SHAPES[source], num_examples, seed=9, wrong=0.0)


def plain_descent(values: Sequence[Tensor], rate: float) -> Callable[[Sequence[Tensor]], None]:
    """In place of Adam: its steps say how long the gradient is."""

    def step(gradients: Sequence[Tensor]) -> None:
        for value, gradient in zip(values, gradients, strict=True):
            value.data -= rate * gradient

    return step


def good_and_noise() -> tuple[nn.Module, list[dict[str, Tensor]], Tensor, Tensor]:
    """The model that labelled the data, surer of itself, and random weights."""
    model, _, inputs, labels = kitchen_of(MLP, 0, 256)
    good = {key: 10 * tensor if key.startswith("2") else tensor for key, tensor in model.state_dict().items()}
    return model, [good, perturbed(good, 2.0, 2)], inputs, labels


# Groups


@pytest.mark.parametrize(
    ("key", "group"),
    [
        ("stage2.0.branch1.1.weight", "stage2.0"),
        ("blocks.11.attn.qkv.weight", "blocks.11"),
        ("body.1.weight", "body.1"),
        ("0.weight", "0"),
        ("head.weight", "head"),
        ("conv1.bias", "conv1"),
        ("encoder.norm.weight", "encoder.norm"),
        ("encoder.layers.encoder_layer_3.ln_1.weight", "encoder.layers.encoder_layer_3.ln_1"),
        ("prompts.2", "prompts.2"),
        ("cls_token", "cls_token"),
    ],
)
def test_a_layer_ends_at_the_first_number_or_is_the_module(key, group):
    assert layer_groups([key]) == {key: group}


def test_layer_groups_keep_the_order_of_keys_and_put_ties_where_their_first_name_is():
    keys = ["embed.weight", "blocks.0.weight", "blocks.1.weight", "head.weight", "head.bias"]
    groups = layer_groups(iter(keys), {"head.weight": "embed.weight"})
    assert list(groups) == keys
    assert list(groups.values()) == ["embed", "blocks.0", "blocks.1", "embed", "head"]


# Gradients


def stacked_gradient(
    model: nn.Module,
    states: Sequence[Mapping[str, Tensor]],
    batch: Tensor,
    labels: Tensor,
    group_of: Callable[[str], str],
    normalise: str,
) -> dict[str, list[float]]:
    """Coefficients after one step of gradient descent with rate 1, by autograd through all ingredients at once."""
    keys = list(states[0])
    ties = {"second.weight": "first.weight"}
    groups = list(dict.fromkeys(group_of(ties.get(key, key)) for key in keys))
    value = 0.0 if normalise == "softmax" else 1.0 / len(states)
    raw = torch.full((len(groups), len(states)), value, requires_grad=True)

    def of(values: Tensor) -> Tensor:
        return values.softmax(1) if normalise == "softmax" else values

    soup = {}
    for key in keys:
        stack = torch.stack([state[key] for state in states])
        row = of(raw)[groups.index(group_of(ties.get(key, key)))]
        if key.endswith("num_batches_tracked"):
            soup[key] = stack.amax(0)
        else:
            soup[key] = torch.tensordot(row.detach() if "running" in key else row, stack, dims=1)
    # Tied keys are given once: torch takes the second name for the same tensor.
    soup = {key: tensor for key, tensor in soup.items() if key not in ties}
    F.cross_entropy(functional_call(model, soup, (batch,)), labels).backward()
    assert raw.grad is not None
    rows = of(raw - raw.grad).tolist()
    return dict(zip(groups, rows, strict=True))


@pytest.mark.parametrize("source", [MLP, BATCHNORM, TIED], ids=["mlp", "batchnorm", "tied"])
@pytest.mark.parametrize("normalise", ["softmax", "free"])
@pytest.mark.parametrize("by_layer", [False, True], ids=["whole", "by layer"])
def test_the_gradient_is_that_of_autograd_through_all_ingredients_in_memory(source, normalise, by_layer, monkeypatch):
    model, states, inputs, labels = kitchen_of(source)
    group_of = layer_groups(states[0]).__getitem__ if by_layer else lambda key: ""
    expected = stacked_gradient(model, states, inputs, labels, group_of, normalise)
    monkeypatch.setattr(coefficients, "_adam", plain_descent)
    batches = in_batches(inputs, labels, len(inputs))
    learned = learn(model, states, batches, group_of=group_of, normalise=normalise, epochs=1, learning_rate=1.0)
    assert list(learned.coefficients) == list(expected)
    for group, row in expected.items():
        assert learned.coefficients[group] == pytest.approx(row, abs=1e-6)
        assert max(abs(value - 1 / 3) for value in row) > 1e-4


def test_the_gradient_of_a_tensor_of_many_pieces_is_that_of_the_whole(monkeypatch):
    model, states, inputs, labels = kitchen_of(MLP)
    monkeypatch.setattr(coefficients, "_adam", plain_descent)
    batches = in_batches(inputs, labels)
    whole = learn(model, states, batches, epochs=1, learning_rate=0.5)
    monkeypatch.setattr("soupviz.weights.scratch.PIECE", 7)
    in_pieces = learn(model, states, batches, epochs=1, learning_rate=0.5)
    assert in_pieces.coefficients[""] == pytest.approx(whole.coefficients[""], abs=1e-7)


def test_steps_are_those_of_torchs_adam():
    generator = torch.Generator().manual_seed(0)
    ours = [torch.ones(2, 3, dtype=torch.float64), torch.zeros((), dtype=torch.float64)]
    theirs = [value.clone().requires_grad_() for value in ours]
    step, optimizer = coefficients._adam(ours, 0.05), torch.optim.Adam(theirs, lr=0.05)
    for _ in range(20):
        gradients = [torch.randn(value.shape, generator=generator, dtype=torch.float64) ** 3 for value in ours]
        step(gradients)
        for value, gradient in zip(theirs, gradients, strict=True):
            value.grad = gradient
        optimizer.step()
    torch.testing.assert_close(ours, [value.detach() for value in theirs], rtol=1e-12, atol=0)


# What is learned


def test_a_hand_computed_step_on_a_model_of_one_weight(monkeypatch):
    """Logits (w x, 0) with w the mean of 1 and 3, x = 1, label 0: dL/dw = -1 / (1 + e^2)."""

    class Slope(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(1))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.w * x, torch.zeros_like(x)], dim=1)

    monkeypatch.setattr(coefficients, "_adam", plain_descent)
    states = [{"w": torch.tensor([1.0])}, {"w": torch.tensor([3.0])}]
    one = in_batches(torch.ones(1, 1), torch.tensor([0]))
    learned = learn(Slope(), states, one, normalise="free", epochs=1, learning_rate=1.0)
    slope = -1 / (1 + math.exp(2))
    assert learned.losses == pytest.approx([math.log1p(math.exp(-2))])
    assert learned.coefficients[""] == pytest.approx([0.5 - slope, 0.5 - 3 * slope])
    assert learned.logit_scale == pytest.approx(math.exp(-2 * slope))


def test_a_good_ingredient_is_weighed_more_than_random_noise():
    model, states, inputs, labels = good_and_noise()
    learned = learn(model, states, in_batches(inputs, labels), epochs=10, learning_rate=0.1)
    good, noise = learned.coefficients[""]
    assert good > 0.9 > 0.1 > noise
    assert learned.losses[-1] < 0.5 * learned.losses[0]


@pytest.mark.parametrize("by_layer", [False, True], ids=["whole", "by layer"])
def test_softmax_coefficients_are_positive_and_sum_to_one_in_every_group(by_layer):
    model, states, inputs, labels = kitchen_of(MLP)
    group_of = layer_groups(states[0]).__getitem__ if by_layer else lambda key: ""
    learned = learn(model, states, in_batches(inputs, labels), group_of=group_of, epochs=3, learning_rate=0.1)
    assert list(learned.coefficients) == (["0", "2"] if by_layer else [""])
    for row in learned.coefficients.values():
        assert math.fsum(row) == pytest.approx(1.0, abs=1e-12)
        assert min(row) > 0


def test_free_coefficients_may_be_negative_and_need_not_sum_to_one():
    """One ingredient is minus the good one: what helps is to subtract it."""
    model, [good, _], inputs, labels = good_and_noise()
    states = [{key: scale * tensor for key, tensor in good.items()} for scale in (1.0, 0.5, -1.0)]
    learned = learn(model, states, in_batches(inputs, labels), normalise="free", epochs=10, learning_rate=0.1)
    first, second, against = learned.coefficients[""]
    assert against < 0 < second < first + 0.01
    assert first + second + against > 1.1
    assert learned.losses[-1] < learned.losses[0]


def test_each_group_finds_the_ingredient_whose_layer_is_good():
    model, [good, noise], inputs, labels = good_and_noise()
    states = [
        {key: (good if key.startswith(layer) else noise)[key] for key in good}  # one layer good, one noise
        for layer in ("0", "2")
    ]
    batches = in_batches(inputs, labels)
    groups = layer_groups(good).__getitem__
    by_layer = learn(model, states, batches, group_of=groups, epochs=15, learning_rate=0.1)
    whole = learn(model, states, batches, epochs=15, learning_rate=0.1)
    assert by_layer.coefficients["0"][0] > 0.9
    assert by_layer.coefficients["2"][1] > 0.9
    assert by_layer.losses[-1] < 0.5 * whole.losses[-1]


def test_the_loss_falls_from_that_of_the_uniform_soup_as_it_is_cooked():
    """In bfloat16 too, where a soup is rounded to the stored dtype."""
    model, states, inputs, labels = kitchen_of(BATCHNORM)
    states = [{key: t.bfloat16() if t.is_floating_point() else t for key, t in state.items()} for state in states]
    cooked = copy.deepcopy(model)
    cooked.load_state_dict(mix([(Ingredient(str(i), Path(), state, ""), 1 / 3) for i, state in enumerate(states)]))
    with torch.no_grad():
        uniform = F.cross_entropy(cooked(inputs), labels).item()
    learned = learn(model, states, in_batches(inputs, labels, len(inputs)), epochs=8, learning_rate=0.1)
    assert learned.losses[0] == uniform
    assert all(after < before for before, after in zip(learned.losses[:4], learned.losses[1:5], strict=True))


def test_losses_are_means_over_examples_where_the_last_batch_is_small():
    model, states, inputs, labels = kitchen_of(MLP, num_examples=70)
    learned = learn(model, states, in_batches(inputs, labels, 64), epochs=1, learning_rate=1e-12)
    whole = learn(model, states, in_batches(inputs, labels, 70), epochs=1, learning_rate=1e-12)
    assert learned.losses == pytest.approx(whole.losses, rel=1e-5)


def test_equal_ingredients_keep_equal_coefficients_and_an_overconfident_soup_is_softened():
    model, states, inputs, labels = kitchen_of(MLP, num_ingredients=1)
    sure = {key: 6 * tensor if key.startswith("2") else tensor for key, tensor in states[0].items()}
    wrong = torch.where(torch.arange(len(labels)) % 3 == 0, (labels + 1) % 3, labels)
    learned = learn(model, [sure, sure], in_batches(inputs, wrong), epochs=10, learning_rate=0.1)
    assert learned.coefficients[""] == pytest.approx((0.5, 0.5), abs=1e-4)
    assert learned.logit_scale < 0.6
    assert learned.losses[-1] < learned.losses[0]


def test_the_same_batches_give_the_same_coefficients_bit_for_bit():
    model, states, inputs, labels = kitchen_of(BATCHNORM)
    first, second = (
        learn(
            model, states, in_batches(inputs, labels), epochs=2, learning_rate=0.1, group_of=layer_groups(states[0]).get
        )
        for _ in range(2)
    )
    assert first == second


def test_the_order_of_ingredients_is_the_order_of_coefficients():
    model, states, inputs, labels = kitchen_of(MLP)
    batches = in_batches(inputs, labels)
    forwards = learn(model, states, batches, epochs=3, learning_rate=0.1)
    backwards = learn(model, states[::-1], batches, epochs=3, learning_rate=0.1)
    assert backwards.coefficients[""][::-1] == pytest.approx(forwards.coefficients[""], abs=1e-5)


def test_every_epoch_asks_for_its_own_batches():
    model, states, inputs, labels = kitchen_of(MLP)
    asked = []

    def batches(epoch: int) -> list[tuple[dict[str, Tensor], Tensor]]:
        asked.append(epoch)
        return [({"": inputs}, labels)]

    learn(model, states, batches, epochs=3, learning_rate=0.1)
    assert asked == [0, 1, 2]


@pytest.mark.parametrize(("normalise", "start"), [("softmax", (0.25, 0.75)), ("free", (1.5, -0.0))])
def test_learning_starts_where_it_is_told(normalise, start):
    model, states, inputs, labels = kitchen_of(MLP, 2)
    batches = in_batches(inputs, labels)
    learned = learn(model, states, batches, normalise=normalise, start=start, epochs=0, learning_rate=0.1)
    assert learned == Learned({"": pytest.approx(start)}, 1.0, ())


def test_running_statistics_are_mixed_or_those_of_the_first():
    model, states, inputs, labels = kitchen_of(BATCHNORM, 2)
    states[1]["1.running_var"] = states[1]["1.running_var"] * 100
    batches = in_batches(inputs, labels, len(inputs))
    losses = {
        kind: learn(model, states, batches, batchnorm=kind, epochs=1, learning_rate=0.1).losses[0]
        for kind in ("average", "first")
    }
    states[1]["1.running_var"] = states[0]["1.running_var"]
    states[1]["1.running_mean"] = states[0]["1.running_mean"]
    assert losses["first"] == learn(model, states, batches, epochs=1, learning_rate=0.1).losses[0] != losses["average"]


# What is left alone


def test_neither_ingredients_nor_the_model_are_changed():
    model = build_model(DROPOUT).train().requires_grad_(False)
    states = [perturbed(model.state_dict(), 0.3, seed=seed) for seed in (1, 2)]
    tensors = [tensor for state in (model.state_dict(), *states) for tensor in state.values()]
    before = [tensor.clone() for tensor in tensors]
    inputs, labels = labelled(copy.deepcopy(model).eval(), (6,), 64, seed=1)
    learned = learn(model, states, in_batches(inputs, labels), epochs=2, learning_rate=0.1)
    again = learn(model, states, in_batches(inputs, labels), epochs=2, learning_rate=0.1)
    assert learned == again  # dropout is off
    assert all(same_bits(tensor, was) for tensor, was in zip(tensors, before, strict=True))
    assert not any(tensor.requires_grad for tensor in tensors)
    assert all(module.training for module in model.modules())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in model.parameters())


def test_progress_counts_batches_and_a_cancelled_search_leaves_the_mode_as_it_was():
    model, states, inputs, labels = kitchen_of(MLP, num_examples=128)
    model.train()
    told: list[tuple[int, int, str]] = []

    def progress(*arguments: object) -> None:
        told.append(arguments)
        if len(told) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        learn(model, states, in_batches(inputs, labels), epochs=2, learning_rate=0.1, num_batches=2, progress=progress)
    assert [(done, total) for done, total, _ in told] == [(1, 4), (2, 4), (3, 4)]
    assert told[2][2].startswith("epoch 2 of 2: loss ")
    assert model.training


# Errors


def test_a_diverging_loss_names_the_epoch_and_the_learning_rate():
    model, states, inputs, labels = kitchen_of(MLP)
    batches = in_batches(inputs, labels, len(inputs))
    with pytest.raises(RecipeError, match=r"diverged at epoch 2: loss is (nan|inf); .* finite .* which is 1e\+25"):
        learn(model, states, batches, normalise="free", epochs=3, learning_rate=1e25)


def test_a_last_step_that_leaves_no_finite_coefficients_is_an_error_too():
    model, states, inputs, labels = kitchen_of(MLP)
    batches = in_batches(inputs, labels, len(inputs))
    with pytest.raises(RecipeError, match=r"diverged at epoch 1: .* too large or not a number; .* learning rate"):
        learn(model, states, batches, normalise="free", epochs=1, learning_rate=1e39)


def test_a_start_whose_loss_is_not_finite_does_not_blame_the_learning_rate():
    model, states, inputs, labels = kitchen_of(MLP)
    states[1] = {key: torch.full_like(tensor, 3e38) for key, tensor in states[1].items()}
    with pytest.raises(RecipeError, match=r"starts from has loss (nan|inf); .* Leave out ingredients"):
        learn(model, states, in_batches(inputs, labels), epochs=1, learning_rate=0.1)


@pytest.mark.parametrize("number", [0, 1])
def test_a_learned_soup_of_fewer_than_two_is_refused(number):
    model, states, inputs, labels = kitchen_of(MLP, number)
    with pytest.raises(RecipeError, match=f"needs at least 2 ingredients, and has {number}; add some"):
        learn(model, states, in_batches(inputs, labels), epochs=1, learning_rate=0.1)


def test_an_epoch_without_batches_is_refused():
    model, states, _, _ = kitchen_of(MLP)
    with pytest.raises(RecipeError, match="epoch 1 has no batches; expected examples to learn from"):
        learn(model, states, lambda _epoch: [], epochs=1, learning_rate=0.1)


@pytest.mark.parametrize(
    ("normalise", "start", "message"),
    [
        ("free", (1.0,), "start has 1 coefficients for 2 ingredients; give one for each"),
        ("free", (1.0, math.nan), "start is 1, nan; expected finite numbers"),
        ("softmax", (1.0, 0.0), "start is 1, 0; expected numbers above 0, as a softmax gives"),
        ("softmax", (math.inf, 1.0), "start is inf, 1; expected numbers above 0"),
    ],
)
def test_a_start_that_does_not_fit_is_refused(normalise, start, message):
    model, states, inputs, labels = kitchen_of(MLP, 2)
    with pytest.raises(RecipeError, match=message):
        learn(model, states, in_batches(inputs, labels), normalise=normalise, start=start, epochs=1, learning_rate=0.1)
