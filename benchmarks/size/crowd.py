"""Many people at one server, and several processes that cook on the same store: memory, times, and nothing lost."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks.size.pages import MOST_SECONDS, PAGES
from benchmarks.size.people import ROOT, Person, Server
from soupviz.kitchen import Kitchen
from soupviz.recipes import Greedy
from soupviz.recipes.trajectory import steps_from
from soupviz.soups.soup import run_key
from soupviz.soups.standing import current
from soupviz.ui.soup.soups import BY_ALPHA

PATIENCE = 10.0
"""Seconds that one person looks at a page between two clicks."""

MOST_GROWTH = 50e6
"""Bytes that memory may grow by in a quarter of the time, as searches begin and end."""

SAMPLES = 20
"""Looks at the memory of the server, evenly over the time."""


@dataclass
class Told:
    """What came of it. reruns: seconds and page of each; memory: bytes at each look; problems: what went wrong, in
    sentences."""

    reruns: list[tuple[float, str]] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    runs: int = 0
    decisions: int = 0

    @property
    def seconds(self) -> list[float]:
        return [seconds for seconds, _ in self.reruns]

    @property
    def growth(self) -> float:
        """Of memory, in the second half of the time: bytes that its second half holds more than its first."""
        quarter = len(self.memory) // 4
        return float(np.mean(self.memory[-quarter:]) - np.mean(self.memory[-2 * quarter : -quarter]))

    def beyond(self) -> list[str]:
        """What is more than it may be, and what went wrong, in sentences."""
        found = sorted(set(self.problems))
        if (p95 := float(np.percentile(self.seconds, 95))) > MOST_SECONDS:
            found.append(f"one rerun in twenty takes {p95:.2f} s or more")
        if self.growth > MOST_GROWTH:
            found.append(f"memory grows: by {self.growth / 1e6:.0f} MB in a quarter of the time")
        return found


def crowd(kitchen: Path, *, minutes: float, sessions: int = 8, jobs: int = 4) -> Told:
    """So many people click through the pages, while so many searches run: one in the server, the others beside it.

    Memory is looked at once the server has ended a first search, which all pages then show to everybody.
    """
    told, over, has_ended = Told(), threading.Event(), threading.Event()
    opened = Kitchen.load(kitchen)
    before = {run.key for run in opened.store.runs()}
    searches = [
        one for number in range(4000) if run_key(opened, one := _search(number)) not in before
    ]  # by an earlier measurement
    with Server(kitchen.parent) as server, ThreadPoolExecutor(sessions + jobs) as threads:
        first = Person(server, kitchen=str(kitchen))
        first.open("soup")
        first.wait_for("Cook")  # the kitchen is open
        first.close()
        clicking = [threads.submit(_click, server, kitchen, number, over, told) for number in range(sessions)]
        cooking = [threads.submit(_cook_there, server, opened, searches[::jobs], over, has_ended, told)]
        cooking += [threads.submit(_cook_beside, kitchen, searches[one::jobs], over) for one in range(1, jobs)]
        if not has_ended.wait(60 * minutes):
            told.problems.append("the server ended no search in the time that memory is looked at for")
        for _ in range(SAMPLES):
            time.sleep(60 * minutes / SAMPLES)
            told.memory.append(server.memory)
        over.set()
        for one in clicking:
            one.result()
        ended = [search for one in cooking for search in one.result()]
    _check(opened, ended, told)
    return told


def _search(number: int) -> Greedy:
    return Greedy(alpha=(number % 19 + 1) / 20, order="random", seed=number)


def _click(server: Server, kitchen: Path, number: int, over: threading.Event, told: Told) -> None:
    """One person: page after page, with two clicks on each."""
    one = Person(server, kitchen=str(kitchen))
    pages = [PAGES[(place + number) % len(PAGES)] for place in range(len(PAGES))]
    over.wait(PATIENCE * number / 8)  # not all at once
    while not over.is_set():
        for page in pages:
            for _ in range(2):
                if not over.is_set():
                    told.reruns.append((one.open(page), page))
                    one.wait(PATIENCE, over.is_set)
    told.problems.extend(one.problems)
    one.close()


def _cook_there(
    server: Server,
    opened: Kitchen,
    searches: Sequence[Greedy],
    over: threading.Event,
    has_ended: threading.Event,
    told: Told,
) -> list[Greedy]:
    """As one person asks the server for it."""
    finished = []
    cook = Person(server, kitchen=str(opened.file))
    for search in searches:
        cook.open("soup", recipe=BY_ALPHA, alpha=f"{search.alpha:g}", order=search.order, seed=str(search.seed))
        cook.click("Cook")
        while not over.is_set() and not _is_finished(opened, search):
            cook.wait(1)
        if _is_finished(opened, search):
            finished.append(search)
            has_ended.set()
        if over.is_set():
            break
    told.problems.extend(cook.problems)
    cook.close()
    return finished


def _is_finished(opened: Kitchen, search: Greedy) -> bool:
    run = opened.store.run(run_key(opened, search))
    return run is not None and run.status == "finished"


def _cook_beside(kitchen: Path, searches: Sequence[Greedy], over: threading.Event) -> list[Greedy]:
    """On the command line; the last one is ended in the middle."""
    finished = []
    for search in searches:
        options = ["--alpha", str(search.alpha), "--order", search.order, "--seed", str(search.seed)]
        command = [sys.executable, "-m", "soupviz", "soup", str(kitchen), "--recipe", "greedy", *options, "--json"]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        reading = threading.Thread(target=process.communicate, daemon=True)
        reading.start()
        while process.poll() is None and not over.is_set():
            time.sleep(0.1)
        if process.poll() is None:
            process.kill()
            process.wait()
            break
        if process.returncode == 0:
            finished.append(search)
    return finished


def _check(opened: Kitchen, ended: Sequence[Greedy], told: Told) -> None:
    """Every search that ended is a soup with all its decisions, and the store is whole."""
    there = {run.key: run for run in current(opened, opened.store.runs())}
    for search in ended:
        run = there.get(run_key(opened, search))
        if run is None:
            told.problems.append(f"{search.title} is lost")
            continue
        steps = steps_from(opened.store.decisions(run))
        if len(steps) != len(opened.pool):
            told.problems.append(f"{search.title} has {len(steps)} decisions of {len(opened.pool)}")
        told.decisions += len(steps)
    told.runs = len(ended)
    if (found := opened.store.check()) != "ok":
        told.problems.append(found)


def as_json(told: Told) -> str:
    """The figures in a line."""
    return json.dumps(
        {
            "reruns": len(told.seconds),
            "p50": round(float(np.median(told.seconds)), 2),
            "p95": round(float(np.percentile(told.seconds, 95)), 2),
            "slowest": [(round(seconds, 2), page) for seconds, page in sorted(told.reruns, reverse=True)[:8]],
            "memory_mb": [round(one / 1e6) for one in told.memory],
            "growth_mb": round(told.growth / 1e6, 1),
            "runs": told.runs,
            "decisions": told.decisions,
        }
    )
