"""Ultralytics' detectors: built from the package's files, converted, and scored in a folder as the library has it."""

import sys
from pathlib import Path

import pytest
import torch
from detectors import write_yolo
from kitchens import json_of, run_command, write_yaml

from soupviz.errors import ModelError
from soupviz.models.building import build
from soupviz.spec import ModelSpec

pytestmark = pytest.mark.extras


def spec(**args):
    told = {"model": "yolo11n.yaml", "num_classes": 2, "size": 64} | args
    return ModelSpec(factory="soupviz.models.yolo:detector", args=told)


@pytest.fixture
def tasks():
    pytest.importorskip("ultralytics", reason="needs ultralytics")
    build(spec(), Path())  # which loads the library so that it downloads nothing
    from ultralytics.nn import tasks

    return tasks


def test_it_returns_a_list_of_dicts_in_the_pixels_of_each_image(tasks):
    net = build(spec(), Path())
    assert net.state_dict().keys() == tasks.DetectionModel("yolo11n.yaml", nc=2, verbose=False).state_dict().keys()
    images = [torch.rand(3, 48, 96), torch.rand(3, 40, 30)]
    with torch.inference_mode():
        found, alone = net(images), net(images[1:])
    for one, image in zip(found, images, strict=True):
        height, width = image.shape[1:]
        assert set(one) == {"boxes", "scores", "labels"} and one["boxes"].shape == (len(one["scores"]), 4)
        assert ((one["boxes"] >= 0) & (one["boxes"] <= torch.tensor([width, height] * 2))).all()
        assert (one["scores"] >= 0.001).all() and set(one["labels"].tolist()) <= {0, 1}
    assert torch.allclose(alone[0]["boxes"], found[1]["boxes"], atol=1e-3)


def test_a_runs_pickles_are_converted_and_scored_on_its_own_folder(tasks, tmp_path, capsys):
    write_yolo(tmp_path / "data", {"val": (1, 4), "test": (2, 4)})
    files = []
    for seed in range(2):
        torch.manual_seed(seed)
        net = tasks.DetectionModel("yolo11n.yaml", nc=2, verbose=False)
        files.append(tmp_path / f"r{seed}.pt")
        torch.save({"epoch": 3, "model": None, "ema": net.half(), "train_args": {"task": "detect"}}, files[-1])
    assert run_command(capsys, "convert", *files, "--trust")[0] == 0
    yolo = {"format": "yolo", "path": "data"}
    file = write_yaml(
        tmp_path,
        task="detection",
        model=spec().model_dump(),
        ingredients=["r*.safetensors"],
        data={"held_out": yolo, "test": yolo},
        device="cpu",
    )
    scores = json_of(capsys, "score", file)["ingredients"]
    assert set(scores) == {"r0", "r1"}
    assert all(0 <= one["value"] <= 1 and one["class_count"].keys() <= {"0", "1"} for one in scores.values())


@pytest.mark.parametrize("name", ["../yolo11n.yaml", "yolo11n-cls.yaml", "yolo11n-seg.yaml", "yolo11n", "none.yaml"])
def test_it_is_named_by_a_file_of_the_package(name, tasks):
    with pytest.raises(ModelError, match=r"expected a name such as yolo11n\.yaml"):
        build(spec(model=name), Path())


def test_without_ultralytics_the_command_that_installs_it_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "ultralytics", None)
    monkeypatch.setitem(sys.modules, "ultralytics.nn", None)
    monkeypatch.setitem(sys.modules, "ultralytics.nn.tasks", None)
    with pytest.raises(ModelError, match="yolo:detector' needs ultralytics, which is not installed"):
        build(spec(), Path())


def test_new_proposes_the_kitchen_of_a_detection_run(tasks, tmp_path, capsys):
    write_yolo(tmp_path / "data", {"val": (1, 4)})
    run = tmp_path / "train"
    (run / "weights").mkdir(parents=True)
    (run / "args.yaml").write_text("task: detect\nmodel: yolo11n.pt\nimgsz: 64\ndata: ../data/data.yaml\n")
    net = tasks.DetectionModel("yolo11n.yaml", nc=2, verbose=False)
    torch.save(
        {"epoch": 3, "model": None, "ema": net.half(), "train_args": {"task": "detect"}}, run / "weights/best.pt"
    )
    code, _, err = run_command(capsys, "new", run)
    assert code == 2 and "--trust" in err
    assert run_command(capsys, "convert", run / "weights/best.pt", "--trust")[0] == 0
    assert run_command(capsys, "new", run)[0] == 0
    score = json_of(capsys, "score", run / "kitchen.yaml")["ingredients"]["best"]
    assert score["metric"] == "map" and score["num_units"] == 4
