"""A weight for every layer group: the groups, the mix, and the recipe that keeps it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kitchens import BATCHNORM, TIED, small_kitchen
from safetensors.torch import load_file
from torch import Tensor

import soupviz as sv
from soupviz.errors import RecipeError
from soupviz.mixing.averaging import combine, mix
from soupviz.models.layers import check_weights, keys_of, layer_groups
from soupviz.recipes import Interpolation, parse, recipe_digest
from soupviz.soups.blending import blend, groups_of, presets
from soupviz.soups.provenance import read_record
from soupviz.soups.restore import restore
from soupviz.types import Coefficients

A, B = (("m_0", 1.0),), (("m_1", 1.0),)
SOUP = (("m_2", 0.5), ("m_0", 0.3), ("m_1", 0.2))
"""In another order than the kitchen's, as a greedy soup is."""


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> sv.Kitchen:
    return sv.Kitchen.load(small_kitchen(tmp_path_factory.mktemp("k") / "s", num_ingredients=3, num_examples=60))


@pytest.fixture(scope="module")
def normed(tmp_path_factory: pytest.TempPathFactory) -> sv.Kitchen:
    folder = tmp_path_factory.mktemp("k") / "b"
    shape = {"source": BATCHNORM, "shape": (3, 8, 8), "num_ingredients": 3, "num_examples": 40, "train": 32}
    return sv.Kitchen.load(small_kitchen(folder, **shape))


def weights(kitchen: sv.Kitchen, mixture: Coefficients, aggregation: str = "average") -> dict[str, Tensor]:
    return dict(kitchen.scores.mixed(mixture, aggregation))


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


KEYS = ["blocks.11.attn.qkv.weight", "blocks.11.norm.bias", "blocks.3.norm.bias", "head.weight", "cls_token", "0.bias"]


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("part", ["blocks", "blocks", "blocks", "head", "cls_token", "0"]),
        ("block", ["blocks.11", "blocks.11", "blocks.3", "head", "cls_token", "0"]),
        ("module", ["blocks.11.attn.qkv", "blocks.11.norm", "blocks.3.norm", "head", "cls_token", "0"]),
    ],
)
def test_layers_are_grouped_by_their_names(by, expected):
    assert list(layer_groups(KEYS, by=by).values()) == expected


@given(st.lists(st.lists(st.sampled_from(["a", "b", "0", "1", "12"]), min_size=1).map(".".join), unique=True))
def test_each_grouping_divides_the_coarser_one(keys):
    part, block, module = (layer_groups(keys, by=by) for by in ("part", "block", "module"))
    assert len(dict.fromkeys(zip(part.values(), block.values(), strict=True))) == len(set(block.values()))
    assert len(dict.fromkeys(zip(block.values(), module.values(), strict=True))) == len(set(module.values()))


def test_tied_keys_stay_in_one_group_however_fine(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, source=TIED, num_ingredients=2, num_examples=20))
    groups = groups_of(kitchen, "module")
    assert groups["second.weight"] == groups["first.weight"] == "first"
    mixed = weights(kitchen, blend(kitchen, A, B, {"first": 0.3, "second": 0.9, "head": 0.0}))
    assert torch.equal(mixed["first.weight"], mixed["second.weight"])


def test_groups_are_listed_front_to_back():
    assert keys_of(layer_groups(KEYS)) == {
        "blocks.11": KEYS[:2], "blocks.3": [KEYS[2]], "head": [KEYS[3]], "cls_token": [KEYS[4]], "0": [KEYS[5]],
    }  # fmt: skip


def test_every_group_is_mixed_with_its_own_weight(kitchen):
    mixed = weights(kitchen, blend(kitchen, A, B, {"0": 0.25, "2": 0.75}))
    a, b = (kitchen.weights.resolve(name).tensors for name in ("m_0", "m_1"))
    for key, tensor in mixed.items():
        alpha = 0.25 if key.startswith("0.") else 0.75
        assert torch.allclose(tensor, (1 - alpha) * a[key] + alpha * b[key], atol=1e-7)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, 1.5])
@pytest.mark.parametrize("ends", [(A, B), (SOUP, A), (A, SOUP)])
def test_one_weight_for_all_is_the_interpolation_and_shares_its_score(kitchen, alpha, ends):
    assert blend(kitchen, *ends, {"0": alpha, "2": alpha}) == combine(*ends, alpha)


@pytest.mark.parametrize("ends", [(A, SOUP), (SOUP, A), (SOUP, tuple(reversed(SOUP))), (A, B)])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_a_group_is_bit_for_bit_what_the_path_has_in_it(kitchen, ends, alpha):
    mixed = weights(kitchen, blend(kitchen, *ends, {"0": alpha, "2": 0.55}))
    path = weights(kitchen, combine(*ends, alpha))
    assert all(torch.equal(mixed[key], path[key]) for key in mixed if key.startswith("0."))


def test_running_statistics_go_with_their_group(normed):
    names = keys_of(groups_of(normed))
    mixed = weights(normed, blend(normed, A, B, {name: float(name == "1") for name in names}))
    a, b = (normed.weights.resolve(name).tensors for name in ("m_0", "m_1"))
    for key, tensor in mixed.items():
        if not key.endswith("num_batches_tracked"):
            assert torch.equal(tensor, (b if key.startswith("1.") else a)[key])
    assert any(key.endswith("running_var") for key in names["1"])


def test_the_first_ones_statistics_are_taken_where_that_is_asked_for(normed):
    alphas = dict.fromkeys(groups_of(normed).values(), 0.25) | {"0": 0.5}
    mixed = weights(normed, blend(normed, A, B, alphas, batchnorm="first"))
    assert torch.equal(mixed["1.running_mean"], normed.weights.resolve("m_0").tensors["1.running_mean"])


NESTED = """
from torch import nn

def build():
    first, second = (nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6)) for _ in range(2))
    return nn.Sequential(first, nn.ReLU(), second, nn.Linear(6, 3))
"""


def test_one_mix_has_one_formula_however_it_was_asked_for(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, source=NESTED, num_ingredients=2, num_examples=20))
    coarse = blend(kitchen, A, B, {"0": 0.2, "2": 1.0, "3": 0.0})
    fine = {"0.0": 0.2, "0.1": 0.2, "2.0": 1.0, "2.1": 1.0, "3": 0.0}
    assert list(keys_of(groups_of(kitchen, "module"))) == list(fine)
    assert blend(kitchen, A, B, fine, by="module") == coarse
    assert blend(kitchen, A, B, fine | {"0.1": 0.3}, by="module") != coarse


def test_modules_can_have_weights_of_their_own(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, source=NESTED, num_ingredients=2, num_examples=20))
    names = list(keys_of(groups_of(kitchen, "module")))
    soup = sv.cook(kitchen, recipe(weights={name: float(name == "2.1") for name in names}, by="module"))
    a, b = (kitchen.weights.resolve(name).tensors for name in ("m_0", "m_1"))
    mixed = soup.state_dict()
    assert all(torch.equal(mixed[key], (b if key.startswith("2.1.") else a)[key]) for key in mixed)
    [file, *_] = sv.export(soup, tmp_path / "soup.safetensors")
    assert same(load_file(sv.bake(file, tmp_path / "again.safetensors")[0]), load_file(file))


def test_weights_must_name_every_group_and_no_other():
    check_weights({"stage1.0": 0.1, "head": 1.0}, ["stage1.0", "head"])
    with pytest.raises(RecipeError, match=r"no layer group 'stage1.O'; did you mean 'stage1.0'"):
        check_weights({"stage1.O": 0.1, "head": 1.0}, ["stage1.0", "head"])
    with pytest.raises(RecipeError, match=r"no layer group 'xyz'; it has stage1.0, head"):
        check_weights({"xyz": 0.1}, ["stage1.0", "head"])
    with pytest.raises(RecipeError, match=r"'head' has no weight; give every group one"):
        check_weights({"stage1.0": 0.1}, ["stage1.0", "head"])
    with pytest.raises(RecipeError, match=r"'stage1.0' and 1 more has no weight"):
        check_weights({}, ["stage1.0", "head"])


@pytest.mark.parametrize("count", [1, 2, 5, 21])
def test_presets_have_a_weight_for_every_group(count):
    made = presets([str(number) for number in range(count)])
    assert all(len(values) == count and all(0 <= value <= 1 for value in values) for values in made.values())
    assert made["Head only"] == [0.0] * (count - 1) + [1.0]
    assert made["Ramp down"] == made["Ramp up"][::-1]
    assert sum(made["Early"]) == sum(made["Late"]) == -(-count // 3)
    assert made["Late"] == made["Early"][::-1]


def recipe(**changes: object) -> dict[str, object]:
    ends = {"a": "m_0", "b": "m_1", "mix_a": [["m_0", 1.0]], "mix_b": [["m_1", 1.0]]}
    return {"method": "blocks", **ends, "weights": {"0": 0.25, "2": 0.75}} | changes


def test_the_recipe_is_plain_data_with_one_hash():
    made = parse(recipe())
    assert parse(made.model_dump(mode="json")) == made
    assert recipe_digest(made) == recipe_digest(parse(recipe(weights={"2": 0.75, "0": 0.25})))
    assert recipe_digest(made) != recipe_digest(parse(recipe(weights={"0": 0.25, "2": 0.5})))
    assert made.title == "m_0 → m_1 by block, 0.25, 0.75"
    many = {str(number): number / 10 for number in range(11)}
    assert parse(recipe(weights=many)).title == "m_0 → m_1 by block, 0 to 1, mean 0.5"
    assert parse(recipe(weights={"0": 0.0, "2": 1.0})).title == "m_0 with 2 from m_1"
    assert parse(recipe(weights={"0": 0.5, "2": 0.0})).title == "m_0 with 0 from m_1 at 0.5"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": {"0": float("nan")}}, "the weight of '0' is nan; expected a finite number"),
        ({"weights": {"0": "much"}}, r"blocks\.weights\.0: .*number"),
        ({"by": "tensor"}, r"blocks\.by"),
        ({"alpha": 1}, "blocks has no 'alpha'"),
        ({"batchnorm": "median"}, "batchnorm is 'median'"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(changes, message):
    with pytest.raises(RecipeError, match=message):
        parse(recipe(**changes))


def test_cooking_names_a_group_that_the_model_lacks(kitchen):
    with pytest.raises(RecipeError, match=r"no layer group '3'"):
        sv.cook(kitchen, recipe(weights={"0": 0.25, "2": 0.75, "3": 1.0}))
    with pytest.raises(RecipeError, match="'2' has no weight"):
        sv.cook(kitchen, recipe(weights={"0": 0.25}))


def test_cooked_with_one_weight_it_is_the_soup_of_the_interpolation(kitchen):
    soup = sv.cook(kitchen, recipe(weights={"0": 0.3, "2": 0.3}))
    path = sv.cook(kitchen, Interpolation(a="m_0", b="m_1", mix_a=A, mix_b=B, alpha=0.3))
    assert (soup.mix, soup.coefficients) == (path.mix, path.coefficients)
    assert same(soup.state_dict(), path.state_dict())


@pytest.mark.parametrize("batchnorm", ["average", "first"])
def test_a_kept_mix_is_exported_baked_and_restored_bit_for_bit(normed, tmp_path, batchnorm):
    names = list(keys_of(groups_of(normed)))
    alphas = {name: index / (len(names) - 1) for index, name in enumerate(names)}
    ends = {"a": "greedy", "mix_a": SOUP, "b": "uniform", "mix_b": [[f"m_{n}", 1 / 3] for n in range(3)]}
    soup = sv.cook(normed, recipe(weights=alphas, batchnorm=batchnorm, **ends))
    [file, *_] = sv.export(soup, tmp_path / "kept.safetensors")
    expected = soup.state_dict()
    assert same(load_file(file), expected)
    for source, options in ((file, {}), (tmp_path / "recipe.yaml", {}), (file, {"kitchen": normed})):
        [again, *_] = sv.bake(source, tmp_path / "again.safetensors", **options)
        assert same(load_file(again), expected)
    normed.store.clear()
    back = restore(sv.Kitchen.load(normed.file), read_record(file))
    assert (back.key, back.mix) == (soup.key, soup.mix)


def test_what_was_kept_before_there_were_groupings_keeps_its_name(kitchen):
    ((name, _),) = blend(kitchen, A, B, {"0": 0.25, "2": 0.75})
    formula = kitchen.weights.formula(name)
    assert formula is not None
    assert set(formula.parameters) == {"groups", "ties"}
    assert formula.parameters["groups"] == {"0": [0.75, 0.25], "2": [0.25, 0.75]}


def test_ingredients_stay_as_they_are(kitchen):
    before = {name: mix([(kitchen.weights.resolve(name), 1.0)]) for name in kitchen.names}
    weights(kitchen, blend(kitchen, SOUP, B, {"0": 0.5, "2": -0.5}))
    assert all(same(before[name], dict(kitchen.weights.resolve(name).tensors)) for name in kitchen.names)


def test_it_can_be_reported_like_any_other(kitchen, tmp_path):
    made = sv.cook(kitchen, parse(recipe()))
    assert "m_0 → m_1 by block" in sv.report(made, tmp_path / "mix.html").read_text(encoding="utf-8")
