"""Workers as actors of a Ray cluster: one that runs, or one of this machine that ends with the process."""

import atexit
import logging
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import replace
from typing import Any

from soupviz.errors import ExecutorError, told
from soupviz.extras import needed
from soupviz.mixing.named import NamedWeights
from soupviz.scoring.executors.lasting import Lasting
from soupviz.scoring.executors.launching import Tell
from soupviz.scoring.executors.messages import Answered, Block, Died, Failed, Ready
from soupviz.scoring.executors.object_store import FILES, Held, Shelf, Stock, own_size
from soupviz.scoring.executors.reopening import Reopening
from soupviz.scoring.executors.worker import Worker, told_of

ELSEWHERE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Ray's ports execute code, so that a cluster that is started here answers to this machine alone. Ray takes an address
of loopback for a mistake, unless this says that there are no other machines, as it does by itself on some systems."""

ENDS_IN = 2.0
"""Seconds in which actors tidy up, before they are ended."""

_keeper = Lasting("soupviz-ray")
"""Joins and leaves, one after the other, as of one process there is one connection. Ray's processes end with the thread
that started them."""

EXIT_IN = 10.0
"""Seconds that the program waits, as it ends, for a start that is given up: Ray hangs if it ends within one."""

_users: list[bool] = []
"""For each that has actors there, whether the cluster was started here, or else only connected to."""


class Actor:
    """What runs in the cluster. stock: where the weights are, unless they are in files."""

    def __init__(self, opening: Reopening, device: str, paths: Sequence[str], threads: int, stock: Stock | None):
        import torch

        sys.path += [path for path in paths if path not in sys.path]
        torch.set_num_threads(threads)
        self._opening, self._device, self._stock = opening, device, stock
        self._worker: Worker | None = None
        self._held: Held | None = None
        self._dropped: set[int] = set()

    def open(self) -> Ready | Failed:
        try:
            self._held = None if self._stock is None else Held(_ray(), self._stock)
            gathered = None if self._held is None else self._held.gathered
            worker = self._worker = Worker(self._opening(self._device, gathered))
        except Exception as error:
            return Failed(told_of(error))
        return Ready(worker.place)

    def answer(self, block: Block, others: Mapping[str, Any]) -> Answered:
        """others: references to weights that are no ingredients, by name."""
        assert self._worker is not None  # blocks are sent to those that are ready
        if self._held is not None and self._held.take(others):
            self._worker.hold(self._held.others)
        return self._worker.answer(block, lambda: block.number in self._dropped)

    def drop(self, numbers: Sequence[int]) -> None:
        self._dropped.update(numbers)

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()


class RayActors:
    """One actor for each worker: its methods are called in order, but for `drop` and `close`, which are heard at
    once."""

    def __init__(
        self,
        opening: Reopening,
        devices: Sequence[str],
        threads: int,
        address: str | None,
        weights: NamedWeights | None,
        tell: Tell,
    ):
        """Start them.

        Args:
            weights: that they get through the object store; None: they read files.
        Raises:
            SoupError: Ray is not installed. ExecutorError: there is no such cluster, or it has no room for them.
        """
        self._ray = _ray()
        self._devices = devices
        self._threads = threads
        self._actors: dict[int, Any] = {}
        self._waiting: dict[Any, int] = {}
        self._stock: Stock | None = None
        self._shelf = None if weights is None else Shelf(weights)
        needed, spare = (0, 0) if self._shelf is None else (self._shelf.needed(), self._shelf.spare(len(devices)))
        self._is_own = False
        self._end: Callable[[], Future[None] | None] = lambda: None
        _keeper.submit(lambda: self._begin(opening, address, needed, spare, tell)).result()

    def _begin(self, opening: Reopening, address: str | None, needed: int, spare: int, tell: Tell) -> None:
        tell("joining the cluster" if address else "starting a cluster")
        self._is_own = _connect(self._ray, address, needed, spare)
        self._end = weakref.finalize(self, _leave, self._ray, self._actors)
        try:
            tell("starting workers")  # or nobody waits for them any more
            self._share(opening, tell)
        except BaseException:
            self._end()
            raise

    def _share(self, opening: Reopening, tell: Tell) -> None:
        _check_room(self._ray, self._devices, is_own=self._is_own)
        with _told_of(self._ray):
            if self._shelf is not None:
                self._stock = self._shelf.stock(self._ray, tell, is_own=self._is_own)
            self._opening = self._ray.put(opening)
        for worker in range(len(self._devices)):
            self.restart(worker)

    def end(self, worker: int) -> None:
        self._waiting = {reference: other for reference, other in self._waiting.items() if other != worker}
        if worker in self._actors:
            _end(self._ray, [self._actors.pop(worker)])

    def restart(self, worker: int) -> None:
        self.end(worker)
        gpus = {"num_gpus": 1} if self._devices[worker].startswith("cuda") else {}
        # Ray shows a worker the GPUs that it gave it, the first of which is cuda:0.
        device = "cuda:0" if gpus else self._devices[worker]
        # A cluster that was started here is there for workers alone, however many kitchens have some.
        options = {"num_cpus": 0 if self._is_own else 1, "max_restarts": 0, "concurrency_groups": {"control": 1}}
        actor = self._ray.remote(**options, **gpus)(Actor)
        paths = [path for path in sys.path if path]
        self._actors[worker] = actor.remote(self._opening, device, paths, self._threads, self._stock)
        self._waiting[self._actors[worker].open.remote()] = worker

    def send(self, worker: int, block: Block) -> None:
        others: dict[str, Any] = {}
        if self._shelf is not None:
            with _told_of(self._ray):
                others = self._shelf.beside(self._ray, block.mix, is_own=self._is_own)
            block = replace(block, mix=replace(block.mix, files={}))
        self._waiting[self._actors[worker].answer.remote(block, others)] = worker

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
        self._shelf = self._stock = None  # of what nobody refers to Ray lets go
        if left := self._end():
            left.result()


def _leave(ray: Any, actors: dict[int, Any]) -> "Future[None]":
    return _keeper.submit(lambda: _close(ray, actors))


def _close(ray: Any, actors: dict[int, Any]) -> None:
    """End actors; with the last of them the cluster, if it was started here, or the connection."""
    if ray.is_initialized():
        _end(ray, list(actors.values()))
    if _users:
        _users.pop()
        if not _users:
            ray.shutdown()
            if os.environ.pop(ELSEWHERE, ""):
                ray._private.ray_constants.ENABLE_RAY_CLUSTER = True


def _end(ray: Any, actors: Sequence[Any]) -> None:
    """End some actors, once they have tidied up."""
    closing = [actor.close.options(concurrency_group="control").remote() for actor in actors]
    if closing:
        ray.wait(closing, num_returns=len(closing), timeout=ENDS_IN)
    for actor in actors:
        ray.kill(actor)


@contextmanager
def _told_of(ray: Any) -> Iterator[None]:
    """What Ray raises while weights are put into its store, in a sentence."""
    try:
        yield
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise ExecutorError(f"ray: weights could not be put into the object store: {told(error)}. {FILES}.") from error


def _ray() -> Any:
    with needed("executor ray"):
        import ray
    atexit.unregister(_finish)
    atexit.register(_finish)  # last, so that it comes before Ray's own
    return ray


def _finish() -> None:
    """As the program ends: what Ray has to say by then, of workers that died, is no answer of the program."""
    import ray

    with redirect_stdout(sys.stderr):
        with suppress(TimeoutError):
            _keeper.submit(lambda: None).result(EXIT_IN)
        if _users:
            ray.shutdown()


def _connect(ray: Any, address: str | None, needed: int, spare: int) -> bool:
    """Join a cluster, or start one; whether it was started here. What others connected to stays connected.

    Args:
        needed: bytes of weights that its object store has to hold. spare: that are good to have beside them.
    """
    if ray.is_initialized():
        _users.extend(_users[-1:])
        return bool(_users and _users[-1])
    address = address or os.environ.get("RAY_ADDRESS")
    quiet = {"log_to_driver": False, "configure_logging": False}
    size = 0 if address else own_size(needed, spare)
    logger = logging.getLogger("ray._private.worker")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns that it handles no signals, as this is not the main thread
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            os.environ[ELSEWHERE] = "0"  # for the programs that it starts
            ray._private.ray_constants.ENABLE_RAY_CLUSTER = False
            ray.init(include_dashboard=False, object_store_memory=size, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        where = f"the Ray cluster at {address}" if address else "a Ray cluster on this machine"
        raise ExecutorError(
            f"{where} cannot be reached: {told(error)}. Name a running one with --ray-address."
        ) from error
    finally:
        logger.setLevel(level)
    _users.append(not address)
    return not address


def _check_room(ray: Any, devices: Sequence[str], *, is_own: bool) -> None:
    """Refuse workers for which the cluster has no place: Ray would let them wait, and say nothing."""
    there = ray.cluster_resources()
    wanted = {"GPU": sum(device.startswith("cuda") for device in devices), "CPU": 0 if is_own else len(devices)}
    for kind, number in wanted.items():
        if number > (has := int(there.get(kind, 0))):
            raise ExecutorError(
                f"ray: {number} workers need {number} {kind}s, and the cluster has {has}; take --workers "
                f"{max(1, has)}, or a larger cluster."
            )
