"""Workers as actors of a Ray cluster: one that runs, or one of this machine that ends with the process."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from soupviz.errors import ExecutorError, SoupError, told
from soupviz.scoring.executors.messages import Answered, Block, Died, Failed, Ready
from soupviz.scoring.executors.worker import Opening, Worker, failed

ELSEWHERE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's ports execute code, so that a cluster that is started here answers to this machine alone. Ray takes an address
of loopback for a mistake, unless this says that there are no other machines, as it does by itself on some systems."""

OBJECT_STORE_BYTES = 2**28
"""For outcomes on their way; containers often have little shared memory."""


class Actor:
    """What runs in the cluster."""

    def __init__(self, opening: Opening, device: str, paths: Sequence[str], threads: int):
        import torch

        sys.path += [path for path in paths if path not in sys.path]
        torch.set_num_threads(threads)
        self._opening, self._device = opening, device
        self._worker: Worker | None = None
        self._dropped: set[int] = set()

    def open(self) -> Ready | Failed:
        try:
            self._worker = Worker(self._opening(self._device))
        except Exception as error:
            return failed(None, error)
        return Ready(self._worker.place)

    def answer(self, block: Block) -> Answered | Failed:
        assert self._worker is not None  # blocks are sent to those that are ready
        return self._worker.answer(block, lambda: block.number in self._dropped)

    def drop(self, numbers: Sequence[int]) -> None:
        self._dropped.update(numbers)

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()


class RayActors:
    """One actor for each worker. Its methods are called in order, but for `drop`, which is heard at once."""

    def __init__(self, opening: Opening, devices: Sequence[str], threads: int, address: str | None):
        self._ray = _ray()
        self._is_own = _connect(self._ray, len(devices), address)
        self._opening = self._ray.put(opening)
        self._devices = devices
        self._threads = threads
        self._actors: dict[int, Any] = {}
        self._waiting: dict[Any, int] = {}
        for worker in range(len(devices)):
            self.restart(worker)

    def restart(self, worker: int) -> None:
        self._waiting = {reference: other for reference, other in self._waiting.items() if other != worker}
        gpus = {"num_gpus": 1} if self._devices[worker].startswith("cuda") else {}
        # Ray shows a worker the GPUs that it gave it, the first of which is cuda:0.
        device = "cuda:0" if gpus else self._devices[worker]
        kind = self._ray.remote(num_cpus=1, max_restarts=0, concurrency_groups={"control": 1}, **gpus)(Actor)
        self._actors[worker] = kind.remote(self._opening, device, [path for path in sys.path if path], self._threads)
        self._waiting[self._actors[worker].open.remote()] = worker

    def send(self, worker: int, block: Block) -> None:
        self._waiting[self._actors[worker].answer.remote(block)] = worker

    def drop(self, worker: int, numbers: Sequence[int]) -> None:
        self._actors[worker].drop.options(concurrency_group="control").remote(list(numbers))

    def receive(self, timeout: float) -> list[tuple[int, Ready | Answered | Failed | Died]]:
        if not self._waiting:
            return []
        done, _ = self._ray.wait(list(self._waiting), num_returns=1, timeout=timeout)
        found: list[tuple[int, Ready | Answered | Failed | Died]] = []
        for reference in done:
            worker = self._waiting.pop(reference)
            try:
                found.append((worker, self._ray.get(reference)))
            except self._ray.exceptions.RayError as error:
                found.append((worker, Died(f"{told(error)}.")))
        return found

    def close(self) -> None:
        for actor in self._actors.values():
            actor.close.options(concurrency_group="control").remote()
            self._ray.kill(actor)
        if self._is_own:
            self._ray.shutdown()
            if os.environ.pop(ELSEWHERE, ""):
                self._ray._private.ray_constants.ENABLE_RAY_CLUSTER = True


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise SoupError("executor is ray, which is not installed: pip install ray, or take processes.") from None
    return ray


def _connect(ray: Any, num_workers: int, address: str | None) -> bool:
    """Join a cluster, or start one; whether it was started here."""
    if ray.is_initialized():
        return False
    address = address or os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "configure_logging": False}
    try:
        if address:
            ray.init(address=address, **quiet)
            return True
        os.environ[ELSEWHERE] = "0"  # for the programs that it starts
        ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
        ray.init(num_cpus=num_workers, include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"
        raise ExecutorError(
            f"{where} cannot be reached: {told(error)}. Name a running one with --ray-address."
        ) from error
    return True
