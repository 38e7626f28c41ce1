"""A spectrally normalised soup is normalised by its own singular vectors, not by a mean of others'."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, spectral_norm

from soupviz.mixing.averaging import mix
from soupviz.mixing.formulas import Formula, made
from soupviz.mixing.spectral import normalised, singular_vectors
from soupviz.models.architecture import weights_of
from soupviz.weights.ingredients import Ingredient

LAYERS = {
    "linear": lambda: nn.Linear(6, 4),
    "square linear": lambda: nn.Linear(5, 5),
    "convolution": lambda: nn.Conv2d(3, 4, 3),
    "transposed": lambda: nn.ConvTranspose2d(3, 4, 3),
    "square transposed": lambda: nn.ConvTranspose2d(4, 4, 3),
}
HOW = {"hook": spectral_norm, "parametrization": parametrizations.spectral_norm}
INPUTS = {"linear": (6,), "square linear": (5,), "convolution": (3, 8, 8)}
INPUTS |= {"transposed": (3, 8, 8), "square transposed": (4, 8, 8)}


def network(layer: str, how: str, seed: int, passes: int = 100) -> nn.Module:
    """A normalised layer whose vectors were brought near by so many passes of training mode."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the hook is deprecated, and in use
        torch.manual_seed(seed)
        model = nn.Sequential(HOW[how](LAYERS[layer]()))
        for _ in range(passes):
            model(torch.zeros(2, *INPUTS[layer]))
    return model.eval()


def ingredient(name: str, tensors) -> Ingredient:
    return Ingredient(name, Path(f"{name}.pt"), {key: tensor.clone() for key, tensor in tensors.items()}, name)


def flipped(tensors):
    """The same function: both vectors with the other sign."""
    vectors = normalised(tensors)
    return {key: -tensor if key in vectors else tensor for key, tensor in tensors.items()}


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("passes", [1, 100])
def test_the_soup_of_two_equal_functions_is_that_function(layer, how, passes):
    """Bit for bit, whether or not their vectors have settled."""
    model = network(layer, how, 0, passes)
    state = weights_of(model)
    soup = mix([(ingredient("a", state), 0.5), (ingredient("b", flipped(state)), 0.5)])
    inputs = torch.randn(3, *INPUTS[layer], generator=torch.Generator().manual_seed(1))
    expected = model(inputs)
    model.load_state_dict(soup)
    assert torch.equal(model(inputs), expected)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("how", HOW)
def test_the_largest_singular_value_of_a_soup_is_one(layer, how):
    one, other = (weights_of(network(layer, how, seed)) for seed in (0, 1))
    model = network(layer, how, 2)
    model.load_state_dict(mix([(ingredient("a", one), 0.3), (ingredient("b", flipped(other)), 0.7)]))
    weight = model[0].weight.detach()
    if how == "hook":  # computed at the next pass
        model(torch.zeros(1, *INPUTS[layer]))
        weight = model[0].weight.detach()
    dim = 1 if "transposed" in layer else 0
    matrix = weight.movedim(dim, 0).flatten(1)
    assert torch.linalg.matrix_norm(matrix, ord=2).item() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("how", HOW)
def test_one_ingredient_is_what_it_was_whatever_its_coefficient(how):
    state = weights_of(network("linear", how, 0))
    vectors = normalised(state)
    assert len(vectors) == 2
    for coefficient in (1.0, 0.5):
        soup = mix([(ingredient("a", state), coefficient)])
        assert all(torch.equal(soup[key], state[key]) for key in vectors)


def test_merges_by_formula_are_normalised_by_their_own_vectors_too():
    base, one, other = (ingredient(str(seed), weights_of(network("linear", "hook", seed))) for seed in range(3))
    known = {"base": base, "a": one, "b": other}
    formula = Formula(
        kind="ties", parts=(("a", 0.5), ("b", 0.5)), base="base", parameters={"density": 0.5, "scale": 1.0}
    )
    merged = made("m", formula, known.__getitem__, {})
    left, right = singular_vectors(
        merged.tensors["0.weight_orig"], one.tensors["0.weight_u"], one.tensors["0.weight_v"]
    )
    assert torch.equal(merged.tensors["0.weight_u"], left)
    assert torch.equal(merged.tensors["0.weight_v"], right)


def test_singular_vectors_are_those_of_the_decomposition():
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    start = [torch.nn.functional.normalize(torch.ones(size), dim=0) for size in (4, 6)]
    left, right = singular_vectors(weight, *start)
    u, _, vh = torch.linalg.svd(weight)
    assert (left @ u[:, 0]).abs().item() == pytest.approx(1.0, abs=1e-5)
    assert (right @ vh[0]).abs().item() == pytest.approx(1.0, abs=1e-5)
    assert (left @ weight @ right).item() > 0
