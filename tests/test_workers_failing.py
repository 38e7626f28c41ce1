"""What fails once on one worker, or on the way to it, neither lasts nor spreads."""

import gc
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from kitchens import BATCHNORM, small_kitchen
from workers import InThisProcess, without_processes

import soupviz as sv
from soupviz.data.split import Split
from soupviz.errors import Cancelled, ExecutorError, SoupError
from soupviz.scoring.executors import starting
from soupviz.scoring.executors.launching import Launch, Tell
from soupviz.scoring.scorer import AVERAGE
from soupviz.types import quiet


def kitchen_of(folder: Path, workers: int, **keys: Any) -> sv.Kitchen:
    file = small_kitchen(folder, **{"num_examples": 60, "batch_size": 8} | keys)
    return sv.Kitchen.load(file, executor="processes", workers=workers) if workers else sv.Kitchen.load(file)


def on_part(kitchen: sv.Kitchen, name: str, rows: range = range(40, 60)) -> Any:
    """An ingredient's values on some units of held_out."""
    scores, held_out = kitchen.scores, kitchen.splits.load("held_out")
    part = held_out.part(torch.tensor(rows), f"part {rows}")
    return scores.scorer.score(scores.resolved(((name, 1.0),)), part, scores.width(held_out), AVERAGE, quiet).values


def worker_of(started: list[InThisProcess], number: int = 0) -> Any:
    return started[-1]._workers[number]


def begun(kitchen: sv.Kitchen) -> None:
    """Its workers are there, and have nothing to do."""
    kitchen.scores.score(((kitchen.names[0], 1.0),), "test")


class Once:
    """Raises the first time that it is called, or the first times."""

    def __init__(self, real: Any, error: BaseException, times: int = 1):
        self._real, self._error, self._left = real, error, times

    def __call__(self, *given: Any, **named: Any) -> Any:
        if self._left:
            self._left -= 1
            raise self._error
        return self._real(*given, **named)


def full(*_given: Any, **_named: Any) -> Any:
    raise torch.OutOfMemoryError("no more of it")


# What a worker is told


def test_which_units_a_part_has_is_known_although_its_data_could_not_be_read_at_first(tmp_path, monkeypatch):
    alone = kitchen_of(tmp_path / "alone", 0)
    started = without_processes(monkeypatch)
    kitchen = kitchen_of(tmp_path / "k", 1)
    begun(kitchen)
    splits = worker_of(started)._scores.splits
    monkeypatch.setattr(splits, "load", Once(splits.load, OSError("stale file handle")))
    with pytest.raises(RuntimeError, match="stale file handle"):
        on_part(kitchen, "m_0")
    assert [on_part(kitchen, name) for name in kitchen.names] == [on_part(alone, name) for name in alone.names]


def test_a_formula_is_known_although_it_could_not_be_kept_at_first(tmp_path, monkeypatch):
    started = without_processes(monkeypatch)
    kitchen = kitchen_of(tmp_path, 1)
    begun(kitchen)
    made = kitchen.weights.keep("made", {key: x + 0.01 for key, x in kitchen.ingredients[0].tensors.items()}, ())
    store = worker_of(started)._scores.weights.store
    monkeypatch.setattr(store, "keep_formula", Once(store.keep_formula, sqlite3.OperationalError("disk is full")))
    with pytest.raises(RuntimeError, match="disk is full"):
        kitchen.scores.score(made)
    assert kitchen.scores.score(made).num_units == 60


@pytest.mark.parametrize("times", [1, 2, 3])
def test_what_could_not_be_sent_is_said_in_its_turn_and_told_again(tmp_path, monkeypatch, times):
    alone = kitchen_of(tmp_path / "alone", 0)
    started = without_processes(monkeypatch)
    kitchen = kitchen_of(tmp_path / "k", 2)
    begun(kitchen)
    monkeypatch.setattr(started[-1], "send", Once(started[-1].send, ExecutorError("the store is full"), times))
    for _ in range(times):
        try:
            on_part(kitchen, "m_0")
        except ExecutorError as error:
            assert str(error) == "the store is full"
    assert [on_part(kitchen, name) for name in kitchen.names] == [on_part(alone, name) for name in alone.names]


def test_what_could_not_be_sent_ahead_of_its_turn_ends_nothing(tmp_path, monkeypatch):
    started = without_processes(monkeypatch)
    kitchen = kitchen_of(tmp_path, 2)
    kitchen.score()
    monkeypatch.setattr(started[-1], "send", Once(started[-1].send, ExecutorError("the store is full"), 2))
    kitchen.scores.ahead([((("m_0", 0.5), ("m_1", 0.5)), "held_out", "average", None)])
    kitchen.scores.ahead([])
    assert kitchen.scores.score((("m_0", 0.25), ("m_1", 0.75))).num_units == 60


# Memory


def test_a_unit_that_no_worker_has_room_for_ends_one_score_and_no_worker(tmp_path, monkeypatch):
    started = without_processes(monkeypatch)
    kitchen = kitchen_of(tmp_path, 3)
    begun(kitchen)
    large = kitchen.splits.load("held_out").fingerprint

    def tight(real: Any) -> Any:
        def forward(split: Split, rows: Any, is_shared: bool) -> Any:
            return full() if split.fingerprint == large and 5 in rows.tolist() else real(split, rows, is_shared)

        return forward

    opened = started[-1].restart

    def restart(worker: int) -> None:
        opened(worker)
        narrow(worker)

    def narrow(worker: int) -> None:
        evaluator = worker_of(started, worker)._evaluator
        monkeypatch.setattr(evaluator, "_forward", tight(evaluator._forward))

    monkeypatch.setattr(started[-1], "restart", restart)
    for worker in range(3):
        narrow(worker)
    with pytest.raises(SoupError, match="one example alone needs too much memory"):
        kitchen.scores.score((("m_1", 1.0),), "held_out")
    before = kitchen.scores.usage()
    list(kitchen.scores.each([(((name, 1.0),), "test", "average") for name in kitchen.names]))
    shares = kitchen.scores.usage().since(before).shares
    assert all(share.num_units > 0 for share in shares)
    assert not any("memory" in share.place for share in shares)
    assert {worker_of(started, worker)._evaluator.batch_size for worker in range(3)} == {8}


@pytest.mark.parametrize("where", ["load", "prepared"])
def test_a_worker_without_room_for_weights_or_data_is_asked_no_more(tmp_path, monkeypatch, where):
    alone = kitchen_of(tmp_path / "alone", 0)
    started = without_processes(monkeypatch)
    kitchen = kitchen_of(tmp_path / "k", 2)
    begun(kitchen)
    monkeypatch.setattr(worker_of(started, 1)._evaluator, where, full)
    mix = tuple((name, 1 / 4) for name in kitchen.names)
    assert kitchen.score().equals(alone.score())
    assert kitchen.scores.score(mix).values == alone.scores.score(mix).values
    assert "out of memory" in kitchen.scores.usage().shares[1].place
    assert list(started[-1]._workers) == [0]  # the other has ended, which may leave room for this one


def test_a_worker_without_room_to_re_estimate_statistics_is_asked_no_more(tmp_path, monkeypatch):
    keys = {"source": BATCHNORM, "shape": (3, 8, 8), "train": 60}
    alone = kitchen_of(tmp_path / "alone", 0, **keys)
    started = without_processes(monkeypatch)
    kitchen = kitchen_of(tmp_path / "k", 2, **keys)
    begun(kitchen)
    model = worker_of(started, 1)._evaluator.model
    model.register_forward_pre_hook(lambda *_: full() if any(part.training for part in model.modules()) else None)
    mixes = [(("m_0", 0.5 + step / 16), ("m_1", 0.5 - step / 16)) for step in range(4)]
    wanted = [(mix, "held_out", "recalibrate:40") for mix in mixes]
    found, expected = ([score.values for score in one.scores.each(wanted)] for one in (kitchen, alone))
    assert found == expected
    assert "out of memory" in kitchen.scores.usage().shares[1].place


def test_a_worker_without_room_for_the_model_leaves_the_work_to_the_others(tmp_path, monkeypatch):
    started = without_processes(monkeypatch)
    kitchen = kitchen_of(tmp_path, 2)
    real = InThisProcess.restart

    def restart(self: InThisProcess, worker: int) -> None:
        if worker == 1:
            monkeypatch.setattr(self, "_opening", full)
        real(self, worker)

    monkeypatch.setattr(InThisProcess, "restart", restart)
    assert len(kitchen.score()) == 4
    shares = kitchen.scores.usage().shares
    assert [share.num_units > 0 for share in shares] == [True, False]
    assert shares[1].place == "out of memory, asked no more"  # it never said where it was
    assert list(started[-1]._workers) == [0]


# Starting


def test_a_cancel_is_heard_while_workers_are_being_started(tmp_path, monkeypatch):
    going_on = threading.Event()
    told = []

    class Slow(InThisProcess):
        def __init__(self, opening: Any, devices: Any, _threads: int):
            going_on.wait(30)
            super().__init__(opening, devices, 0, lambda _worker, _block: False)

    monkeypatch.setattr(starting, "Processes", Slow)
    kitchen = kitchen_of(tmp_path, 2)

    def progress(*_said: Any) -> None:
        told.append(time.monotonic())
        if len(told) > 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        kitchen.score(progress=progress)
    assert not going_on.is_set()
    going_on.set()
    assert len(kitchen.score()) == 4  # those that were being started are there for the next


def test_workers_that_nobody_waits_for_any_more_end_once_they_are_there(tmp_path, monkeypatch):
    going_on, made = threading.Event(), []

    class Slow(InThisProcess):
        def __init__(self, opening: Any, devices: Any, _threads: int):
            going_on.wait(30)
            super().__init__(opening, devices, 0, lambda _worker, _block: False)
            made.append(self)

    monkeypatch.setattr(starting, "Processes", Slow)
    kitchen = kitchen_of(tmp_path, 2)
    kitchen.scores.ahead([(((kitchen.names[0], 1.0),), "held_out", "average", None)])
    kitchen.scores.executor.close()
    going_on.set()
    deadline = time.monotonic() + 30
    while not (made and made[0].is_closed) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert made[0].is_closed


def test_what_a_start_ends_in_is_raised_and_tried_again(tmp_path, monkeypatch):
    kitchen = kitchen_of(tmp_path, 1)
    started = without_processes(monkeypatch)
    monkeypatch.setattr(starting, "Processes", Once(starting.Processes, ExecutorError("no room for so many")))
    with pytest.raises(ExecutorError, match="no room for so many"):
        kitchen.score()
    assert len(kitchen.score()) == 4 and len(started) == 1


def test_a_start_that_fails_in_the_middle_leaves_no_worker_behind(tmp_path, monkeypatch):
    """At once, not when the collector comes by."""
    kitchen = kitchen_of(tmp_path, 3)
    processes: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def third_fails(*given: Any, **named: Any) -> Any:
        if len(processes) == 2:
            raise OSError("cannot allocate memory")
        processes.append(real(*given, **named))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", third_fails)
    gc.disable()
    try:
        with pytest.raises(OSError, match="cannot allocate"):
            kitchen.score()
        assert [process.poll() is not None for process in processes] == [True, True]
    finally:
        gc.enable()


def test_a_start_that_was_given_up_hears_of_it_and_says_nothing_more():
    told: list[str] = []
    ended: list[BaseException] = []
    is_waiting, going_on = threading.Event(), threading.Event()

    def start(tell: Tell) -> Any:
        tell("one")
        is_waiting.set()
        going_on.wait(30)
        try:
            tell("two")
        except Cancelled as error:
            ended.append(error)
            raise

    launch = Launch(start, told.append)
    assert is_waiting.wait(30)
    launch.give_up()
    going_on.set()
    with pytest.raises(Cancelled):
        while launch.wait(1) is None:
            pass
    assert told == ["one"] and len(ended) == 1


def test_trained_weights_that_cannot_be_read_end_the_mixes_that_need_them_alone(tmp_path, monkeypatch):
    without_processes(monkeypatch)
    kitchen = kitchen_of(tmp_path, 2)
    begun(kitchen)
    made = kitchen.weights.keep("made", {key: x + 1 for key, x in kitchen.ingredients[0].tensors.items()}, ())
    item = kitchen.weights.resolve(made[0][0])
    monkeypatch.setattr(type(item), "check_unchanged", lambda _item: None)
    away = item.path.rename(item.path.with_suffix(".away"))  # as on another machine
    with pytest.raises(SoupError):
        kitchen.scores.score(made)
    assert kitchen.scores.score((("m_1", 1.0),)).num_units == 60
    away.rename(item.path)
    assert kitchen.scores.score(made).num_units == 60


def test_an_interrupt_ends_workers_and_says_nothing_more_to_them(tmp_path, monkeypatch):
    """It may have come within a message."""
    started = without_processes(monkeypatch)
    kitchen = kitchen_of(tmp_path, 2)
    begun(kitchen)
    dropped: list[int] = []
    monkeypatch.setattr(started[-1], "drop", lambda _worker, numbers: dropped.extend(numbers))
    monkeypatch.setattr(started[-1], "send", Once(started[-1].send, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        kitchen.score()
    assert started[-1].is_closed and not dropped
