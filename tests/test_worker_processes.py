"""Workers as they really are: processes that are killed, whose driver is killed, and that are cancelled."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kitchens import small_kitchen

import soupviz as sv
from soupviz.errors import Cancelled

ROOT = Path(__file__).resolve().parents[1]
NUM_EXAMPLES, BATCH = 400, 10
NUM_BATCHES = NUM_EXAMPLES // BATCH
PAUSING = """
import os, pathlib, time
import torch
from torch import nn

class Pausing(nn.Module):
    def __init__(self, features, classes, seconds):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, 16), nn.ReLU(), nn.Linear(16, classes))
        self.seconds = seconds

    def forward(self, x):
        if len(x) == 10:
            with pathlib.Path(__file__).with_name("forwards.txt").open("a") as file:
                file.write(f"{os.getpid()} {float(self.body[0].weight.sum()):.6f} {float(x.sum()):.6f}\\n")
            time.sleep(self.seconds)
        return self.body(x)

def build(features=6, classes=3, seconds=0.02):
    return Pausing(features, classes, seconds)
"""


def pausing_kitchen(folder: Path, seconds: float = 0.02) -> Path:
    return small_kitchen(
        folder, source=PAUSING, args={"seconds": seconds}, num_ingredients=3, num_examples=NUM_EXAMPLES,
        batch_size=BATCH,
    )  # fmt: skip


def pids(file: Path) -> set[int]:
    """Of the processes that have scored a batch."""
    return {int(line.split()[0]) for line in forwards(file)}


def forwards(file: Path) -> list[str]:
    """Of batches that were begun: by which process, under which weights, of which units."""
    log = file.with_name("forwards.txt")
    return log.read_text().splitlines() if log.exists() else []


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


def until(holds: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def seconds_to_cancel(kitchen: sv.Kitchen, has_begun: Callable[[], Any]) -> float:
    """How long a cancel takes to be heard, which comes while a batch is computed."""
    asked_at: list[float] = []

    def progress(_done: int, _total: int, what: str) -> None:
        if asked_at and time.monotonic() > asked_at[0]:
            raise Cancelled
        if what.startswith("scoring") and has_begun() and not asked_at:
            asked_at.append(time.monotonic() + 0.2)

    with pytest.raises(Cancelled):
        kitchen.scores.of_ingredients(progress=progress)
    return time.monotonic() - asked_at[0]


def decisions(soup: sv.Soup) -> Any:
    return soup.trajectory, soup.coefficients, {name: one.values for name, one in soup.scores.items()}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pausing_kitchen(tmp_path_factory.mktemp("workers") / "k")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> sv.Soup:
    """The same kitchen, whose own process never pauses."""
    return sv.greedy(sv.Kitchen.load(pausing_kitchen(tmp_path_factory.mktemp("alone") / "k", seconds=0.0)))


def test_processes_find_what_one_finds_though_one_of_them_is_killed(file, alone):
    kitchen = sv.Kitchen.load(file, executor="processes", workers=2)
    victims: list[int] = []

    def kill() -> None:
        victims.append(min(until(lambda: pids(file) if len(pids(file)) == 2 else None)))
        os.kill(victims[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    soup = sv.greedy(kitchen)
    killer.join()
    assert decisions(soup) == decisions(alone)
    assert os.getpid() not in pids(file)
    assert sum(share.deaths for share in soup.usage.shares) == 1
    kitchen.scores.executor.close()
    assert not any(map(is_alive, pids(file)))


def test_a_cancel_is_heard_within_a_second_however_long_a_batch_takes(tmp_path):
    file = pausing_kitchen(tmp_path / "k", seconds=5.0)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=1)
    assert seconds_to_cancel(kitchen, lambda: pids(file)) < 1.0
    kitchen.scores.executor.close()
    assert not any(map(is_alive, pids(file)))


def test_workers_end_with_a_driver_that_is_killed_and_what_was_scored_is_not_scored_again(tmp_path, alone):
    """The kill comes late in the third checkpoint: the first two are kept whole."""
    file = pausing_kitchen(tmp_path / "k")
    command = [sys.executable, "-m", "soupviz", "soup", str(file), "--recipe", "greedy", "--json"]
    command += ["--executor", "processes", "--workers", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "SOUPVIZ_CACHE": str(tmp_path / "cache")}
    driver = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def third() -> int:
        return len(forwards(file)) - 2 * NUM_BATCHES

    until(lambda: [*map(len, begun_under(forwards(file)).values())][:2] == [NUM_BATCHES] * 2 and third() >= 25)
    driver.send_signal(signal.SIGKILL)
    driver.wait(10)
    workers = pids(file)
    assert len(workers) == 2
    until(lambda: not any(map(is_alive, workers)), 10)
    before = forwards(file)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    told = json.loads(done.stdout)
    assert told["coefficients"] == dict(alone.coefficients)
    assert told["executor"] == {"name": "processes", "workers": 2}
    accepted = [(step["ingredient"], step["accepted"]) for step in told["trajectory"]]
    assert accepted == [(step.ingredient, step.accepted) for step in alone.trajectory]
    first, second, *_ = begun_under(before).values()
    again = begun_under(forwards(file)[len(before) :])
    assert again
    assert not (first | second) & set().union(*again.values())


def begun_under(lines: list[str]) -> dict[str, set[str]]:
    """By weights, in the order in which they came first: the batches that were begun, each with its weights."""
    found: dict[str, set[str]] = {}
    for line in lines:
        _, weights, units = line.split()
        found.setdefault(weights, set()).add(f"{weights} {units}")
    return found
