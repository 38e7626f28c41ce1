"""Background jobs: one at a time, the most urgent first; they outlive pages, refreshes and closed tabs."""

import heapq
import itertools
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from soupviz.addresses import redacted
from soupviz.errors import Cancelled, SoupError
from soupviz.store.recording import starter

URGENT, NORMAL, AHEAD = 0, 1, 2
"""Priorities: opening a kitchen, what the user asked for, what is computed ahead of being asked."""

FINISHED_KEPT = 50
logger = logging.getLogger(__name__)


class _Preempted(Cancelled):
    """Raised inside a job that is begun anew: something more urgent waits, or others are to do it."""


@dataclass(eq=False)
class Job:
    """One piece of work; `events` grows while it runs and is what live pictures are drawn from. person: who asked."""

    key: str
    title: str
    kitchen: str
    priority: int
    work: Callable[["Job"], Any]
    number: int
    person: str = ""
    state: str = "queued"
    done: int = 0
    total: int = 0
    what: str = ""
    events: list[Any] = field(default_factory=list)
    result: Any = None
    exception: Exception | None = None
    started: float = 0.0
    ended: float = 0.0
    before: Any = None
    """The kitchen that it was asked for with, where others make that kitchen's scores since."""
    again: Callable[[Any], Callable[["Job"], Any]] | None = None
    """Its work on another opening of the kitchen, where it may be begun anew with that."""
    _cancelled: threading.Event = field(default_factory=threading.Event)
    _anew: threading.Event = field(default_factory=threading.Event)
    _urgent_waits: Callable[[int], bool] = lambda _priority: False

    @property
    def is_active(self) -> bool:
        return self.state in ("queued", "running")

    @property
    def error(self) -> str:
        """Why it failed: a user's mistake in the core's own words, a bug by its name."""
        if self.exception is None:
            return ""
        if isinstance(self.exception, (SoupError, OSError)):
            return redacted(str(self.exception))
        name, reason = type(self.exception).__name__, redacted(str(self.exception))
        return f"{name}: {reason} (a bug in soupviz; the log has the details)"

    @property
    def fraction(self) -> float:
        return min(1.0, self.done / self.total) if self.total else 0.0

    def remaining(self) -> float | None:
        """Seconds to go, by the pace so far; None while too little is known."""
        elapsed = time.monotonic() - self.started
        if self.state != "running" or self.fraction < 0.02 or elapsed < 1.0:
            return None
        return elapsed * (1.0 - self.fraction) / self.fraction

    def let_go(self) -> None:
        """After the end: what the work, and the frames in which it failed, held (a kitchen) is held no longer."""
        self.work, self.again, self.before = _ended, None, None
        error: BaseException | None = self.exception
        while error is not None:
            error.__traceback__ = None
            error = error.__cause__ or error.__context__

    def progress(self, done: int, total: int, what: str) -> None:
        """The core's progress callback; here the job is cancelled, or makes way for a more urgent one."""
        self.done, self.total, self.what = done, total, what
        if self._cancelled.is_set():
            raise Cancelled
        if self._anew.is_set() or self._urgent_waits(self.priority):
            raise _Preempted


def _ended(_job: Job) -> None:
    """What there is left to do of a job that ended."""


class Jobs:
    """The queue and its one worker thread, which makes no Streamlit call."""

    def __init__(self, who: Callable[[], str] = lambda: "") -> None:
        """`who` says who asks, in the thread that does."""
        self._who = who
        self._lock = threading.Condition()
        self._queue: list[tuple[int, int, Job]] = []
        self._all: list[Job] = []
        self._numbers = itertools.count(1)
        threading.Thread(target=self._run, name="soupviz-jobs", daemon=True).start()

    def submit(
        self,
        key: str,
        title: str,
        work: Callable[[Job], Any],
        *,
        kitchen: str = "",
        priority: int = NORMAL,
        again: Callable[[Any], Callable[[Job], Any]] | None = None,
    ) -> Job:
        """Queue work under a key; while a job of that key is active, asking again gives that job."""
        with self._lock:
            current = self.find(key)
            if current is not None and current.is_active:
                return current
            number = next(self._numbers)
            job = Job(key, title, kitchen, priority, work, number, self._who(), again=again, _urgent_waits=self._waits)
            ended = [job for job in self._all if not job.is_active][:-FINISHED_KEPT]
            self._all = [*(job for job in self._all if job not in ended), job]
            heapq.heappush(self._queue, (priority, number, job))
            self._lock.notify()
            return job

    def find(self, key: str) -> Job | None:
        """The newest job of that key."""
        return next((job for job in reversed(self._all) if job.key == key), None)

    def active(self) -> list[Job]:
        """What runs, then what waits, in the order in which it will run."""
        return sorted((j for j in self._all if j.is_active), key=lambda j: (j.state != "running", j.priority, j.number))

    def cancel(self, job: Job) -> None:
        """Stop a job within a batch, or take it out of the queue; what it measured is kept."""
        with self._lock:
            job._cancelled.set()
            if job.state == "queued":
                job.state = "cancelled"
                job.let_go()

    def begin_anew(self, job: Job, kitchen: Any) -> None:
        """Do a job's work on another opening of its kitchen, at once if it runs already; it stays the same job."""
        with self._lock:
            if job.is_active and job.again is not None:
                job.work = job.again(kitchen)
                if job.state == "running":
                    job._anew.set()

    def forget(self, which: Callable[[Job], bool]) -> None:
        """Let go of jobs that ended, so that pages no longer tell of them."""
        with self._lock:
            self._all = [job for job in self._all if job.is_active or not which(job)]

    def _waits(self, priority: int) -> bool:
        return any(waiting < priority and job.state == "queued" for waiting, _, job in list(self._queue))

    def _run(self) -> None:
        import torch

        # The page's thread keeps a core: with all of them in torch's hands the browser would wait.
        torch.set_num_threads(max(1, (os.cpu_count() or 2) - 1))
        while True:
            self._do(self._next())  # no name of it is kept here: what ended and was forgotten is let go

    def _next(self) -> Job:
        """Wait for the most urgent job, which runs from here on."""
        with self._lock:
            while True:
                while not self._queue:
                    self._lock.wait()
                job = heapq.heappop(self._queue)[2]
                if job.state == "queued":
                    job.state, job.started = "running", time.monotonic()
                    return job

    def _do(self, job: Job) -> None:
        starter.set(job.person)
        try:
            job.result = job.work(job)
            job.state = "finished"
        except _Preempted:
            with self._lock:
                job.state = "queued"
                job._anew.clear()
                job.events.clear()
                heapq.heappush(self._queue, (job.priority, job.number, job))
        except Cancelled:
            job.state = "cancelled"
        except (SoupError, OSError) as error:
            job.exception, job.state = error, "failed"
        except Exception as error:  # a bug: its traceback goes to the log, the page says what happened
            logger.error("job %s failed\n%s", job.title, redacted(traceback.format_exc()))
            job.exception, job.state = error, "failed"
        job.ended = time.monotonic()
        if not job.is_active:
            job.let_go()
