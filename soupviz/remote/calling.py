"""Calls to file systems elsewhere: several at a time, tried again where a connection is cut, ended within a second."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from types import TracebackType
from typing import Any, TypeVar

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
        alive: called about five times a second; what it raises ends the calls.
    """

    def __init__(self, alive: Callable[[], Any] = lambda: None):
        self._alive = alive
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="soupviz-remote")

    def __enter__(self) -> "Calls":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        # A call that hangs is left to its own time limit: whoever cancelled does not wait for it.
        self._pool.shutdown(wait=kind is None, cancel_futures=True)

    def one(self, address: str, call: Callable[[], R]) -> R:
        """One call's result."""
        return self._result(self._pool.submit(self._tried, address, call))

    def each(self, items: Iterable[T], address: Callable[[T], str], call: Callable[[T], R]) -> Iterator[tuple[T, R]]:
        """Every item with what its call gives, in order; no more are under way than there are threads."""
        waiting: deque[tuple[T, Future[R]]] = deque()
        for item in items:
            waiting.append((item, self._pool.submit(self._tried, address(item), lambda item=item: call(item))))
            if len(waiting) >= AT_ONCE:
                done, future = waiting.popleft()
                yield done, self._result(future)
        while waiting:
            done, future = waiting.popleft()
            yield done, self._result(future)

    def _result(self, future: "Future[R]") -> R:
        while True:
            self._alive()
            try:
                return future.result(LOOK_EVERY)
            except NotYet:
                if future.done():
                    raise

    def _tried(self, address: str, call: Callable[[], R]) -> R:
        for attempt in range(ATTEMPTS):
            if self._stopped.is_set():
                raise Cancelled
            try:
                return call()
            except Exception as error:  # each file system raises its own
                if attempt == ATTEMPTS - 1 or not is_passing(error):
                    raise refusal(address, error) from error
            self._stopped.wait(FIRST_PAUSE * 2**attempt)
        raise AssertionError("the last attempt returns or raises")
