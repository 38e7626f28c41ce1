import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kitchens import BATCHNORM, build_model, perturbed
from torch import Tensor, nn

from soupviz.errors import CompatibilityError, RecipeError
from soupviz.mixing.averaging import combine, count_clamped, effective, mean_of, mix, mix_tensors, resolve
from soupviz.weights.ingredients import Ingredient
from soupviz.weights.scratch import PIECE


def ingredient(name: str, **tensors: Tensor) -> Ingredient:
    return Ingredient(name, Path(name), {key.replace("__", "."): value for key, value in tensors.items()}, name)


def random_ingredients(number: int, seed: int = 0, dtype: torch.dtype = torch.float32, size: int = 33):
    generator = torch.Generator().manual_seed(seed)
    return [
        ingredient(
            f"i{index}", weight=torch.randn(size, 3, generator=generator).to(dtype), bias=torch.randn(1).to(dtype)
        )
        for index in range(number)
    ]


def same_bits(a: Tensor, b: Tensor) -> bool:
    as_bytes = [tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (a, b)]
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(*as_bytes)


weights = st.floats(-2, 2).filter(lambda value: abs(value) > 1e-3)
mixes = st.lists(weights, min_size=1, max_size=6)


# Cases computed by hand


def test_mix_is_the_weighted_sum():
    a, b = ingredient("a", w=torch.tensor([1.0, 2.0, -4.0])), ingredient("b", w=torch.tensor([3.0, 0.0, 8.0]))
    assert mix([(a, 0.25), (b, 0.75)])["w"].tolist() == [2.5, 0.5, 5.0]


def test_mix_of_one_ingredient_returns_it_unchanged():
    [only] = random_ingredients(1, dtype=torch.bfloat16)
    mixed = mix([(only, 1.0)])
    assert all(same_bits(mixed[key], only.tensors[key]) for key in only.tensors)


def test_mix_may_have_coefficients_that_do_not_sum_to_one():
    a = ingredient("a", w=torch.tensor([2.0]))
    assert mix([(a, 0.5), (a, 1.0)])["w"].item() == 3.0
    assert mix([(a, 0.5)])["w"].item() == 1.0


def test_mix_of_equal_ingredients_scales_where_the_coefficients_do_not_sum_to_one():
    a, b = ingredient("a", w=torch.tensor([2.0])), ingredient("b", w=torch.tensor([2.0]))
    assert mix([(a, 0.25), (b, 0.25)])["w"].item() == 1.0


def test_mix_keeps_keys_order_and_shapes():
    a, b = random_ingredients(2)
    mixed = mix([(a, 0.5), (b, 0.5)])
    assert list(mixed) == list(a.tensors)
    assert [tensor.shape for tensor in mixed.values()] == [tensor.shape for tensor in a.tensors.values()]


def test_mix_is_lazy_tensor_by_tensor():
    """A damaged second tensor is not looked at before the first has been handed out."""
    a = ingredient("a", first=torch.ones(2), second=torch.ones(2))
    b = ingredient("b", first=torch.zeros(2), second=torch.ones(3))
    tensors = mix_tensors([(a, 0.5), (b, 0.5)])
    assert next(tensors)[1].tolist() == [0.5, 0.5]
    with pytest.raises(RuntimeError):
        next(tensors)


# What is not a mean


def lora(name: str, **factors: Tensor) -> Ingredient:
    return Ingredient(name, Path(name), {f"q.lora_{key}.default.weight": value for key, value in factors.items()}, name)


def test_factors_of_a_low_rank_update_are_not_averaged_apart():
    a, b = (
        lora(name, A=torch.full((1, 2), value), B=torch.full((2, 1), value)) for name, value in (("a", 1.0), ("b", 3.0))
    )
    with pytest.raises(CompatibilityError, match=r"lora_A\.default\.weight and .*'a' and 'b'.*merge_and_unload"):
        mix([(a, 0.5), (b, 0.5)])
    assert mix([(a, 1.0)]).keys() == a.tensors.keys()


@pytest.mark.parametrize("shared", ["A", "B"])
def test_where_one_factor_is_the_same_in_all_the_mean_of_the_other_is_exact(shared):
    other = {"A": "B", "B": "A"}[shared]
    a, b = (
        lora(name, **{shared: torch.ones(2, 2), other: torch.full((2, 2), value)})
        for name, value in (("a", 1.0), ("b", 3.0))
    )
    mixed = mix([(a, 0.5), (b, 0.5)])
    product = mixed["q.lora_B.default.weight"] @ mixed["q.lora_A.default.weight"]
    products = [one.tensors["q.lora_B.default.weight"] @ one.tensors["q.lora_A.default.weight"] for one in (a, b)]
    assert torch.equal(product, sum(products) / 2)


@pytest.mark.parametrize("coefficients", [(0.5, 0.5), (1.0, -0.5), (2.0, 2.0)])
def test_a_mask_is_copied_whatever_the_coefficients(coefficients):
    mask = torch.triu(torch.full((3, 3), -torch.inf), 1)
    items = [(ingredient(str(index), mask=mask.clone()), weight) for index, weight in enumerate(coefficients)]
    assert same_bits(mix(items)["mask"], mask)


def test_what_an_ingredient_lacks_is_mixed_of_the_others_in_the_same_sum():
    a, b = (
        ingredient("a", body=torch.ones(1), head=torch.ones(1)),
        ingredient("b", body=torch.ones(1), head=torch.full((1,), 3.0)),
    )
    base = Ingredient("base", Path("base"), {"body": torch.zeros(1)}, "base", lacking=("head",))
    mixed = mix([(base, 0.5), (a, 0.25), (b, 0.25)])
    assert (mixed["body"].item(), mixed["head"].item()) == (0.5, 2.0)
    with pytest.raises(CompatibilityError, match=r"'base' .* has no head"):
        mix([(base, 1.0)])
    with pytest.raises(CompatibilityError, match=r"'base' .* has no head"):
        mix([(base, 1.0), (a, 1.0), (b, -1.0)])


# Properties


@given(mixes, st.randoms(use_true_random=False))
def test_mix_does_not_depend_on_the_order_beyond_rounding(coefficients, random):
    items = list(zip(random_ingredients(len(coefficients)), coefficients, strict=True))
    shuffled = random.sample(items, len(items))
    for key, tensor in mix(items).items():
        torch.testing.assert_close(mix(shuffled)[key], tensor, rtol=1e-5, atol=1e-5)


@given(mixes, st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]))
def test_mix_keeps_the_stored_dtype_and_agrees_with_float64(coefficients, dtype):
    items = list(zip(random_ingredients(len(coefficients), dtype=dtype), coefficients, strict=True))
    exact = sum(item.tensors["weight"].double() * weight for item, weight in items)
    mixed = mix(items)["weight"]
    assert mixed.dtype == dtype
    precision = {torch.bfloat16: 2**-8, torch.float16: 2**-11}.get(dtype, 2**-20)
    torch.testing.assert_close(mixed.double(), exact, rtol=precision, atol=1e-4 * precision + 4e-6)


@given(st.lists(weights, min_size=2, max_size=6).filter(lambda values: abs(sum(values)) > 0.1))
def test_coefficients_that_sum_to_one_keep_identical_tensors_identical_bit_for_bit(values):
    frozen = torch.tensor([0.1, 1 / 3, -0.0, 1e-30, -7.7, 65504.0])
    coefficients = [value / sum(values) for value in values]
    items = [
        (ingredient(str(index), frozen=frozen.clone(), moved=torch.tensor([float(index)])), coefficient)
        for index, coefficient in enumerate(coefficients)
    ]
    mixed = mix(items)
    assert same_bits(mixed["frozen"], frozen)
    expected = sum(index * coefficient for index, coefficient in enumerate(coefficients))
    assert mixed["moved"].item() == pytest.approx(expected, abs=1e-4)


def test_tensors_that_differ_only_in_the_sign_of_zero_are_not_taken_for_identical():
    a, b = ingredient("a", w=torch.tensor([-0.0])), ingredient("b", w=torch.tensor([0.0]))
    assert math.copysign(1, mix([(a, 0.5), (b, 0.5)])["w"].item()) == 1.0


@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from([torch.float32, torch.bfloat16]), st.booleans())
def test_alpha_0_and_1_give_the_end_points_bit_for_bit(number_a, number_b, dtype, share):
    """Also where the ends are soups that share ingredients in another order."""
    pool = random_ingredients(8, dtype=dtype)
    by_name = {item.name: item for item in pool}
    names = list(by_name)
    a = mean_of(names[:number_a])
    b = mean_of(names[:number_b][::-1] if share else names[4 : 4 + number_b])
    for alpha, end in ((0.0, a), (1.0, b)):
        path, whole = mix(resolve(combine(a, b, alpha), by_name)), mix(resolve(end, by_name))
        assert all(same_bits(path[key], whole[key]) for key in whole)


@given(mixes, st.sampled_from(["average", "first"]))
def test_mix_leaves_its_inputs_unchanged(coefficients, batchnorm):
    pool = [
        ingredient(str(index), w=torch.rand(3), bn__running_var=torch.rand(3), bn__num_batches_tracked=torch.tensor(3))
        for index in range(len(coefficients))
    ]
    before = [{key: tensor.clone() for key, tensor in item.tensors.items()} for item in pool]
    mixed = mix(list(zip(pool, coefficients, strict=True)), batchnorm)
    for tensor in mixed.values():
        tensor.add_(1)
    for item, tensors in zip(pool, before, strict=True):
        assert all(same_bits(item.tensors[key], tensors[key]) for key in tensors)


# Rounding


def bfloat16_half_step(exact: Tensor) -> Tensor:
    return torch.exp2(torch.floor(torch.log2(exact.abs()))) * 2**-8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mix_is_the_same_bits_with_any_number_of_threads_which_divide_it_otherwise(dtype):
    generator = torch.Generator().manual_seed(0)
    items = [
        (ingredient(str(number), w=torch.randn(3 * PIECE + 13, generator=generator).to(dtype)), 1 / 3)
        for number in range(3)
    ]
    before, mixed = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            mixed.append(mix(items)["w"])
    finally:
        torch.set_num_threads(before)
    assert all(same_bits(mixed[0], other) for other in mixed[1:])


def test_bfloat16_is_accumulated_in_float32_and_rounded_once():
    """Every value is the nearest bfloat16 to the float64 sum; a sum rounded at every step is not."""
    pool = random_ingredients(10, dtype=torch.bfloat16, size=500)
    exact = sum(item.tensors["weight"].double() * 0.1 for item in pool)
    mixed = mix([(item, 0.1) for item in pool])["weight"]
    allowed = bfloat16_half_step(exact) * 1.001 + 1e-6
    assert ((mixed.double() - exact).abs() <= allowed).all()
    stepwise = torch.zeros_like(mixed)
    for item in pool:
        stepwise += item.tensors["weight"] * 0.1
    assert not ((stepwise.double() - exact).abs() <= allowed).all()


# Buffers and BatchNorm


def test_num_batches_tracked_takes_the_maximum_even_of_the_smallest_coefficient():
    a = ingredient("a", bn__num_batches_tracked=torch.tensor(7))
    b = ingredient("b", bn__num_batches_tracked=torch.tensor(100))
    mixed = mix([(a, 0.999), (b, 0.001)])["bn.num_batches_tracked"]
    assert (mixed.item(), mixed.dtype, mixed.shape) == (100, torch.int64, torch.Size([]))


def test_integer_and_boolean_buffers_are_copied():
    mask, table = torch.tensor([True, False]), torch.tensor([5, 2**40])
    a, b = ingredient("a", mask=mask, table=table), ingredient("b", mask=mask.clone(), table=table.clone())
    mixed = mix([(a, 0.3), (b, 0.7)])
    assert mixed["mask"].tolist() == [True, False]
    assert mixed["table"].tolist() == [5, 2**40]


def batchnorm_pair() -> tuple[Ingredient, Ingredient]:
    def one(name: str, weight: float, mean: float, var: float) -> Ingredient:
        tensors = {"weight": weight, "running_mean": mean, "running_var": var}
        return ingredient(name, **{f"bn__{key}": torch.tensor([value]) for key, value in tensors.items()})

    return one("a", 1.0, 10.0, 4.0), one("b", 3.0, 20.0, 2.0)


def test_batchnorm_average_averages_running_statistics_as_the_weights():
    a, b = batchnorm_pair()
    mixed = mix([(a, 0.5), (b, 0.5)], "average")
    assert [tensor.item() for tensor in mixed.values()] == [2.0, 15.0, 3.0]


def test_batchnorm_first_takes_running_statistics_of_the_first_and_averages_the_weights():
    a, b = batchnorm_pair()
    assert [tensor.item() for tensor in mix([(b, 0.5), (a, 0.5)], "first").values()] == [2.0, 20.0, 2.0]


def test_running_variances_below_zero_are_clamped_and_counted():
    a = ingredient("a", bn__running_var=torch.tensor([4.0, 1.0, 1.0]), bn__running_mean=torch.tensor([1.0, 1.0, 1.0]))
    b = ingredient("b", bn__running_var=torch.tensor([1.0, 9.0, 3.0]), bn__running_mean=torch.tensor([9.0, 9.0, 9.0]))
    items = [(a, 2.0), (b, -1.0)]
    mixed = mix(items)
    assert mixed["bn.running_var"].tolist() == [7.0, 0.0, 0.0]
    assert mixed["bn.running_mean"].tolist() == [-7.0, -7.0, -7.0]
    assert count_clamped(items) == 2


def test_nothing_is_clamped_between_the_ends_or_where_statistics_are_the_firsts():
    a = ingredient("a", bn__running_var=torch.tensor([4.0]))
    b = ingredient("b", bn__running_var=torch.tensor([100.0]))
    assert count_clamped([(a, 0.5), (b, 0.5)]) == 0
    assert count_clamped([(a, 2.0), (b, -1.0)]) == 1
    assert count_clamped([(a, 2.0), (b, -1.0)], "first") == 0
    assert mix([(a, 2.0), (b, -1.0)], "first")["bn.running_var"].tolist() == [4.0]


def test_a_soup_of_batchnorm_networks_equals_a_plain_state_dict_average():
    model = build_model(BATCHNORM)
    states = [perturbed(model.state_dict(), 0.1, seed) for seed in (1, 2, 3)]
    mixed = mix([(Ingredient(str(i), Path(), state, ""), 1 / 3) for i, state in enumerate(states)])
    for key, tensor in mixed.items():
        if key.endswith("num_batches_tracked"):
            assert tensor == max(state[key] for state in states)
        else:
            torch.testing.assert_close(tensor, torch.stack([state[key] for state in states]).mean(0))
    model.load_state_dict(mixed, strict=True)


def test_tied_tensors_stay_equal():
    shared = [nn.Parameter(torch.randn(4)).detach() for _ in range(3)]
    items = [(ingredient(str(i), embed=tensor, head=tensor), 1 / 3) for i, tensor in enumerate(shared)]
    mixed = mix(items)
    assert same_bits(mixed["embed"], mixed["head"])


# Coefficients


def test_zero_coefficients_are_dropped_before_the_first_is_chosen():
    a, b = batchnorm_pair()
    assert effective([(a, 0.0), (b, 1.0)]) == [(b, 1.0)]
    assert mix([(a, 0.0), (b, 1.0)], "first")["bn.running_mean"].item() == 20.0


def test_an_ingredient_with_coefficient_zero_is_not_read():
    a, unreadable = ingredient("a", w=torch.ones(1)), ingredient("b")
    assert mix([(a, 1.0), (unreadable, 0.0)])["w"].item() == 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_coefficient_that_is_not_finite_is_refused_by_name(value):
    a, b = random_ingredients(2)
    with pytest.raises(RecipeError, match=f"coefficient of 'i1' is {value}; expected a finite number"):
        mix([(a, 1.0), (b, value)])


@pytest.mark.parametrize("coefficients", [[], [0.0], [0.0, -0.0]])
def test_a_mix_of_nothing_is_refused(coefficients):
    items = list(zip(random_ingredients(len(coefficients)), coefficients, strict=True))
    with pytest.raises(RecipeError, match="every coefficient is zero; a soup needs at least one ingredient"):
        mix(items)


def test_combine_adds_up_shared_ingredients_in_order_of_first_appearance():
    a, b = (("x", 0.5), ("y", 0.5)), (("z", 0.25), ("x", 0.75))
    assert combine(a, b, 0.5) == (("x", 0.625), ("y", 0.25), ("z", 0.125))


def test_combine_beyond_the_ends_extrapolates():
    assert combine((("x", 1.0),), (("y", 1.0),), 1.5) == (("x", -0.5), ("y", 1.5))


@given(st.floats(-3, 3))
def test_combined_coefficients_of_affine_mixes_sum_to_one(alpha):
    combined = combine(mean_of(["a", "b", "c"]), mean_of(["b", "d"]), alpha)
    assert math.fsum(weight for _, weight in combined) == pytest.approx(1.0, abs=1e-12)


def test_mean_of_gives_equal_coefficients_in_order():
    assert mean_of(["b", "a"]) == (("b", 0.5), ("a", 0.5))
