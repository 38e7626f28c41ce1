"""The benchmarks of workers, a device and a dashboard at size run, and say where something is beyond its bounds."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.size import crowd, pages
from benchmarks.size.crowd import Told

ROOT = Path(__file__).resolve().parents[1]
SMALL = ("--ingredients", 4, "--units", 100, "--classes", 5, "--runs", 4)


def run(name: str, *arguments: object) -> str:
    """What a benchmark prints."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "500"}
    command = [sys.executable, "-m", f"benchmarks.{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    others = [line for line in done.stdout.splitlines() if not re.match(r"one rerun in twenty takes|\w+ takes ", line)]
    slow_only = done.returncode == 1 and len(others) < len(done.stdout.splitlines())  # of a machine that is busy
    assert done.returncode == 0 or slow_only, done.stdout + done.stderr
    return "\n".join(others)


def test_a_page_beyond_its_bounds_is_named():
    figure = pages.Figure("soup", 0.1, 1.2, 0.1, 0.1, 250e6, 250e6, ("a word",))
    assert figure.beyond() == ["soup: a word", "soup takes 1.20 s", "soup keeps 250 MB"]
    assert pages.Figure("soup", 0.1, 0.9, 0.1, 0.1, 150e6, 250e6, ()).beyond() == []


def test_memory_that_grows_by_what_searches_hold_is_told_from_memory_that_is_flat():
    flat = Told([(0.1, "soup")], [8e8, 9e8, 8e8, 9e8] * 5)
    growing = Told([(0.1, "soup")], [8e8 + number * 2e7 for number in range(20)])
    assert flat.beyond() == []
    assert growing.beyond() == ["memory grows: by 100 MB in a quarter of the time"]
    slow = Told([(0.1, "soup")] * 9 + [(3.0, "soup")], [8e8] * 20, ["a search is lost"])
    assert slow.beyond()[0] == "a search is lost" and "one rerun in twenty" in slow.beyond()[1]
    assert len(json.loads(crowd.as_json(slow))["memory_mb"]) == 20


@pytest.mark.slow
def test_pages_of_a_made_kitchen_are_measured(tmp_path):
    told = run("size", tmp_path / "k", *SMALL, "--pairs", "--pages", "diversity,soup")
    assert "diversity" in told and "soup" in told and "first" in told


@pytest.mark.slow
def test_people_at_a_real_server_lose_nothing_while_searches_run_there_and_beside_it(tmp_path):
    told = run("size", tmp_path / "k", *SMALL, "--minutes", 0.5, "--sessions", 2, "--jobs", 2, "--pause", 5)
    found = json.loads(told[told.index("{") :])
    assert found["reruns"] >= 4 and found["runs"] >= 2
    assert found["decisions"] == 4 * found["runs"]


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0.002])
def test_workers_are_measured_against_one_process(tmp_path, pause):
    told = run("workers", tmp_path / "k", "--counts", 2, "--rounds", 1, "--pause", pause)
    assert "inline" in told and "processes 2" in told


@pytest.mark.slow
@pytest.mark.extras
def test_what_a_device_takes_is_measured_at_each_precision(tmp_path):
    pytest.importorskip("timm", reason="needs timm, whose models are made")
    sizes = ("--model", "resnet18", "--size", 32, "--images", 20, "--ingredients", 2)
    told = run("device", tmp_path / "k", *sizes, "--json")
    found = json.loads(told[told.index('{"opening') :])
    assert [row["precision"] for row in found["rows"]] == ["float32", "tf32", "bfloat16"]
    assert all(row["bare"] > 0 and row["inside"] > 0 and len(row["values"]) == 2 for row in found["rows"])
