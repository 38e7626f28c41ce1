import hashlib
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kitchens import MLP, TIED, build_model, perturbed, save
from test_checkpoints import LEGACY, sharded

from soupviz.errors import CompatibilityError, KitchenError
from soupviz.models import tied_keys
from soupviz.weights.checkpoints import Checkpoint, read
from soupviz.weights.ingredients import (
    Ingredient,
    check_against_model,
    disagreement,
    fingerprint,
    fit,
    natural_key,
    pick,
    reference_of,
    short_names,
    unknown_name,
)


def checkpoint(*candidates) -> Checkpoint:
    return Checkpoint(Path("m.pt"), candidates, {})


def ingredient(name: str, **tensors) -> Ingredient:
    return Ingredient(name, Path(f"{name}.pt"), tensors, name)


# Names


def test_numbers_in_names_sort_as_numbers():
    names = ["ft_10", "ft_2", "ft_1", "a", "ft", "ft_2b"]
    assert sorted(names, key=natural_key) == ["a", "ft", "ft_1", "ft_2", "ft_2b", "ft_10"]


@given(st.lists(st.text("aé²1٣_", max_size=5)))
def test_any_names_can_be_ordered(names):
    keys = [natural_key(name) for name in names]
    assert sorted(keys) == sorted(keys, reverse=True)[::-1]


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["k/a.pt", "k/b.pt"], ["a", "b"]),
        (["k/x/model.pt", "k/y/model.pt"], ["x/model", "y/model"]),
        (["k/x/model.pt", "k/y/model.pt", "k/z.pt"], ["x/model", "y/model", "z"]),
        (["k/a.pt", "k/a.safetensors"], ["a.pt", "a.safetensors"]),
        (["k/lr_0.01.pt", "k/lr_0.02.pt"], ["lr_0.01", "lr_0.02"]),
        (["x/model.safetensors.index.json", "y/model.safetensors.index.json"], ["x/model", "y/model"]),
        (["k/only.pt"], ["only"]),
        (["a.pt", "b/a.pt"], ["a", "b/a"]),
    ],
)
def test_a_name_is_the_shortest_unique_path_ending_without_suffix(paths, names):
    assert short_names([Path(path) for path in paths]) == names


path_parts = st.sampled_from(["a", "b", "a.pt", "b.pt", "a.bin", "c"])


@given(st.lists(st.lists(path_parts, min_size=1, max_size=4).map("/".join), unique=True))
def test_names_of_distinct_paths_are_distinct(paths):
    names = short_names([Path(path) for path in paths])
    assert len(set(names)) == len(paths)


# Fitting the model


def test_fit_takes_the_reading_that_has_the_models_keys_in_the_models_order():
    state = {"a": torch.zeros(1), "b": torch.zeros(1)}
    raw = {"module.b": torch.ones(1), "module.a": torch.ones(1)}
    assert list(fit(checkpoint(raw), state, {})) == ["a", "b"]


def test_fit_prefers_keys_as_they_are_to_keys_without_prefix():
    """A model whose own keys begin with `model.` is not stripped of them."""
    state = {"model.a": torch.zeros(1)}
    assert list(fit(checkpoint({"model.a": torch.ones(1)}), state, {})) == ["model.a"]


def test_fit_prefers_the_first_candidate():
    state = {"a": torch.zeros(1)}
    raw, ema = {"a": torch.ones(1)}, {"a": torch.full((1,), 2.0)}
    assert fit(checkpoint(raw, ema), state, {})["a"].item() == 1.0
    assert fit(checkpoint({"other": torch.ones(1)}, ema), state, {})["a"].item() == 2.0


@pytest.mark.parametrize("kept", ["first.weight", "second.weight"])
def test_a_tie_that_the_file_names_once_is_filled_from_either_name(kept):
    model = build_model(TIED)
    ties = tied_keys(model)
    assert ties == {"second.weight": "first.weight"}
    tensors = model.state_dict()
    dropped = ({"first.weight", "second.weight"} - {kept}).pop()
    del tensors[dropped]
    filled = fit(checkpoint(dict(tensors)), model.state_dict(), ties)
    assert torch.equal(filled[dropped], model.state_dict()[dropped])
    assert fingerprint(filled) == fingerprint(fit(checkpoint(model.state_dict()), model.state_dict(), ties))


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": 1}, "^lacks b$"),
        ({"a": 1, "b": 1, "z": 1}, "^has z, which the model lacks$"),
        ({"a": 1, "z": 1}, "^lacks b and has z, which the model lacks$"),
        (
            {"x": 1, "y": 1},
            "is of another architecture: none of the model's 2 keys is in it; it has 'x', the model 'a'",
        ),
    ],
)
def test_what_does_not_fit_is_named_by_key(tensors, message):
    state = {"a": torch.zeros(1), "b": torch.zeros(1)}
    with pytest.raises(CompatibilityError, match=message):
        fit(checkpoint({key: torch.zeros(1) for key in tensors}), state, {})


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.zeros(3), r"has w of shape \(3,\); expected \(2,\), as in the model"),
        (torch.zeros(2, dtype=torch.int64), "has w of type torch.int64; expected torch.float32, as in the model"),
        (torch.zeros(2, dtype=torch.complex64), "has w of type torch.complex64"),
        (torch.tensor([1.0, torch.nan]), "has 1 NaN or infinite values in w; its training diverged"),
        (torch.tensor([-torch.inf, torch.nan]), "has 2 NaN or infinite values in w"),
    ],
)
def test_tensors_that_the_model_cannot_hold_are_refused(tensor, message):
    with pytest.raises(CompatibilityError, match=message):
        check_against_model({"w": tensor}, {"w": torch.zeros(2)}, {})


def test_another_floating_point_width_is_no_disagreement_with_the_model():
    check_against_model({"w": torch.zeros(2, dtype=torch.bfloat16)}, {"w": torch.zeros(2)}, {})


def test_a_broken_tie_is_refused():
    state = {"a": torch.zeros(2), "b": torch.zeros(2)}
    with pytest.raises(CompatibilityError, match="has different values in b and a, which are one tensor in the model"):
        check_against_model({"a": torch.zeros(2), "b": torch.ones(2)}, state, {"b": "a"})


def test_ingredients_disagree_on_dtypes_and_integer_buffers_but_not_on_counters():
    one = ingredient("one", w=torch.zeros(2), ids=torch.tensor([1, 2]), bn_num_batches_tracked=torch.tensor(5))
    other = ingredient("other", w=torch.ones(2), ids=torch.tensor([1, 2]), bn_num_batches_tracked=torch.tensor(9))
    assert disagreement(other, one) is None
    half = ingredient("half", **(dict(other.tensors) | {"w": torch.ones(2).half()}))
    assert "torch.float16" in disagreement(half, one)
    moved = ingredient("moved", **(dict(other.tensors) | {"ids": torch.tensor([1, 3])}))
    assert disagreement(moved, one) == (
        "has an integer buffer ids with other values than 'one' (one.pt): 3 and 2 at position 1; "
        "such buffers cannot be averaged"
    )


def test_the_reference_is_the_first_with_the_most_common_dtypes():
    half, first, second = (
        ingredient("half", w=torch.zeros(1).half()),
        ingredient("first", w=torch.zeros(1)),
        ingredient("second", w=torch.zeros(1)),
    )
    assert reference_of([half, first, second]) is first


# Fingerprints


def test_a_fingerprint_is_sha256_over_sorted_keys_dtype_shape_and_bytes():
    tensors = {"b": torch.tensor([[1.0, 2.0]]), "a": torch.tensor(3)}
    expected = hashlib.sha256(
        b"a\0int64\0()\0" + (3).to_bytes(8, "little") + b"b\0float32\0(1, 2)\0" + bytes.fromhex("0000803f00000040")
    )
    assert fingerprint(tensors) == expected.hexdigest()


def test_a_fingerprint_does_not_depend_on_order_or_memory_layout():
    matrix = torch.arange(6.0).reshape(2, 3)
    images = torch.rand(2, 3, 4, 4)
    plain = fingerprint({"m": matrix, "c": images})
    assert fingerprint({"c": images.to(memory_format=torch.channels_last), "m": matrix.T.contiguous().T}) == plain


@pytest.mark.parametrize(
    "other",
    [
        {"v": torch.tensor([0.0, 1.0])},
        {"w": torch.tensor([[0.0, 1.0]])},
        {"w": torch.tensor([0.0, 1.0]).double()},
        {"w": torch.tensor([-0.0, 1.0])},
        {"w": torch.tensor([0.0, 1.0]), "x": torch.zeros(0)},
    ],
    ids=["key", "shape", "dtype", "one bit", "one more tensor"],
)
def test_a_fingerprint_depends_on_all_that_makes_the_weights(other):
    assert fingerprint(other) != fingerprint({"w": torch.tensor([0.0, 1.0])})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_same_weights_have_the_same_fingerprint_in_every_file_format(tmp_path, dtype):
    model = build_model(MLP)
    state = model.state_dict()
    tensors = {key: tensor.to(dtype) for key, tensor in perturbed(state, 0.1, seed=1).items()}
    (tmp_path / "sharded").mkdir()
    files = [save(tensors, tmp_path / f"m{suffix}") for suffix in (".safetensors", ".pt", ".pth", ".bin", ".ckpt")]
    files.append(sharded(tensors, tmp_path / "sharded"))
    torch.save(tensors, tmp_path / "legacy.pt", **LEGACY)
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in tensors.items()}}, tmp_path / "wrapped.pt")
    files += [tmp_path / "legacy.pt", tmp_path / "wrapped.pt"]
    found = {fingerprint(fit(read(file), state, {})) for file in files}
    assert found == {fingerprint(tensors)}


# Picking


def test_pick_gives_kitchen_order_whatever_the_order_of_names():
    pool = [ingredient(name) for name in "abc"]
    assert [item.name for item in pick(pool, ["c", "a"])] == ["a", "c"]
    assert pick(pool, None) == pool


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no ingredient is chosen"),
        (["fx_1"], "no ingredient 'fx_1' in this kitchen; did you mean 'ft_1'?"),
        (["ft_1", "ft_1"], "an ingredient is named twice in ft_1, ft_1"),
    ],
)
def test_pick_refuses_what_it_cannot_mean(names, message):
    with pytest.raises(KitchenError, match=message.replace("?", r"\?")):
        pick([ingredient("ft_1"), ingredient("zzz")], names)


def test_an_unknown_name_far_from_every_known_one_lists_them():
    assert unknown_name("qqq", ["ab", "cd"]) == "no ingredient 'qqq' in this kitchen; known are ab, cd."
