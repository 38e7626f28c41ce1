"""The format yolo: a folder as Ultralytics has it, with data.yaml, images, and a text file of objects for each."""

import numpy as np
import pytest
import torch
from detectors import MODEL, NAMES, scenes, write_yolo
from kitchens import build_model
from PIL import Image

from soupviz.data import splits
from soupviz.data.detection.yolo import _label_file
from soupviz.errors import DataError
from soupviz.spec import SplitSpec

CPU = torch.device("cpu")
SPLITS = {"train": (1, 4), "val": (2, 6), "test": (3, 3)}


def load(folder, name="held_out", path="data", classes=None, **keys):
    spec = SplitSpec(format="yolo", path=path, **keys)
    return splits.load(name, spec, folder, build_model(MODEL), classes=classes, kind="boxes")


@pytest.fixture
def folder(tmp_path):
    write_yolo(tmp_path / "data", SPLITS)
    return tmp_path


@pytest.mark.parametrize(("name", "called"), [("held_out", "val"), ("test", "test"), ("train", "train")])
def test_each_split_of_a_kitchen_is_that_of_data_yaml(folder, name, called):
    split = load(folder, name)
    made = scenes(*SPLITS[called])
    assert len(split) == len(made) and split.classes == NAMES
    for row, (picture, truths) in enumerate(made):
        assert np.array_equal(split.example(row)[""].numpy().transpose(1, 2, 0), picture)
        told = split.labels[row].numpy()
        assert told[told[:, 4] >= 0][:, :5] == pytest.approx(truths, abs=1e-4)
    assert split.files[0] == "000.png"


def test_a_folder_of_images_is_taken_as_it_is(folder):
    assert len(load(folder, "shifts.later", "data/images/train")) == 4
    assert len(load(folder, "held_out", "data/data.yaml")) == 6


def test_images_without_a_file_of_labels_have_no_object(folder):
    for file in (folder / "data/labels/val").glob("*.txt"):
        if file.name != "001.txt":
            file.unlink()
    (folder / "data/labels/val/001.txt").write_text("0 0.5 0.5 0.25 0.5\n")
    split = load(folder)
    assert (split.labels[:, :, 4] >= 0).sum() == 1 and any("5 of 6 images have no box" in one for one in split.notes)


def test_files_of_labels_of_no_image_are_told(folder):
    for name in ("zz.txt", "classes.txt"):
        (folder / "data/labels/val" / name).write_text("0 0.5 0.5 0.25 0.5\n")
    [told] = [one for one in load(folder).notes if "of no image" in one]
    assert "1 files of labels" in told and "zz.txt" in told


def test_labels_and_lists_that_are_no_text_are_refused_by_file(folder):
    (folder / "data/labels/val/000.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"000\.txt cannot be read as text"):
        load(folder)
    (folder / "data/data.yaml").write_text("val: list.txt\nnames: [square, bar]\n")
    (folder / "data/list.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"list\.txt cannot be read as text"):
        load(folder)


def test_an_outline_is_taken_for_the_box_around_it(folder):
    (folder / "data/labels/val/000.txt").write_text("1 0.1 0.2 0.5 0.2 0.3 0.6\n")
    split = load(folder)
    height, width = split.example(0)[""].shape[1:]
    assert split.labels[0, 0, :5].tolist() == pytest.approx([0.1 * width, 0.2 * height, 0.5 * width, 0.6 * height, 1])


def test_lists_of_images_and_places_that_are_told_from_elsewhere_are_found(folder):
    data = folder / "data"
    (data / "some.txt").write_text("./images/val/000.png\n./images/val/001.png\n")
    (data / "data.yaml").write_text("path: ../datasets/shapes\nval: some.txt\ntest: ../images/test\nnames: [a, b]\n")
    assert len(load(folder)) == 2
    assert len(load(folder, "test")) == 3


def test_without_named_splits_all_images_are_taken(folder):
    (folder / "data/data.yaml").write_text("names: {0: square, 1: bar}\n")
    assert len(load(folder)) == 13


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("0 0.5 0.5 0.2", "expected a class and a box"),
        ("square 0.5 0.5 0.2 0.2", "expected a class and a box"),
        ("0.5 0.5 0.5 0.2 0.2", "expected a class and a box"),
        ("2 0.5 0.5 0.2 0.2", "the class 2; data.yaml names 2"),
        ("0 15 12 6 6", "from 0 to 1"),
        ("0 nan 0.5 0.1 0.1", "expected a class and a box"),
    ],
)
def test_a_line_that_is_no_box_is_refused_by_file_and_number(folder, line, named):
    (folder / "data/labels/val/000.txt").write_text(f"0 0.5 0.5 0.2 0.2\n{line}\n")
    with pytest.raises(DataError) as error:
        load(folder)
    assert "000.txt, line 2" in str(error.value) and named in str(error.value)


@pytest.mark.parametrize(
    ("yaml", "named"),
    [
        ("val: images/val\n", "has no `names`"),
        ("names: 3\n", "names is 3"),
        ("names: [a\n", "cannot be read as YAML"),
        ("names: [a, b]\ntrain: images/train\n", "has no split 'val'; it has train"),
        ("names: [a, b]\nval: images/nowhere\n", "is not there"),
        ("names: [a, b]\nnc: 3\nval: images/val\n", "says nc: 3, and names 2 classes (a, b)"),
    ],
)
def test_a_yaml_that_tells_too_little_is_refused(folder, yaml, named):
    (folder / "data/data.yaml").write_text(yaml)
    with pytest.raises(DataError) as error:
        load(folder)
    assert named in str(error.value)


def test_what_is_missing_is_refused(folder, tmp_path):
    with pytest.raises(DataError, match="is not a folder"):
        load(folder, path="nowhere")
    (folder / "data/data.yaml").rename(folder / "data/other.yaml")
    with pytest.raises(DataError, match=r"holds no data\.yaml"):
        load(folder)
    empty = tmp_path / "bare"
    (empty / "images").mkdir(parents=True)
    (empty / "data.yaml").write_text("names: [a, b]\n")
    with pytest.raises(DataError, match="holds no images"):
        load(tmp_path, path="bare")
    for index in range(2):
        Image.new("RGB", (8, 8)).save(empty / f"images/{index}.png")
    with pytest.raises(DataError, match="has a file of labels"):
        load(tmp_path, path="bare")


def test_classes_are_called_alike_in_every_split(folder):
    with pytest.raises(DataError, match="category 0 'square'"):
        load(folder, "test", classes=("disc", "bar"))


def test_labels_lie_where_ultralytics_looks_for_them(tmp_path):
    assert _label_file(tmp_path / "images/a/images/b/x.jpg") == tmp_path / "images/a/labels/b/x.txt"
    assert _label_file(tmp_path / "a/x.jpg") == tmp_path / "a/x.txt"
