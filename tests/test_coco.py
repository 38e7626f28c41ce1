"""The format coco: images of their own size, with the boxes that a JSON file tells, checked before any scoring."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectors import MODEL, NAMES, coco_of, write_coco
from kitchens import build_model
from PIL import Image

from soupviz.data import splits
from soupviz.data.detection import boxes
from soupviz.data.split import Split
from soupviz.errors import CorruptImagesError, DataError, SoupError
from soupviz.spec import SplitSpec

CPU = torch.device("cpu")


def load(folder, name="held_out", classes=None, skip_corrupt=False, **keys) -> Split:
    told = {"format": "coco", "path": "images", "annotations": "boxes.json"} | keys
    model = build_model(MODEL)
    return splits.load(name, SplitSpec(**told), folder, model, classes=classes, kind="boxes", skip_corrupt=skip_corrupt)


def written(folder: Path, truths=None, sizes=((20, 16), (12, 24), (20, 16)), change=lambda told: told) -> Path:
    """Pictures of these widths and heights, and what COCO's JSON says of them."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    files = [f"{index}.png" for index in range(len(sizes))]
    for index, (file, size) in enumerate(zip(files, sizes, strict=True)):
        Image.new("RGB", size, (10 * index, 20, 30)).save(folder / "images" / file)
    truths = [[[1, 2, 5, 8, 0]], [], [[0, 0, 20, 16, 1], [3, 3, 6, 9, 0]]] if truths is None else truths
    told = change(coco_of([np.array(one, dtype=float).reshape(-1, 5) for one in truths], files))
    (folder / "boxes.json").write_text(told if isinstance(told, str) else json.dumps(told), encoding="utf-8")
    return folder


def test_images_keep_their_size_and_boxes_their_pixels(tmp_path):
    split = load(written(tmp_path))
    batch = split.take(torch.arange(3), CPU)[""]
    assert [tuple(one.shape) for one in batch] == [(3, 16, 20), (3, 24, 12), (3, 16, 20)]
    assert batch[2].amax() <= 1.0 and batch[2][0, 0, 0] == pytest.approx(20 / 255)
    assert split.labels.shape == (3, 2, 7)
    assert split.labels[0].tolist() == [[1, 2, 5, 8, 1, 0, 24], [-1] * 7]
    assert split.labels[2, 0].tolist() == [0, 0, 20, 16, 2, 0, 320]
    assert split.classes == ("0", *NAMES) and split.files == ("0.png", "1.png", "2.png")
    assert any("1 of 3 images have no box" in note for note in split.notes)


def test_a_resize_scales_boxes_and_their_areas_and_cuts_nothing_off(tmp_path):
    split = load(written(tmp_path), transform={"resize": 32})
    assert [tuple(one.shape) for one in split.take(torch.arange(2), CPU)[""]] == [(3, 32, 40), (3, 64, 32)]
    assert split.labels[0, 0].tolist() == [2, 4, 10, 16, 1, 0, 96]
    squashed = load(written(tmp_path), transform={"resize": [8, 40]})
    assert squashed.labels[0, 0].tolist() == [2, 1, 10, 4, 1, 0, 24]


@pytest.mark.parametrize("transform", [{"crop": 8}, {"preset": "timm"}, {"corrupt": "rotate"}])
def test_what_cuts_off_or_moves_objects_is_refused(tmp_path, transform):
    with pytest.raises(DataError, match=rf"data\.held_out\.transform\.{next(iter(transform))}"):
        load(written(tmp_path), transform=transform)


def test_a_corruption_that_moves_nothing_is_taken(tmp_path):
    assert len(load(written(tmp_path), transform={"corrupt": "gaussian_noise"})) == 3


def test_images_come_by_number_and_crowds_and_areas_as_they_are_told(tmp_path):
    def change(told):
        told["images"].reverse()
        told["annotations"][1] |= {"iscrowd": 1, "area": 100.5}
        return told

    split = load(written(tmp_path, change=change))
    assert split.files == ("0.png", "1.png", "2.png")
    assert split.labels[2, 0].tolist() == [0, 0, 20, 16, 2, 1, 100.5]


def test_what_is_read_once_is_mapped_and_resumed_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr("soupviz.data.images.imagefolder.CHUNK", 2)
    folder = written(tmp_path, truths=[[[0, 0, 4, 4, 0]]] * 5, sizes=[(8 + index, 6) for index in range(5)])
    opened = Image.open

    def dying(path, *rest):
        if str(path).endswith("4.png"):
            raise KeyboardInterrupt
        return opened(path, *rest)

    monkeypatch.setattr("PIL.Image.open", dying)
    with pytest.raises(KeyboardInterrupt):
        load(folder)
    seen = []
    monkeypatch.setattr("PIL.Image.open", lambda path, *rest: seen.append(Path(path).name) or opened(path, *rest))
    split = load(folder)
    assert [tuple(one.shape) for one in split.take(torch.arange(5), CPU)[""]] == [(3, 6, 8 + k) for k in range(5)]
    assert seen.count("4.png") == 1
    monkeypatch.setattr("PIL.Image.open", lambda *_rest: pytest.fail("it is read a second time"))
    assert load(folder).fingerprint == split.fingerprint


def test_images_that_cannot_be_decoded_are_refused_or_left_out_with_their_boxes(tmp_path):
    folder = written(tmp_path)
    (folder / "images/1.png").write_bytes(b"no picture")
    with pytest.raises(CorruptImagesError, match=r"1\.png"):
        load(folder)
    split = load(folder, skip_corrupt=True)
    assert split.files == ("0.png", "2.png") and split.labels[1, 0, 4] == 2
    assert split.skipped == ("1.png",)


def test_images_belong_together_by_a_key_of_theirs(tmp_path):
    def change(told):
        for image, patient in zip(told["images"], "aba", strict=True):
            image["patient"] = patient
        return told

    split = load(written(tmp_path, change=change), group="patient")
    assert split.group_of.tolist() == [0, 1, 0]


def test_a_csv_of_slices_names_files(tmp_path):
    folder = written(tmp_path)
    (folder / "s.csv").write_text("file,light\n2.png,dark\n0.png,bright\n1.png,dark\n")
    split = load(folder, slices={"file": "s.csv", "column": "light"})
    assert [split.slices.names[place] for place in split.slices.index] == ["bright", "dark", "dark"]


# Bad input


def without(key):
    def change(told):
        del told[key]
        return told

    return change


def put(part, place, **values):
    def change(told):
        told[part][place] |= values
        return told

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda _told: "{", "cannot be read as JSON"),
        (lambda _told: [], "no list of images"),
        (without("annotations"), "no list of annotations"),
        (without("categories"), "no list of categories"),
        (lambda told: told | {"images": []}, "names no images"),
        (put("annotations", 0, image_id=77), "annotations[0] is of the image 77"),
        (put("annotations", 0, category_id=9), "annotations[0] is of the category 9"),
        (put("annotations", 0, image_id=[0]), "annotations[0] is of the image [0]"),
        (put("annotations", 0, category_id={}), "annotations[0] is of the category {}"),
        (put("annotations", 0, bbox=[1, 2, 3]), "expected x, y, width and height"),
        (put("annotations", 0, bbox=[5, 5, -2, 3]), "none below 0"),
        (put("annotations", 0, bbox=[5, 5, "a", 3]), "expected x, y, width and height"),
        (put("images", 1, file_name="gone.png"), "gone.png"),
        (put("images", 1, file_name="../boxes.json"), "outside"),
        (put("images", 1, id=0), "ids of images"),
        (put("images", 1, file_name="./0.png"), "lists the image ./0.png twice, as 0 and 1"),
        (put("categories", 1, name="square"), "the categories 1 and 2 are both called 'square'"),
        (put("images", 1, width=40, height=16), "1.png has 12 x 24 pixels, but boxes.json says 40 x 16"),
        (put("categories", 1, id=10**9), "above 100,000"),
        (lambda told: told | {"annotations": []}, "none of 3 images has a box"),
        (lambda told: told | {"images": [{"id": 0}]}, "images[0] has no 'file_name'"),
    ],
)  # fmt: skip
def test_a_file_that_is_none_of_cocos_or_contradicts_itself_is_refused_in_one_line(tmp_path, change, named):
    with pytest.raises(DataError) as error:
        load(written(tmp_path, change=change))
    assert named in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_of_annotations_and_a_missing_key_are_refused(tmp_path):
    folder = written(tmp_path)
    with pytest.raises(DataError, match=r"none\.json: no such file"):
        load(folder, annotations="none.json")
    with pytest.raises(DataError, match="needs `annotations`"):
        load(folder, annotations=None)
    with pytest.raises(DataError, match="is not a folder"):
        load(folder, path="nowhere")


def test_a_category_without_objects_that_is_called_as_another_one_is_told(tmp_path):
    """Roboflow writes the whole set as one, and its only class under the same name beside it."""
    folder = written(tmp_path, [[[1, 2, 5, 8, 0]], [], [[3, 3, 6, 9, 0]]], change=put("categories", 1, name="square"))
    assert "2 categories are called 'square'; nothing is of the categories 2." in " ".join(load(folder).notes)


def test_annotations_that_are_there_twice_are_told(tmp_path):
    def twice(told):
        return told | {"annotations": [*told["annotations"], told["annotations"][1]]}

    assert "1 of 4 annotations repeat another one, such as annotations[3]" in " ".join(
        load(written(tmp_path, change=twice)).notes
    )
    assert "repeat" not in " ".join(load(written(tmp_path / "once")).notes)


def test_boxes_that_leave_their_images_or_have_no_area_are_told(tmp_path):
    notes = " ".join(load(written(tmp_path, [[[1, 2, 30, 8, 0]], [[2, 2, 2, 9, 0]], [[0, 0, 4, 4, 1]]])).notes)
    assert "1 of 3 boxes leave their images (the first in 0.png)" in notes and "x, y, width, height" not in notes
    assert "1 of 3 boxes have no area (the first in 1.png)" in notes


def test_corners_taken_for_widths_are_told_by_how_many_leave_their_images(tmp_path):
    corners = [[[8, 8, 8 + 12, 8 + 14, 0]], [[6, 9, 6 + 11, 9 + 20, 0]], [[10, 2, 10 + 18, 2 + 9, 1]]]
    notes = " ".join(load(written(tmp_path, corners)).notes)
    assert "probably x1, y1, x2, y2, where x, y, width, height is expected" in notes and "100% leave" in notes


def test_every_split_has_the_categories_of_held_out_by_number(tmp_path):
    folder = written(tmp_path)
    known = load(folder).classes
    assert load(folder, "test", known).classes == known
    written(tmp_path, change=put("categories", 0, name="disc"))
    with pytest.raises(DataError, match="calls the category 1 'disc', which is 'square' in held_out"):
        load(folder, "test", known)

    def fewer(told):
        told["annotations"] = [one for one in told["annotations"] if one["category_id"] == 1]
        return told | {"categories": told["categories"][:1]}

    written(tmp_path, change=fewer)
    assert load(folder, "test", known).classes == known
    with pytest.raises(DataError, match="lacks the category 'bar'"):
        load(folder, "train", known)
    written(tmp_path, change=put("categories", 1, id=5))
    with pytest.raises(SoupError):
        load(folder, "test", known)


def test_names_by_number_fill_gaps_with_the_number():
    assert boxes.names_by_number({1: "a", 3: "b"}) == ["0", "a", "2", "b"]


def test_a_task_of_classes_refuses_boxes(tmp_path):
    write_coco(tmp_path, "images", 0, 3)
    with pytest.raises(DataError, match="format coco has boxes"):
        splits.load(
            "held_out", SplitSpec(format="coco", path="images", annotations="images.json"), tmp_path, build_model(MODEL)
        )
