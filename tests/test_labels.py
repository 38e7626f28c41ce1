"""Labels: class numbers, numbers, flags and any, from every format that has them, as the task wants them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import change_yaml, regression_kitchen, small_kitchen, write_arrays
from test_sentences import Mean, words
from torch import nn

import soupviz as sv
from soupviz.data import splits
from soupviz.data.classes import stratified_part
from soupviz.errors import DataError, KitchenError
from soupviz.kitchen import Kitchen
from soupviz.spec import SplitSpec

assert words  # a fixture


def arrays(folder: Path, labels: np.ndarray | torch.Tensor, kind: str, **keys) -> splits.Split:
    inputs = torch.arange(2.0 * len(labels)).reshape(len(labels), 2)
    suffix = "npz" if isinstance(labels, np.ndarray) else "safetensors"
    file = folder / f"data.{suffix}"
    if suffix == "npz":
        np.savez(file, inputs=inputs.numpy(), labels=labels)
    else:
        write_arrays(file, inputs, labels)
    spec = SplitSpec(format="arrays", path=file.name, **keys)
    return splits.load("held_out", spec, folder, nn.Identity(), kind=kind)


@pytest.mark.parametrize(
    ("kind", "labels", "dtype", "shape"),
    [
        ("classes", np.array([0.0, 1.0, 1.0]), torch.int64, (3,)),
        ("numbers", np.array([0.5, 1.0, -2.0]), torch.float32, (3,)),
        ("numbers", np.array([[1, 2], [3, 4], [5, 6]]), torch.float32, (3, 2)),
        ("numbers", torch.tensor([0.5, 1.0, 2.0], dtype=torch.bfloat16), torch.float32, (3,)),
        ("flags", np.array([[True, False], [True, True], [False, False]]), torch.uint8, (3, 2)),
        ("flags", np.array([1.0, 0.0, 1.0]), torch.uint8, (3, 1)),
        ("any", np.zeros((3, 2, 4)), torch.float64, (3, 2, 4)),
        ("any", np.array([7, 8, 9], dtype=np.int16), torch.int16, (3,)),
    ],
)
def test_arrays_have_labels_of_every_kind(tmp_path, kind, labels, dtype, shape):
    found = arrays(tmp_path, labels, kind).labels
    assert (found.dtype, tuple(found.shape)) == (dtype, shape)
    expected = labels.astype(np.float64) if isinstance(labels, np.ndarray) else labels.double().numpy()
    assert np.array_equal(found.double().numpy(), expected.reshape(shape))


@pytest.mark.parametrize(
    ("kind", "labels", "message"),
    [
        ("numbers", np.array([0.5, np.nan]), "example 1 is nan; expected a number"),
        ("numbers", np.zeros((2, 3, 4)), r"shape .2, 3, 4. .*expected a number"),
        ("flags", np.array([[0, 1], [2, 1]]), r"example 1 is \[2 1\]; expected a row of 0 and 1"),
        ("flags", np.array([[0, 0.5], [0, 1]]), "example 0 is .*expected a row of 0 and 1"),
        ("any", np.array(["a", "b"]), "type <U1; expected a number"),
        ("numbers", np.zeros((2, 2, 2)), "expected a number"),
    ],
)
def test_labels_of_another_kind_are_refused(tmp_path, kind, labels, message):
    with pytest.raises(DataError, match=message):
        arrays(tmp_path, labels, kind)


def test_one_file_is_read_anew_for_labels_of_another_kind(tmp_path):
    """The kind is part of what the cache keeps them under."""
    labels = np.array([0, 1, 1])
    first, second = arrays(tmp_path, labels, "classes"), arrays(tmp_path, labels, "numbers")
    assert (first.labels.dtype, second.labels.dtype) == (torch.int64, torch.float32)
    assert first.fingerprint != second.fingerprint
    assert arrays(tmp_path, labels, "classes").fingerprint == first.fingerprint


DATA = """
import numpy as np, torch

class Rows(list):
    pass

def numbers():
    return [(torch.ones(2) * n, 0.5 * n) for n in range(4)]

def rows():
    return [{"x": torch.ones(2) * n, "labels": torch.tensor([0.5 * n, 1.0])} for n in range(4)]

def flags():
    return [(torch.ones(2) * n, np.array([1, n % 2])) for n in range(4)]

def unlike():
    return [(torch.ones(2), [1.0] * (1 + n // 3)) for n in range(4)]

def words():
    return [(torch.ones(2), "much") for n in range(4)]
"""


@pytest.mark.parametrize(
    ("function", "kind", "expected"),
    [
        ("numbers", "numbers", [0.0, 0.5, 1.0, 1.5]),
        ("rows", "numbers", [[0.0, 1.0], [0.5, 1.0], [1.0, 1.0], [1.5, 1.0]]),
        ("flags", "flags", [[1, 0], [1, 1], [1, 0], [1, 1]]),
        ("flags", "any", [[1, 0], [1, 1], [1, 0], [1, 1]]),
    ],
)
def test_data_sets_of_python_have_labels_of_every_kind(tmp_path, function, kind, expected):
    (tmp_path / "data.py").write_text(DATA)
    spec = SplitSpec(format="python", path=f"data.py:{function}")
    assert splits.load("held_out", spec, tmp_path, nn.Identity(), kind=kind).labels.tolist() == expected


@pytest.mark.parametrize(
    ("function", "message"),
    [("unlike", r"example 3 has shape \(2,\), unlike \(1,\)"), ("words", "text 'much': give it as a number")],
)
def test_labels_of_python_that_do_not_fit_are_refused(tmp_path, function, message):
    (tmp_path / "data.py").write_text(DATA)
    spec = SplitSpec(format="python", path=f"data.py:{function}")
    with pytest.raises(DataError, match=message):
        splits.load("held_out", spec, tmp_path, nn.Identity(), kind="numbers")


TABLE = "text,score,joy,fear\nred blue,0.5,1,0\nblue,-1,0,1\nred,2e1,1,1\n"


def table(folder: Path, label, kind: str, text: str = TABLE, classes=None) -> splits.Split:
    (folder / "data.csv").write_text(text)
    spec = SplitSpec(format="text", path="data.csv", label=label, tokenizer=".")
    return splits.load("held_out", spec, folder, Mean(), kind=kind, classes=classes)


def test_a_column_of_numbers_or_several_are_labels_of_a_table(tmp_path, words):
    assert table(tmp_path, "score", "numbers").labels.tolist() == [0.5, -1.0, 20.0]
    assert table(tmp_path, ["score", "joy"], "numbers").labels.tolist() == [[0.5, 1.0], [-1.0, 0.0], [20.0, 1.0]]


def test_the_columns_of_flags_name_the_classes(tmp_path, words):
    found = table(tmp_path, ["joy", "fear"], "flags")
    assert (found.labels.tolist(), found.classes) == ([[1, 0], [0, 1], [1, 1]], ("joy", "fear"))
    assert table(tmp_path, ["joy", "fear"], "flags", classes=("A", "B")).classes == ("A", "B")


@pytest.mark.parametrize(
    ("label", "kind", "message"),
    [
        (["joy", "fear"], "classes", "label names 2 columns; expected one"),
        ("text", "numbers", "'text' of example 0 is 'red blue'; expected a number"),
        ("score", "flags", "expected a row of 0 and 1"),
    ],
)
def test_columns_that_do_not_fit_the_task_are_refused(tmp_path, words, label, kind, message):
    with pytest.raises(DataError, match=message):
        table(tmp_path, label, kind)


@pytest.mark.parametrize("kind", ["numbers", "flags"])
@pytest.mark.parametrize("form", ["imagefolder", "torchvision:CIFAR10"])
def test_a_folder_for_each_class_is_refused_where_labels_are_no_classes(tmp_path, kind, form):
    with pytest.raises(DataError, match=f"format {form} says of each example only its class"):
        splits.load("test", SplitSpec(format=form, path="."), tmp_path, nn.Identity(), kind=kind)


def test_parts_of_what_has_no_classes_are_drawn_at_random(tmp_path):
    labels = torch.linspace(0, 1, 21)
    parts = [stratified_part(labels, index, 2, seed=3) for index in (0, 1)]
    assert sorted(torch.cat(parts).tolist()) == list(range(21))
    assert [len(part) for part in parts] == [11, 10]
    assert not torch.equal(parts[0], torch.arange(0, 21, 2))
    half = arrays(tmp_path, labels.numpy(), "numbers", part={"index": 1, "seed": 3})
    assert torch.equal(half.labels, labels[parts[1]])


def test_restricting_classes_needs_classes(tmp_path):
    with pytest.raises(DataError, match="restrict_classes is for classification"):
        arrays(tmp_path, np.array([0.5, 1.0]), "numbers", restrict_classes=True)


def test_labels_of_another_width_are_refused_before_scoring(tmp_path):
    file = regression_kitchen(tmp_path, outputs=2)
    change_yaml(file, lambda kitchen: kitchen["model"]["args"].update(classes=3))
    for place in tmp_path.glob("*.safetensors"):
        if place.stem.startswith(("m_", "base")):
            place.unlink()
    small = small_kitchen(tmp_path / "three", args={"classes": 3}, task="regression")
    for split in ("held_out", "test"):
        (tmp_path / f"{split}.safetensors").replace(small.parent / f"{split}.safetensors")
    with pytest.raises(DataError, match=r"2 numbers for each example, but the model's head has 3 outputs"):
        Kitchen.load(small).splits.load("held_out")


def test_classes_are_refused_where_the_task_has_none(tmp_path):
    file = regression_kitchen(tmp_path, classes=["a"])
    with pytest.raises(KitchenError, match="the task regression has not"):
        Kitchen.load(file)


def test_a_regression_is_scored_and_cooked(tmp_path):
    kitchen = Kitchen.load(regression_kitchen(tmp_path))
    scores = kitchen.scores.of_ingredients()
    assert [list(score.values) for score in scores.values()] == [["rmse", "mae", "r2"]] * 4
    soup = sv.greedy(kitchen)
    assert soup.scores["held_out"].value <= min(score.value for score in scores.values())


@pytest.mark.parametrize("metric", ["macro_f1", "map", "loss"])
def test_several_flags_for_each_example_are_scored_and_cooked(tmp_path, metric):
    file = small_kitchen(tmp_path, task="multilabel", metric=metric)
    for split in ("held_out", "test"):
        inputs = torch.randn(40, 6, generator=torch.Generator().manual_seed(len(split)))
        write_arrays(tmp_path / f"{split}.safetensors", inputs, (inputs[:, :3] > 0).long())
    soup = sv.greedy(Kitchen.load(file))
    score = soup.scores["held_out"]
    assert (score.metric, set(score.values)) == (metric, {"macro_f1", "micro_f1", "map", "loss"})
