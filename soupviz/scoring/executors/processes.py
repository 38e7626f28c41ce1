"""Workers as processes of this machine: one for each device, or several on the CPU."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

from soupviz.scoring.executors.messages import Answered, Block, Died, Failed, Ready
from soupviz.scoring.executors.worker import Opening

MODULE = "soupviz.scoring.executors.process"
"""What a worker runs. Started as a program of its own: nothing of this process's main module is run again in it."""

ENDS_IN = 2.0
"""Seconds in which workers end by themselves, before they are ended."""


class Processes:
    """Each has a pipe, and ends when it closes: as this process does, however that ends."""

    def __init__(self, opening: Opening, devices: Sequence[str], threads: int):
        """Start one worker for each device.

        Args:
            threads: that each may compute with on the CPU.
        """
        self._opening = pickle.dumps(opening)
        self._devices = devices
        self._threads = threads
        self._pipes: dict[int, Connection] = {}
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        # What they make of temporary files goes there, and with them, however they end.
        self._folder = tempfile.mkdtemp(prefix="soupviz-workers-")
        self._end = weakref.finalize(self, _end_all, self._pipes, self._processes, self._folder)
        try:
            for worker in range(len(devices)):
                self.restart(worker)
        except BaseException:
            self._end()
            raise

    def end(self, worker: int) -> None:
        if worker in self._pipes:
            _end({worker: self._pipes.pop(worker)}, {worker: self._processes.pop(worker)})

    def restart(self, worker: int) -> None:
        self.end(worker)
        ours, theirs = Pipe()
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, map(os.path.abspath, sys.path))),
            "OMP_NUM_THREADS": str(self._threads),
            "TMPDIR": self._folder,
        }
        self._processes[worker] = subprocess.Popen(
            [sys.executable, "-P", "-m", MODULE, str(theirs.fileno()), self._devices[worker]],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if _has_number(sys.stderr) else subprocess.DEVNULL,
            env=environment,
        )
        theirs.close()
        self._pipes[worker] = ours
        # It is read once the worker has loaded PyTorch: nobody waits for that.
        threading.Thread(target=_hand_over, args=(ours, self._opening), daemon=True).start()

    def send(self, worker: int, block: Block) -> None:
        self._write(worker, block)

    def drop(self, worker: int, numbers: Sequence[int]) -> None:
        self._write(worker, tuple(numbers))

    def _write(self, worker: int, message: object) -> None:
        with suppress(OSError):  # it died, which whoever receives next is told
            self._pipes[worker].send(message)

    def receive(self, timeout: float) -> list[tuple[int, Ready | Answered | Failed | Died]]:
        workers = {id(pipe): worker for worker, pipe in self._pipes.items()}
        found: list[tuple[int, Ready | Answered | Failed | Died]] = []
        for pipe in wait(list(self._pipes.values()), timeout):
            worker = workers[id(pipe)]
            try:
                found.append((worker, self._pipes[worker].recv()))
            except (EOFError, OSError):
                found.append((worker, Died(self._reason(worker))))
        return found

    def _reason(self, worker: int) -> str:
        status = self._processes[worker].wait()
        if status >= 0:
            return f"exit status {status}."
        known = -status in set(signal.Signals)
        name = signal.Signals(-status).name if known else f"signal {-status}"
        often = ", as the system does where memory runs out." if name == "SIGKILL" else "."
        return f"it was ended by {name}{often}"

    def close(self) -> None:
        self._end()


def _hand_over(pipe: Connection, opening: bytes) -> None:
    with suppress(OSError):  # it died, which whoever receives next is told
        pipe.send_bytes(opening)


def _has_number(stream: object) -> bool:
    try:
        return stream.fileno() >= 0  # type: ignore[attr-defined, no-any-return]
    except (AttributeError, OSError, ValueError):
        return False


def _end_all(pipes: dict[int, Connection], processes: dict[int, "subprocess.Popen[bytes]"], folder: str) -> None:
    _end(pipes, processes)
    shutil.rmtree(folder, ignore_errors=True)


def _end(pipes: Mapping[int, Connection], processes: Mapping[int, "subprocess.Popen[bytes]"]) -> None:
    for pipe in pipes.values():
        pipe.close()
    deadline = time.monotonic() + ENDS_IN
    for process in processes.values():
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
