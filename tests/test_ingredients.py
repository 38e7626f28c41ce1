import hashlib
from pathlib import Path

import pytest
import torch
from kitchens import MLP, build_model, perturbed, save
from test_checkpoints import LEGACY, sharded

from soupviz.errors import CheckpointError, CompatibilityError, KitchenError
from soupviz.models.architecture import Architecture
from soupviz.weights.checkpoints import read
from soupviz.weights.fitting import Fitted, fit
from soupviz.weights.ingredients import (
    Ingredient,
    check_against_model,
    disagreement,
    fingerprint,
    pick,
    reference_of,
    stamp_of,
    unknown_name,
    unsteady,
)


def ingredient(name: str, **tensors) -> Ingredient:
    return Ingredient(name, Path(f"{name}.pt"), tensors, name)


# Checking


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


def test_a_buffer_may_hold_infinities_but_not_what_is_no_number():
    mask = torch.tensor([0.0, -torch.inf])
    check_against_model({"mask": mask}, {"mask": mask}, {}, frozenset({"mask"}))
    with pytest.raises(CompatibilityError, match="has 1 NaN or infinite values in mask"):
        check_against_model({"mask": torch.tensor([0.0, torch.nan])}, {"mask": mask}, {}, frozenset({"mask"}))


def test_infinite_buffers_have_to_agree():
    one, same = (ingredient(name, mask=torch.tensor([0.0, -torch.inf])) for name in ("one", "same"))
    other = ingredient("other", mask=torch.tensor([0.0, 1.0]))
    buffers = frozenset({"mask"})
    assert disagreement(same, one, buffers) is None
    assert "infinite values in the buffer mask where 'one' (one.pt) has others" in disagreement(other, one, buffers)


def with_constants(name: str, **constants) -> Ingredient:
    return Ingredient(name, Path(f"{name}.pt"), {}, name, fitted=Fitted({}, constants=constants))


def test_what_is_left_over_has_to_be_the_same_wherever_it_occurs():
    """Also where the first of all does not have it."""
    bare, one, same, other = (
        with_constants("bare"),
        with_constants("one", ids=torch.arange(3)),
        with_constants("same", ids=torch.arange(3)),
        with_constants("other", ids=torch.arange(3) + 1),
    )
    assert unsteady([bare, one, same]) == {}
    assert list(unsteady([bare, one, other])) == ["other"]
    assert "has ids, which the model lacks, with other values than 'one' (one.pt)" in unsteady([one, other])["other"]


@pytest.mark.parametrize("change", ["written", "removed"])
def test_weights_whose_file_changed_after_it_was_opened_are_refused(tmp_path, change):
    file = save({"w": torch.zeros(3)}, tmp_path / "m.safetensors")
    opened = Ingredient("m", file, {}, "", stamp=stamp_of(file))
    opened.check_unchanged()
    if change == "written":
        save({"w": torch.zeros(4)}, file)
    else:
        file.unlink()
    with pytest.raises(CheckpointError, match=r"m\.safetensors has changed since the kitchen was opened"):
        opened.check_unchanged()


def test_the_size_of_a_sharded_checkpoint_is_that_of_its_shards(tmp_path):
    index = sharded({"a": torch.zeros(1000), "b": torch.zeros(500)}, tmp_path)
    assert Ingredient("m", index, {}, "", stamp=stamp_of(index)).num_bytes > 6000


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
    architecture = Architecture(model, lambda: build_model(MLP))
    files = [save(tensors, tmp_path / f"m{suffix}") for suffix in (".safetensors", ".pt", ".pth", ".bin", ".ckpt")]
    files.append(sharded(tensors, tmp_path / "sharded"))
    torch.save(tensors, tmp_path / "legacy.pt", **LEGACY)
    torch.save({"state_dict": {f"module.{key}": tensor for key, tensor in tensors.items()}}, tmp_path / "wrapped.pt")
    files += [tmp_path / "legacy.pt", tmp_path / "wrapped.pt"]
    found = {fingerprint(fit(read(file), architecture).tensors) for file in files}
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
