"""Three browsers at one server that is killed and started again, and what was seen meanwhile."""

import json
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np

from benchmarks.size.crowd import MOST_GROWTH
from benchmarks.size.people import Server
from benchmarks.soak.browsing import Walker

MODULE = "benchmarks.soak.server"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-dev-shm-usage"]
GRACE = 10.0
"""Seconds after a start in which a browser still finds out that the server was gone."""

QUIET = 0.25
"""The share of the time, at its end, in which nothing is killed and memory is compared."""

BETWEEN = 5.0
"""Seconds between two looks at the memory."""

PATIENCE = 120.0


@dataclass
class Told:
    """What came of it. memory: of the last server, bytes at each look. steps: how often each was done. said: the
    messages that pages had for the user."""

    problems: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    steps: dict[str, int] = field(default_factory=dict)
    pages: set[str] = field(default_factory=set)
    said: set[str] = field(default_factory=set)
    kills: int = 0

    @property
    def growth(self) -> float:
        """Bytes that the last quarter of the looks holds more than the one before: both are of one server."""
        quarter = len(self.memory) // 4
        if not quarter:
            return 0.0
        return float(np.median(self.memory[-quarter:]) - np.median(self.memory[-2 * quarter : -quarter]))

    def beyond(self) -> list[str]:
        """What went wrong, in sentences."""
        found = list(dict.fromkeys(self.problems))
        if self.growth > MOST_GROWTH:
            found.append(f"memory grows: by {self.growth / 1e6:.0f} MB in a quarter of the time")
        return found

    def as_json(self) -> str:
        """The figures in a line."""
        memory = [round(one / 1e6) for one in self.memory[:: max(1, len(self.memory) // 20)]]
        figures = {"kills": self.kills, "steps": self.steps, "pages": sorted(self.pages), "memory_mb": memory}
        return json.dumps(figures | {"growth_mb": round(self.growth / 1e6, 1), "said": sorted(self.said)})


class Served:
    """A server that is killed and started again on the same port."""

    def __init__(self, folder: Path, log: Path):
        self.folder, self.log = folder, log
        self.server = Server(folder, module=MODULE, log=log)
        self.server.__enter__()
        self.is_down, self.started = False, time.monotonic()

    @property
    def is_up(self) -> bool:
        return not self.is_down and time.monotonic() - self.started > GRACE

    def kill(self) -> None:
        self.is_down = True
        self.server.kill()

    def start(self) -> None:
        self.server = Server(self.folder, module=MODULE, port=self.server.port, log=self.log)
        self.server.__enter__()
        self.is_down, self.started = False, time.monotonic()


def walk(
    file: Path, *, minutes: float, kills: int, sessions: int, seed: int, chromium: Path, tell: Callable[[str], None]
) -> Told:
    """Browse for so many minutes, and kill the server so many times."""
    from playwright.sync_api import sync_playwright

    told, chance = Told(), random.Random(seed)
    over = 60 * minutes
    moments = sorted(chance.uniform(0, (1 - QUIET) * over) for _ in range(kills))
    log = file.parent.parent / f"{file.parent.name}.server.log"
    log.unlink(missing_ok=True)
    served = Served(file.parent, log)
    with ExitStack() as ends:
        ends.callback(lambda: served.server.__exit__())
        browser = ends.enter_context(sync_playwright()).chromium.launch(executable_path=str(chromium), args=ARGUMENTS)
        address = f"http://127.0.0.1:{served.server.port}"
        query = f"?kitchen={quote(str(file))}"
        walkers = [Walker(browser, address, query, seed + number, lambda: served.is_up) for number in range(sessions)]
        told.problems += [f"{one.name}: the first page does not come" for one in walkers if not one.open(PATIENCE)]
        started, looked = time.monotonic(), 0.0
        while (now := time.monotonic() - started) < over:
            if moments and now >= moments[0]:
                moments.pop(0)
                _kill(served, walkers, chance, told)
            for one in walkers:
                one.step()
            if now - looked >= BETWEEN and now >= (1 - QUIET) * over:
                looked = now
                told.memory.append(served.server.memory)
        for one in walkers:
            told.problems += one.problems
            told.said |= one.said
            told.pages |= one.seen
            for kind, number in one.steps.items():
                told.steps[kind] = told.steps.get(kind, 0) + number
            one.close()
        browser.close()
    told.problems += logged(log)
    tell(f"walked: {sum(told.steps.values())} steps, {told.kills} kills")
    return told


def _kill(served: Served, walkers: list[Walker], chance: random.Random, told: Told) -> None:
    """Kill the server, let people click on, start it again; their pages come back."""
    served.kill()
    told.kills += 1
    for one in walkers[: chance.randint(0, len(walkers))]:
        one.step()
    served.start()
    for one in walkers:
        if not one.open(PATIENCE):
            told.problems.append(f"{one.name}: {one.tab.url} does not come back after a kill")


def logged(log: Path) -> list[str]:
    """Tracebacks that the servers wrote, each with its last lines."""
    parts = log.read_text(encoding="utf-8", errors="replace").split("Traceback (most recent call last):\n")[1:]
    found = []
    for part in parts:
        lines = part.splitlines()
        end = next((at for at, line in enumerate(lines[1:], 1) if line and not line[0].isspace()), len(lines) - 1)
        found.append("the server's log: " + " / ".join(line.strip() for line in lines[max(0, end - 4) : end + 1]))
    return found
