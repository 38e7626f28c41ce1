"""Seconds of what is asked of a kitchen, by who evaluates; nothing is known of it before."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import soupviz as sv
from soupviz.spec import ExecutorName

TASKS: dict[str, Callable[[sv.Kitchen], Any]] = {
    "score": lambda kitchen: kitchen.score(),
    "one mix": lambda kitchen: kitchen.scores.score(tuple((name, 0.5) for name in kitchen.names[:2])),
    "greedy": sv.greedy,
    "sweep": lambda kitchen: sv.sweep(kitchen, [0.1, 0.3, 0.5]),
}
"""`score` and `one mix` score everything whole; searches give candidates up."""


@dataclass(frozen=True, slots=True)
class Row:
    """One executor's. seconds: by task, medians. utilisation: the mean over its workers while `score` ran."""

    executor: str
    workers: int
    seconds: dict[str, float]
    utilisation: float | None
    decided: Any


def measure(file: Path, executor: ExecutorName, workers: int, rounds: int) -> Row:
    """What each task takes; workers are started before, by a score that none of them asks for."""
    found: dict[str, list[float]] = {name: [] for name in TASKS}
    busy: list[float] = []
    decided: Any = None
    kitchen = sv.Kitchen.load(file, executor=executor, workers=workers)
    try:
        for number in range(rounds):
            kitchen.store.clear()
            _start(kitchen, workers, number)
            for name, task in TASKS.items():
                before, started = kitchen.scores.usage(), time.monotonic()
                result = task(kitchen)
                found[name].append(time.monotonic() - started)
                if name == "score" and (used := kitchen.scores.usage().since(before).utilisation):
                    busy.append(used)
                if name == "greedy":
                    decided = [
                        (step.ingredient, step.accepted, step.value, step.num_scored) for step in result.trajectory
                    ]
    finally:
        kitchen.scores.executor.close()
        shutil.rmtree(kitchen.store.folder, ignore_errors=True)
    seconds = {name: median(times) for name, times in found.items()}
    return Row(executor, workers, seconds, median(busy) if busy else None, decided)


def _start(kitchen: sv.Kitchen, workers: int, number: int) -> None:
    """Score mixes until every worker has answered."""
    for attempt in range(100):
        share = (attempt + 1) / 1000 + number / 100
        kitchen.scores.score(((kitchen.names[0], 1 - share), (kitchen.names[1], share)))
        shares = kitchen.scores.usage().shares
        if all(one.num_units for one in shares):
            return
