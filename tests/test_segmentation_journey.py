"""Segmentation end to end: commands, searches that give candidates up, recipes that learn, and every page."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import change_yaml, json_of, run_command, save
from shapes import shapes_kitchen
from test_pages import PAGES, ROOT, errors, fresh_server, press_all, settle, soup_and_rival, trusted  # noqa: F401 - a fixture
from test_ui_own_tasks import told_by
from test_ui_regression import page, said

import soupviz as sv


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = shapes_kitchen(tmp_path_factory.mktemp("shapes") / "k")
    kitchen = sv.Kitchen.load(file)
    sv.greedy(kitchen, alpha=0.5, complete=True)
    kitchen.scores.of_ingredients("test")
    return file


@pytest.fixture
def file(built: Path, tmp_path: Path) -> Path:
    return trusted(shutil.copytree(built.parent, tmp_path / "k") / "kitchen.yaml")


def test_scores_have_the_metrics_of_the_task_the_objective_first(built, capsys):
    found = json_of(capsys, "score", built)["ingredients"]["m_0"]
    assert (found["metric"], found["num_units"]) == ("mean_iou", 24)
    assert list(found["metrics"]) == ["mean_iou", "pixel_accuracy", "dice", "loss"]
    assert len(found["class_iou"]) == len(found["class_pixels"]) == 3
    assert found["value"] == pytest.approx(np.mean(found["class_iou"]))
    _, out, _ = run_command(capsys, "score", built)
    assert all(word in out for word in ("mean IoU", "pixel accuracy", "Dice", "nats"))


def test_every_command_speaks_of_mean_iou(built, tmp_path, capsys):
    out, report = tmp_path / "soup.safetensors", tmp_path / "report.html"
    for command in (
        ("soup", built, "--recipe", "greedy", "--out", out),
        ("soup", built, "--recipe", "uniform", "--batchnorm", "recalibrate"),
        ("sweep", built, "--alphas", "0.2,mean"),
        ("interpolate", built, "m_0", "m_1", "--points", 3),
        ("menu", built, "--budget", 12),
    ):
        status, told, err = run_command(capsys, *command)
        assert status == 0, (command, err)
        assert "mean IoU" in told and "example" not in told, command
    for command in (
        ("inspect", built),
        ("bake", out, "--kitchen", built, "--out", tmp_path / "baked.safetensors"),
        ("report", built, "--out", report),
    ):
        status, _, err = run_command(capsys, *command)
        assert status == 0, (command, err)
    assert "mean IoU" in report.read_text("utf-8")


@pytest.mark.parametrize("output", ["probabilities", "logits"])
def test_ensembles_average_pixels(built, output):
    kitchen = sv.Kitchen.load(built)
    mix = tuple((name, 0.25) for name in kitchen.names)
    found = kitchen.scores.score(mix, "test", output)
    singles = [kitchen.scores.score(((name, 1.0),), "test") for name in kitchen.names]
    assert found.value > min(score.value for score in singles)


def test_soups_are_learned_and_students_distilled_by_the_loss_of_pixels(file, capsys):
    learned = json_of(capsys, "soup", file, "--recipe", "learned", "--epochs", 2)
    assert sum(learned["coefficients"].values()) == pytest.approx(1)
    student = json_of(capsys, "soup", file, "--recipe", "distilled", "--epochs", 1)
    assert student["scores"]["test"]["metric"] == "mean_iou"


def test_what_needs_one_class_an_image_says_why_it_is_not_offered(built, capsys):
    status, _, err = run_command(capsys, "soup", built, "--recipe", "fisher")
    assert status == 2 and "each pixel has a class" in err


def test_answers_that_are_coarser_than_the_masks_are_scored_and_learned_from(tmp_path, capsys):
    file = shapes_kitchen(tmp_path, num_ingredients=2, number=8, steps=30, args={"coarse": 2})
    assert json_of(capsys, "soup", file, "--recipe", "learned", "--epochs", 1)["scores"]["test"]["metric"] == "mean_iou"
    kitchen = sv.Kitchen.load(file)
    assert kitchen.scores.logits((("m_0", 1.0),)).shape == (8, 3, 12, 12)


@pytest.mark.parametrize("name", ["lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"])
def test_torchvisions_models_open_without_a_download(name, built, tmp_path, monkeypatch):
    import torchvision

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", lambda *_args, **_more: pytest.fail("a download"))
    args = {"num_classes": 3, "weights": None, "weights_backbone": None}
    for index in range(2):
        torch.manual_seed(index)
        save(torchvision.models.get_model(name, **args).state_dict(), tmp_path / f"m_{index}.safetensors")
    shutil.copytree(built.parent / "held_out", tmp_path / "held_out")
    file = shutil.copy(built, tmp_path / "kitchen.yaml")
    split = {"format": "masks", "path": "held_out/images", "masks": "held_out/masks", "transform": {"resize": 32}}

    def change(keys):
        keys.update(model={"factory": f"torchvision:{name}", "args": args}, data={"held_out": split})
        keys.pop("base")

    kitchen = sv.Kitchen.load(change_yaml(Path(file), change))
    score = kitchen.scores.score((("m_0", 0.5), ("m_1", 0.5)))
    assert score.num_units == 24 and 0 <= score.value < 0.5 and len(score.facts["class_iou"]) == 3


# Pages


def test_every_page_speaks_of_pixels_and_images(file: Path) -> None:
    for name in [name for name in PAGES if name != "kitchens.py"]:
        told = told_by(page(name, file))
        assert not re.findall(r"\bexample|\bcorrect\b|(?<!pixel )accura", told), name
        if name == "preflight.py":
            assert "of each pixel" in told
        if name in ("ingredients.py", "soup.py", "compare.py"):
            assert "mean iou" in told.lower(), name


def test_cards_show_truth_soup_and_rival_over_the_image(file: Path) -> None:
    at = soup_and_rival(file)
    shown = "".join(one.proto.body for one in at.get("html"))
    assert "a class for each pixel" in said(at)
    for name in ("truth", "soup", "rival"):
        assert f"aria-label='{name}: background" in shown
    assert re.search(r"soup IoU [\d.]+ %", shown) and "% of pixels right" in shown
    assert "not judged" in shown and "disc" in shown


def test_colours_lie_over_classes_and_not_over_the_ground():
    from soupviz.ui.viewers.masks import coloured

    mask = np.zeros((64, 64), dtype=np.int64)
    mask[8:20, 8:20], mask[0, 0] = 1, -1
    found = coloured(mask, ["background", "disc"])
    assert not found[40, 40, 3] and 0 < found[12, 12, 3] < found[8, 8, 3] == 255
    assert found[0, 0, 3] and coloured(mask, ["wall", "disc"])[40, 40, 3]
