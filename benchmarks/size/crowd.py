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
from streamlit.testing.v1 import AppTest

from benchmarks.process import anonymous
from benchmarks.size.pages import PAGES, ROOT, cancel_all, session
from soupviz.kitchen import Kitchen
from soupviz.recipes import Greedy
from soupviz.recipes.trajectory import steps_from
from soupviz.soups.soup import run_key
from soupviz.soups.standing import current
from soupviz.ui import computing, work

PATIENCE = 10.0
"""Seconds that one person looks at a page between two clicks."""

SAMPLES = 10
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


def crowd(kitchen: Path, *, minutes: float, sessions: int = 8, jobs: int = 4) -> Told:
    """So many people click through the pages, while so many searches run: one in the server, the others beside it."""
    told, over = Told(), threading.Event()
    first = session(kitchen)
    first.run()  # opens the kitchen
    while work.jobs().active():
        time.sleep(0.1)
    opened = work.opened_kitchen(kitchen)
    assert opened is not None
    searches = [Greedy(alpha=(number % 16 + 1) / 17, order="random", seed=number) for number in range(1000)]
    with ThreadPoolExecutor(sessions + jobs) as threads:
        clicking = [threads.submit(_click, kitchen, number, over, told) for number in range(sessions)]
        cooking = [threads.submit(_cook_here, opened, searches[::jobs], over)]
        cooking += [threads.submit(_cook_beside, kitchen, searches[one::jobs], over) for one in range(1, jobs)]
        for _ in range(SAMPLES):
            time.sleep(60 * minutes / SAMPLES)
            told.memory.append(anonymous())
        over.set()
        for one in clicking:
            one.result()
        ended = [search for one in cooking for search in one.result()]
    cancel_all()
    _check(opened, ended, told)
    return told


def _click(kitchen: Path, number: int, over: threading.Event, told: Told) -> None:
    """One person: page after page, with two clicks on each."""
    at = session(kitchen)
    pages = [PAGES[(place + number) % len(PAGES)] for place in range(len(PAGES))]
    over.wait(PATIENCE * number / 8)  # not all at once
    while not over.is_set():
        for page in pages:
            if over.is_set():
                return
            at.switch_page(f"pages/{page}.py")
            for _ in range(2):
                _rerun(at, page, told)
                over.wait(PATIENCE)


def _rerun(at: AppTest, page: str, told: Told) -> None:
    started = time.perf_counter()
    at.run()
    told.reruns.append((time.perf_counter() - started, page))
    told.problems.extend(f"{page}: {one.value}" for one in at.error)
    told.problems.extend(f"{page}: {one.message}" for one in at.exception)


def _cook_here(opened: Kitchen, searches: Sequence[Greedy], over: threading.Event) -> list[Greedy]:
    """In the server's own queue; gives what was finished."""
    finished = []
    for search in searches:
        job = computing.cook_job(opened, search)
        while job.is_active and not over.is_set():
            time.sleep(0.1)
        if job.is_active:
            work.jobs().cancel(job)
            break
        if job.state == "finished":
            finished.append(search)
    return finished


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
            "runs": told.runs,
            "decisions": told.decisions,
            "problems": sorted(set(told.problems)),
        }
    )
