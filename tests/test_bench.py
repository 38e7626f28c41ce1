"""The benchmark: both sides are timed and compared; it fails where they differ."""

import json
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from kitchens import BATCHNORM, json_of, regression_kitchen, run_command, small_kitchen
from PIL import Image

from benchmarks import metrics, search
from benchmarks.figures import FIGURES
from benchmarks.measuring import frozen_copy
from benchmarks.textbook import Count, Textbook
from soupviz.kitchen import Kitchen


@pytest.fixture
def file(tmp_path):
    return small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 8, 8), num_ingredients=3, num_examples=60)


def test_every_figure_is_measured_on_both_sides_and_they_agree(file, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SOUPVIZ_MERGEKIT", str(fake_mergekit(tmp_path)))
    found = json_of(capsys, "bench", file, "--rounds", 1, "--mix-mb", 1, "--picture", tmp_path / "bench.svg")
    assert found["decisions_identical"] is True
    assert found["counts_identical"] is True
    assert found["decisions_compared"] == 3 * 4 * 2  # ingredients; searches; with early rejection and without
    assert found["differences"] == []
    for comparison in (comparison for several in FIGURES.values() for comparison in several):
        assert found[comparison.theirs] > 0
        assert found[comparison.ours] > 0
        assert found[comparison.ratio] == pytest.approx(found[comparison.theirs] / found[comparison.ours])
        assert len(found["rounds"][comparison.ours]) == 1
    assert found["textbook_seconds"] > found["score_textbook_seconds"]
    assert found["soupviz_seconds"] > found["score_soupviz_seconds"]
    assert found["estimated"] == ["sweep", "warm"]
    assert found["mix_bytes"] == pytest.approx(12e6, rel=0.05)
    assert found["machine"]["precision"] == "float32"
    drawn = (tmp_path / "bench.svg").read_text(encoding="utf-8")
    assert "curve of 21 points" in drawn
    assert ElementTree.fromstring(drawn).tag.endswith("svg")


def fake_mergekit(folder):
    """The command's contract: a configuration that names models, and a folder to write to."""
    script = folder / "mergekit-pytorch"
    script.write_text(f"""#!{sys.executable}
import pathlib, sys, yaml
models = yaml.safe_load(pathlib.Path(sys.argv[1]).read_text())["models"]
assert len(models) == 12 and all(pathlib.Path(model["model"]).is_file() for model in models)
pathlib.Path(sys.argv[2]).mkdir()
""")
    script.chmod(0o755)
    return script


def test_what_is_not_there_to_be_compared_with_is_left_out_and_named(file, capsys, monkeypatch):
    monkeypatch.setenv("SOUPVIZ_MERGEKIT", "no-such-command")
    found = json_of(capsys, "bench", file, "--rounds", 1, "--only", "uniform,mergekit")
    assert "no mergekit-pytorch on the path" in found["skipped"]["mergekit"]
    assert "mergekit_ratio" not in found
    assert found["decisions_identical"] is None
    assert found["counts_identical"] is True


def test_too_small_a_disk_is_told_before_anything_is_measured(file, capsys):
    status, _, err = run_command(capsys, "bench", file, "--mix-mb", 10**9)
    assert status == 2
    assert "are needed for figure mix" in err
    assert "--mix-mb" in err


def test_of_a_frozen_copy_only_the_last_quarter_of_the_layers_differs(file, tmp_path):
    kitchen = Kitchen.load(file)
    (tmp_path / "frozen").mkdir()
    frozen = frozen_copy(kitchen, tmp_path / "frozen")
    assert frozen.names == kitchen.names
    first, second = (item.tensors for item in frozen.ingredients[:2])
    differing = [key for key in first if not torch.equal(first[key], second[key])]
    layers = list(dict.fromkeys(key.rpartition(".")[0] for key in first))
    assert {key.rpartition(".")[0] for key in differing} == {layers[-1]}
    assert all(torch.equal(second[key], kitchen.ingredients[1].tensors[key]) for key in differing)


def test_measuring_leaves_the_kitchens_store_alone(file, capsys):
    json_of(capsys, "bench", file, "--rounds", 1, "--only", "uniform,greedy_mean,frozen")
    assert json_of(capsys, "cache", file)["store"]["scores"] == 0


def test_a_count_that_differs_fails_the_benchmark(file, capsys, monkeypatch):
    count = Textbook.count

    def wrong(self, *arguments):
        found = count(self, *arguments)
        return Count(~found.right, np.zeros_like(found.close))

    monkeypatch.setattr(Textbook, "count", wrong)
    status, out, err = run_command(capsys, "bench", file, "--rounds", 1, "--only", "uniform", "--json")
    assert status == 1
    assert "differs: uniform: 60 examples that are not close to call" in err
    assert json.loads(out)["counts_identical"] is False
    assert len(json.loads(out)["differences"]) == 1


def test_the_textbook_decodes_pictures_to_what_soupviz_scores(tmp_path, capsys):
    generator = np.random.default_rng(0)
    for split in ("held_out", "test"):
        for name in ("a", "b", "c"):
            (tmp_path / split / name).mkdir(parents=True)
            for index in range(6):
                pixels = generator.integers(0, 256, (12, 10, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / split / name / f"{index}.png")
    transform = {"resize": 8, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]}
    data = {name: {"format": "imagefolder", "path": name, "transform": transform} for name in ("held_out", "test")}
    file = small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 8, 8), num_ingredients=2, num_examples=10, data=data)
    found = json_of(capsys, "bench", file, "--rounds", 1, "--only", "score,greedy_fixed")
    assert found["counts_identical"] is found["decisions_identical"] is True


def test_an_unknown_figure_is_refused_with_those_known(file, capsys):
    status, _, err = run_command(capsys, "bench", file, "--only", "speed")
    assert status == 2
    assert "no figure 'speed'; known are score, uniform" in err


def test_a_kitchen_of_another_task_is_refused_before_anything_is_measured(tmp_path, capsys):
    status, _, err = run_command(capsys, "bench", regression_kitchen(tmp_path))
    assert status == 2 and "regression" in err


def test_without_the_repository_the_command_says_where_the_benchmark_is(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "benchmarks", None)
    status, _, err = run_command(capsys, "bench", small_kitchen(tmp_path))
    assert status == 2
    assert "clone" in err


def test_what_metrics_and_their_resamples_cost_is_measured_of_every_task_that_has_a_metric_of_its_own():
    found = metrics.figures(units=20, pictures=4)
    assert [one.metric for one in found[::2]] == ["word error rate", "loss per token", "mAP"]
    assert all(one.value > 0 and one.resamples > 0 for one in found)


def test_a_search_is_held_against_the_passes_it_needs_whatever_the_task(tmp_path):
    file = regression_kitchen(tmp_path)
    found = search.measured(file, rounds=1)
    number = len(Kitchen.load(file).pool)
    # Each alone, candidates that may be given up, and the soup on what reports.
    assert number < found.num_passes <= 2 * number + 2
    assert found.search > 0 and found.ratio == found.search / found.bare
