"""Calls to file systems elsewhere: several at a time, tried again where a connection is cut, ended within a second."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Literal, TypeVar

from soupviz.errors import Cancelled
from soupviz.remote.systems import is_passing, refusal

AT_ONCE = 8
ATTEMPTS = 6
FIRST_PAUSE = 0.1
"""Seconds before the second attempt; each further pause is twice as long."""

LOOK_EVERY = 0.2
"""Seconds between two looks at whether the user wants to stop."""

T = TypeVar("T")
R = TypeVar("R")


class Calls:
    """A few threads that call, while the caller's own thread reports progress and may stop all of them.

    Args:
        alive: called about five times a second; what it raises ends the calls. to: what is done there.
    """

    def __init__(self, alive: Callable[[], Any] = lambda: None, *, to: Literal["read", "write"] = "read"):
        self._alive = alive
        self._to: Literal["read", "write"] = to
        self._stopped = threading.Event()
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = 0

    def __enter__(self) -> "Calls":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        for _ in range(self._threads):
            self._waiting.put(None)

    def pause(self, attempt: int) -> None:
        """Wait before another attempt; whoever stops is not waited for."""
        self._stopped.wait(FIRST_PAUSE * 2**attempt)

    def one(self, address: str, call: Callable[[], R], attempts: int = ATTEMPTS) -> R:
        """One call's result."""
        return self._result(self._submitted(address, call, attempts))

    def each(self, items: Iterable[T], address: Callable[[T], str], call: Callable[[T], R]) -> Iterator[tuple[T, R]]:
        """Every item with what its call gives, in order; no more are under way than there are threads."""
        waiting: deque[tuple[T, Future[R]]] = deque()
        for item in items:
            waiting.append((item, self._submitted(address(item), partial(call, item))))
            if len(waiting) >= AT_ONCE:
                done, future = waiting.popleft()
                yield done, self._result(future)
        while waiting:
            done, future = waiting.popleft()
            yield done, self._result(future)

    def _submitted(self, address: str, call: Callable[[], R], attempts: int = ATTEMPTS) -> "Future[R]":
        """A call under way. A pool of the library would have the program wait for one that hangs before it ends."""
        future: Future[R] = Future()

        def work() -> None:
            try:
                future.set_result(self._tried(address, call, attempts))
            except BaseException as error:
                future.set_exception(error)

        self._waiting.put(work)
        if self._threads < AT_ONCE:
            self._threads += 1
            threading.Thread(target=self._run, name="soupviz-remote", daemon=True).start()
        return future

    def _run(self) -> None:
        while (work := self._waiting.get()) is not None:
            work()

    def _result(self, future: "Future[R]") -> R:
        while True:
            self._alive()
            try:
                return future.result(LOOK_EVERY)
            except NotYet:
                if future.done():  # it may have come just now, or be what the call itself raised
                    return future.result()

    def _tried(self, address: str, call: Callable[[], R], attempts: int) -> R:
        for attempt in range(attempts):
            if self._stopped.is_set():
                raise Cancelled
            try:
                return call()
            except Exception as error:  # each file system raises its own
                if attempt == attempts - 1 or not is_passing(error):
                    raise refusal(address, error, self._to) from error
            self.pause(attempt)
        raise AssertionError("the last attempt returns or raises")
