import math
import weakref
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kitchens import BATCHNORM, MLP, TIED, build_model, labelled, perturbed
from torch import Tensor, nn

from soupviz.errors import RecipeError
from soupviz.learning.averages import fisher_average, regmean
from soupviz.learning.curvature import fisher_diagonal, gram_matrices
from soupviz.mixing.averaging import mix
from soupviz.weights.ingredients import Ingredient, same_bits

SHAPES = {MLP: (6,), TIED: (6,), BATCHNORM: (3, 5, 5)}


def mean_of(states: list[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return mix([(Ingredient(str(i), Path(), state, ""), 1 / len(states)) for i, state in enumerate(states)])


def states_of(source: str, number: int = 3) -> tuple[nn.Module, list[dict[str, Tensor]]]:
    model = build_model(source)
    return model, [perturbed(model.state_dict(), 0.3, seed=seed + 1) for seed in range(number)]


def random_like(states: list[dict[str, Tensor]]) -> list[dict[str, Tensor]]:
    """A positive number for each of the weights."""
    generator = torch.Generator().manual_seed(5)
    return [
        {
            key: torch.rand(tensor.shape, generator=generator) + 0.1
            for key, tensor in state.items()
            if key.endswith(("weight", "bias"))
        }
        for state in states
    ]


def fisher_soup(model: nn.Module, states: list[dict[str, Tensor]], inputs: Tensor) -> dict[str, Tensor]:
    return fisher_average(states, lambda at: fisher_diagonal(model, states[at], lambda: [{"": inputs}]))


def regression_soup(model: nn.Module, states: list[dict[str, Tensor]], inputs: Tensor) -> dict[str, Tensor]:
    return regmean(states, lambda at: gram_matrices(model, states[at], lambda: [{"": inputs}]))


# Fisher-weighted averaging


def test_each_number_is_weighed_by_its_fisher_information():
    """(3 * 1 + 1 * 5) / 4 = 2, and (0 * 1 + 2 * 5) / 2 = 5."""
    states = [{"w": torch.tensor([1.0, 1.0])}, {"w": torch.tensor([5.0, 5.0])}]
    fishers = [{"w": torch.tensor([3.0, 0.0])}, {"w": torch.tensor([1.0, 2.0])}]
    assert fisher_average(states, fishers.__getitem__)["w"].tolist() == pytest.approx([2.0, 5.0], abs=1e-5)
    weighted = fisher_average(states, fishers.__getitem__, [1.0, 3.0])["w"].tolist()
    assert weighted == pytest.approx([(3 * 1 + 3 * 5) / 6, 5.0], abs=1e-5)


def test_the_fisher_average_is_the_formula_in_float64():
    _, states = states_of(BATCHNORM)
    fishers, weights = random_like(states), [0.5, 2.0, 1.0]
    found = fisher_average(states, fishers.__getitem__, weights, floor=0.0)
    for key in fishers[0]:
        parts = [(w * f[key].double(), s[key].double()) for w, f, s in zip(weights, fishers, states, strict=True)]
        expected = sum(weight * tensor for weight, tensor in parts) / sum(weight for weight, _ in parts)
        torch.testing.assert_close(found[key].double(), expected, rtol=1e-5, atol=1e-6)


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=5), st.floats(1e-12, 1e12))
def test_equal_fishers_give_the_plain_weighted_mean(weights, scale):
    generator = torch.Generator().manual_seed(0)
    states = [{"w": torch.randn(7, generator=generator)} for _ in weights]
    fisher = {"w": scale * (torch.rand(7, generator=generator) + 0.01)}
    expected = sum(w * state["w"].double() for w, state in zip(weights, states, strict=True)) / math.fsum(weights)
    found = fisher_average(states, lambda _position: fisher, weights)["w"]
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_number_of_which_nothing_is_known_is_the_plain_mean():
    """Where all Fishers are 0, or far below the mean of all: 1e-12 against about 1."""
    states = [{"w": torch.tensor([0.0, 0.0, 0.0])}, {"w": torch.tensor([1.0, 1.0, 1.0])}]
    fishers = [{"w": torch.tensor([0.0, 1e-12, 2.0])}, {"w": torch.tensor([0.0, 0.0, 0.0])}]
    assert fisher_average(states, fishers.__getitem__)["w"].tolist() == pytest.approx([0.5, 0.5, 0.0], abs=1e-5)
    assert fisher_average(states, fishers.__getitem__, floor=0.0)["w"].tolist() == pytest.approx([0.5, 0.0, 0.0])
    zero = {"w": torch.zeros(3)}
    assert fisher_average(states, lambda _position: zero)["w"].tolist() == [0.5, 0.5, 0.5]


def test_only_ratios_of_fishers_matter():
    _, states = states_of(MLP)
    fishers = random_like(states)
    small = [{key: 1e-15 * tensor for key, tensor in fisher.items()} for fisher in fishers]
    one, other = (fisher_average(states, which.__getitem__) for which in (fishers, small))
    for key, tensor in one.items():
        torch.testing.assert_close(other[key], tensor, rtol=1e-5, atol=1e-6)


def test_the_order_of_ingredients_does_not_matter_beyond_rounding():
    _, states = states_of(MLP)
    fishers = random_like(states)
    found = fisher_average(states[::-1], fishers[::-1].__getitem__)
    for key, tensor in fisher_average(states, fishers.__getitem__).items():
        torch.testing.assert_close(found[key], tensor)


def test_an_ingredient_of_weight_zero_does_not_count():
    _, states = states_of(BATCHNORM)
    fishers = random_like(states)
    found = fisher_average(states, fishers.__getitem__, [1.0, 0.0, 2.0])
    for key, tensor in fisher_average(states[::2], fishers[::2].__getitem__, [1.0, 2.0]).items():
        torch.testing.assert_close(found[key], tensor)


def test_layers_that_predictions_hardly_depend_on_count_for_little():
    """Two models that differ in both layers; the second's last is so small that its first does not matter."""
    model = build_model(MLP)
    inputs, _ = labelled(model, (6,), 64, seed=2)
    good = perturbed(model.state_dict(), 0.3, seed=1)
    blank = {
        key: tensor * (0.01 if key.startswith("2") else 1)
        for key, tensor in perturbed(model.state_dict(), 0.3, seed=2).items()
    }
    soup = fisher_soup(model, [good, blank], inputs)
    near, far = ((soup["0.weight"] - state["0.weight"]).norm().item() for state in (good, blank))
    assert near < 0.1 * far


# Regression mean


def test_regmean_of_one_input_by_hand():
    """(4 * 1 + 1 * 6) / 5 = 2."""
    states = [{"weight": torch.tensor([[1.0]])}, {"weight": torch.tensor([[6.0]])}]
    grams = [{"weight": torch.tensor([[4.0]])}, {"weight": torch.tensor([[1.0]])}]
    assert regmean(states, grams.__getitem__)["weight"].item() == pytest.approx(2.0, abs=1e-5)


def linear_pair() -> tuple[nn.Linear, list[dict[str, Tensor]], list[Tensor]]:
    """(a layer, two sets of weights for it, inputs of each, which differ in spread)"""
    generator = torch.Generator().manual_seed(0)
    spreads = torch.tensor([[1.0, 2.0, 0.3, 1.0], [0.5, 1.0, 2.0, 1.0]])
    inputs = [torch.randn(30, 4, generator=generator) * spread for spread in spreads]
    states = [{"weight": torch.randn(3, 4, generator=generator)} for _ in range(2)]
    return nn.Linear(4, 3, bias=False), states, inputs


def test_without_shrinking_regmean_is_the_least_squares_fit_to_all_outputs():
    layer, states, inputs = linear_pair()
    soup = regmean(states, lambda at: gram_matrices(layer, states[at], lambda: [{"": inputs[at]}]), shrink=1.0)
    outputs = [x.double() @ state["weight"].double().T for x, state in zip(inputs, states, strict=True)]
    expected = torch.linalg.lstsq(torch.cat(inputs).double(), torch.cat(outputs)).solution.T
    torch.testing.assert_close(soup["weight"].double(), expected, rtol=1e-4, atol=1e-5)
    assert (expected - mean_of(states)["weight"]).abs().max() > 0.1


def test_ingredients_that_agree_on_their_outputs_are_reproduced():
    """Both fit one true layer on their own inputs, which lie in different directions: together they know it whole."""
    true = torch.tensor([[1.0, 2.0, 3.0]])
    states = [{"weight": torch.tensor([[1.0, 2.0, 0.0]])}, {"weight": torch.tensor([[0.0, 2.0, 3.0]])}]
    inputs = [torch.diag(torch.tensor([1.0, 1.0, 0.0])), torch.diag(torch.tensor([0.0, 1.0, 1.0]))]
    layer = nn.Linear(3, 1, bias=False)
    soup = regmean(states, lambda at: gram_matrices(layer, states[at], lambda: [{"": inputs[at]}]))
    torch.testing.assert_close(soup["weight"], true, rtol=1e-4, atol=1e-4)


def test_regmean_is_the_formula_with_off_diagonals_shrunk():
    _, states, inputs = linear_pair()
    grams = [{"weight": x.T @ x} for x in inputs]
    found = regmean(states, grams.__getitem__, shrink=0.9)["weight"]
    shrunk = [0.9 * g["weight"].double() + 0.1 * g["weight"].double().diag().diag() for g in grams]
    products = sum(g @ state["weight"].double().T for g, state in zip(shrunk, states, strict=True))
    torch.testing.assert_close(found.double(), (torch.linalg.inv(sum(shrunk)) @ products).T, rtol=1e-4, atol=1e-5)


def test_shrunk_to_the_diagonal_each_input_is_weighed_by_itself():
    _, states, inputs = linear_pair()
    grams = [{"weight": x.T @ x} for x in inputs]
    found = regmean(states, grams.__getitem__, shrink=0.0)["weight"]
    squares = [g["weight"].diag() for g in grams]
    expected = sum(q * state["weight"] for q, state in zip(squares, states, strict=True)) / sum(squares)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@given(st.integers(2, 5), st.sampled_from([0.0, 0.5, 0.9, 1.0]), st.floats(1e-6, 1e6))
def test_equal_gram_matrices_give_the_mean(number, shrink, scale):
    generator = torch.Generator().manual_seed(number)
    states = [{"weight": torch.randn(3, 4, generator=generator)} for _ in range(number)]
    inputs = torch.randn(20, 4, generator=generator)
    gram = {"weight": scale * inputs.T @ inputs}
    found = regmean(states, lambda _position: gram, shrink=shrink)["weight"]
    torch.testing.assert_close(found, mean_of(states)["weight"], rtol=1e-4, atol=1e-5)


def test_along_inputs_that_never_occur_regmean_is_the_mean():
    states = [{"weight": torch.tensor([[1.0, 1.0]])}, {"weight": torch.tensor([[3.0, 3.0]])}]
    grams = [{"weight": torch.tensor([[1.0, 0.0], [0.0, 0.0]])}, {"weight": torch.zeros(2, 2)}]
    found = regmean(states, grams.__getitem__, shrink=1.0)["weight"]
    torch.testing.assert_close(found, torch.tensor([[1.0, 2.0]]), rtol=0, atol=1e-5)
    nothing = {"weight": torch.zeros(2, 2)}
    assert regmean(states, lambda _position: nothing)["weight"].tolist() == [[2.0, 2.0]]


def test_what_is_not_a_linear_layer_is_the_mean_bit_for_bit():
    model, states = states_of(BATCHNORM)
    inputs = torch.randn(16, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    soup = regmean(states, lambda at: gram_matrices(model, states[at], lambda: [{"": inputs}]))
    mean = mean_of(states)
    assert [key for key in soup if not same_bits(soup[key], mean[key])] == ["5.weight"]


# Both


both = pytest.mark.parametrize("cook", [fisher_soup, regression_soup])


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_keys_order_and_stored_dtypes_are_kept_and_inputs_unchanged(cook, dtype):
    model, states = states_of(BATCHNORM)
    states = [{key: t.to(dtype) if t.is_floating_point() else t for key, t in state.items()} for state in states]
    before = [{key: tensor.clone() for key, tensor in state.items()} for state in states]
    soup = cook(model, states, torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(1)))
    assert list(soup) == list(states[0])
    assert [tensor.dtype for tensor in soup.values()] == [tensor.dtype for tensor in states[0].values()]
    model.load_state_dict(soup, strict=True)
    for tensor in soup.values():
        tensor.add_(1)
    for state, tensors in zip(states, before, strict=True):
        assert all(same_bits(state[key], tensors[key]) for key in tensors)


@both
def test_buffers_are_mixed_as_everywhere(cook):
    model, states = states_of(BATCHNORM)
    soup = cook(model, states, torch.randn(8, 3, 5, 5, generator=torch.Generator().manual_seed(1)))
    mean = mean_of(states)
    assert soup["1.num_batches_tracked"].item() == max(state["1.num_batches_tracked"].item() for state in states)
    assert all(same_bits(soup[key], mean[key]) for key in ("1.running_mean", "1.running_var"))


@both
def test_what_all_ingredients_have_in_common_stays_the_same_bit_for_bit(cook):
    model, states = states_of(MLP)
    frozen = states[0]["0.weight"].clone()
    frozen[0, :3] = torch.tensor([-0.0, 1e-30, 1 / 3])
    states = [state | {"0.weight": frozen.clone()} for state in states]
    soup = cook(model, states, torch.randn(8, 6, generator=torch.Generator().manual_seed(1)))
    assert same_bits(soup["0.weight"], frozen)
    assert not same_bits(soup["2.weight"], mean_of(states)["2.weight"])


@both
def test_tied_tensors_stay_equal(cook):
    model, states = states_of(TIED)
    soup = cook(model, states, torch.randn(8, 6, generator=torch.Generator().manual_seed(1)))
    assert same_bits(soup["first.weight"], soup["second.weight"])
    assert not same_bits(soup["first.weight"], mean_of(states)["first.weight"])


class Evidence(dict[str, Tensor]):
    """Like a dict, but can be watched."""


@pytest.mark.parametrize("average", [fisher_average, regmean])
def test_what_is_known_of_one_ingredient_is_let_go_before_the_next_is_asked_for(average):
    states = [{"weight": torch.randn(4, 4)} for _ in range(4)]
    alive: list[weakref.ref[Evidence]] = []

    def of(position: int) -> Evidence:
        assert position == len(alive)
        assert all(reference() is None for reference in alive)
        found = Evidence(weight=torch.eye(4))
        alive.append(weakref.ref(found))
        return found

    average(states, of)
    assert len(alive) == 4


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0], "there are 1 weights for 2 ingredients; give one for each"),
        ([1.0, -0.5], "the weights are 1, -0.5; expected numbers of at least 0, and one above 0"),
        ([1.0, math.nan], "the weights are 1, nan; expected"),
        ([0.0, 0.0], "the weights are 0, 0; expected"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    states = [{"w": torch.ones(1)}, {"w": torch.ones(1)}]
    with pytest.raises(RecipeError, match=message):
        fisher_average(states, lambda _position: {}, weights)


@pytest.mark.parametrize("average", [fisher_average, regmean])
def test_an_average_of_nothing_is_refused(average):
    with pytest.raises(RecipeError, match="the weights are empty; expected"):
        average([], lambda _position: {})


@pytest.mark.parametrize("shrink", [-0.1, 1.5, math.nan])
def test_shrink_out_of_range_is_refused(shrink):
    with pytest.raises(RecipeError, match=f"shrink is {shrink}; expected a number from 0 to 1, such as 0.9"):
        regmean([{"w": torch.ones(1)}], lambda _position: {}, shrink=shrink)
