"""The field's merge formulas: by hand, by what must hold, and against mergekit's own results."""

import math
import subprocess
from collections.abc import Callable
from itertools import permutations
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks.mixes import mergekit
from soupviz.errors import RecipeError
from soupviz.mixing import merging
from soupviz.mixing.merging import breadcrumbs, dare, karcher, model_stock, slerp, task_arithmetic, ties

WEIGHTS = [0.2, 0.3, 0.5]
HALVES = [0.5, 0.5]
EQUAL = [1 / 3] * 3
HALF = math.sqrt(0.5)

Merge = Callable[[Tensor, list[Tensor], list[float]], Tensor]
BY_TASK_VECTORS: dict[str, Merge] = {
    "task_arithmetic": lambda base, tensors, weights: task_arithmetic(base, tensors, weights, scale=0.7),
    "ties": lambda base, tensors, weights: ties(base, tensors, weights, density=0.4, scale=0.7),
    "dare": lambda base, tensors, weights: dare(base, tensors, weights, density=0.4, scale=0.7, generator_seed=3),
    "breadcrumbs": lambda base, tensors, weights: breadcrumbs(
        base, tensors, weights, density=0.4, gamma=0.1, scale=0.7
    ),
}
MERGES: dict[str, Merge] = BY_TASK_VECTORS | {
    "model_stock": lambda base, tensors, weights: model_stock(base, tensors),
    "slerp": lambda base, tensors, weights: slerp(tensors[0], tensors[1], 0.3),
    "karcher": lambda base, tensors, weights: karcher(tensors, weights),
}
each_merge = pytest.mark.parametrize("merge", [pytest.param(merge, id=name) for name, merge in MERGES.items()])


def vector(*values: float) -> Tensor:
    return torch.tensor(values)


def kitchen(*shape: int, seed: int = 0, num_tensors: int = 3, alike: float = 1.0) -> tuple[Tensor, list[Tensor]]:
    """A base and tensors around it, whose task vectors share a part of size `alike`."""
    generator = torch.Generator().manual_seed(seed)
    base, shared = torch.randn(shape, generator=generator), torch.randn(shape, generator=generator)
    noise = [torch.randn(shape, generator=generator) for _ in range(num_tensors)]
    return base, [base + 0.1 * (alike * shared + one) for one in noise]


def weighted_mean(tensors: list[Tensor], weights: list[float]) -> Tensor:
    exact = sum(tensor.double() * weight for tensor, weight in zip(tensors, weights, strict=True))
    return torch.as_tensor(exact).float()


def same_bits(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a.view(torch.int32), b.view(torch.int32))


# All of them


@each_merge
def test_a_merge_leaves_its_inputs_unchanged_and_shares_no_memory_with_them(merge):
    base, tensors = kitchen(5, 4)
    before = [tensor.clone() for tensor in (base, *tensors)]
    merge(base, tensors, WEIGHTS).add_(1)
    assert all(same_bits(*pair) for pair in zip((base, *tensors), before, strict=True))


@each_merge
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_merge_of_any_float_dtype_is_that_of_the_same_values_in_float32(merge, dtype):
    base, tensors = kitchen(5, 4)
    base, tensors = base.to(dtype), [tensor.to(dtype) for tensor in tensors]
    exact = merge(base.float(), [tensor.float() for tensor in tensors], WEIGHTS)
    assert same_bits(merge(base, tensors, WEIGHTS), exact)


@each_merge
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (2, 3, 1, 2)])
def test_a_merge_has_the_shape_of_its_tensors_and_is_finite(merge, shape):
    base, tensors = kitchen(*shape)
    merged = merge(base, tensors, WEIGHTS)
    assert merged.shape == shape
    assert merged.dtype == torch.float32
    assert merged.isfinite().all()


@each_merge
def test_a_merge_twice_has_the_same_bits(merge):
    base, tensors = kitchen(50, 40)
    assert same_bits(merge(base, tensors, WEIGHTS), merge(base, tensors, WEIGHTS))


@each_merge
def test_a_merge_does_not_depend_on_the_layout_in_memory(merge):
    base, tensors = kitchen(5, 4)
    turned = [tensor.t().contiguous().t() for tensor in tensors]
    assert not turned[0].is_contiguous()
    torch.testing.assert_close(merge(base, turned, WEIGHTS), merge(base, tensors, WEIGHTS), rtol=0, atol=0)


@pytest.mark.parametrize("name", sorted(MERGES.keys() - {"dare", "slerp"}))
def test_a_merge_does_not_depend_on_the_order_of_the_tensors_beyond_rounding(name):
    base, tensors = kitchen(6, 5)
    merged = MERGES[name](base, tensors, WEIGHTS)
    for order in permutations(range(3)):
        other = MERGES[name](base, [tensors[index] for index in order], [WEIGHTS[index] for index in order])
        torch.testing.assert_close(other, merged, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", BY_TASK_VECTORS)
def test_task_vectors_of_zero_leave_the_base_as_it_is(name):
    base, _ = kitchen(5, 4)
    assert same_bits(BY_TASK_VECTORS[name](base, [base.clone()] * 3, WEIGHTS), base)


@pytest.mark.parametrize("name", ["model_stock", "slerp", "karcher"])
def test_a_merge_of_equal_tensors_is_that_tensor_beyond_rounding(name):
    base, _ = kitchen(5, 4)
    torch.testing.assert_close(MERGES[name](base, [base.clone()] * 3, WEIGHTS), base)


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=5), st.integers(0, 99))
def test_scale_1_and_density_1_give_the_weighted_mean(values, seed):
    weights = [value / sum(values) for value in values]
    base, tensors = kitchen(7, seed=seed, num_tensors=len(weights))
    mean = weighted_mean(tensors, weights)
    for merged in (
        task_arithmetic(base, tensors, weights, scale=1.0),
        dare(base, tensors, weights, density=1.0, scale=1.0, generator_seed=seed),
        breadcrumbs(base, tensors, weights, density=1.0, gamma=0.3, scale=1.0),
    ):
        torch.testing.assert_close(merged, mean, rtol=1e-5, atol=1e-6)
    agreeing = [base + (tensor - base).abs() for tensor in tensors]
    merged = ties(base, agreeing, weights, density=1.0, scale=1.0)
    torch.testing.assert_close(merged, weighted_mean(agreeing, weights), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("density", [0.0, -0.1, 1.01, 90.0, math.nan])
def test_a_density_that_is_no_share_is_refused(density):
    base, tensors = kitchen(4)
    wording = rf"density is {density}; expected the share of elements to keep, above 0 and at most 1\."
    with pytest.raises(RecipeError, match=wording):
        ties(base, tensors, WEIGHTS, density=density, scale=1.0)
    with pytest.raises(RecipeError, match=wording):
        dare(base, tensors, WEIGHTS, density=density, scale=1.0, generator_seed=0)
    with pytest.raises(RecipeError, match=wording):
        breadcrumbs(base, tensors, WEIGHTS, density=density, gamma=0.0, scale=1.0)


@pytest.mark.parametrize("gamma", [-0.1, 1.0, math.nan])
def test_a_gamma_that_is_no_share_is_refused(gamma):
    base, tensors = kitchen(4)
    with pytest.raises(RecipeError, match=rf"gamma is {gamma}; expected the share .* from 0 to below 1\."):
        breadcrumbs(base, tensors, WEIGHTS, density=0.5, gamma=gamma, scale=1.0)


# Task arithmetic


def test_task_arithmetic_adds_the_scaled_weighted_sum_of_task_vectors():
    base, a, b = vector(1, 2), vector(3, 2), vector(1, 6)
    assert task_arithmetic(base, [a, b], [0.25, 0.75], scale=2.0).tolist() == [2.0, 8.0]


def test_task_arithmetic_of_scale_0_is_the_base():
    base, tensors = kitchen(9)
    assert same_bits(task_arithmetic(base, tensors, WEIGHTS, scale=0.0), base)


# TIES


def test_ties_trims_elects_and_averages():
    """Trimmed: [4, -3, 0, 0] and [0, 5, -6, 0]; elected: + + - none; means: 4, 5, -6, 0."""
    base = vector(1, 1, 1, 1)
    a, b = base + vector(4, -3, 1, 0.5), base + vector(2, 5, -6, 0.25)
    assert ties(base, [a, b], HALVES, density=0.5, scale=0.5).tolist() == [3.0, 3.5, -2.0, 1.0]


def test_ties_averages_with_the_weights_of_those_that_agree():
    """+ is elected by 0.25 + 2 against 0.5; the mean is (0.25 * 1 + 0.5 * 4) / 0.75."""
    merged = ties(vector(0), [vector(1), vector(4), vector(-2)], [0.25, 0.5, 0.25], density=1.0, scale=1.0)
    assert merged.tolist() == [3.0]


def test_ties_elects_by_weight_and_not_by_number():
    merged = ties(vector(0), [vector(1), vector(1), vector(-4)], EQUAL, density=1.0, scale=1.0)
    assert merged.item() == -4.0


def test_ties_keeps_the_base_where_the_signs_are_tied():
    assert ties(vector(7, 7), [vector(8, 9), vector(6, 9)], HALVES, density=1.0, scale=1.0).tolist() == [7.0, 9.0]


@pytest.mark.parametrize("order", list(permutations([3.0, 5.0, -1.0, -7.0])))
def test_ties_finds_a_tie_in_whatever_order_the_tensors_come(order):
    """In float32 a sum of thirds of such numbers is not always 0."""
    tensors = [vector(value) for value in order] + [vector(0), vector(0)]
    assert ties(vector(0), tensors, [1 / 6] * 6, density=1.0, scale=1.0).item() == 0.0


def test_ties_turned_around_is_the_same_turned_around():
    _, tensors = kitchen(20)
    base = torch.zeros(20)
    merged = ties(base, tensors, WEIGHTS, density=0.5, scale=1.0)
    turned = ties(base, [-tensor for tensor in tensors], WEIGHTS, density=0.5, scale=1.0)
    torch.testing.assert_close(turned, -merged, rtol=0, atol=0)


def test_of_equal_magnitudes_the_earlier_are_kept():
    merged = ties(torch.zeros(5), [vector(0, 1, -1, 1, 1)], [1.0], density=0.4, scale=1.0)
    assert merged.tolist() == [0.0, 1.0, -1.0, 0.0, 0.0]


@given(st.integers(1, 40), st.floats(0.001, 1), st.floats(0, 0.99), st.integers(1, 5), st.integers(0, 99))
def test_trimming_keeps_what_a_stable_sort_would_keep(size, density, gamma, levels, seed):
    """Few levels make many equal magnitudes."""
    generator = torch.Generator().manual_seed(seed)
    delta = torch.randint(1, 1 + levels, (size,), generator=generator) * (torch.rand(size, generator=generator) - 0.5)
    delta = delta.sign() * delta.abs().ceil()
    kept = max(1, int(density * size))
    dropped = min(int(gamma * size), size - kept) if density < 1 else 0
    order = delta.abs().argsort(descending=True, stable=True)[dropped : dropped + kept]
    expected = torch.zeros(size).index_copy_(0, order, delta[order])
    merged = breadcrumbs(torch.zeros(size), [delta], [1.0], density=density, gamma=gamma, scale=1.0)
    assert merged.tolist() == expected.tolist()


# DARE


def test_dare_keeps_an_element_enlarged_or_drops_it():
    base = torch.zeros(1000)
    merged = dare(base, [torch.ones(1000)], [1.0], density=0.25, scale=0.5, generator_seed=0)
    assert sorted(set(merged.tolist())) == [0.0, 2.0]


@given(st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 9))
def test_dare_keeps_the_share_that_density_says(density, seed):
    size = 100_000
    merged = dare(torch.zeros(size), [torch.ones(size)], [1.0], density=density, scale=1.0, generator_seed=seed)
    kept = int((merged != 0).sum())
    assert abs(kept - density * size) < 5 * math.sqrt(size * density * (1 - density))
    assert merged.mean().item() == pytest.approx(1.0, abs=5 * math.sqrt((1 - density) / density / size))


def test_dare_drops_other_elements_of_each_task_vector():
    """Weights 0.25 and 0.75 tell whose element is left: of none, of the one, of the other or of both."""
    tensors = [torch.ones(1000), torch.ones(1000)]
    merged = dare(torch.zeros(1000), tensors, [0.25, 0.75], density=0.5, scale=1.0, generator_seed=0)
    assert sorted(set(merged.tolist())) == [0.0, 0.5, 1.5, 2.0]


def test_dare_of_the_same_seed_has_the_same_bits_and_of_another_another_mask():
    base, tensors = kitchen(1000)
    first, again, other = (
        dare(base, tensors, WEIGHTS, density=0.5, scale=1.0, generator_seed=seed) for seed in (1, 1, 2)
    )
    assert same_bits(first, again)
    assert not same_bits(first, other)


def test_dare_leaves_the_global_random_state_alone():
    base, tensors = kitchen(10)
    before = torch.random.get_rng_state()
    dare(base, tensors, WEIGHTS, density=0.5, scale=1.0, generator_seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_dare_of_density_1_is_task_arithmetic_bit_for_bit():
    base, tensors = kitchen(1000)
    merged = dare(base, tensors, WEIGHTS, density=1.0, scale=0.7, generator_seed=5)
    assert same_bits(merged, task_arithmetic(base, tensors, WEIGHTS, scale=0.7))


# Breadcrumbs


def test_breadcrumbs_drops_the_largest_and_the_smallest():
    """Of ten, gamma drops 10 and -7, density keeps the next three."""
    delta = vector(10, 1, -5, 3, 2, -4, 0.5, 0.1, 6, -7)
    merged = breadcrumbs(torch.ones(10), [delta + 1], [1.0], density=0.3, gamma=0.2, scale=2.0)
    assert (merged - 1).tolist() == [0, 0, -10, 0, 0, -8, 0, 0, 12, 0]


def test_breadcrumbs_drops_fewer_of_the_largest_where_density_needs_them():
    """Of ten, density keeps nine, so that gamma can drop one and not five."""
    merged = breadcrumbs(torch.zeros(10), [torch.arange(1.0, 11)], [1.0], density=0.9, gamma=0.5, scale=1.0)
    assert merged.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


def test_breadcrumbs_of_density_1_is_task_arithmetic_bit_for_bit():
    base, tensors = kitchen(1000)
    merged = breadcrumbs(base, tensors, WEIGHTS, density=1.0, gamma=0.5, scale=0.7)
    assert same_bits(merged, task_arithmetic(base, tensors, WEIGHTS, scale=0.7))


# Model Stock


def test_model_stock_of_two_goes_by_the_cosine_of_their_angle():
    """cos 60 degrees is 1/2, so that t = 2/3; the mean is (3/4, sqrt(3) / 4) away from the base."""
    base = vector(10, -5)
    a, b = base + vector(1, 0), base + vector(0.5, math.sqrt(0.75))
    expected = base + vector(1 / 2, math.sqrt(3) / 6)
    torch.testing.assert_close(model_stock(base, [a, b]), expected)


def test_model_stock_of_three_goes_by_the_mean_of_the_cosines_and_not_of_the_angles():
    """The cosines are 0, sqrt(1/2) and sqrt(1/2); the mean of the angles would be 60 degrees."""
    tensors = [vector(1, 0), vector(0, 1), vector(1, 1)]
    cosine = 2 * HALF / 3
    share = 3 * cosine / (1 + 2 * cosine)
    torch.testing.assert_close(model_stock(torch.zeros(2), tensors), vector(2 / 3, 2 / 3) * share)


def test_model_stock_of_task_vectors_at_right_angles_is_the_base():
    assert model_stock(vector(5, 5), [vector(6, 5), vector(5, 7)]).tolist() == [5.0, 5.0]


@pytest.mark.parametrize("directions", [[1.0, -1.0], [1.0, 1.0, -1.0], [1.0, -0.5]])
def test_model_stock_stays_at_the_base_where_task_vectors_oppose_each_other(directions):
    """The bare formula gives t = -3 for the signs + + -, and divides by zero for + -."""
    assert model_stock(vector(5), [vector(5 + direction) for direction in directions]).tolist() == [5.0]


def test_model_stock_is_the_mean_where_a_tensor_is_the_base():
    assert model_stock(vector(4, 4), [vector(4, 4), vector(8, 6)]).tolist() == [6.0, 5.0]


def test_model_stock_of_one_tensor_is_that_tensor_bit_for_bit():
    base, [only] = kitchen(9, num_tensors=1)
    assert same_bits(model_stock(base, [only]), only)


def test_model_stock_of_equal_tensors_is_that_tensor():
    base, [only] = kitchen(9, num_tensors=1)
    torch.testing.assert_close(model_stock(base, [only, only, only]), only)


def test_model_stock_comes_closer_to_the_centre_than_the_mean():
    """What the method is for: tensors that scatter around base + shared."""
    base, tensors = kitchen(10_000, alike=0.3)
    generator = torch.Generator().manual_seed(0)
    _, shared = torch.randn(10_000, generator=generator), torch.randn(10_000, generator=generator)
    centre = base + 0.03 * shared
    mean = weighted_mean(tensors, EQUAL)
    assert (model_stock(base, tensors) - centre).norm() < 0.8 * (mean - centre).norm()


@pytest.mark.parametrize("size", [1e-20, 1e15])
def test_cosines_are_those_of_tiny_and_of_huge_tensors_too(size):
    a, b = vector(1, 0) * size, vector(0.5, math.sqrt(0.75)) * size
    torch.testing.assert_close(model_stock(torch.zeros(2), [a, b]) / size, vector(1 / 2, math.sqrt(3) / 6))


# SLERP


def test_slerp_of_unit_vectors_goes_along_the_circle():
    torch.testing.assert_close(slerp(vector(1, 0), vector(0, 1), 1 / 3), vector(math.sqrt(0.75), 0.5))


def test_slerp_takes_the_angle_of_directions_and_weighs_the_tensors_as_they_are():
    torch.testing.assert_close(slerp(vector(3, 0), vector(0, 2), 0.5), vector(3 * HALF, 2 * HALF))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_slerp_at_0_and_1_gives_the_ends_bit_for_bit(dtype):
    a, b = vector(0.1, -0.0, 1e-30).to(dtype), vector(-0.0, 7, 1 / 3).to(dtype)
    assert same_bits(slerp(a, b, 0.0), a.float())
    assert same_bits(slerp(a, b, 1.0), b.float())


def test_slerp_hands_out_ends_that_are_not_the_inputs():
    a, b = vector(1, 0), vector(0, 1)
    slerp(a, b, 0.0).add_(1)
    slerp(a, b, 1.0).add_(1)
    assert (a.tolist(), b.tolist()) == ([1.0, 0.0], [0.0, 1.0])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        pytest.param([1.0, 0.0], [2.0, 0.001], id="nearly colinear"),
        pytest.param([1.0, 0.0], [-2.0, 0.001], id="nearly opposite"),
        pytest.param([1.0, 1.0], [1.0, 1.0], id="equal"),
        pytest.param([0.0, 0.0], [3.0, 4.0], id="a is zero"),
        pytest.param([3.0, 4.0], [0.0, 0.0], id="b is zero"),
        pytest.param([0.0, 0.0], [0.0, 0.0], id="both are zero"),
    ],
)
def test_slerp_is_linear_where_there_is_no_arc(a, b):
    a, b = vector(*a), vector(*b)
    torch.testing.assert_close(slerp(a, b, 0.25), 0.75 * a + 0.25 * b)


def test_slerp_and_the_line_meet_where_one_gives_way_to_the_other():
    """At a cosine of 0.9995 the arc is at most an eighth of the squared angle away from its chord."""
    angle = math.acos(merging.COLINEAR)
    inside, outside = (slerp(vector(1, 0), vector(math.cos(x), math.sin(x)), 0.5) for x in (angle - 1e-5, angle + 1e-5))
    assert 0 < (inside - outside).norm() < angle**2 / 7


@given(st.floats(0, 1), st.integers(0, 99))
def test_slerp_backwards_is_slerp(t, seed):
    _, [a, b] = kitchen(6, seed=seed, num_tensors=2)
    torch.testing.assert_close(slerp(a, b, t), slerp(b, a, 1 - t), rtol=1e-5, atol=1e-6)


@given(st.floats(0, 1), st.integers(0, 99))
def test_slerp_of_vectors_of_equal_norm_keeps_the_norm(t, seed):
    a, b = (torch.nn.functional.normalize(noise, dim=0) for noise in torch.randn(2, 50, generator=seeded(seed)))
    assert slerp(a, b, t).norm().item() == pytest.approx(1.0, abs=1e-5)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Karcher


def test_karcher_averages_directions_and_norms_apart():
    """45 degrees, and as long as 1 and 3 are on average."""
    torch.testing.assert_close(karcher([vector(1, 0), vector(0, 3)], HALVES), vector(2 * HALF, 2 * HALF))


def test_karcher_of_two_divides_the_angle_by_the_weights():
    expected = vector(math.sqrt(0.75), 0.5)
    torch.testing.assert_close(karcher([vector(1, 0), vector(0, 1)], [2 / 3, 1 / 3]), expected)


def test_karcher_of_three_axes_is_the_diagonal():
    torch.testing.assert_close(karcher(list(torch.eye(3)), EQUAL), torch.full((3,), math.sqrt(1 / 3)))


@given(st.floats(0.01, 0.99), st.integers(0, 99))
def test_karcher_of_two_unit_vectors_is_slerp(t, seed):
    a, b = (torch.nn.functional.normalize(noise, dim=0) for noise in torch.randn(2, 50, generator=seeded(seed)))
    torch.testing.assert_close(karcher([a, b], [1 - t, t]), slerp(a, b, t), rtol=1e-5, atol=1e-6)


@given(st.integers(0, 99))
def test_no_direction_nearby_has_smaller_squared_angles_than_karchers(seed):
    tensors = [torch.ones(4) + noise for noise in torch.rand(3, 4, generator=seeded(seed)) * 3]
    units = torch.stack([torch.nn.functional.normalize(tensor.double(), dim=0) for tensor in tensors])

    def spread(point: Tensor) -> float:
        return float((torch.tensor(WEIGHTS).double() * (units @ point).clamp(-1, 1).acos() ** 2).sum())

    mean = torch.nn.functional.normalize(karcher(tensors, WEIGHTS).double(), dim=0)
    for step in torch.randn(20, 4, generator=seeded(seed)).double() * 0.01:
        assert spread(mean) <= spread(torch.nn.functional.normalize(mean + step, dim=0))


def test_karcher_is_not_the_normalised_mean():
    tensors, weights = [vector(1, 0), vector(-HALF, HALF)], [2 / 3, 1 / 3]
    normalised = karcher(tensors, weights, iterations=0)
    torch.testing.assert_close(normalised, torch.nn.functional.normalize(vector(2 - HALF, HALF), dim=0))
    torch.testing.assert_close(karcher(tensors, weights), vector(HALF, HALF))


def test_karcher_ends_at_a_step_below_the_tolerance():
    tensors, weights = [vector(1, 0), vector(-HALF, HALF)], [2 / 3, 1 / 3]
    assert same_bits(karcher(tensors, weights, tolerance=2.0), karcher(tensors, weights, iterations=0))


def test_karcher_of_weight_1_is_that_tensor_bit_for_bit():
    _, tensors = kitchen(9)
    assert same_bits(karcher(tensors, [0.0, 1.0, 0.0]), tensors[1])
    assert same_bits(karcher(tensors[:1], [1.0]), tensors[0])


def test_karcher_of_a_multiple_is_the_multiple_in_between():
    torch.testing.assert_close(karcher([vector(3, 4), vector(6, 8)], HALVES), vector(4.5, 6))


def test_a_zero_tensor_counts_in_karchers_norm_only():
    assert karcher([vector(0, 0), vector(0, 4)], [0.25, 0.75]).tolist() == [0.0, 3.0]


def test_karcher_of_zeros_is_zero():
    assert karcher([vector(0, 0), vector(0, 0)], HALVES).tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("weights", "expected"), [([0.5, 0.5], 2.0), ([0.25, 0.75], -2.5), ([0.75, 0.25], 1.5)])
def test_karcher_of_opposites_has_the_direction_of_the_heavier_or_the_first(weights, expected):
    torch.testing.assert_close(karcher([vector(1, 0), vector(-3, 0)], weights), vector(expected, 0))


# Pieces


def test_norms_and_cosines_do_not_depend_on_the_pieces(monkeypatch):
    base, tensors = kitchen(100)
    whole = [MERGES[name](base, tensors, WEIGHTS) for name in ("model_stock", "slerp", "karcher")]
    monkeypatch.setattr(merging, "PIECE", 7)
    pieces = [MERGES[name](base, tensors, WEIGHTS) for name in ("model_stock", "slerp", "karcher")]
    torch.testing.assert_close(pieces, whole)


# mergekit


def by_mergekit(folder: Path, method: str, files: dict[str, dict[str, Tensor]], base: str | None, **parameters: float):
    """What `mergekit-pytorch` writes; methods that have a lambda have a weight for each file beside the base."""
    command = mergekit()
    if command is None:
        pytest.skip("no mergekit-pytorch: set SOUPVIZ_MERGEKIT, or put it on the path")
    for name, tensors in files.items():
        save_file(tensors, folder / f"{name}.safetensors")
    paths = {name: str(folder / f"{name}.safetensors") for name in files}
    config = {
        "merge_method": method,
        "models": [{"model": path} for name, path in paths.items() if name != base],
        "parameters": parameters,
        "dtype": "float32",
    }
    if base is not None:
        config["base_model"] = paths[base]
    if "lambda" in parameters:
        for model, weight in zip(config["models"], WEIGHTS, strict=True):
            model["parameters"] = {"weight": weight}
    (folder / "mergekit.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [command, str(folder / "mergekit.yaml"), str(folder / "out")], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return load_file(folder / "out" / "model.safetensors")


def checkpoints(num_tensors: int = 3, alike: float = 1.0) -> dict[str, dict[str, Tensor]]:
    """A base and tensors around it, as files of three tensors each."""
    shapes = {"matrix": (12, 9), "kernel": (4, 3, 3, 3), "vector": (31,)}
    files: dict[str, dict[str, Tensor]] = {name: {} for name in ("base", *"abc"[:num_tensors])}
    for seed, (key, shape) in enumerate(shapes.items()):
        base, tensors = kitchen(*shape, seed=seed, num_tensors=num_tensors, alike=alike)
        for file, tensor in zip(files.values(), [base, *tensors], strict=True):
            file[key] = tensor
    return files


def compare(found: dict[str, Tensor], files: dict[str, dict[str, Tensor]], merge: Merge) -> None:
    base, *others = files.values()
    assert found.keys() == base.keys()
    for key, tensor in found.items():
        ours = merge(base[key], [other[key] for other in others], WEIGHTS)
        torch.testing.assert_close(ours, tensor, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("method", "merge", "parameters"),
    [
        pytest.param("task_arithmetic", MERGES["task_arithmetic"], {}, id="task_arithmetic"),
        pytest.param("ties", MERGES["ties"], {"density": 0.4}, id="ties"),
        pytest.param("breadcrumbs", MERGES["breadcrumbs"], {"density": 0.4, "gamma": 0.1}, id="breadcrumbs"),
        pytest.param(
            "dare_linear",
            lambda base, tensors, weights: dare(base, tensors, weights, density=1.0, scale=0.7, generator_seed=0),
            {"density": 1.0},
            id="dare",
        ),
    ],
)
def test_merges_of_task_vectors_are_mergekits(tmp_path, method, merge, parameters):
    files = checkpoints()
    compare(by_mergekit(tmp_path, method, files, "base", **parameters, **{"lambda": 0.7}), files, merge)


@pytest.mark.parametrize("num_tensors", [2, 3])
def test_model_stock_is_mergekits_where_cosines_are_positive(tmp_path, num_tensors):
    files = checkpoints(num_tensors)
    compare(by_mergekit(tmp_path, "model_stock", files, "base"), files, MERGES["model_stock"])


def test_slerp_is_mergekits_on_the_arc_and_on_the_line(tmp_path):
    files = checkpoints(1)
    files["a"]["vector"] = files["base"]["vector"] + 0.01 * files["a"]["matrix"][0, 0]
    cosines = {
        key: torch.cosine_similarity(files["base"][key].view(-1), files["a"][key].view(-1), 0) for key in files["a"]
    }
    assert cosines["matrix"] < merging.COLINEAR < cosines["vector"]
    found = by_mergekit(tmp_path, "slerp", files, "base", t=0.3)
    compare(found, files, lambda base, tensors, weights: slerp(base, tensors[0], 0.3))


def test_karcher_of_equal_weights_is_mergekits(tmp_path):
    files = checkpoints()
    found = by_mergekit(tmp_path, "karcher", files, None, max_iter=50, tol=1e-6)
    compare(found, files, lambda base, tensors, weights: karcher([base, *tensors], [0.25] * 4))
