"""Weights made by a formula: key by key what the merging functions give, and everything else as in any mix."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from soupviz.files import digest
from soupviz.mixing import merging
from soupviz.mixing.averaging import mean_of, mix
from soupviz.mixing.formulas import MERGES, Computed, Formula, made
from soupviz.models.layers import layer_groups
from soupviz.weights.ingredients import Ingredient, fingerprint

NAMES = ["a", "b", "c"]
WEIGHTS = [0.5, 0.3, 0.2]
PARAMETERS: dict[str, dict[str, float | int]] = {
    "task_arithmetic": {"scale": 0.7},
    "ties": {"density": 0.4, "scale": 0.9},
    "dare": {"density": 0.5, "scale": 1.2, "seed": 3},
    "breadcrumbs": {"density": 0.6, "gamma": 0.1, "scale": 0.8},
    "model_stock": {},
    "slerp": {"alpha": 0.3},
    "karcher": {},
}
BASED = ("task_arithmetic", "ties", "dare", "breadcrumbs", "model_stock")
WEIGHT_KEYS = ("layers.0.weight", "layers.0.bias", "layers.2.weight")


def expected(kind: str, key: str, base: Tensor, tensors: list[Tensor], weights: list[float]) -> Tensor:
    """The merging functions, called one by one as their own module says."""
    values = PARAMETERS[kind]
    if kind == "task_arithmetic":
        return merging.task_arithmetic(base, tensors, weights, scale=0.7)
    if kind == "ties":
        return merging.ties(base, tensors, weights, density=0.4, scale=0.9)
    if kind == "dare":
        seed = int(digest([values["seed"], key])[:15], 16)
        return merging.dare(base, tensors, weights, density=0.5, scale=1.2, generator_seed=seed)
    if kind == "breadcrumbs":
        return merging.breadcrumbs(base, tensors, weights, density=0.6, gamma=0.1, scale=0.8)
    if kind == "model_stock":
        return merging.model_stock(base, tensors)
    return merging.slerp(*tensors, 0.3) if kind == "slerp" else merging.karcher(tensors, weights)


def state(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Two layers, one of them frozen, statistics, a counter and an integer buffer."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(dtype)

    return {
        "layers.0.weight": random(6, 5),
        "layers.0.bias": random(6),
        "layers.1.running_mean": random(6),
        "layers.1.running_var": random(6).abs() + 0.5,
        "layers.1.num_batches_tracked": torch.tensor(10 + seed),
        "layers.2.weight": random(6, 5),
        "frozen.weight": torch.linspace(-1, 1, 7).to(dtype),
        "table": torch.arange(4),
    }


def larder(dtype: torch.dtype = torch.float32) -> dict[str, Ingredient]:
    return {
        name: Ingredient(name, Path(f"{name}.pt"), tensors := state(seed, dtype), fingerprint(tensors))
        for seed, name in enumerate([*NAMES, "base"], start=1)
    }


def formula(kind: str) -> Formula:
    names = NAMES[:2] if kind == "slerp" else NAMES
    weights = [0.7, 0.3] if kind == "slerp" else WEIGHTS
    parts = tuple(zip(names, weights, strict=True))
    return Formula(kind=kind, parts=parts, base="base" if kind in BASED else None, parameters=PARAMETERS[kind])


def same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def test_every_merge_is_tried_here():
    assert set(PARAMETERS) == set(MERGES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", MERGES)
def test_weights_are_what_the_merging_function_gives_rounded_once_to_the_stored_dtype(kind, dtype):
    items, one = larder(dtype), formula(kind)
    tensors = made("soup", one, items.__getitem__, {}).tensors
    weights = [weight for _, weight in one.parts]
    for key in WEIGHT_KEYS:
        parts = [items[name].tensors[key] for name, _ in one.parts]
        start = items["base"].tensors[key]
        assert same(tensors[key], expected(kind, key, start, parts, weights).to(dtype))


@pytest.mark.parametrize("kind", MERGES)
def test_statistics_counters_and_integer_buffers_are_those_of_a_mix(kind):
    items, one = larder(), formula(kind)
    tensors = made("soup", one, items.__getitem__, {}).tensors
    mixed = mix([(items[name], weight) for name, weight in one.parts])
    for key in ("layers.1.running_mean", "layers.1.running_var", "layers.1.num_batches_tracked", "table"):
        assert same(tensors[key], mixed[key])
    # By hand: the base's statistics have no part in it, and a count is the largest.
    by_hand = sum(items[name].tensors["layers.1.running_var"] * weight for name, weight in one.parts)
    torch.testing.assert_close(tensors["layers.1.running_var"], by_hand)
    assert tensors["layers.1.num_batches_tracked"].item() == (12 if kind == "slerp" else 13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", MERGES)
def test_a_frozen_layer_stays_bit_for_bit_what_it_is(kind, dtype):
    items = larder(dtype)
    found = made("soup", formula(kind), items.__getitem__, {}).tensors["frozen.weight"]
    assert same(found, items["a"].tensors["frozen.weight"])
    assert found.data_ptr() != items["a"].tensors["frozen.weight"].data_ptr()


def test_what_only_the_base_has_otherwise_is_not_frozen():
    """All ingredients agree, but fine-tuning moved them: half of a task vector is half the way."""
    items = larder()
    items["base"].tensors["frozen.weight"] = torch.zeros(7)
    one = Formula(kind="task_arithmetic", parts=mean_of(NAMES), base="base", parameters={"scale": 0.5})
    found = made("soup", one, items.__getitem__, {}).tensors["frozen.weight"]
    torch.testing.assert_close(found, torch.linspace(-1, 1, 7) / 2)


@pytest.mark.parametrize("kind", MERGES)
def test_a_merge_changes_no_ingredient(kind):
    items = larder()
    tensors = made("soup", formula(kind), items.__getitem__, {}).tensors
    for tensor in tensors.values():
        tensor.zero_()
    assert {name: fingerprint(item.tensors) for name, item in items.items()} == {
        name: item.fingerprint for name, item in items.items()
    }


def test_what_is_made_is_an_ingredient_of_the_parts_own_kind():
    items = larder()
    soup = made("soup", formula("ties"), items.__getitem__, {})
    assert (soup.name, soup.path) == ("soup", Path("a.pt"))
    assert soup.fingerprint == formula("ties").fingerprint(items.__getitem__)
    assert list(soup.tensors) == list(items["a"].tensors)
    assert all(soup.tensors[key].shape == tensor.shape for key, tensor in items["a"].tensors.items())


def test_dare_drops_other_numbers_of_each_tensor():
    """Each key has its own seed; of one tensor the same are dropped every time."""
    items = larder()
    for item in items.values():
        item.tensors["layers.2.weight"] = item.tensors["layers.0.weight"].clone()
    first, second = (
        made("soup", formula("dare"), items.__getitem__, {}).tensors[key]
        for key in ("layers.0.weight", "layers.2.weight")
    )
    assert not torch.equal(first, second)
    assert torch.equal(first, made("soup", formula("dare"), items.__getitem__, {}).tensors["layers.0.weight"])


@pytest.mark.parametrize("kind", MERGES)
def test_tied_tensors_stay_tied(kind):
    """What DARE drops at random is drawn by key: by the first one's for both."""
    items = larder()
    for item in items.values():
        item.tensors["layers.2.weight"] = item.tensors["layers.0.weight"]
    tensors = made("soup", formula(kind), items.__getitem__, {"layers.2.weight": "layers.0.weight"}).tensors
    assert torch.equal(tensors["layers.2.weight"], tensors["layers.0.weight"])


# Fingerprints


@pytest.mark.parametrize("kind", MERGES)
def test_a_fingerprint_does_not_depend_on_names(kind):
    items, one = larder(), formula(kind)
    names = {name: f"other {name}" for name in items}
    others = {names[name]: item for name, item in items.items()}
    assert one.renamed(names).fingerprint(others.__getitem__) == one.fingerprint(items.__getitem__)


def test_a_fingerprint_depends_on_all_that_changes_the_weights():
    items, one = larder(), formula("ties")
    changed = [
        {"kind": "breadcrumbs"},
        {"parts": (("b", 0.3), ("a", 0.5), ("c", 0.2))},  # the order in which they are accumulated
        {"parts": (("b", 0.5), ("a", 0.3), ("c", 0.2))},
        {"parts": (("a", 0.5), ("b", 0.2), ("c", 0.3))},
        {"parts": (("a", 0.5), ("b", 0.5))},
        {"parts": (("a", 0.5), ("b", 0.3), ("base", 0.2))},
        {"base": "c"},
        {"base": None},
        {"parameters": {"density": 0.4, "scale": 0.91}},
        {"parameters": {"density": 0.4}},
    ]
    found = {one.model_copy(update=change).fingerprint(items.__getitem__) for change in [{}, *changed]}
    assert len(found) == 1 + len(changed)
    items["a"].tensors["layers.0.bias"][0] += 1
    items["a"] = Ingredient("a", Path("a.pt"), items["a"].tensors, fingerprint(items["a"].tensors))
    assert one.fingerprint(items.__getitem__) not in found


def test_a_formula_names_its_parts_and_its_base():
    assert formula("ties").names == ["a", "b", "c", "base"]
    assert formula("karcher").names == NAMES
    one = formula("ties").renamed({"a": "x", "b": "y", "c": "z", "base": "start"})
    assert one.parts == (("x", 0.5), ("y", 0.3), ("z", 0.2))
    assert one.base == "start"
    assert one.parameters == formula("ties").parameters
    assert formula("karcher").renamed({name: name for name in NAMES}) == formula("karcher")


@pytest.mark.parametrize("kind", MERGES)
def test_a_formula_survives_json_with_its_fingerprint(kind):
    items, one = larder(), formula(kind)
    again = Formula.model_validate_json(one.model_dump_json())
    assert again == one
    assert again.fingerprint(items.__getitem__) == one.fingerprint(items.__getitem__)


def test_a_formula_has_no_other_fields_and_cannot_be_changed():
    with pytest.raises(ValidationError, match="colour"):
        Formula.model_validate({"kind": "ties", "parts": [], "colour": "red"})
    with pytest.raises(ValidationError, match="frozen"):
        formula("ties").base = "a"


# Layered


def layered(items: Mapping[str, Ingredient], groups: Mapping[str, list[float]], ties: Mapping[str, str]) -> Ingredient:
    parameters = {"groups": dict(groups), "ties": dict(ties)}
    return made(
        "soup", Formula(kind="layered", parts=mean_of(NAMES), parameters=parameters), items.__getitem__, dict(ties)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_equal_weights_in_every_layer_are_the_plain_mean_bit_for_bit(dtype):
    items = larder(dtype)
    groups = dict.fromkeys(layer_groups(items["a"].tensors).values(), [1 / 3] * 3)
    soup = layered(items, groups, {})
    mean = mix([(items[name], 1 / 3) for name in NAMES])
    assert list(soup.tensors) == list(mean)
    assert all(same(tensor, mean[key]) for key, tensor in soup.tensors.items())


def test_each_layer_is_mixed_by_its_own_weights():
    items = larder()
    groups = {"layers.0": [0.0, 1.0, 0.0], "layers.1": [0.5, 0.5, 0.0], "layers.2": [2.0, -1.0, 0.0]}
    groups |= {"frozen": [0.2, 0.3, 0.5], "table": [0.2, 0.3, 0.5]}
    found = layered(items, groups, {}).tensors
    a, b = items["a"].tensors, items["b"].tensors
    assert torch.equal(found["layers.0.weight"], b["layers.0.weight"])
    assert torch.equal(found["layers.0.bias"], b["layers.0.bias"])
    torch.testing.assert_close(
        found["layers.1.running_var"], (a["layers.1.running_var"] + b["layers.1.running_var"]) / 2
    )
    torch.testing.assert_close(found["layers.2.weight"], 2 * a["layers.2.weight"] - b["layers.2.weight"])
    assert torch.equal(found["frozen.weight"], a["frozen.weight"])


def test_a_tied_tensor_goes_with_the_layer_of_its_first_name():
    items = larder()
    for item in items.values():
        item.tensors["layers.2.weight"] = item.tensors["layers.0.weight"]
    ties = {"layers.2.weight": "layers.0.weight"}
    keys = items["a"].tensors
    assert layer_groups(keys, ties)["layers.2.weight"] == "layers.0"
    assert layer_groups(keys)["layers.2.weight"] == "layers.2"
    groups = {"layers.0": [0.6, 0.3, 0.1], "layers.1": [1.0, 0.0, 0.0]}
    groups |= {"frozen": [1.0, 0.0, 0.0], "table": [1.0, 0.0, 0.0]}
    found = layered(items, groups, ties).tensors
    assert torch.equal(found["layers.2.weight"], found["layers.0.weight"])


@pytest.mark.parametrize(
    ("key", "group"),
    [
        ("blocks.11.attn.qkv.weight", "blocks.11"), ("0.weight", "0"), ("head.weight", "head"),
        ("cls_token", "cls_token"),
        ("encoder.layers.encoder_layer_3.mlp.0.weight", "encoder.layers.encoder_layer_3.mlp.0"),
        ("stem.conv.weight", "stem.conv"),
    ],
)  # fmt: skip
def test_a_layer_is_the_name_up_to_its_first_number_or_the_module(key, group):
    assert layer_groups([key]) == {key: group}


# A state dict that is computed


def test_what_is_computed_is_a_mapping():
    looked: list[str] = []

    def tensor(key: str) -> Tensor:
        looked.append(key)
        return torch.full((2,), float(len(key)))

    computed = Computed(["weight", "bias"], tensor)
    assert isinstance(computed, Mapping)
    assert (list(computed), len(computed)) == (["weight", "bias"], 2)
    assert "bias" in computed
    assert "other" not in computed
    assert looked == []  # nothing is computed before it is looked at
    assert computed["bias"].tolist() == [4.0, 4.0]
    assert {key: tensor.tolist() for key, tensor in computed.items()} == {"weight": [6.0, 6.0], "bias": [4.0, 4.0]}
    assert looked == ["bias", "weight", "bias"]  # and again at each look: it is not kept
    assert list(dict(computed)) == ["weight", "bias"]
    assert computed.get("other") is None
    with pytest.raises(KeyError, match="other"):
        computed["other"]
