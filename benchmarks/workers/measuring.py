"""Seconds of what is asked of a kitchen, by who evaluates; nothing is known of it before."""

import shutil
import time
from collections.abc import Callable, Sequence
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


def measure(
    file: Path, who: Sequence[tuple[ExecutorName, int]], rounds: int, tasks: Sequence[str] = tuple(TASKS)
) -> list[Row]:
    """What each task takes, of each in turn, so that a slower minute of the machine is all of theirs."""
    measured = [
        _Measured(sv.Kitchen.load(file, executor=executor, workers=workers), tasks) for executor, workers in who
    ]
    try:
        for number in range(rounds):
            for one in measured:
                one.round(number)
    finally:
        for one in measured:
            one.kitchen.scores.executor.close()
        shutil.rmtree(measured[0].kitchen.store.folder, ignore_errors=True)
    return [one.row() for one in measured]


class _Measured:
    """What one executor has taken so far."""

    def __init__(self, kitchen: sv.Kitchen, tasks: Sequence[str]):
        self.kitchen = kitchen
        self._found: dict[str, list[float]] = {name: [] for name in tasks}
        self._busy: list[float] = []
        self._decided: Any = None

    def round(self, number: int) -> None:
        """Do each task; workers are started before, by a score that none of them asks for."""
        kitchen = self.kitchen
        kitchen.store.clear()
        _start(kitchen, number)
        for name in self._found:
            before, started = kitchen.scores.usage(), time.monotonic()
            result = TASKS[name](kitchen)
            self._found[name].append(time.monotonic() - started)
            if name == "score" and (used := kitchen.scores.usage().since(before).utilisation):
                self._busy.append(used)
            if name == "greedy":
                self._decided = [
                    (step.ingredient, step.accepted, step.value, step.num_scored) for step in result.trajectory
                ]

    def row(self) -> Row:
        executor = self.kitchen.scores.executor
        seconds = {name: median(times) for name, times in self._found.items()}
        busy = median(self._busy) if self._busy else None
        return Row(executor.name, executor.num_workers, seconds, busy, self._decided)


def _start(kitchen: sv.Kitchen, number: int) -> None:
    """Score mixes until every worker has answered."""
    for attempt in range(100):
        share = (attempt + 1) / 1000 + number / 100
        kitchen.scores.score(((kitchen.names[0], 1 - share), (kitchen.names[1], share)))
        shares = kitchen.scores.usage().shares
        if all(one.num_units for one in shares):
            return
