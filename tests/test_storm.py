"""What is killed at any moment goes on, and comes to what it would have come to: tests/storm.py, and a part of it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def storm(folder: Path, *options: str) -> None:
    command = [sys.executable, str(ROOT / "tests" / "storm.py"), str(folder), *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.stdout, ended.stderr[-3000:]
    told = json.loads(ended.stdout)
    assert told["problems"] == [] and ended.returncode == 0
    assert sum(told["kills"].values()) == int(options[1])


def test_a_search_and_an_export_that_are_killed_come_to_the_same(tmp_path: Path) -> None:
    storm(tmp_path, "--kills", "6", "--only", "greedy,export")


@pytest.mark.slow
def test_two_hundred_kills_change_nothing(tmp_path: Path) -> None:
    storm(tmp_path, "--kills", "200")
