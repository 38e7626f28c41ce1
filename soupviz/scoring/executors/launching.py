"""Workers that are being started, while whoever asked for them is heard, who may want to cancel."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait

from soupviz.errors import Cancelled
from soupviz.scoring.executors.lasting import settle
from soupviz.scoring.executors.messages import Workers

Tell = Callable[[str], None]
"""Is told what is being done; raises Cancelled once nobody waits for it."""

Start = Callable[[Tell], Workers]
"""Gives workers; what it began has ended where it raises."""


class Launch:
    """One start, in a thread of its own: joining a cluster and handing weights over may take long."""

    def __init__(self, start: Start, tell: Tell):
        self._workers: Future[Workers] = Future()
        self._is_given_up = threading.Event()

        def told(what: str) -> None:
            if self._is_given_up.is_set():
                raise Cancelled
            tell(what)

        self._begin(start, told)

    def _begin(self, start: Start, tell: Tell) -> None:
        threading.Thread(target=settle, args=(self._workers, lambda: start(tell)), daemon=True).start()

    def wait(self, seconds: float) -> Workers | None:
        """The workers; None where they are not there after so long. What starting them ended in is raised."""
        done, _ = wait([self._workers], seconds)
        return self._workers.result() if done else None

    def give_up(self) -> None:
        """Nobody waits for them any more: they end once they are there."""
        self._is_given_up.set()
        self._workers.add_done_callback(lambda one: None if one.exception() else one.result().close())
