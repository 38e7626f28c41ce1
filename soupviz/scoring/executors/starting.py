"""From a kitchen's words to workers: how many, on which devices, and what starts them."""

import os
from collections.abc import Mapping

import torch

from soupviz.errors import ExecutorError
from soupviz.mixing.named import NamedWeights
from soupviz.scoring.evaluator import Evaluator
from soupviz.scoring.executors.crew import Crew
from soupviz.scoring.executors.launching import Tell
from soupviz.scoring.executors.messages import Workers
from soupviz.scoring.executors.processes import Processes
from soupviz.scoring.executors.ray_cluster import RayActors
from soupviz.scoring.executors.reopening import Reopening
from soupviz.spec import KitchenSpec

CORES = 2
"""Of the CPU for each worker, where it is not said how many there are."""


def workers_of(spec: KitchenSpec) -> tuple[object, ...]:
    """All that a kitchen says of who evaluates."""
    return spec.executor, spec.workers, spec.ray_address, spec.ray_weights


def check_meant(spec: KitchenSpec, given: Mapping[str, object]) -> None:
    """Refuse what was asked for of workers where there are none of these.

    Args:
        given: by its name in kitchen.yaml; None: not asked for.
    """
    of = {"workers": ("processes", "ray"), "ray_address": ("ray",), "ray_weights": ("ray",)}
    for name, executors in of.items():
        # One worker is what one process is.
        if given.get(name) not in (None, 1) and spec.executor not in executors:
            raise ExecutorError(
                f"{name} is {given[name]}, and executor is {spec.executor}, which has none; take executor: "
                f"{' or '.join(executors)}, or leave {name} out."
            )


def num_workers(spec: KitchenSpec, device: torch.device) -> int:
    """How many workers a kitchen has."""
    if spec.executor == "inline":
        return 1
    if spec.workers:
        return spec.workers
    return torch.cuda.device_count() if device.type == "cuda" else max(1, (os.cpu_count() or 1) // CORES)


def devices_of(spec: KitchenSpec, device: torch.device) -> list[str]:
    """The device of each worker: in turn where there are several, unless kitchen.yaml names one by its number."""
    count = num_workers(spec, device)
    if device.type != "cuda" or device.index is not None:
        return [str(device)] * count
    return [f"cuda:{worker % torch.cuda.device_count()}" for worker in range(count)]


def crew_of(spec: KitchenSpec, evaluator: Evaluator, opening: Reopening, weights: NamedWeights) -> Crew | None:
    """The workers that a kitchen asks for; None: this process evaluates.

    Args:
        evaluator: this process's. opening: with which a worker opens the kitchen. weights: the kitchen's.
    """
    if spec.executor == "inline":
        return None
    if spec.executor == "processes" and os.name != "posix":
        raise ExecutorError("executor is processes, which needs Linux or macOS; take ray, or inline.")
    devices = devices_of(spec, evaluator.device)
    threads = max(1, torch.get_num_threads() // len(devices))  # those that this process would compute with
    stored = weights if spec.ray_weights == "object_store" else None

    def start(tell: Tell) -> Workers:
        if spec.executor == "processes":
            return Processes(opening, devices, threads)
        return RayActors(opening, devices, threads, spec.ray_address, stored, tell)

    return Crew(spec.executor, len(devices), start, evaluator)
