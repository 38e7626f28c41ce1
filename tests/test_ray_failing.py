"""A Ray cluster's workers that die, run out of memory, are cancelled, or whose driver is killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kitchens import MLP, small_kitchen
from test_worker_processes import ROOT, decisions, forwards, is_alive, pausing_kitchen, pids, seconds_to_cancel, until

import soupviz as sv
from soupviz.errors import ExecutorError

pytestmark = pytest.mark.extras
ray = pytest.importorskip("ray")

KEYS: dict[str, Any] = {"num_ingredients": 3, "num_examples": 60, "batch_size": 8}
DYING = """
import os, pathlib
from torch import nn

class Dying(nn.Sequential):
    def forward(self, x):
        if len(x) == 8:
            log = pathlib.Path(__file__).with_name("deaths.txt")
            if not log.exists() or len(log.read_text()) < TIMES:
                log.open("a").write("x")
                os._exit(1)
        return super().forward(x)

def build(features=6, classes=3):
    return Dying(nn.Linear(features, 16), nn.ReLU(), nn.Linear(16, classes))
"""
LACKING = """
import torch
from torch import nn

class Lacking(nn.Sequential):
    def forward(self, x):
        if 3 < len(x) < 10:
            raise torch.OutOfMemoryError("no more of it")
        return super().forward(x)

def build(features=6, classes=3):
    return Lacking(nn.Linear(features, 16), nn.ReLU(), nn.Linear(16, classes))
"""


def on_ray(file: Path, workers: int) -> sv.Kitchen:
    return sv.Kitchen.load(file, executor="ray", workers=workers)


def dying_kitchen(folder: Path, times: int) -> Path:
    """The first processes that score a batch die of it."""
    return small_kitchen(folder, source=DYING.replace("TIMES", str(times)), **KEYS)


def command(file: Path) -> list[str]:
    given = ["soup", str(file), "--recipe", "greedy", "--json", "--executor", "ray", "--workers", "2"]
    return [sys.executable, "-m", "soupviz", *given]


def environment(folder: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "SOUPVIZ_CACHE": str(folder / "cache")}


def of_ray() -> set[int]:
    """Processes of Ray's clusters on this machine, but agents, which notice after a minute that they are alone."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return {int(line.split()[0]) for line in listed.splitlines() if any(one in line for one in RAYS)}


RAYS = ("raylet/raylet", "gcs_server", "ray::Actor")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_one_actor_and_three_find_what_one_process_finds(tmp_path, workers):
    alone = sv.greedy(sv.Kitchen.load(small_kitchen(tmp_path / "alone", **KEYS)))
    kitchen = on_ray(small_kitchen(tmp_path / "k", **KEYS), workers)
    soup = sv.greedy(kitchen)
    assert decisions(soup) == decisions(alone)
    assert len(soup.usage.shares) == workers
    kitchen.scores.executor.close()


@pytest.mark.slow
def test_three_deaths_end_the_run_with_the_reason(tmp_path):
    kitchen = on_ray(dying_kitchen(tmp_path, 99), 2)
    with pytest.raises(ExecutorError, match=r"ended 3 times, last with: ActorDiedError.*What was scored is kept"):
        kitchen.score()
    assert not ray.is_initialized()


@pytest.mark.slow
def test_a_death_that_is_overcome_leaves_the_output_as_json(tmp_path):
    file = dying_kitchen(tmp_path / "k", 2)
    done = subprocess.run(
        command(file), env=environment(tmp_path), capture_output=True, text=True, timeout=180, check=True
    )  # fmt: skip
    alone = sv.greedy(sv.Kitchen.load(small_kitchen(tmp_path / "alone", source=MLP, **KEYS)))
    assert json.loads(done.stdout)["coefficients"] == dict(alone.coefficients)
    assert len(file.with_name("deaths.txt").read_text()) == 2


@pytest.mark.slow
def test_a_cancel_is_heard_within_a_second_however_long_a_batch_takes(tmp_path):
    file = pausing_kitchen(tmp_path, seconds=5.0)
    kitchen = on_ray(file, 1)
    assert seconds_to_cancel(kitchen, lambda: forwards(file)) < 1.0
    kitchen.scores.executor.close()
    until(lambda: not any(map(is_alive, pids(file))), 10)


@pytest.mark.slow
def test_actors_without_room_for_a_batch_take_smaller_ones(tmp_path):
    alone = sv.greedy(sv.Kitchen.load(small_kitchen(tmp_path / "alone", **KEYS)))
    kitchen = on_ray(small_kitchen(tmp_path / "k", source=LACKING, **KEYS), 2)
    soup = sv.greedy(kitchen)
    assert soup.coefficients == alone.coefficients
    assert [step.num_scored for step in soup.trajectory] == [step.num_scored for step in alone.trajectory]
    assert sum(share.deaths for share in soup.usage.shares) == 0
    kitchen.scores.executor.close()


@pytest.mark.slow
def test_the_cluster_ends_with_a_driver_that_is_killed_and_the_run_goes_on(tmp_path):
    file, before = pausing_kitchen(tmp_path / "k"), of_ray()
    given, keys = command(file), environment(tmp_path)
    driver = subprocess.Popen(given, env=keys, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: len(forwards(file)) > 100, 120)
    started = of_ray() - before
    assert started
    driver.send_signal(signal.SIGKILL)
    driver.wait(10)
    until(lambda: not any(map(is_alive, started)), 20)
    done = subprocess.run(given, env=keys, capture_output=True, text=True, timeout=180, check=True)
    alone = sv.greedy(sv.Kitchen.load(pausing_kitchen(tmp_path / "alone", seconds=0.0)))
    assert json.loads(done.stdout)["coefficients"] == dict(alone.coefficients)
