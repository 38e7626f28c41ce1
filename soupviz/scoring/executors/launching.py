"""Workers that are being started, while whoever asked for them is heard, who may want to cancel."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait

from soupviz.scoring.executors.messages import Workers

Tell = Callable[[str], None]
"""Is told what is being done."""

Start = Callable[[Tell], Workers]


class Launch:
    """One start, in a thread of its own: joining a cluster and handing weights over may take long."""

    def __init__(self, start: Start, tell: Tell):
        self._workers: Future[Workers] = Future()
        threading.Thread(target=self._run, args=(start, tell), daemon=True).start()

    def _run(self, start: Start, tell: Tell) -> None:
        try:
            self._workers.set_result(start(tell))
        except BaseException as error:
            self._workers.set_exception(error)

    def wait(self, seconds: float) -> Workers | None:
        """The workers; None where they are not there after so long. What starting them ended in is raised."""
        done, _ = wait([self._workers], seconds)
        return self._workers.result() if done else None

    def give_up(self) -> None:
        """Nobody waits for them any more: they end once they are there."""
        self._workers.add_done_callback(lambda one: None if one.exception() else one.result().close())
