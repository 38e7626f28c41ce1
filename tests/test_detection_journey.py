"""Soups of detectors, from scoring to the exported file, on the command line and on every page."""

import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from detections import reference
from detectors import MODEL, NAMES, detection_kitchen, write_yolo
from kitchens import build_model, change_yaml, json_of, run_command
from safetensors.torch import load_file
from streamlit.testing.v1 import AppTest
from test_pages import PAGES, ROOT, errors, fresh_server, press_all, settle, trusted  # noqa: F401 - a fixture
from test_ui_own_tasks import WRONG, told_by
from test_ui_regression import page, said

import soupviz as sv
from soupviz.analysis.readings import notes_of
from soupviz.errors import RecipeError
from soupviz.recipes import parse
from soupviz.reports.page import report
from soupviz.soups import scaling
from soupviz.soups.cooking import cook
from soupviz.tasks.boxes.detection import Detection
from soupviz.tasks.finding import find_metric
from soupviz.tasks.paired import compare


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return detection_kitchen(tmp_path_factory.mktemp("shapes") / "k", steps=200)


@pytest.fixture
def file(built: Path, tmp_path: Path) -> Path:
    return trusted(shutil.copytree(built.parent, tmp_path / "k") / "kitchen.yaml")


def answers(file: Path, weights: Path, split: str = "val"):
    """What a model's own code finds in each image, without soupviz."""
    from PIL import Image

    model = build_model(MODEL, first=1)
    model.load_state_dict(load_file(weights))
    model.eval()
    pictures = [np.asarray(Image.open(one)) for one in sorted((file.parent / split).glob("*.png"))]
    with torch.no_grad():
        return [model([torch.from_numpy(one.copy()).permute(2, 0, 1).float() / 255])[0] for one in pictures]


def truths_of(file: Path, split: str = "val"):
    told = json.loads((file.parent / f"{split}.json").read_text())
    rows = {one["id"]: [] for one in told["images"]}
    for one in told["annotations"]:
        x, y, width, height = one["bbox"]
        rows[one["image_id"]].append([x, y, x + width, y + height, one["category_id"], 0, one["area"]])
    return [np.array(of, dtype=np.float64).reshape(-1, 7) for of in rows.values()]


# The core


@pytest.mark.extras
def test_scores_are_those_of_pycocotools_on_what_the_models_own_code_finds(file, capsys):
    pytest.importorskip("pycocotools")
    scores = json_of(capsys, "score", file)["ingredients"]
    for name in ("m_0", "m_2"):
        found = [
            np.column_stack([one["boxes"], one["scores"], one["labels"]])
            for one in answers(file, file.parent / f"{name}.safetensors")
        ]
        assert scores[name]["metrics"] == pytest.approx(reference(truths_of(file), found), abs=1e-6)
        assert scores[name]["value"] == scores[name]["metrics"]["map"] and scores[name]["metric"] == "map"


def test_a_difference_has_its_interval_and_p_without_matching_anew(file, monkeypatch):
    kitchen = sv.Kitchen.load(file)
    new, old = (kitchen.scores.score(((name, 1.0),)) for name in ("m_1", "m_2"))
    monkeypatch.setattr("soupviz.tasks.boxes.detection.match", lambda *_: pytest.fail("it matches anew"))
    found = compare(kitchen.task, kitchen.objective, new, old)
    assert found.low < found.difference < found.high and found.difference == pytest.approx(new.value - old.value)
    assert 0 < found.p_value <= 1 and found.better + found.worse <= 40


def test_statistics_are_estimated_anew_of_images_of_every_size(file):
    kitchen = sv.Kitchen.load(file)
    mix = (("m_0", 0.5), ("m_3", 0.5))
    average, anew = (kitchen.scores.score(mix, "held_out", name) for name in ("average", "recalibrate"))
    assert anew.value != average.value and anew.value > 0.1
    again = sv.uniform(sv.Kitchen.load(file), batchnorm="recalibrate")
    assert again.scores["held_out"].value > 0.1


def test_an_ensemble_fuses_what_its_members_find(file):
    kitchen = sv.Kitchen.load(file)
    soup = cook(kitchen, parse({"method": "ensemble"}).suited(kitchen.task))
    mix = tuple((name, 0.25) for name in kitchen.names)
    score = kitchen.scores.score(mix, "held_out", "outputs")
    best = max(one.value for one in kitchen.scores.of_ingredients().values())
    assert best - 0.1 < score.value == soup.scores["held_out"].value <= 1


@pytest.mark.parametrize("recipe", ["learned", "fisher", "distilled"])
def test_what_needs_a_loss_is_refused_with_the_reason(file, capsys, recipe):
    code, _, err = run_command(capsys, "soup", file, "--recipe", recipe)
    assert code == 2 and "detection" in err and "because" in err


def test_a_temperature_is_refused_with_the_reason(file):
    with pytest.raises(RecipeError, match="order of scores"):
        scaling.scale(sv.Kitchen.load(file), (("m_0", 1.0),), "average")


def test_map50_can_be_the_objective(file):
    kitchen = sv.Kitchen.load(change_yaml(file, lambda told: told.update(metric="map50")))
    assert kitchen.objective == find_metric(Detection(), "map50")
    assert next(iter(kitchen.scores.score((("m_0", 1.0),)).values)) == "map50"


def test_yolos_classes_from_0_meet_a_head_that_counts_from_1(file, tmp_path, capsys):
    before = json_of(capsys, "score", file)["ingredients"]
    write_yolo(tmp_path / "k/data", {"val": (1, 40), "test": (2, 40)})
    yolo = {"format": "yolo", "path": "data"}
    task = {"name": "detection", "label_offset": 1}
    document = change_yaml(file, lambda told: told.update(data={"held_out": yolo, "test": yolo}, task=task))
    after = json_of(capsys, "score", document)["ingredients"]
    for name, score in before.items():
        assert after[name]["value"] == pytest.approx(score["value"], abs=0.02)  # overlaps of 3/4 may be a bit less
    change_yaml(document, lambda told: told.update(task="detection"))
    code, _, err = run_command(capsys, "score", document)
    assert code == 0 and "label_offset: 1" in err and "the categories 2" in err


def test_detections_that_were_cut_off_before_they_are_scored_are_told_once(file, capsys):
    source = (file.parent / "model.py").read_text()
    cut = source.replace("found.append({", "kept = scores > 0.3\n            found.append({").replace(
        '"boxes": boxes, "scores": scores, "labels": label + self.first',
        '"boxes": boxes[kept], "scores": scores[kept], "labels": (label + self.first)[kept]',
    )
    (file.parent / "model.py").write_text(cut)
    _, _, err = run_command(capsys, "score", file)
    assert err.count("a threshold before scoring") == 1 and "m_0, m_1, m_2, m_3: no score" in err
    kitchen = sv.Kitchen.load(file)
    kitchen.splits.load("held_out")
    assert sum("lies below 0.05" in note for note in notes_of(kitchen)) == 1


def test_a_model_whose_boxes_are_widths_and_heights_is_told_with_what_they_would_overlap(file, capsys):
    source = (file.parent / "model.py").read_text()
    (file.parent / "model.py").write_text(source.replace("[centre - half, centre + half]", "[centre - half, 2 * half]"))
    _, _, err = run_command(capsys, "score", file)
    told = [line for line in err.splitlines() if "read as x, y, width, height and not as x1, y1, x2, y2" in line]
    assert all(sum(f"m_{k}" in line for line in told) == 1 for k in range(4)) and "(mean IoU) instead of 0.0" in told[0]


# The command line


def test_the_journey_on_the_command_line(file, capsys, tmp_path):
    found = json_of(capsys, "soup", file, "--recipe", "greedy", "--out", tmp_path / "soup.safetensors")
    assert found["recipe"]["objective"] == "map"
    best = [step["best_value"] for step in found["trajectory"]]
    assert best == sorted(best) and best[-1] == found["scores"]["held_out"]["value"]
    points = json_of(capsys, "interpolate", file, "m_0", "m_1", "--points", "3")["points"]
    assert list(points[0]) == ["alpha", "value", *(metric.name for metric in Detection.metrics), "num_units"]
    menu = json_of(capsys, "menu", file, "--budget", 8)
    assert menu["soups"] and menu["best"] in ("m_0", "m_1", "m_2", "m_3")
    baked = json_of(
        capsys, "bake", tmp_path / "soup.safetensors", "--out", tmp_path / "again.safetensors", "--kitchen", file
    )
    assert baked and load_file(tmp_path / "again.safetensors").keys() == load_file(tmp_path / "soup.safetensors").keys()
    _, out, err = run_command(capsys, "score", file)
    assert all(word in out for word in ("mAP", "mAP50", "mAP, small")) and "accuracy" not in out + err


def test_a_report_tells_the_soup_in_the_words_of_detection(file):
    kitchen = sv.Kitchen.load(file)
    told = report(sv.greedy(kitchen), file.parent / "soup.html").read_text(encoding="utf-8")
    assert "mAP" in told and "image" in told and not WRONG.findall(told.split("<body")[-1])


def test_values_in_json_are_floats_and_facts_are_plain(file, capsys):
    score = json_of(capsys, "score", file, "--members", "m_0")["ingredients"]["m_0"]
    assert score["class_count"].keys() == {"1", "2"} and score["size_count"]["large"] == 0
    assert score["metrics"]["map_large"] is None and score["exact"] == {}
    assert not isinstance(score["value"], Fraction)


# Pages


def test_every_page_speaks_of_images_and_map(file) -> None:
    kitchen = sv.Kitchen.load(file)
    sv.greedy(kitchen, alpha=0.5, complete=True)
    kitchen.scores.of_ingredients("test")
    for name in [name for name in PAGES if name != "kitchens.py"]:
        told = told_by(page(name, file))
        assert not WRONG.findall(told), (name, WRONG.findall(told))
        if name in ("ingredients.py", "soup.py", "compare.py", "alpha.py", "plane.py"):
            assert "map" in told.lower(), name


def test_soup_and_rival_are_charted_by_class_and_size_and_drawn_on_the_images(file) -> None:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.query_params["kitchen"] = str(file)
    at.query_params["view"] = "A soup and its rival"
    at.switch_page("pages/diversity.py")
    settle(at.run())
    press_all(at, "Score both")
    assert not at.exception and errors(at) == []
    assert "mAP by class" in said(at) and "mAP by size" in said(at)
    shown = "".join(one.proto.body for one in at.get("html"))
    assert shown.count("<img ") > 9 and shown.count("class='soupviz-key'") == 1
    assert all(f"title='{whose}: " in shown for whose in ("label", "soup", "rival"))
    assert all(f"title='label: {name}'" in shown for name in NAMES)
    assert "AP of the image" in shown and "surest of" in said(at)
