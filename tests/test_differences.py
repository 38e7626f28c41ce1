"""Two checkpoints tensor by tensor, and frozen parts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import TIED, small_kitchen
from safetensors.torch import load_file, save_file

import soupviz as sv
from soupviz.analysis.differences import by_layer, difference, sameness
from soupviz.errors import Cancelled


def one(a: torch.Tensor, b: torch.Tensor):
    return difference({"layer.0.weight": a}, {"layer.0.weight": b})[0]


def test_a_case_by_hand():
    found = one(torch.tensor([3.0, 4.0, 0.0]), torch.tensor([3.0, 4.0, 5.0]))
    assert (found.numbers, found.changed, found.largest) == (3, 1, 5.0)
    assert found.relative == 1.0
    assert found.share == pytest.approx(1 / 3)
    assert found.cosine == pytest.approx(0.5**0.5)
    assert not found.is_identical and found.layer == "layer.0"


def test_it_agrees_with_numpy():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(7, 5, generator=generator) for _ in range(2))
    found = one(a, b)
    x, y = a.double().numpy(), b.double().numpy()
    assert found.relative == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x))
    assert found.cosine == pytest.approx((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y))
    assert found.largest == pytest.approx(np.abs(y - x).max())


def test_a_checkpoint_does_not_differ_from_itself():
    tensor = torch.randn(9)
    found = one(tensor, tensor.clone())
    assert found.is_identical and found.relative == 0.0 and found.cosine == pytest.approx(1.0)


def test_zeros_have_no_relative_change_and_no_angle():
    found = one(torch.zeros(3), torch.ones(3))
    assert found.relative is None and found.cosine is None and found.share == 1.0
    assert one(torch.zeros(3), torch.zeros(3)).relative == 0.0


def test_integers_and_empty_tensors_and_scalars_are_compared_too():
    assert one(torch.tensor([1, 2]), torch.tensor([1, 4])).changed == 1
    assert one(torch.zeros(0), torch.zeros(0)).is_identical
    assert one(torch.tensor(1), torch.tensor(2)).largest == 1.0


def test_pieces_add_up(monkeypatch):
    a, b = torch.randn(10, 10), torch.randn(10, 10)
    whole = one(a, b)
    monkeypatch.setattr("soupviz.analysis.differences.PIECE", 7)
    parts = one(a, b)
    assert parts.as_dict() == pytest.approx(whole.as_dict())


def test_layers_add_up_their_tensors_in_the_models_order():
    a = {"x.0.weight": torch.tensor([3.0]), "x.0.bias": torch.tensor([4.0]), "head.weight": torch.tensor([1.0])}
    b = {"x.0.weight": torch.tensor([3.0]), "x.0.bias": torch.tensor([9.0]), "head.weight": torch.tensor([1.0])}
    rows = by_layer(difference(a, b))
    assert [row.name for row in rows] == ["x.0", "head"]
    assert rows[0].relative == pytest.approx(1.0) and rows[0].numbers == 2 and rows[1].is_identical


def test_a_count_of_batches_does_not_hide_what_changed_in_a_layer():
    a = {"bn.0.weight": torch.tensor([4.0]), "bn.0.num_batches_tracked": torch.tensor(1000)}
    b = {"bn.0.weight": torch.tensor([5.0]), "bn.0.num_batches_tracked": torch.tensor(9000)}
    assert len(difference(a, b)) == 2
    assert by_layer(difference(a, b))[0].relative == 0.25


def test_a_difference_can_be_cancelled():
    def stop(done: int, total: int, what: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        difference({"w": torch.ones(2)}, {"w": torch.ones(2)}, progress=stop)


def frozen_kitchen(folder: Path) -> Path:
    """Four ingredients whose first layer is the base's, the third with another first bias, the fourth a copy."""
    file = small_kitchen(folder, num_ingredients=4)
    base = load_file(folder / "base.safetensors")
    for index in range(3):
        tensors = load_file(folder / f"m_{index}.safetensors")
        tensors |= {key: base[key] for key in ("0.weight", "0.bias")}
        if index == 2:
            tensors["0.bias"] = tensors["0.bias"] + 1
        save_file(tensors, folder / f"m_{index}.safetensors")
    save_file(load_file(folder / "m_0.safetensors"), folder / "m_3.safetensors")
    return file


def test_frozen_parts_are_found_and_named_by_layer(tmp_path: Path):
    found = sameness(sv.Kitchen.load(frozen_kitchen(tmp_path)))
    assert found.names == ("m_0", "m_1", "m_2", "m_3", "base")
    assert found.frozen(["m_0", "m_1", "base"]) == ["0"]
    assert found.frozen(["m_0", "m_1", "m_2"]) == []
    assert found.frozen(["m_0", "m_3"]) == ["0", "2"]
    shares = found.shares()
    assert shares[0].tolist() == [1.0, 0.5, 0.25, 1.0, 0.5]
    assert shares.tolist() == shares.T.tolist()
    assert found.shares(of_numbers=True)[2, 4] == pytest.approx(96 / (96 + 16 + 48 + 3))


def test_what_was_found_is_kept_and_can_be_cancelled(tmp_path: Path):
    kitchen = sv.Kitchen.load(frozen_kitchen(tmp_path))

    def stop(done: int, total: int, what: str) -> None:
        raise Cancelled

    with pytest.raises(Cancelled):
        sameness(kitchen, progress=stop)
    found = sameness(kitchen)
    assert sameness(kitchen, progress=stop).classes.tolist() == found.classes.tolist()


def test_tensors_that_only_begin_alike_are_not_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("soupviz.analysis.differences.GLANCE", 2)
    file = frozen_kitchen(tmp_path)
    tensors = load_file(tmp_path / "m_1.safetensors")
    tensors["0.weight"][-1, -1] += 1
    save_file(tensors, tmp_path / "m_1.safetensors")
    assert sameness(sv.Kitchen.load(file)).frozen(["m_0", "m_1"]) == []


def test_tied_tensors_are_looked_at_once(tmp_path: Path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, source=TIED, num_ingredients=2))
    assert len(sameness(kitchen).layers) == len(kitchen.ingredients[0].tensors) - len(kitchen.architecture.ties)
    item = kitchen.ingredients[0].tensors
    names = [row.name for row in difference(item, item, ties=kitchen.architecture.ties)]
    assert not set(names) & set(kitchen.architecture.ties)
