"""The demo of detection: shapes that are made up, and what averaging does to their detectors."""

import json
from pathlib import Path

import pytest
import torch
from kitchens import json_of

import soupviz as sv
from soupviz.demo.shapes import NAMES, SIZES, TUNINGS, ShapesNet, shapes_kitchen
from soupviz.spec import HELD_OUT, TEST


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> sv.Kitchen:
    return sv.Kitchen.load(shapes_kitchen(tmp_path_factory.mktemp("shapes") / "k"))


def test_its_splits_are_pictures_of_two_sizes_with_boxes_as_coco_has_them(built):
    assert (built.task.name, len(built.names), built.name) == (
        "detection",
        len(TUNINGS),
        "Demo: shapes that are made up",
    )
    for name in (HELD_OUT, TEST):
        split = built.splits.load(name)
        assert len(split) == SIZES[name] and split.classes == ("0", *NAMES)
        assert {tuple(one.shape) for one in split.take(torch.arange(4), torch.device("cpu"))[""]} == {
            (3, 48, 64),
            (3, 64, 56),
        }
    told = json.loads((built.folder / "test.json").read_text())
    assert all(min(one["bbox"][2:]) >= 7 for one in told["annotations"])


def test_averages_find_more_than_the_best_of_them(built):
    best = max(built.scores.of_ingredients().items(), key=lambda item: item[1].value)[0]
    single = built.scores.score(((best, 1.0),), TEST).value
    assert sv.uniform(built).scores[TEST].value > single + 0.01
    assert sv.greedy(built).scores[TEST].value > single + 0.01


def test_its_detector_answers_images_of_any_size():
    net = ShapesNet().eval()
    with torch.inference_mode():
        found = net([torch.rand(3, 16, 20), torch.rand(3, 9, 9)])
    for one in found:
        assert one["boxes"].shape == (len(one["scores"]), 4)
        assert set(one["labels"].tolist()) <= {1, 2, 3}
        assert (one["boxes"][:, 2:] > one["boxes"][:, :2]).all()


def test_the_command_builds_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(
        __import__("soupviz.demo", fromlist=["SIBLINGS"]).SIBLINGS, "detection", lambda folder, _: Path(folder)
    )
    assert json_of(capsys, "demo", tmp_path, "--task", "detection") == {"kitchen": str(tmp_path)}
