"""Boxes as a data set of Python or an array file gives them: rows, or torchvision's dicts; checked one by one."""

import numpy as np
import pytest
import torch
from detectors import MODEL, NAMES, scenes
from kitchens import build_model

from soupviz.data import splits
from soupviz.data.detection.objects import as_boxes
from soupviz.errors import DataError
from soupviz.spec import SplitSpec

CPU = torch.device("cpu")

DATA = """
import torch


def build(form="rows", boxes=((1.0, 2.0, 5.0, 8.0),), empty=True):
    images = [torch.rand(3, 12, 16), torch.rand(3, 10, 10), torch.rand(3, 12, 16)]
    found = torch.tensor(boxes)
    labels = torch.ones(len(found), dtype=torch.int64)
    if form == "rows":
        targets = [torch.cat([found, labels[:, None]], dim=1), torch.zeros(0, 5)]
    else:
        targets = [{"boxes": found, "labels": labels}, {"boxes": torch.zeros(0, 4), "labels": labels[:0]}]
    return list(zip(images, [targets[0], targets[1] if empty else targets[0], targets[0]]))
"""


def load(folder, **keys):
    (folder / "data.py").write_text(DATA)
    spec = SplitSpec(**({"format": "python", "path": "data.py:build"} | keys))
    return splits.load("held_out", spec, folder, build_model(MODEL), kind="boxes")


@pytest.mark.parametrize("form", ["rows", "dicts"])
def test_a_data_set_of_python_gives_images_of_their_own_size_with_rows_or_dicts(tmp_path, form):
    split = load(tmp_path, args={"form": form})
    assert [tuple(one.shape) for one in split.take(torch.arange(3), CPU)[""]] == [(3, 12, 16), (3, 10, 10), (3, 12, 16)]
    assert split.labels[0].tolist() == [[1, 2, 5, 8, 1, 0, 24]] and (split.labels[1] == -1).all()


def test_boxes_that_are_widths_and_heights_are_told_by_what_they_would_be(tmp_path):
    with pytest.raises(DataError) as error:
        load(tmp_path, args={"boxes": [[8.0, 6.0, 3.0, 4.0]]})
    assert "example 0" in str(error.value) and "x, y, width and height must be made" in str(error.value)


def test_an_array_file_has_boxes_that_are_filled_up(tmp_path):
    pictures = [one for one in scenes(0, 8) if one[0].shape[:2] == (32, 40)]
    inputs = np.stack([picture.transpose(2, 0, 1) for picture, _ in pictures]).astype(np.float32) / 255
    labels = np.full((len(pictures), 6, 5), -1.0)
    for index, (_, truths) in enumerate(pictures):
        labels[index, : len(truths)] = truths
    np.savez(tmp_path / "d.npz", inputs=inputs, labels=labels)
    split = load(tmp_path, format="arrays", path="d.npz")
    assert [tuple(one.shape) for one in split.take(torch.arange(2), CPU)[""]] == [(3, 32, 40)] * 2
    for index, (_, truths) in enumerate(pictures):
        told = split.labels[index].numpy()
        assert np.array_equal(told[told[:, 4] >= 0][:, :5], truths) and len(NAMES) == 2
    np.savez(tmp_path / "e.npz", inputs=inputs, labels=labels[:, 0])
    with pytest.raises(DataError, match="a row of x1, y1, x2, y2, class"):
        load(tmp_path, format="arrays", path="e.npz")


def test_area_and_crowd_are_taken_where_they_are_told():
    assert as_boxes([[0, 0, 2, 3, 1]]).tolist() == [[0, 0, 2, 3, 1, 0, 6]]
    assert as_boxes([[0, 0, 2, 3, 1, 1, 5]]).tolist() == [[0, 0, 2, 3, 1, 1, 5]]
    told = {"boxes": torch.tensor([[0.0, 0, 2, 3]]), "labels": torch.tensor([2]), "area": [4.0], "iscrowd": [1]}
    assert as_boxes(told).tolist() == [[0, 0, 2, 3, 2, 1, 4]]
    assert as_boxes([]).shape == (0, 7)


@pytest.mark.parametrize(
    ("label", "named"),
    [
        ([[0, 0, 2, 3]], "rows of x1, y1, x2, y2 and class"),
        ([[0, 0, np.nan, 3, 1]], "all finite"),
        ([[0, 0, 2, 3, -2]], "whole numbers from 0"),
        ([[0, 0, 2, 3, 1.5]], "whole numbers from 0"),
        ([[2, 0, 2, 3, 1]], "has no area"),
    ],
)
def test_what_is_no_box_is_refused(label, named):
    with pytest.raises(ValueError, match=named):
        as_boxes(label)
