import pytest
import torch
from kitchens import BATCHNORM, MLP, TIED, build_model, perturbed
from torch import Tensor, nn
from torch.nn import functional as F

from soupviz.errors import Cancelled, RecipeError
from soupviz.learning import curvature
from soupviz.learning.curvature import Batches, fisher_diagonal, gram_matrices
from soupviz.weights.ingredients import same_bits

SHAPES = {MLP: (6,), TIED: (6,), BATCHNORM: (3, 5, 5)}


def in_batches(inputs: Tensor, size: int = 8) -> Batches:
    return lambda: ({"": part} for part in inputs.split(size))


def inputs_for(source: str, number: int = 20, seed: int = 3) -> Tensor:
    return torch.randn(number, *SHAPES[source], generator=torch.Generator().manual_seed(seed))


class Branching(nn.Module):
    """Looks at its input to decide: vmap cannot follow."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)
        self.unused = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if bool((x[:, 0] > 0).all()) else 2 * self.layer(x)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(x).mean(1))


def seeded(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return kind()


def reference(model: nn.Module, tensors: dict[str, Tensor], inputs: Tensor) -> dict[str, Tensor]:
    """The exact Fisher diagonal by plain backward passes of the loaded model, one example and class at a time."""
    model.load_state_dict(tensors)
    model.eval().requires_grad_(True)
    total = {key: torch.zeros_like(parameter) for key, parameter in model.named_parameters()}
    for example in inputs:
        log_probabilities = model(example[None]).log_softmax(1)[0]
        for log_probability in log_probabilities:
            model.zero_grad(set_to_none=True)
            log_probability.backward(retain_graph=True)
            for key, parameter in model.named_parameters():
                if parameter.grad is not None:
                    total[key] += log_probability.detach().exp() * parameter.grad**2
    return {key: tensor / len(inputs) for key, tensor in total.items()}


# Fisher information


def test_the_fisher_of_one_weight_by_hand():
    """Logits (w x, 0): F = x^2 p (1 - p). At w = 0, p = 1/2: x = 2 gives 1, x = 4 gives 4; their mean is 2.5."""

    class Slope(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([self.w * x, torch.zeros_like(x)], dim=1)

    found = fisher_diagonal(Slope(), {"w": torch.zeros(1)}, in_batches(torch.tensor([[2.0], [4.0]])))
    assert found["w"].tolist() == [2.5]


def test_the_fisher_of_a_linear_softmax_model_is_its_closed_form():
    """F[c, j] = mean over x of x_j^2 p_c (1 - p_c), and without x_j^2 for the bias."""
    model = seeded(lambda: nn.Linear(6, 4))
    inputs = inputs_for(MLP, 50)
    found = fisher_diagonal(model, model.state_dict(), in_batches(inputs))
    with torch.no_grad():
        predictions = model(inputs).softmax(1)
    variances = predictions * (1 - predictions)
    torch.testing.assert_close(found["weight"], variances.T @ inputs**2 / 50)
    torch.testing.assert_close(found["bias"], variances.mean(0))


@pytest.mark.parametrize("source", [MLP, BATCHNORM, TIED], ids=["mlp", "batchnorm", "tied"])
def test_the_fisher_is_that_of_backward_passes_one_example_and_class_at_a_time(source):
    model, inputs = build_model(source), inputs_for(source)
    tensors = perturbed(model.state_dict(), 0.3, seed=1)
    found = fisher_diagonal(model, tensors, in_batches(inputs))
    for key, expected in reference(model, tensors, inputs).items():
        torch.testing.assert_close(found[key], expected, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize(("kind", "shape"), [(Branching, (6,)), (Attention, (5, 8))])
def test_models_that_vmap_cannot_follow_or_that_attend_have_the_same_fisher(kind, shape):
    model, inputs = seeded(kind), torch.randn(6, *shape, generator=torch.Generator().manual_seed(0))
    tensors = dict(model.state_dict())
    found = fisher_diagonal(model, tensors, in_batches(inputs, 1 if kind is Branching else 4))
    for key, expected in reference(model, tensors, inputs).items():
        torch.testing.assert_close(found[key], expected, rtol=1e-4, atol=1e-8)


def test_gradients_computed_together_or_one_by_one_agree(monkeypatch):
    model, inputs = build_model(BATCHNORM), inputs_for(BATCHNORM)
    batches = in_batches(inputs)
    together = fisher_diagonal(model, model.state_dict(), batches)
    monkeypatch.setattr(curvature, "_way", lambda *_arguments: curvature._one_by_one)
    one_by_one = fisher_diagonal(model, model.state_dict(), batches)
    monkeypatch.undo()
    monkeypatch.setattr(curvature, "GRADIENTS", 1)
    by_single_examples = fisher_diagonal(model, model.state_dict(), batches)
    for key, expected in together.items():
        torch.testing.assert_close(one_by_one[key], expected, rtol=1e-4, atol=1e-8)
        torch.testing.assert_close(by_single_examples[key], expected, rtol=1e-4, atol=1e-8)


def test_the_fisher_does_not_depend_on_how_examples_are_batched():
    model, inputs = build_model(MLP), inputs_for(MLP)
    whole = fisher_diagonal(model, model.state_dict(), in_batches(inputs, 20))
    for key, expected in fisher_diagonal(model, model.state_dict(), in_batches(inputs, 7)).items():
        torch.testing.assert_close(whole[key], expected)


@pytest.mark.parametrize(
    ("num_classes", "arguments", "is_exact"), [(10, {}, True), (11, {}, False), (10, {"exact_up_to": 0}, False)]
)
def test_the_expectation_is_exact_up_to_ten_classes_or_as_told(num_classes, arguments, is_exact):
    model, inputs = seeded(lambda: nn.Linear(6, num_classes)), inputs_for(MLP)
    found, other = (
        fisher_diagonal(model, model.state_dict(), in_batches(inputs), seed=seed, **arguments) for seed in (0, 1)
    )
    assert same_bits(found["weight"], other["weight"]) == is_exact


def test_beyond_ten_classes_labels_are_drawn_by_seed_and_come_near_the_expectation():
    model = seeded(lambda: nn.Linear(2, 12))
    inputs = torch.tensor([[1.0, -2.0]]).expand(4000, 2)
    first, again, other = (
        fisher_diagonal(model, model.state_dict(), in_batches(inputs, 1000), seed=seed)["weight"] for seed in (0, 0, 1)
    )
    assert same_bits(first, again)
    assert not same_bits(first, other)
    with torch.no_grad():
        predictions = model(inputs[:1]).softmax(1)[0]
    expected = (predictions * (1 - predictions))[:, None] * torch.tensor([1.0, 4.0])
    torch.testing.assert_close(first, expected, rtol=0.25, atol=0)


def test_the_fisher_has_every_parameter_and_no_buffer_in_float32_and_ties_share_one():
    batchnorm, tied = build_model(BATCHNORM), build_model(TIED)
    half = {key: t.bfloat16() if t.is_floating_point() else t for key, t in batchnorm.state_dict().items()}
    found = fisher_diagonal(batchnorm, half, in_batches(inputs_for(BATCHNORM, 4)))
    assert list(found) == [key for key, _ in batchnorm.named_parameters()]
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    found = fisher_diagonal(tied, tied.state_dict(), in_batches(inputs_for(TIED, 4)))
    assert found["second.weight"] is found["first.weight"]
    assert found.keys() == tied.state_dict().keys()


def test_a_parameter_that_the_model_does_not_use_has_no_fisher_information():
    model = seeded(Branching)
    assert fisher_diagonal(model, model.state_dict(), in_batches(inputs_for(MLP, 2)))["unused"].tolist() == [0.0, 0.0]


# Gram matrices


def test_a_gram_matrix_by_hand_summed_over_batches():
    model = nn.Linear(2, 3)
    inputs = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert gram_matrices(model, model.state_dict(), in_batches(inputs, 1))["weight"].tolist() == [[10, 14], [14, 20]]


def test_the_gram_matrices_are_of_what_each_layer_is_given_under_these_weights():
    model, inputs = build_model(MLP), inputs_for(MLP)
    tensors = perturbed(model.state_dict(), 0.3, seed=1)
    found = gram_matrices(model, tensors, in_batches(inputs))
    hidden = F.linear(inputs, tensors["0.weight"], tensors["0.bias"]).relu()
    assert list(found) == ["0.weight", "2.weight"]
    torch.testing.assert_close(found["0.weight"], inputs.T @ inputs)
    torch.testing.assert_close(found["2.weight"], hidden.T @ hidden)


def test_positions_count_as_examples_and_attentions_own_layers_have_no_gram_matrix():
    model, inputs = seeded(Attention), torch.randn(4, 5, 8, generator=torch.Generator().manual_seed(0))
    found = gram_matrices(model, model.state_dict(), in_batches(inputs))
    assert {key: tuple(gram.shape) for key, gram in found.items()} == {
        "block.linear1.weight": (8, 8),
        "block.linear2.weight": (16, 16),
        "head.weight": (8, 8),
    }
    with torch.no_grad():
        pooled = model.eval().block(inputs).mean(1)
    torch.testing.assert_close(found["head.weight"], pooled.T @ pooled)
    # Of normalised vectors of 8 features, 20 in all: each has a squared length of 8.
    assert found["block.linear1.weight"].trace().item() == pytest.approx(8 * 20, rel=1e-3)


def test_tied_layers_share_the_sum_of_their_gram_matrices_and_keyword_inputs_are_seen():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(2, 2, bias=False)
            self.second = nn.Linear(2, 2, bias=False)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.second(input=self.first(x))

    tensors = {key: 2 * torch.eye(2) for key in ("first.weight", "second.weight")}
    found = gram_matrices(Twice(), tensors, in_batches(torch.tensor([[1.0, 0.0]])))
    assert found["first.weight"].tolist() == [[1 + 4, 0], [0, 0]]
    assert found["second.weight"] is found["first.weight"]


# Both


@pytest.mark.parametrize("gather", [fisher_diagonal, gram_matrices])
def test_neither_the_model_nor_the_weights_nor_the_inputs_are_changed(gather):
    model, inputs = build_model(BATCHNORM).train().requires_grad_(False), inputs_for(BATCHNORM)
    tensors = perturbed(model.state_dict(), 0.3, seed=1)
    all_of_them = [*model.state_dict().values(), *tensors.values(), inputs]
    before = [tensor.clone() for tensor in all_of_them]
    gather(model, tensors, in_batches(inputs))
    assert all(same_bits(tensor, was) for tensor, was in zip(all_of_them, before, strict=True))
    assert not any(tensor.requires_grad for tensor in all_of_them)
    assert all(module.training and not module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("gather", [fisher_diagonal, gram_matrices])
def test_a_cancelled_work_ends_after_its_batch_and_leaves_no_trace(gather):
    model, seen = build_model(MLP).train(), []

    def on_batch() -> None:
        seen.append(1)
        if len(seen) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        gather(model, model.state_dict(), in_batches(inputs_for(MLP), 5), on_batch=on_batch)
    assert len(seen) == 2
    assert all(module.training and not module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("gather", "message"),
    [
        (fisher_diagonal, "no examples to compute Fisher information from; expected some"),
        (gram_matrices, "no linear layer was called, or there are no examples"),
    ],
)
def test_no_examples_are_refused(gather, message):
    model = build_model(MLP)
    with pytest.raises(RecipeError, match=message):
        gather(model, model.state_dict(), list)


def test_a_model_without_linear_layers_has_nothing_for_regmean():
    model = nn.Sequential(nn.Conv1d(1, 2, 1), nn.Flatten())
    with pytest.raises(RecipeError, match="no linear layer was called"):
        gram_matrices(model, model.state_dict(), in_batches(torch.ones(2, 1, 3)))


@pytest.mark.parametrize(
    ("gather", "message"),
    [
        (fisher_diagonal, "the logits are not all finite, so there is no Fisher information; leave out"),
        (gram_matrices, r"Gram matrix of 2.weight has NaN or infinite values; expected finite numbers. Leave out"),
    ],
)
def test_weights_that_diverged_are_refused(gather, message):
    model = build_model(MLP)
    tensors = {key: torch.full_like(tensor, 1e30) for key, tensor in model.state_dict().items()}
    with pytest.raises(RecipeError, match=message):
        gather(model, tensors, in_batches(inputs_for(MLP)))
