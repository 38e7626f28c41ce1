"""python -m soupviz.scoring.executors.process PIPE DEVICE: a worker, which the driver starts."""

import os
import pickle
import queue
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import Connection

from soupviz.scoring.executors.messages import Block, Failed, Ready
from soupviz.scoring.executors.worker import Opening, Worker, told_of


def main() -> None:
    """Open the kitchen that the driver names, and answer its blocks until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the driver, with which this ends
    pipe = Connection(int(sys.argv[1]))
    opening: Opening = pickle.loads(pipe.recv_bytes())
    blocks: queue.SimpleQueue[Block] = queue.SimpleQueue()
    dropped: set[int] = set()
    opened: list[Worker] = []

    def listen() -> None:
        """Read what comes in while the model computes, so that the driver never waits to be heard."""
        try:
            while True:
                said = pipe.recv()
                if isinstance(said, Block):
                    blocks.put(said)
                else:
                    dropped.update(said)
        except (EOFError, OSError):
            for worker in opened:
                worker.close()
            os._exit(0)  # the driver has ended: nobody waits for what is computed

    threading.Thread(target=listen, daemon=True).start()
    with suppress(OSError):  # the driver has ended, as `listen` hears too
        try:
            worker = Worker(opening(sys.argv[2]))
        except Exception as error:
            pipe.send(Failed(told_of(error)))
            return
        opened.append(worker)
        pipe.send(Ready(worker.place))
        while True:
            block = blocks.get()
            answered = worker.answer(block, lambda number=block.number: number in dropped)  # type: ignore[misc]
            dropped.discard(block.number)
            pipe.send(answered)


if __name__ == "__main__":
    main()
