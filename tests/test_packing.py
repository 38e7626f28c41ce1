"""Ingredients are packed as plain data and bytes apart, and unpacked over these bytes."""

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from adapters import adapters_kitchen
from kitchens import small_kitchen
from torch import Tensor

import soupviz as sv
from soupviz.errors import ExecutorError
from soupviz.scoring.executors import object_store
from soupviz.scoring.executors.object_store import Shelf, check_fits, own_size
from soupviz.scoring.executors.packing import Packed, num_bytes, packed, unpacked
from soupviz.scoring.executors.starting import workers_of
from soupviz.weights.ingredients import Ingredient, fingerprint, same_bits
from soupviz.weights.key_maps import DTYPES

FP8 = (torch.float8_e4m3fn, torch.float8_e5m2)


def ingredient(**tensors: Tensor) -> Ingredient:
    return Ingredient("m", Path("m.safetensors"), tensors, fingerprint(tensors))


def stored(content: Packed) -> Packed:
    """As a store gives it back: other memory, which is read only."""
    copies = [data.copy() for data in content[1]]
    for data in copies:
        data.flags.writeable = False
    return content[0], copies


def through_a_store(item: Ingredient) -> Ingredient:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return unpacked(stored(packed(item)))


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_a_tensor_of_every_dtype_comes_out_bit_for_bit(dtype):
    tensor = (torch.randn(5, 3, generator=torch.Generator().manual_seed(0)) * 9).to(dtype)
    out = through_a_store(ingredient(weight=tensor)).tensors["weight"]
    assert (out.dtype, out.shape) == (dtype, tensor.shape)
    assert torch.equal(out.view(torch.uint8), tensor.view(torch.uint8))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, *FP8])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,)], ids=str)
def test_a_number_and_a_tensor_without_any_come_out_with_their_shape(dtype, shape):
    tensor = torch.full(shape, 2).to(dtype)
    out = through_a_store(ingredient(weight=tensor)).tensors["weight"]
    assert (out.dtype, out.shape) == (dtype, tensor.shape)
    assert torch.equal(out.float(), tensor.float())


def test_tensors_that_lie_otherwise_in_memory_come_out_the_same():
    whole = torch.arange(24.0).reshape(4, 6)
    views = {"turned": whole.T, "some": whole[:, 1:4], "spread": whole[:1].expand(3, 6), "last": whole[3]}
    out = through_a_store(ingredient(**views))
    assert all(torch.equal(out.tensors[key], tensor) for key, tensor in views.items())
    assert fingerprint(out.tensors) == out.fingerprint


def test_tied_tensors_take_their_bytes_once():
    weight = torch.randn(100)
    once, twice = ingredient(a=weight), ingredient(a=weight, b=weight.detach())
    assert len(packed(twice)[1]) == len(packed(once)[1]) == 1


def test_what_is_packed_is_a_view_of_the_weights_and_what_is_unpacked_one_of_the_bytes():
    weight = torch.zeros(4)
    content, [data] = packed(ingredient(weight=weight))
    weight[0] = 1.0
    assert data[:4].tobytes() == np.float32(1.0).tobytes()
    out = unpacked((content, [data])).tensors["weight"]
    assert out.data_ptr() == data.ctypes.data == weight.data_ptr()


def test_weights_without_their_file_have_nothing_that_could_have_changed(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path))
    out = through_a_store(kitchen.ingredients[1])
    kitchen.ingredients[1].path.unlink()
    out.check_unchanged()
    assert (out.name, out.fingerprint) == ("m_1", kitchen.ingredients[1].fingerprint)
    assert all(same_bits(out.tensors[key], tensor) for key, tensor in kitchen.ingredients[1].tensors.items())


def test_an_adapter_is_packed_without_its_base(tmp_path):
    kitchen = sv.Kitchen.load(adapters_kitchen(tmp_path))
    base = kitchen.weights.base
    assert base is not None
    again = unpacked(stored(packed(base)))
    for item in kitchen.ingredients:
        content = packed(item, [base])
        out = unpacked(stored(content), [again])
        assert item.adapter is not None
        assert out.adapter is not None
        factors = sum(one.a.nbytes + one.b.nbytes for ones in item.adapter.updates.values() for one in ones)
        assert sum(data.nbytes for data in content[1]) == factors
        assert out.adapter.base is again
        assert fingerprint(out.tensors) == item.fingerprint


def test_workers_that_have_their_weights_from_elsewhere_are_others(tmp_path):
    file = small_kitchen(tmp_path)
    kitchens = [sv.Kitchen.load(file, executor="ray", ray_weights=one) for one in (None, "files", "object_store")]
    assert [workers_of(one.spec) == workers_of(kitchens[0].spec) for one in kitchens] == [True, True, False]


class Puts:
    """A store that gives back what was put."""

    def __init__(self) -> None:
        self.objects: list[Any] = []

    def put(self, thing: Any) -> int:
        self.objects.append(thing)
        return len(self.objects) - 1

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeManagerAddress": "here", "Alive": True, "Resources": {"object_store_memory": 1e12}}]


@pytest.mark.parametrize("make", [small_kitchen, adapters_kitchen])
def test_each_ingredient_and_the_base_are_put_once_and_take_what_was_foreseen(tmp_path, make):
    shelf, puts = Shelf(sv.Kitchen.load(make(tmp_path)).weights), Puts()
    told: list[str] = []
    needed = shelf.needed()
    stock = shelf.stock(puts, told.append, is_own=True)
    assert (stock.base, len(stock.bases)) == (0, 1)
    assert [*stock.bases, *stock.items] == list(range(len(puts.objects)))
    assert needed == shelf.num_bytes == sum(map(num_bytes, puts.objects))
    assert len(told) == len(puts.objects) and told[-1].endswith(f"{len(told)} of {len(told)}")


def nodes(**sizes: int) -> Any:
    found = [
        {"NodeManagerAddress": name, "Alive": name != "gone", "Resources": {"object_store_memory": float(size)}}
        for name, size in sizes.items()
    ]
    return SimpleNamespace(nodes=lambda: found)


def test_weights_that_the_smallest_store_does_not_hold_are_refused_with_the_sizes():
    check_fits(nodes(one=2_000_000_000, two=3_000_000_000, gone=1), 2_000_000_000, is_own=False)
    with pytest.raises(ExecutorError, match=r"3\.50 GB.* two has 3\.00 GB.*--ray-weights files"):
        check_fits(nodes(one=4_000_000_000, two=3_000_000_000), 3_500_000_000, is_own=False)


def test_a_store_that_was_started_for_others_is_too_small_until_these_end():
    with pytest.raises(ExecutorError, match="other workers of this process"):
        check_fits(nodes(here=1000), 2000, is_own=True)


def test_a_cluster_of_ones_own_has_a_store_for_the_weights_if_there_is_room(monkeypatch):
    monkeypatch.setattr(object_store, "_free_here", lambda: {"/dev/shm": 10**9, "memory": 3 * 10**9})
    usual = own_size(0, 0)
    assert own_size(10**8, 0) == usual + 10**8
    assert own_size(10**8, 10**8) == usual + 2 * 10**8
    assert own_size(10**8, 10**10) == 10**9  # what is good to have is no reason to refuse
    with pytest.raises(ExecutorError, match=r"2\.00 GB.*/dev/shm has 1\.00 GB free"):
        own_size(2 * 10**9, 0)
