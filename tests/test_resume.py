"""A real `kill -9` in mid-search: the same command goes on from there, and gives what it would have given."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kitchens import small_kitchen

import soupviz as sv
from soupviz.store import runs
from soupviz.store.database import open_store
from soupviz.store.runs import Run

ROOT = Path(__file__).resolve().parents[1]
BATCH = 10
NUM_BATCHES = 60
SLEEP = 0.03
SLOW = f"""
import pathlib, time
import torch
from torch import nn

class Slow(nn.Module):
    def __init__(self, features, classes):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(features, 16), nn.ReLU(), nn.Linear(16, classes))

    def forward(self, x):
        # Each batch of a scoring leaves a mark: which weights, and which examples.
        if len(x) == {BATCH}:
            with pathlib.Path(__file__).with_name("forwards.txt").open("a") as file:
                file.write(f"{{float(self.body[0].weight.sum()):.6f}} {{float(x.sum()):.6f}}\\n")
            time.sleep(SLEEP)
        return self.body(x)

def build(features=6, classes=3):
    return Slow(features, classes)
"""


def slow_kitchen(folder: Path, sleep: float = SLEEP) -> Path:
    """Two ingredients; a score takes 60 batches, 1.8 seconds or more in all."""
    source = SLOW.replace("SLEEP", str(sleep))
    return small_kitchen(folder, source=source, num_ingredients=2, num_examples=BATCH * NUM_BATCHES, batch_size=BATCH)


def command(file: Path) -> list[str]:
    return [sys.executable, "-m", "soupviz", "soup", str(file), "--recipe", "greedy", "--alpha", "0.4", "--json"]


def environment(cache: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "SOUPVIZ_CACHE": str(cache), "OMP_NUM_THREADS": "1"}


def cook(file: Path) -> dict[str, Any]:
    """The same soup, cooked in this process, as the command prints it."""
    return json.loads(json.dumps(sv.greedy(sv.Kitchen.load(file), alpha=0.4).told()))


def forwards(file: Path) -> list[str]:
    log = file.with_name("forwards.txt")
    return log.read_text().splitlines() if log.exists() else []


def kill_after(file: Path, cache: Path, num_batches: int) -> None:
    """Start the command, and kill it without warning when it has begun that many batches."""
    process = subprocess.Popen(
        command(file), env=environment(cache), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while len(forwards(file)) < num_batches:
            assert process.poll() is None, "the command ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    assert process.returncode == -signal.SIGKILL


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The story of a search that is killed towards the end of its second score, and then run again."""
    folder = tmp_path_factory.mktemp("resume")
    cache = tmp_path_factory.mktemp("resume-cache")
    file = slow_kitchen(folder / "killed")
    # 1.65 s of the second score: the store keeps what is done every second.
    kill_after(file, cache, NUM_BATCHES + NUM_BATCHES - 5)
    before = forwards(file)
    store = open_store(file)
    [run] = store.runs()
    story: dict[str, Any] = {"before": before, "run": run, "killed_at": time.time()}
    done = subprocess.run(command(file), env=environment(cache), capture_output=True, text=True, timeout=60, check=True)
    story["result"] = json.loads(done.stdout)
    story["after"] = forwards(file)[len(before) :]
    story["finished"] = store.runs()
    story["again"] = cook(file)
    story["warm"] = forwards(file)[len(before) + len(story["after"]) :]
    return story


def test_a_killed_search_goes_on_and_gives_the_result_of_an_undisturbed_one(killed, tmp_path):
    undisturbed = cook(slow_kitchen(tmp_path, sleep=0.0))
    others = {"seconds": 0, "made_in": None}  # its code, which never waits, is another model's
    assert killed["result"] | others == undisturbed | others


def test_nothing_that_was_finished_is_computed_again(killed):
    """The first ingredient's score was whole when the process died."""
    first = killed["before"][0].split()[0]
    assert [line.split()[0] for line in killed["before"]].count(first) == NUM_BATCHES
    assert first not in {line.split()[0] for line in killed["after"]}


def test_a_kill_loses_about_a_second_of_work(killed):
    """Batches that were begun before the kill and had to be computed again after it."""
    repeated = set(killed["before"]) & set(killed["after"])
    assert 1 <= len(repeated) <= 1.3 / SLEEP < NUM_BATCHES - 5
    # And the score that was cut off went on from the middle, not from its first batch.
    cut_off = [line for line in killed["before"] if line.split()[0] == killed["before"][-1].split()[0]]
    assert len(cut_off) > len(repeated)
    assert cut_off[0] not in killed["after"]


def test_no_batch_is_left_out(killed):
    scored: dict[str, set[str]] = {}
    for line in killed["before"] + killed["after"]:
        weights, batch = line.split()
        scored.setdefault(weights, set()).add(batch)
    held_out_or_test = {len(batches) for batches in scored.values()}
    assert held_out_or_test <= {NUM_BATCHES, 2 * NUM_BATCHES}


def test_a_killed_run_shows_as_interrupted_until_it_is_taken_up_again(killed, monkeypatch):
    run: Run = killed["run"]
    assert run.status in ("running", "interrupted")
    assert run.updated <= killed["killed_at"]
    assert killed["killed_at"] - run.updated < runs.HEARTBEAT
    monkeypatch.setattr(runs.time, "time", lambda: run.updated + runs.HEARTBEAT + 0.1)
    row = (run.id, run.key, run.name, "running", "{}", None, None, run.created, run.updated, None, 0, "")
    assert runs.run_of(row).status == "interrupted"
    [finished] = killed["finished"]
    assert (finished.key, finished.status) == (run.key, "finished")


def test_the_same_command_once_more_computes_nothing(killed):
    assert killed["again"] == killed["result"]
    assert killed["warm"] == []
