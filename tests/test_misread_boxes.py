"""Boxes that are meant otherwise than they are taken are told by what that does to overlaps, and no others are."""

import numpy as np
import pytest
from detections import outcomes_of, truth
from test_coco import load, written

from soupviz.data.detection.readings import CENTRE, CORNERS, SIZE, best_overlaps, read_as, reread, told_as
from soupviz.tasks.boxes.detection import Detection
from soupviz.tasks.boxes.misreading import FOUND, HELD
from soupviz.tasks.judging import score_of

SIDES = np.array([300, 200])


def scenes(seed, number=40, share=1.0):
    """Objects of images of 300 x 200 pixels. share: of the image's sides that they keep to, from the top left."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        sides = random.integers(15, 60, (random.integers(1, 6), 2))
        corner = (random.random(sides.shape) * (share * SIDES - sides)).round()
        found.append(np.array([truth(*rows) for rows in np.concatenate([corner, corner + sides], axis=1)]))
    return found


def finds(seed, truths, noise=0.05, recall=0.9):
    """What a detector finds. noise: by which its boxes are off, as a share of their sides."""
    random = np.random.default_rng(seed)
    found = []
    for of in truths:
        kept = of[random.random(len(of)) < recall]
        sides = kept[:, 2:4] - kept[:, :2]
        right = kept[:, :4] + random.normal(0, noise, (len(kept), 4)) * np.tile(sides, 2)
        corner = random.random((3, 2)) * (SIDES - 40)
        boxes = np.concatenate([right, np.concatenate([corner, corner + 40], axis=1)])
        score = np.concatenate([random.uniform(0.3, 1, len(kept)), random.uniform(0, 0.6, 3)])
        found.append(np.column_stack([boxes, score, np.ones(len(boxes))]))
    return found


def changed(rows, was, meant):
    """Rows whose first four numbers are corners, read in another form than they were meant in."""
    return [np.column_stack([reread(of[:, :4], was, meant), of[:, 4:]]) for of in rows]


def misread(truths, found):
    return Detection().facts(outcomes_of(truths, found), 0)["misread"]


# What numbers stand for


def test_a_box_has_four_numbers_in_each_form_and_comes_back_from_them():
    box = np.array([[10.0, 20, 14, 30]])
    told = {form: told_as(form, box)[0].tolist() for form in (CORNERS, SIZE, CENTRE)}
    assert told == {CORNERS: [10, 20, 14, 30], SIZE: [10, 20, 4, 10], CENTRE: [12, 25, 4, 10]}
    assert all(np.array_equal(read_as(form, told_as(form, box)), box) for form in told)
    assert reread(box, SIZE, CORNERS)[0].tolist() == [10, 20, 4, 10]


def test_the_best_overlap_is_of_the_boxes_own_image():
    boxes, others = np.array([[0.0, 0, 4, 2], [0, 0, 4, 2], [0, 0, 4, 2]]), np.array([[2.0, 0, 6, 2], [0, 0, 4, 2]])
    assert best_overlaps(boxes, np.array([0, 1, 2]), others, np.array([0, 2])) == pytest.approx([1 / 3, 0, 1])


# Told by what a model finds


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize("meant", [SIZE, CENTRE])
def test_a_model_that_gives_no_corners_is_told(meant, share):
    truths = scenes(0, share=share)
    found = misread(truths, [np.column_stack([told_as(meant, of[:, :4]), of[:, 4:]]) for of in finds(0, truths)])
    assert (found["side"], found["meant"]) == (FOUND, meant)
    assert found["overlap_if"] > 0.6 > 0.2 > found["overlap"]


@pytest.mark.parametrize("share", [1.0, 0.5])
@pytest.mark.parametrize(
    ("meant", "taken"), [(CORNERS, SIZE), (CORNERS, CENTRE), (SIZE, CENTRE), (CENTRE, SIZE), (SIZE, CORNERS)]
)
def test_data_that_is_taken_for_something_else_is_told(meant, taken, share):
    """With a share of one half all boxes stay inside their images, whatever they are taken for."""
    truths = scenes(1, share=share)
    found = misread(changed(truths, meant, taken), finds(1, truths, noise=0.15))
    assert (found["side"], found["was"], found["meant"]) == (HELD, taken, meant)


def is_silent(truths, found):
    return misread(truths, found) is None


@pytest.mark.parametrize("noise", [0.05, 0.15, 0.3, 0.6, 2.0])
@pytest.mark.parametrize("recall", [0.0, 0.3, 0.9])
def test_no_model_is_accused_on_right_boxes_however_bad_it_is(noise, recall):
    for seed in range(8):
        for share in (1.0, 0.5):
            truths = scenes(seed, share=share)
            assert is_silent(truths, finds(seed, truths, noise, recall))


@pytest.mark.parametrize("factor", [0.25, 0.5, 0.8, 1.25, 1.5, 2.0, 4.0])
def test_a_model_whose_boxes_are_of_another_scale_is_not_accused(factor):
    random = np.random.default_rng(2)
    corner, sides = random.uniform(0, 150, (60, 2)), random.uniform(60, 200, (60, 2))
    one_each = [np.array([truth(*low, *(low + side))]) for low, side in zip(corner, sides, strict=True)]
    for truths in (scenes(2), one_each):
        found = finds(2, truths, noise=0, recall=1)
        assert is_silent(
            truths, [of[: len(own)] * [*[factor] * 4, 1, 1] for of, own in zip(found, truths, strict=True)]
        )


def test_a_model_that_always_says_the_same_is_not_accused():
    """Every object lies in the middle, and the model's one box would be there if it were read otherwise."""
    truths = [np.array([truth(75 + k % 3, 50, 225, 150)]) for k in range(40)]
    assert is_silent(truths, [np.array([[75.0, 50, 150, 100, 0.9, 1]])] * 40)


def test_few_objects_say_nothing():
    truths = scenes(3, number=2)
    assert sum(map(len, truths)) < 10
    assert is_silent(changed(truths, CORNERS, SIZE), finds(3, truths))


def test_remarks_say_which_boxes_and_by_how_much():
    task, truths = Detection(), scenes(4)
    found = finds(4, truths)
    scores = [
        score_of(task, task.metrics[0], "held_out", outcomes_of(held, rows), 0, "float32", "cpu")
        for held, rows in (
            (truths, found),
            (truths, [np.column_stack([told_as(SIZE, of[:, :4]), of[:, 4:]]) for of in found]),
            (changed(truths, CORNERS, SIZE), found),
        )
    ]
    fine, models, datas = (" ".join(task.remarks(score)) for score in scores)
    assert "IoU" not in fine
    assert f"read as {SIZE} and not as {CORNERS}" in models and "0.6 (mean IoU)" in models
    assert f"read as {CORNERS} and not as {SIZE}" in datas and "held_out" in datas


# Told by the data alone


def crowd(number=8):
    """Two objects beside each other in the top left of each of some images, far from its right and its lower side."""
    return [[[10 + k % 3, 8, 14 + k % 3, 12, 0], [15 + k % 3, 8, 19 + k % 3, 12, 0]] for k in range(number)]


def notes(folder, truths, *, are_corners):
    def change(told):
        for one in told["annotations"] if are_corners else ():
            x, y, width, height = one["bbox"]
            one["bbox"] = [x, y, x + width, y + height]
        return told

    return " ".join(load(written(folder, truths, [(60, 40)] * len(truths), change)).notes)


def test_corners_that_stay_inside_as_widths_are_told_by_how_they_lie_on_each_other(tmp_path):
    told = notes(tmp_path, crowd(12), are_corners=True)
    assert f"the boxes are probably {CORNERS}, where {SIZE} is expected" in told and "mean IoU" in told


def test_the_same_objects_as_widths_are_told_nothing_of(tmp_path):
    assert "probably" not in notes(tmp_path, crowd(12), are_corners=False)


def test_large_objects_whose_widths_could_be_corners_are_told_nothing_of(tmp_path):
    """A document fills each image; nothing beside it would tell one reading from the other."""
    pages = [[[2 + k % 3, 2, 50 + k % 5, 36, 0]] for k in range(24)]
    assert "probably" not in notes(tmp_path, pages, are_corners=False)
