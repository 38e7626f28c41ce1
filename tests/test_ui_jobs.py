"""Background jobs: their order, making way, being cancelled, and what is said when they fail."""

import logging
import threading
import time
from collections.abc import Callable

import pytest

from soupviz.errors import DataError
from soupviz.ui.jobs import AHEAD, NORMAL, URGENT, Job, Jobs

PATIENCE = 20.0


def until(condition: Callable[[], bool]) -> None:
    """Wait for the worker thread."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "the worker did not get there"
        time.sleep(0.005)


class Gate:
    """Work that reports progress until it is let go, like an evaluation does after each batch."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.open = threading.Event()
        self.times = 0

    def __call__(self, job: Job) -> str:
        self.times += 1
        self.entered.set()
        while not self.open.wait(0.005):
            job.progress(1, 4, "scoring")
        return "done"


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def queue() -> Jobs:
    return Jobs()


def hold(queue: Jobs, gate: Gate, priority: int = NORMAL) -> Job:
    """A job that runs until the gate opens."""
    job = queue.submit("held", "held", gate, priority=priority)
    assert gate.entered.wait(PATIENCE)
    return job


def test_a_finished_job_holds_its_result(queue: Jobs) -> None:
    job = queue.submit("a", "a", lambda _job: 41 + 1)
    until(lambda: not job.is_active)
    assert (job.state, job.result, job.error) == ("finished", 42, "")
    assert queue.active() == []


def test_the_most_urgent_runs_first_and_equals_in_the_order_they_came(queue: Jobs, gate: Gate) -> None:
    hold(queue, gate)
    ran: list[str] = []
    for key, priority in [("ahead", AHEAD), ("second", NORMAL), ("third", NORMAL), ("first", NORMAL - 1)]:
        queue.submit(key, key, lambda job: ran.append(job.key), priority=priority)
    assert [job.key for job in queue.active()] == ["held", "first", "second", "third", "ahead"]
    gate.open.set()
    until(lambda: not queue.active())
    assert ran == ["first", "second", "third", "ahead"]


@pytest.mark.parametrize("urgent", [URGENT, NORMAL])
def test_a_job_computed_ahead_makes_way_and_then_runs_again_from_the_start(
    queue: Jobs, gate: Gate, urgent: int
) -> None:
    ahead = hold(queue, gate, AHEAD)
    ahead.events.append("what the first try drew")
    asked = queue.submit("asked", "asked", lambda _job: "now", priority=urgent)
    until(lambda: not asked.is_active)
    assert asked.result == "now"
    until(lambda: gate.times == 2)
    assert ahead.state == "running"
    assert ahead.events == []
    gate.open.set()
    until(lambda: not ahead.is_active)
    assert (ahead.state, ahead.result) == ("finished", "done")


def test_a_job_does_not_make_way_for_one_that_is_no_more_urgent(queue: Jobs, gate: Gate) -> None:
    held = hold(queue, gate)
    for key, priority in [("equal", NORMAL), ("ahead", AHEAD)]:
        queue.submit(key, key, lambda _job: None, priority=priority)
    time.sleep(0.05)
    assert held.state == "running"
    gate.open.set()
    until(lambda: not queue.active())
    assert gate.times == 1


def test_a_job_does_not_make_way_for_one_that_was_cancelled(queue: Jobs, gate: Gate) -> None:
    def once(job: Job) -> None:
        gate.entered.set()
        gate.open.wait(PATIENCE)
        job.progress(1, 2, "the only look at the queue")

    job = queue.submit("ahead", "ahead", once, priority=AHEAD)
    assert gate.entered.wait(PATIENCE)
    urgent = queue.submit("urgent", "urgent", lambda _job: None, priority=URGENT)
    queue.cancel(urgent)
    gate.open.set()
    until(lambda: not queue.active())
    assert (job.state, urgent.state) == ("finished", "cancelled")


def test_cancelling_a_running_job_stops_it_at_its_next_report(queue: Jobs, gate: Gate) -> None:
    job = hold(queue, gate)
    queue.cancel(job)
    until(lambda: not job.is_active)
    assert (job.state, job.result, job.error) == ("cancelled", None, "")


def test_a_cancelled_job_in_the_queue_never_runs(queue: Jobs, gate: Gate) -> None:
    hold(queue, gate)
    ran: list[str] = []
    waiting = queue.submit("waiting", "waiting", lambda job: ran.append(job.key))
    last = queue.submit("last", "last", lambda job: ran.append(job.key))
    queue.cancel(waiting)
    assert waiting.state == "cancelled"
    gate.open.set()
    until(lambda: not last.is_active)
    assert ran == ["last"]


def test_a_job_cancelled_when_it_made_way_does_not_come_back(queue: Jobs, gate: Gate) -> None:
    ahead = hold(queue, gate, AHEAD)
    second = Gate()
    queue.submit("urgent", "urgent", second, priority=URGENT)
    assert second.entered.wait(PATIENCE)
    assert ahead.state == "queued"
    queue.cancel(ahead)
    second.open.set()
    until(lambda: not queue.active())
    assert (ahead.state, gate.times) == ("cancelled", 1)


@pytest.mark.parametrize(
    "error", [DataError("data.test: a.jpg cannot be decoded; mend it."), OSError(28, "No space left on device")]
)
def test_a_users_mistake_is_shown_verbatim(queue: Jobs, error: Exception) -> None:
    def work(_job: Job) -> None:
        raise error

    job = queue.submit("a", "a", work)
    until(lambda: not job.is_active)
    assert (job.state, job.error) == ("failed", str(error))


def test_a_bug_is_named_and_its_traceback_logged_and_the_worker_goes_on(
    queue: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    def work(_job: Job) -> None:
        raise KeyError("surprise")

    with caplog.at_level(logging.ERROR, "soupviz.ui.jobs"):
        job = queue.submit("a", "A title", work)
        until(lambda: not job.is_active)
    assert job.state == "failed"
    assert job.error.startswith("KeyError: 'surprise' (a bug in soupviz")
    [record] = caplog.records
    assert "A title" in record.message
    assert "Traceback" in record.message
    after = queue.submit("b", "b", lambda _job: "still here")
    until(lambda: not after.is_active)
    assert after.result == "still here"


def test_asking_again_for_an_active_job_gives_that_job(queue: Jobs, gate: Gate) -> None:
    held = hold(queue, gate)
    waiting = queue.submit("same", "same", lambda _job: 1)
    assert queue.submit("same", "same", lambda _job: 2) is waiting
    assert queue.submit("held", "held", gate) is held
    gate.open.set()
    until(lambda: not queue.active())
    assert (waiting.result, gate.times) == (1, 1)


@pytest.mark.parametrize("end", ["finished", "cancelled"])
def test_asking_again_after_the_end_runs_anew(queue: Jobs, gate: Gate, end: str) -> None:
    first = hold(queue, gate)
    if end == "cancelled":
        queue.cancel(first)
    gate.open.set()
    until(lambda: not first.is_active)
    again = queue.submit("held", "held", gate)
    assert again is not first
    assert queue.find("held") is again
    until(lambda: not again.is_active)
    assert again.state == "finished"


def test_find_of_a_key_never_queued_is_none(queue: Jobs) -> None:
    assert queue.find("never") is None


def test_fraction_and_remaining_follow_the_reported_progress() -> None:
    job = Job("a", "a", "", NORMAL, lambda _job: None, 1)
    assert (job.fraction, job.remaining()) == (0.0, None)
    job.state, job.started = "running", time.monotonic() - 10.0
    job.progress(1, 4, "scoring")
    assert job.fraction == 0.25
    assert job.remaining() == pytest.approx(30.0, rel=0.05)
    job.progress(9, 4, "scoring")
    assert job.fraction == 1.0


def test_finished_jobs_are_not_kept_for_ever(queue: Jobs) -> None:
    for number in range(120):
        job = queue.submit(f"job {number}", "", lambda _job: None)
        until(lambda job=job: not job.is_active)  # type: ignore[misc]
    assert queue.find("job 0") is None
    assert queue.find("job 119") is not None


def test_forgetting_lets_go_of_what_ended_and_never_of_what_runs(queue: Jobs, gate: Gate) -> None:
    ended = queue.submit("ended", "", lambda _job: None)
    until(lambda: not ended.is_active)
    held = hold(queue, gate)
    queue.forget(lambda _job: True)
    assert queue.find("ended") is None
    assert queue.find("held") is held
    gate.open.set()
