"""How many workers there are, on which devices, and that kitchen.yaml says so as options do."""

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from kitchens import run_command, small_kitchen
from workers import InThisProcess, without_processes

import soupviz as sv
from soupviz.scoring.executors import starting
from soupviz.scoring.executors.starting import crew_of, devices_of, num_workers
from soupviz.types import quiet
from soupviz.yaml_file import read_kitchen_file

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


def spec_of(folder: Path, **keys: Any) -> Any:
    return read_kitchen_file(small_kitchen(folder, **{"executor": "processes"} | keys))


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)


# Where they compute


@pytest.mark.parametrize("executor", ["processes", "ray"])
def test_there_is_one_worker_for_each_gpu_and_each_has_its_own(tmp_path, three_gpus, executor):
    spec = spec_of(tmp_path, executor=executor)
    assert num_workers(spec, CUDA) == 3
    assert devices_of(spec, CUDA) == ["cuda:0", "cuda:1", "cuda:2"]


def test_more_workers_than_gpus_share_them_in_turn_and_fewer_take_the_first(tmp_path, three_gpus):
    assert devices_of(spec_of(tmp_path / "more", workers=5), CUDA) == ["cuda:0", "cuda:1", "cuda:2", "cuda:0", "cuda:1"]
    assert devices_of(spec_of(tmp_path / "fewer", workers=2), CUDA) == ["cuda:0", "cuda:1"]


def test_a_gpu_that_is_named_by_its_number_has_all_workers(tmp_path, three_gpus):
    assert devices_of(spec_of(tmp_path, workers=2), torch.device("cuda:1")) == ["cuda:1", "cuda:1"]


def test_on_the_cpu_two_cores_have_a_worker_and_one_alone_has_one_too(tmp_path, monkeypatch, three_gpus):
    spec = spec_of(tmp_path)
    counts = []
    for cores in (1, 2, 3, 8, None):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        counts.append(devices_of(spec, CPU))
    assert counts == [["cpu"] * number for number in (1, 1, 1, 4, 1)]
    assert num_workers(spec_of(tmp_path / "inline", executor="inline"), CUDA) == 1


def test_workers_are_started_on_these_devices_and_share_the_threads(tmp_path, monkeypatch, three_gpus):
    monkeypatch.setattr(starting, "Processes", lambda _opening, devices, threads: (devices, threads))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    nothing: Any = None
    crew = crew_of(spec_of(tmp_path), SimpleNamespace(device=CUDA), nothing, nothing)  # type: ignore[arg-type]
    assert crew is not None
    assert crew._start(quiet) == (["cuda:0", "cuda:1", "cuda:2"], 2)


# What kitchen.yaml says


def test_who_evaluates_is_said_in_kitchen_yaml(tmp_path, monkeypatch):
    started = without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, executor="processes", workers=3))
    kitchen.score()
    assert [len(one.answered) for one in started] == [3]
    assert kitchen.scores.made_by == {"executor": {"name": "processes", "workers": 3}}
    again = sv.Kitchen.load(kitchen.file, executor="inline")
    assert again.scores.made_by == {"executor": {"name": "inline", "workers": 1}}


def test_from_where_ray_has_weights_is_said_in_kitchen_yaml(tmp_path, monkeypatch):
    told: list[Any] = []

    def start(opening: Any, devices: Any, _threads: int, address: Any, stored: Any, _tell: Any) -> InThisProcess:
        told.append((len(devices), address, stored is not None))
        return InThisProcess(opening, devices, 0, lambda _worker, _block: False)

    without_processes(monkeypatch)
    monkeypatch.setattr(starting, "RayActors", start)
    keys = {"executor": "ray", "workers": 2, "ray_address": "ray://head:10001"}
    for where in ("files", "object_store"):
        sv.Kitchen.load(small_kitchen(tmp_path / where, **keys, ray_weights=where)).score()
    assert told == [(2, "ray://head:10001", False), (2, "ray://head:10001", True)]


@pytest.mark.parametrize(
    ("keys", "said"),
    [({"executor": "threads"}, "executor"), ({"workers": 0}, "workers"), ({"ray_weights": "disk"}, "ray_weights")],
)
def test_a_word_that_says_nobody_is_refused(tmp_path, capsys, keys, said):
    status, _, error = run_command(capsys, "score", small_kitchen(tmp_path, **keys))
    assert status == 2
    assert said in error
