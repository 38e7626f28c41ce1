"""A thread that does one thing after the other, and lasts as long as the program, which does not wait for it."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class Lasting:
    """A pool of the library would have the program wait for what hangs before it ends."""

    def __init__(self, name: str):
        self._name = name
        self._waiting: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, call: Callable[[], T]) -> "Future[T]":
        """A call in its turn."""
        done: Future[T] = Future()
        self._waiting.put(lambda: settle(done, call))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        return done

    def _run(self) -> None:
        while True:
            self._waiting.get()()


def settle(done: "Future[T] | None", call: Callable[[], T]) -> None:
    """Make of a future what a call comes to."""
    assert done is not None
    try:
        done.set_result(call())
    except BaseException as error:
        done.set_exception(error)
    finally:
        done = None  # else the error would hold it by its traceback, and it the error
