"""How far a training is, in a file from which it goes on when it was stopped."""

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import nn

from soupviz.errors import ExportError
from soupviz.files import replacing

SAVE_SECONDS = 10.0
"""Within an epoch the state is written no more often than this, nor so often that writing takes a tenth of the time."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over train, numbered from 1: means over its examples, each as the student was when it saw them.

    accuracy: None where the task has no classes.
    """

    number: int
    loss: float
    hard_loss: float
    soft_loss: float
    accuracy: float | None
    seconds: float


@dataclass(slots=True)
class State:
    """How far a training is: steps done, sums over the examples of the epoch it is in, and the epochs before.

    sums: loss, hard loss, soft loss, correct answers.
    """

    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * 4)
    seconds: float = 0.0
    history: list[Epoch] = field(default_factory=list)


def save(file: Path, key: str, student: nn.Module, optimizer: torch.optim.Optimizer, state: State) -> float:
    """Write a checkpoint; the time from which the next may be written within an epoch."""
    started = time.monotonic()
    kept = {"key": key, "student": student.state_dict(), "optimizer": optimizer.state_dict(), "state": asdict(state)}
    try:
        with replacing(file) as temporary:
            torch.save(kept, temporary)
    except (OSError, RuntimeError) as error:  # torch raises the latter where the disk is full
        raise ExportError(f"{file}: cannot be written ({error}). Free some space.") from None
    return due_after(started)


def due_after(started: float) -> float:
    """When to write next within an epoch, after a writing that began at a time (`time.monotonic`)."""
    now = time.monotonic()
    return now + max(SAVE_SECONDS, 10 * (now - started))


def resumed(file: Path, key: str, student: nn.Module, optimizer: torch.optim.Optimizer) -> State:
    """The state in a checkpoint, its student and optimizer loaded; a blank one where none is of this training."""
    if not file.is_file():
        return State()
    try:
        kept = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file: torch.load raises bare RuntimeError, EOFError, KeyError, ...
        return State()
    if not isinstance(kept, dict) or kept.get("key") != key:
        return State()
    student.load_state_dict(kept["student"])
    optimizer.load_state_dict(kept["optimizer"])
    values = kept["state"]
    return State(**values | {"history": [Epoch(**epoch) for epoch in values["history"]]})
