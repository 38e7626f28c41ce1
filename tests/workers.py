"""Workers without processes: each has its own model in this one, and they answer in whatever order chance has it."""

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from soupviz.scoring.executors import crew, starting
from soupviz.scoring.executors.lasting import settle
from soupviz.scoring.executors.launching import Launch, Start, Tell
from soupviz.scoring.executors.messages import Block, Died, Failed, Ready
from soupviz.scoring.executors.worker import Opening, Worker, told_of


class AtOnce(Launch):
    """In the thread that asks, so that a test knows when."""

    def _begin(self, start: Start, tell: Tell) -> None:
        settle(self._workers, lambda: start(tell))


SLOWER = 12
"""Turns of the others in which a slow worker has one."""

Fate = Callable[[int, Block], bool]
"""Whether a worker dies of a block, which it was just about to answer."""


class InThisProcess:
    """What is sent waits until a worker's turn comes; seed: of whose. slow: one that has every twelfth turn only, while
    others have something to do. answered: how many blocks each did."""

    def __init__(self, opening: Opening, devices: Sequence[str], seed: int, fate: Fate, slow: int | None = None):
        self._opening, self._devices, self._fate = opening, devices, fate
        self._chance = random.Random(seed)
        self._slow, self._turn = slow, 0
        self._workers: dict[int, Worker] = {}
        self._idle = 0
        self._said: deque[tuple[int, Ready | Failed]] = deque()
        self._blocks: dict[int, deque[Block]] = {}
        self._dropped: set[int] = set()
        self.answered = [0] * len(devices)
        self.scored: list[tuple[int, int]] = []
        self.is_closed = False
        for worker in range(len(devices)):
            self.restart(worker)

    def end(self, worker: int) -> None:
        self._blocks[worker].clear()
        if worker in self._workers:  # one that could not open is none
            self._workers.pop(worker).close()

    def restart(self, worker: int) -> None:
        self._blocks[worker] = deque()
        try:
            self._workers[worker] = Worker(self._opening(self._devices[worker]))
        except Exception as error:
            self._said.append((worker, Failed(told_of(error))))
            return
        self._said.append((worker, Ready(f"place {worker}")))

    def send(self, worker: int, block: Block) -> None:
        self._blocks[worker].append(block)

    def drop(self, worker: int, numbers: Sequence[int]) -> None:
        self._dropped.update(numbers)

    def receive(self, timeout: float) -> list[tuple[int, Any]]:
        """What one worker says, or several at once, as they may."""
        if self._said:
            return [self._said.popleft()]
        busy = [worker for worker, blocks in self._blocks.items() if blocks]
        self._idle = 0 if busy else self._idle + 1
        assert self._idle < 1000, "nobody has anything to do, and somebody waits"
        self._turn += 1
        if fast := [worker for worker in busy if worker != self._slow and self._turn % SLOWER]:
            busy = fast
        chosen = self._chance.sample(busy, self._chance.randint(1, len(busy))) if busy else []
        return [said for worker in chosen for said in self._one(worker)]

    def _one(self, worker: int) -> list[tuple[int, Any]]:
        block = self._blocks[worker].popleft()
        if self._fate(worker, block):
            self._workers.pop(worker).close()
            return [(worker, Died("it was told to."))]
        said = self._workers[worker].answer(block, lambda: block.number in self._dropped)
        self.answered[worker] += 1
        self.scored += [(worker, len(part.rows)) for batch in said.batches for part in batch]
        return [(worker, said)]

    def close(self) -> None:
        self.is_closed = True
        for worker in self._workers.values():
            worker.close()


def without_processes(
    monkeypatch: pytest.MonkeyPatch,
    *,
    seed: int = 0,
    fate: Fate = lambda _worker, _block: False,
    slow: int | None = None,
) -> list[InThisProcess]:
    """From now on `executor: processes` starts none; gives what was started, as it is."""
    started: list[InThisProcess] = []

    def start(opening: Opening, devices: Sequence[str], _threads: int) -> InThisProcess:
        started.append(InThisProcess(opening, devices, seed, fate, slow))
        return started[-1]

    monkeypatch.setattr(starting, "Processes", start)
    monkeypatch.setattr(crew, "Launch", AtOnce)
    STARTED.append(started)
    return started


STARTED: list[list[InThisProcess]] = []
"""By the tests of this process; `close_all` ends them."""


def close_all() -> None:
    """Let nothing of them stay behind."""
    while STARTED:
        for one in STARTED.pop():
            one.close()
