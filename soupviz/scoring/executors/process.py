"""python -m soupviz.scoring.executors.process PIPE DEVICE: a worker, which the driver starts."""

import os
import pickle
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection

from soupviz.scoring.executors.messages import Block, Ready
from soupviz.scoring.executors.worker import Worker, failed


def main() -> None:
    """Open the kitchen that the driver names, and answer its blocks until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the driver, with which this ends
    pipe = Connection(int(sys.argv[1]))
    try:
        worker = Worker(pickle.loads(pipe.recv_bytes())(sys.argv[2]))
    except Exception as error:
        pipe.send(failed(None, error))
        return
    blocks: queue.SimpleQueue[Block] = queue.SimpleQueue()
    dropped: set[int] = set()

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
            worker.close()
            os._exit(0)  # the driver has ended: nobody waits for what is computed

    pipe.send(Ready(worker.place))
    threading.Thread(target=listen, daemon=True).start()
    while True:
        block = blocks.get()
        answered = worker.answer(block, lambda number=block.number: number in dropped)  # type: ignore[misc]
        dropped.discard(block.number)
        try:
            pipe.send(answered)
        except OSError:
            return


if __name__ == "__main__":
    main()
