"""Arrays of varying shape: kept flat, taken by rows, padded or listed, and sorted by length before they are scored."""

import numpy as np
import pytest
import torch

from soupviz.data import ragged
from soupviz.data.ragged import Ragged
from soupviz.data.split import Split
from soupviz.scoring.batches import SPAN, alike

CPU = torch.device("cpu")


def recordings(lengths=(3, 1, 2)):
    return [np.arange(1, length + 1, dtype=np.float32) for length in lengths]


def opened(folder, values):
    ragged.save(folder, "inputs", values)
    return ragged.opened(folder, "inputs")


def split(array, **more):
    return Split("held_out", {"": array}, torch.zeros(len(array), dtype=torch.int64), None, None, "f", **more)


def test_arrays_of_varying_shape_come_back_as_they_were(tmp_path):
    values = [np.random.default_rng(0).normal(size=(2, side, 3)) for side in (4, 1, 0, 2)]
    found = opened(tmp_path, values)
    assert isinstance(found, Ragged)
    assert found.largest == (2, 4, 3)
    taken = found.take(torch.tensor([3, 0, 2, 1]))
    assert all(np.array_equal(one.numpy(), values[place]) for one, place in zip(taken, (3, 0, 2, 1), strict=True))


def test_one_array_of_one_shape_is_opened_as_a_tensor(tmp_path):
    np.save(tmp_path / "inputs.npy", np.zeros((3, 2)))
    assert isinstance(ragged.opened(tmp_path, "inputs"), torch.Tensor)


def test_a_batch_is_padded_with_zeros_to_the_longest_of_all_where_the_model_cannot_tell(tmp_path):
    batch = split(opened(tmp_path, recordings())).take(torch.tensor([1, 2]), CPU)[""]
    assert batch.tolist() == [[1, 0, 0], [1, 2, 0]]


def test_a_batch_is_padded_to_its_own_longest_where_the_model_is_told_of_padding(tmp_path):
    found = split(opened(tmp_path, recordings()), padding="right", lengths=torch.tensor([3, 1, 2]))
    assert found.take(torch.tensor([1, 2]), CPU)[""].tolist() == [[1, 0], [1, 2]]
    assert found.take(torch.tensor([1, 2]), CPU, is_cut=False)[""].shape == (2, 3)


def test_rows_of_two_dimensions_are_padded_in_the_first(tmp_path):
    frames = [np.ones((length, 2), dtype=np.float32) for length in (2, 1)]
    batch = split(opened(tmp_path, frames)).take(torch.tensor([0, 1]), CPU)[""]
    assert batch.tolist() == [[[1, 1], [1, 1]], [[1, 1], [0, 0]]]


def test_a_listed_batch_is_a_list_of_copies_in_their_own_shapes(tmp_path):
    images = [np.full((3, side, 2 * side), 255, dtype=np.uint8) for side in (2, 5)]
    found = split(opened(tmp_path, images), listed=("",))
    batch = found.take(torch.tensor([1, 0]), CPU)[""]
    assert [tuple(one.shape) for one in batch] == [(3, 5, 10), (3, 2, 4)]
    assert batch[0].dtype == torch.float32
    batch[0].zero_()
    assert found.example(1)[""].unique().tolist() == [255]


def test_a_part_of_a_split_takes_its_own_rows(tmp_path):
    part = split(opened(tmp_path, recordings()), listed=("",)).part(torch.tensor([2, 0]), "p")
    assert [len(one) for one in part.take(torch.tensor([0, 1]), CPU)[""]] == [2, 3]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_rows_are_sorted_by_length_within_some_batches_longest_first(batch_size):
    rows = np.random.default_rng(0).permutation(400)
    lengths = torch.arange(400) % 7
    found = alike(rows, lengths, batch_size)
    span = SPAN * batch_size
    for start in range(0, 400, span):
        assert sorted(found[start : start + span].tolist()) == sorted(rows[start : start + span].tolist())
        known = lengths.numpy()[found[start : start + span]]
        assert (np.diff(known) <= 0).all()


def test_rows_without_lengths_stay_as_they_are():
    assert alike(np.array([2, 0, 1]), None, 4).tolist() == [2, 0, 1]
    assert alike(np.array([], dtype=np.int64), torch.tensor([1]), 4).tolist() == []
