"""Real detections: a torchvision detector on the blood cells of ../shared/data, counted as pycocotools counts."""

import json
import tarfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import torch
from detections import outcomes_of, reference
from detectors import coco_of
from kitchens import write_yaml
from safetensors.torch import save_file
from shared import SHARED

import soupviz as sv
from soupviz.models.building import build
from soupviz.spec import ModelSpec
from soupviz.tasks.boxes.detection import Detection

DATA = SHARED / "data/blood-cells-detection.tar.xz"
NAMES = ("RBC", "WBC", "Platelets")
SSD = ModelSpec(factory="torchvision:ssdlite320_mobilenet_v3_large", args={"num_classes": 4})

needs_data = pytest.mark.skipif(not DATA.is_file(), reason="needs ../shared/data")


def test_a_torchvision_detector_is_built_without_the_weights_of_its_backbone(monkeypatch):
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *_: pytest.fail("it downloads"))
    assert not build(SSD, Path()).training


@pytest.mark.parametrize("key", ["backbone.features.0.0.0.weight", "head.classification_head.module_list.0.1.bias"])
def test_images_on_which_a_torchvision_detector_overflows_have_no_finite_answer(key):
    """It drops such boxes itself, and returns a short list, or none, that looks like an answer."""
    net = build(SSD, Path()).requires_grad_(False)
    images = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))] * 2
    assert Detection().answer_batch(net, {"": images}).isfinite().all()
    net.get_parameter(key).fill_(torch.inf)
    assert all(torch.isfinite(one["boxes"]).all() and torch.isfinite(one["scores"]).all() for one in net(images))
    answers = Detection().answer_batch(net, {"": images})
    assert answers[:, 0, :6].isnan().all() and (answers[:, 0, 6] == 1).all()


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Some of the test images, and their boxes."""
    folder = tmp_path_factory.mktemp("cells")
    with tarfile.open(DATA) as archive:
        archive.extractall(folder, filter="data")
    root = next(folder.rglob("Annotations")).parent
    names = (root / "ImageSets/Main/test.txt").read_text().split()[:8]
    truths = []
    for name in names:
        objects = ElementTree.parse(root / f"Annotations/{name}.xml").getroot().iter("object")
        corners = [
            [float(one.find(f"bndbox/{key}").text) for key in ("xmin", "ymin", "xmax", "ymax")]
            + [NAMES.index(one.find("name").text)]
            for one in objects
        ]
        truths.append(np.array(corners).reshape(-1, 5))
    return root / "JPEGImages", [f"{name}.jpg" for name in names], truths


@needs_data
@pytest.mark.extras
def test_mean_average_precision_on_real_images_is_that_of_pycocotools(cells, tmp_path):
    pytest.importorskip("pycocotools")
    images, files, truths = cells
    (tmp_path / "boxes.json").write_text(json.dumps(coco_of(truths, files, NAMES)))
    net = build(SSD, Path())
    save_file(net.state_dict(), tmp_path / "a.safetensors")
    held_out = {"format": "coco", "path": str(images), "annotations": "boxes.json"}
    model = {"factory": SSD.factory, "args": SSD.args}
    file = write_yaml(
        tmp_path,
        task="detection",
        model=model,
        ingredients=["a.safetensors"],
        data={"held_out": held_out},
        device="cpu",
    )
    kitchen = sv.Kitchen.load(file)
    split = kitchen.splits.load("held_out")
    score = kitchen.scores.score((("a", 1.0),))
    rows = split.labels.numpy()
    with torch.inference_mode():
        told = [net(split.take(torch.tensor([row]), torch.device("cpu"))[""])[0] for row in range(len(rows))]
    found = [np.column_stack([one["boxes"], one["scores"], one["labels"]]) for one in told]
    expected = reference([of[of[:, 4] >= 0] for of in rows], found)
    assert {name: score.shown(name) for name in score.values} == pytest.approx(expected, abs=1e-6)


@needs_data
@pytest.mark.extras
def test_detections_near_real_objects_are_counted_as_pycocotools_counts_them(cells):
    """Boxes moved off real ones, so that all overlaps occur."""
    pytest.importorskip("pycocotools")
    _, _, truths = cells
    random = np.random.default_rng(0)
    of = [
        np.column_stack([one[:, :4], one[:, 4] + 1, np.zeros(len(one)), (one[:, 2:4] - one[:, :2]).prod(axis=1)])
        for one in truths
    ]
    found = []
    for one in of:
        moved = np.repeat(one, 3, axis=0)
        boxes = moved[:, :4] + random.normal(0, 8, (len(moved), 4))
        rows = np.column_stack([boxes, random.random(len(moved)).round(2), moved[:, 4]])
        found.append(rows[(boxes[:, 2:] > boxes[:, :2]).all(axis=1)].astype(np.float32))
    outcomes = outcomes_of(of, found)
    own = {metric.name: metric.value(outcomes) for metric in Detection.metrics}
    assert 0.05 < own["map"] < 0.9
    assert own == pytest.approx(reference(of, found), abs=1e-6)
