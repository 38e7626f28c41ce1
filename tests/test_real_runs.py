"""Runs as their frameworks wrote them open with `new` alone, and score what the frameworks' own evaluation says."""

import json
import re
import shutil
import tarfile
from pathlib import Path

import pytest
from documents import README, blocks, leaves
from shared import SHARED
from typer.testing import CliRunner

from soupviz.cli.run import application

RUNS = SHARED / "runs"
MODEL = """
from torch import nn

def build(width=8):
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(width * 4, 10),
    )
"""

pytestmark = [pytest.mark.extras, pytest.mark.slow]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (RUNS / "runs.tar.xz").is_file():
        pytest.skip("needs the runs of ../shared/runs, which are not here")
    folder = tmp_path_factory.mktemp("runs")
    with tarfile.open(RUNS / "runs.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    found = next(path.parent for path in sorted(folder.rglob("timm")) if (path / "output").is_dir())
    (found / "lightning" / "model.py").write_text(MODEL)
    return found


def run(*arguments: object) -> dict[str, object]:
    done = CliRunner().invoke(application(), [*map(str, arguments), "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def correct(folder: Path, *options: str) -> dict[str, int]:
    scores = run("score", folder, *options)["ingredients"]
    return {name: score["correct"] for name, score in scores.items()}


@pytest.mark.parametrize("framework", ["timm", "trainer", "lightning"])
def test_a_real_run_scores_as_its_framework_says(framework: str, unpacked: Path) -> None:
    pytest.importorskip({"timm": "timm", "trainer": "transformers", "lightning": "torch"}[framework])
    expected = json.loads((RUNS / "expected.json").read_text())[framework]
    folder = unpacked / framework / "output" / ("vit" if framework == "timm" else "")
    told = run("new", folder, *(["--factory", "../model.py:build"] if framework == "lightning" else []))
    assert told["check"]["is_doubtful"] is False
    for weights in ("raw", "ema") if framework == "timm" else ("raw",):
        wanted = expected.get(weights) or expected["correct"]
        found = correct(folder, "--weights", weights)
        assert found.keys() == wanted.keys()
        assert all(abs(found[name] - wanted[name]) <= 1 for name in wanted), (found, wanted)


def test_the_lines_of_the_readme_hold_for_a_real_run_of_trainer(
    unpacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    shutil.copytree(unpacked / "trainer" / "output", tmp_path / "trainer_output")
    (tmp_path / "data").mkdir()
    for name in ("held_out.csv", "test.csv"):
        shutil.copy(unpacked / "trainer" / name, tmp_path / "data" / name)
    monkeypatch.chdir(tmp_path)
    section = README.read_text(encoding="utf-8").partition("## From a folder of checkpoints")[2]
    new, soup = re.findall(r"python -m soupviz (.*trainer_output.*)", section)
    assert run(*new.split())["check"]["is_doubtful"] is False  # type: ignore[index]
    [code] = blocks(README, "python")
    left = leaves(code)
    assert set(left["kitchen"].names) == {f"checkpoint-{step}" for step in (94, 188, 282, 376)}
    assert {name: score.num_units for name, score in left["soup"].scores.items()} == {"held_out": 1000, "test": 1000}
    written = (tmp_path / "soup.safetensors").read_bytes()
    run(*soup.split())
    assert (tmp_path / "soup.safetensors").read_bytes() == written


def test_a_real_run_of_ultralytics_scores_as_it_logged_once_it_is_converted(unpacked: Path) -> None:
    pytest.importorskip("ultralytics")
    folder = unpacked / "ultralytics" / "output"
    run("convert", *sorted((folder / "weights").glob("*.pt")), "--trust")
    told = run("new", folder)
    assert (told["check"]["correct"], told["check"]["logged"]) == (pytest.approx(68, abs=1), 0.425)
    found = correct(folder)
    assert {name: found[name] for name in ("best", "epoch7", "last")} == {
        "best": pytest.approx(68, abs=1), "epoch7": pytest.approx(44, abs=1), "last": pytest.approx(62, abs=1),
    }  # fmt: skip
    shutil.rmtree(folder / ".soupviz")
