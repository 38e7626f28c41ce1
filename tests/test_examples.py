"""Two models on the same examples: which only one gets right, class by class, and what an example looks like."""

import io
from dataclasses import replace
from pathlib import Path

import altair
import numpy as np
import pytest
import torch
from kitchens import MLP, change_yaml, small_kitchen
from PIL import Image
from scores import some_outcomes
from sklearn.metrics import confusion_matrix
from test_bad_input import image_kitchen

import soupviz as sv
from soupviz.analysis import examples
from soupviz.data.split import Split
from soupviz.errors import DataError
from soupviz.pictures import examples as pictures
from soupviz.tasks.classes.multilabel import Multilabel
from soupviz.tasks.outcomes import Outcomes

LABELS = np.array([0, 0, 0, 1, 1, 2])


def said(predictions, confidences=None, labels=LABELS) -> Outcomes:
    """What a model says of each example."""
    confidences = 0.5 if confidences is None else confidences
    return some_outcomes(predictions=predictions, labels=labels, confidences=confidences)


NEW = said([0, 0, 1, 1, 1, 0], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
OLD = said([0, 2, 1, 2, 1, 2], [0.9, 0.3, 0.7, 0.6, 0.5, 0.4])


def split_of(inputs: torch.Tensor, **more) -> Split:
    labels = torch.zeros(len(inputs), dtype=torch.int64)
    return Split("test", {"": inputs}, labels, None, more.pop("normalization", None), "fingerprint", **more)


# Classes and confusions


def test_changes_of_classes_by_hand_the_largest_gain_first():
    found = examples.class_changes(NEW, OLD, LABELS)
    assert [(one.index, one.num_examples, one.fixed, one.broken) for one in found] == [
        (1, 2, 1, 0),
        (0, 3, 1, 0),
        (2, 1, 0, 1),
    ]
    assert [one.points for one in found] == pytest.approx([50, 100 / 3, -100])


def test_classes_without_examples_are_left_out():
    labels = np.array([0, 3])
    found = examples.class_changes(said([0, 3], labels=labels), said([1, 3], labels=labels), labels)
    assert [one.index for one in found] == [0, 3]


def test_changes_add_up_to_what_the_pair_differs_by():
    generator = np.random.default_rng(0)
    labels = generator.integers(7, size=300)
    new, old = (said(generator.integers(7, size=300), labels=labels) for _ in range(2))
    found = examples.class_changes(new, old, labels)
    assert sum(one.fixed for one in found) == (new["right"] & ~old["right"]).sum()
    assert sum(one.points * one.num_examples for one in found) == pytest.approx(
        100 * int(new["right"].sum() - old["right"].sum())
    )
    assert [-one.points for one in examples.class_changes(old, new, labels)[::-1]] == [one.points for one in found]


def test_of_many_classes_those_that_changed_most_are_kept_in_their_order():
    changes = [
        examples.ClassChange(k, 100, 50, fixed, broken, 1.0) for k, fixed, broken in [(0, 3, 0), (1, 1, 1), (2, 0, 9)]
    ]
    assert [one.index for one in examples.most_changed(changes, 2)] == [0, 2]
    assert examples.most_changed(changes, 30) == changes
    still = [examples.ClassChange(k, 10, 5, 0, 0, 1.0) for k in range(3, 9)]
    assert examples.most_changed([*changes, *still], 5) == changes


@pytest.mark.parametrize("classes", [2, 5, 40])
def test_the_confusion_matrix_is_sklearns(classes):
    generator = np.random.default_rng(classes)
    labels, predictions = generator.integers(classes, size=(2, 500))
    counts = examples.confusion(predictions.astype(np.int32), labels, classes)
    assert (counts == confusion_matrix(labels, predictions, labels=range(classes))).all()
    shares = confusion_matrix(labels, predictions, labels=range(classes), normalize="true")
    assert examples.by_label(counts) == pytest.approx(shares)


def test_an_output_that_is_not_finite_is_in_no_cell():
    counts = examples.confusion(np.array([0, -1, 1], dtype=np.int32), np.array([0, 0, 0]), 2)
    assert counts.tolist() == [[1, 1], [0, 0]]
    assert np.isnan(examples.by_label(counts)[1]).all()


def test_of_many_classes_the_most_confused_are_drawn():
    counts = np.diag([100, 100, 100, 100])
    counts[1, 3] = 5
    assert examples.most_confused([counts, counts], 2) == [1, 3]
    assert examples.most_confused([counts], 30) == [0, 1, 2, 3]


# Which examples


def test_examples_of_each_kind_by_hand():
    def rows(kind):
        return examples.pick(NEW, OLD, LABELS, kind, order="as listed").tolist()

    assert rows("only soup") == [1, 3]
    assert rows("only rival") == [5]
    assert rows("both wrong") == [2]
    assert rows("any") == [0, 1, 2, 3, 4, 5]


def test_the_surest_error_comes_first_or_last():
    assert examples.pick(NEW, OLD, LABELS, "only soup").tolist() == [3, 1]  # the rival's: 0.6, then 0.3
    assert examples.pick(NEW, OLD, LABELS, "only soup", order="least sure error").tolist() == [1, 3]
    # Of all examples the soup's errors come first: 0.7, then 0.4.
    assert examples.pick(NEW, OLD, LABELS, "any").tolist() == [2, 5, 0, 1, 3, 4]


def test_an_error_without_a_confidence_comes_last():
    new = said([-1, 1, 1, 1, 1, 2], 0.5)
    assert examples.pick(new, OLD, LABELS, "any").tolist() == [1, 2, 0, 3, 4, 5]
    assert examples.pick(new, OLD, LABELS, "any", order="least sure error").tolist() == [1, 2, 0, 3, 4, 5]


def test_a_label_and_a_prediction_filter():
    assert examples.pick(NEW, OLD, LABELS, "any", label=0, order="as listed").tolist() == [0, 1, 2]
    assert examples.pick(NEW, OLD, LABELS, "any", label=0, prediction=1).tolist() == [2]
    assert examples.pick(NEW, OLD, LABELS, "any", label=2, prediction=1).tolist() == []


def test_a_cell_of_the_confusion_matrix_holds_the_examples_that_it_filters():
    counts = examples.confusion(NEW["prediction"], LABELS, 3)
    for label in range(3):
        for prediction in range(3):
            rows = examples.pick(NEW, OLD, LABELS, "any", label=label, prediction=prediction)
            assert len(rows) == counts[label, prediction]


# What they look like


def opened_png(split: Split, row: int) -> np.ndarray:
    picture = examples.pixels(split, row)
    assert picture is not None
    return np.asarray(Image.open(io.BytesIO(examples.png(picture))))


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_survives_the_way_to_the_screen_bit_for_bit(channels):
    raw = torch.randint(0, 256, (3, channels, 9, 7), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    split = split_of(raw, normalization=((0.5,) * channels, (0.25,) * channels))
    shown = opened_png(split, 2)
    expected = raw[2].permute(1, 2, 0).numpy()
    assert (shown.reshape(9, 7, channels) == expected).all()
    # And what the model is given is that very image, normalised.
    given = split.take(torch.tensor([2]), torch.device("cpu"))[""][0].permute(1, 2, 0).numpy()
    assert given * 0.25 + 0.5 == pytest.approx(shown.reshape(9, 7, channels) / 255, abs=1e-6)


def test_an_image_of_a_folder_is_shown_as_it_was_decoded(tmp_path):
    kitchen = sv.Kitchen.load(image_kitchen(tmp_path))
    split = kitchen.splits.load("held_out")
    assert (opened_png(split, 3) == split.inputs[""][3].permute(1, 2, 0).numpy().squeeze()).all()


def test_numbers_are_scaled_from_their_smallest_to_their_largest():
    values = torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4)
    shown = opened_png(split_of(values), 0)
    assert (shown.min(), shown.max()) == (0, 255)
    assert shown.flatten().tolist() == np.rint(np.linspace(0, 255, 16)).tolist()


def test_what_is_not_finite_or_all_the_same_is_shown_without_a_warning():
    flat = torch.full((1, 1, 4, 4), 3.0)
    assert (opened_png(split_of(flat), 0) == 0).all()
    flat[0, 0, 0, 0] = torch.nan
    assert opened_png(split_of(flat), 0).shape == (4, 4)


def test_channels_may_come_last_and_images_may_have_none():
    assert opened_png(split_of(torch.rand(1, 8, 9, 3)), 0).shape == (8, 9, 3)
    assert opened_png(split_of(torch.rand(1, 8, 9)), 0).shape == (8, 9)


@pytest.mark.parametrize("shape", [(6,), (2, 8, 8), (3, 2, 2), (1, 3, 8, 8)])
def test_other_tensors_are_no_pictures(shape):
    assert examples.pixels(split_of(torch.rand(2, *shape)), 0) is None


def test_small_pictures_grow_by_whole_multiples_and_large_ones_shrink():
    def size(height: int, width: int) -> tuple[int, int]:
        return examples.shown_size(np.zeros((height, width), dtype=np.uint8))

    assert size(8, 8) == (128, 128)
    assert size(28, 28) == (112, 112)
    assert size(64, 32) == (64, 128)
    assert size(256, 512) == (128, 64)
    large = examples.png(np.zeros((256, 512, 3), dtype=np.uint8))
    assert Image.open(io.BytesIO(large)).size == (128, 64)


def test_what_is_no_picture_is_told_by_its_numbers_or_its_tensors():
    numbers = split_of(torch.tensor([[1.0, 0.25]]))
    assert examples.described(numbers, 0) == "float32: 1, 0.25"
    tokens = replace(numbers, arrays={"ids": torch.zeros(2, 12, dtype=torch.int64), "mask": torch.zeros(2, 12)})
    assert examples.described(tokens, 0) == "ids: int64, shape (12,); mask: float32, shape (12,)"
    assert examples.pixels(tokens, 0) is None
    assert examples.described(replace(tokens, texts=("good", "bad")), 1) == "bad"


# Texts of the python format

REVIEWS = """
import torch

class Reviews:
    def __init__(self, told=str, size=30):
        self.told, self.size = told, size
    def __len__(self):
        return self.size
    def __getitem__(self, index):
        return torch.full((6,), float(index)), index % 3
    def text(self, index):
        return self.told(f"review {index}")

class Silent(Reviews):
    text = None

def reviews():
    return Reviews()

def broken():
    return Reviews(told=len)

def silent():
    return Silent()
"""


def reviews(folder: Path, function: str = "reviews", **more) -> sv.Kitchen:
    file = small_kitchen(folder, num_ingredients=2, num_examples=30)
    (folder / "reviews.py").write_text(REVIEWS)
    spec = {"format": "python", "path": f"reviews.py:{function}"} | more
    change_yaml(file, lambda document: document["data"].update(held_out=spec))
    return sv.Kitchen.load(file)


@pytest.mark.parametrize("version", [None, "1"])
def test_a_data_set_may_tell_its_examples_as_texts(tmp_path, version):
    more = {"version": version} if version else {}
    split = reviews(tmp_path, **more).splits.load("held_out")
    assert split.texts == tuple(f"review {index}" for index in range(30))
    again = sv.Kitchen.load(tmp_path / "kitchen.yaml").splits.load("held_out")
    assert again.texts == split.texts


def test_a_part_of_a_data_set_has_its_texts(tmp_path):
    split = reviews(tmp_path, part={"index": 1, "of": 2, "seed": 0}).splits.load("held_out")
    assert split.texts == tuple(f"review {int(row[0])}" for row in split.inputs[""])
    assert 0 < len(split.texts) < 30


def test_texts_do_not_change_what_scores_are_kept_under(tmp_path):
    told, silent = reviews(tmp_path / "a"), reviews(tmp_path / "b", "silent")
    assert silent.splits.load("held_out").texts == ()
    assert told.splits.load("held_out").fingerprint == silent.splits.load("held_out").fingerprint


def test_a_text_that_is_no_string_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"data\.held_out: text\(0\) of the dataset gave int; expected a string"):
        reviews(tmp_path, "broken").splits.load("held_out")


def test_classes_are_called_as_the_kitchen_says_or_by_number(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path / "a", num_ingredients=1, num_examples=20))
    assert examples.class_names(kitchen, kitchen.splits.load("test")) == ["0", "1", "2"]
    file = small_kitchen(tmp_path / "b", source=MLP, num_ingredients=1, num_examples=20, classes=["x", "y", "z"])
    kitchen = sv.Kitchen.load(file)
    assert examples.class_names(kitchen, kitchen.splits.load("test")) == ["x", "y", "z"]


# Pictures


def drawn(chart):
    data, spec = chart
    altair.Chart.from_dict(spec | {"data": {"values": data.to_dict("records")}})
    return data


def test_bars_are_sorted_and_tell_the_size_of_each_class():
    data = drawn(pictures.changes(examples.class_changes(NEW, OLD, LABELS), ["x", "y", "z"], chosen=2))
    assert data["class"].tolist() == ["y (2)", "x (3)", "z (1)"]
    assert data["better"].tolist() == ["soup", "soup", "rival"]
    assert data[data["chosen"]]["index"].tolist() == [2]


@pytest.mark.parametrize("what", [pictures.COUNTS, pictures.SHARES, pictures.DIFFERENCE])
def test_the_confusion_matrix_is_drawn_with_labels_as_rows(what):
    new, old = (examples.confusion(one["prediction"], LABELS, 3) for one in (NEW, OLD))
    data = drawn(pictures.confusions(new, old, ["x", "y", "z"], [0, 1, 2], what, (0, 1)))
    cell = data.set_index(["row", "column"]).loc[("x", "x")]
    assert (cell["soup"], cell["rival"]) == (2, 1)
    assert cell["value"] == pytest.approx({"counts": 2, "share of each class": 200 / 3}.get(what, 1))
    assert data[data["chosen"]][["row", "column"]].to_numpy().tolist() == [["x", "y"]]


def test_a_matrix_of_many_classes_has_no_numbers_in_it():
    counts = np.ones((40, 40), dtype=np.int64)
    names = [f"class {index}" for index in range(40)]
    few = pictures.confusions(counts, counts, names, range(10), pictures.COUNTS)
    many = pictures.confusions(counts, counts, names, range(30), pictures.COUNTS)
    assert sum(layer["mark"]["type"] == "text" for layer in few[1]["layer"]) > 0
    assert sum(layer["mark"]["type"] == "text" for layer in many[1]["layer"]) == 0
    assert len(many[0]) == 900


def test_units_with_several_labels_are_ranked_by_who_is_right_and_by_the_loss():
    task, labels = Multilabel(), torch.tensor([[1, 0], [1, 0], [1, 0], [1, 0]])
    right, wrong, worse = [1.0, -1.0], [-1.0, -1.0], [-3.0, -1.0]
    new, old = (
        Outcomes.of(task.outcomes(torch.tensor(answers), labels), task.targets(labels))
        for answers in ([right, wrong, worse, wrong], [worse, right, right, worse])
    )
    kinds = ("only soup", "only rival", "both wrong", "largest gain", "largest loss", "largest error")
    found = {kind: examples.ranked(task, new, old, kind).tolist() for kind in kinds}
    assert found == {
        "only soup": [0], "only rival": [2, 1], "both wrong": [3], "largest gain": [0, 3], "largest loss": [2, 1],
        "largest error": [2, 1, 3, 0],
    }  # fmt: skip
