"""What driver and workers say to each other: plain data, names and fingerprints; no weights and no examples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from soupviz.scoring.executors.bounds import ToBeat
from soupviz.tasks.outcomes import Column


@dataclass(frozen=True, slots=True)
class MixOf:
    """A mix by name.

    parts: names with fingerprints and coefficients. train: name and fingerprint of the split on which running
    statistics are re-estimated, where they are. formulas: what the names of made weights stand for, as JSON, by
    name, parts before what is made of them; those that a worker knows are left out. files: of weights that were
    trained, where they are kept.
    """

    parts: tuple[tuple[str, str, float], ...]
    aggregation: str
    train: tuple[str, str] | None = None
    formulas: Mapping[str, str] = field(default_factory=dict, compare=False)
    files: Mapping[str, Path] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class SplitOf:
    """A split by name and content; of a part of one, which examples.

    read: the name and the fingerprint of the split that a kitchen reads. rows: of that, positions; None: all, or the
    worker was told before. forgotten: the fingerprint of a split that the worker may let go.
    """

    fingerprint: str
    read: tuple[str, str]
    rows: NDArray[np.int64] | None = None
    forgotten: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Batches that a worker is to score: of each the positions of its units.

    candidate: another number each time that a mix is looked into. to_beat: what the units that the worker itself has
    seen prove to be no better is scored no further; None: all of the block is scored.
    """

    number: int
    candidate: int
    mix: MixOf
    split: SplitOf
    batches: Sequence[NDArray[np.int64]]
    keeps_answers: bool = False
    to_beat: ToBeat | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """What became of units that were scored together: a batch, or what memory sufficed for. answers: where wanted."""

    rows: NDArray[np.int64]
    columns: Mapping[str, Column]
    answers: NDArray[np.float32] | None


@dataclass(frozen=True, slots=True, eq=False)
class Answered:
    """What became of a block's units, batch by batch; of one that was dropped, or that cannot win any more, perhaps of
    its first batches only.

    seconds: that it took to compute. error: what the batch behind the last one ended in.
    """

    number: int
    batches: Sequence[Sequence[Part]]
    seconds: float
    error: Exception | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Failed:
    """Opening the kitchen ended in an error."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has opened the kitchen, and holds the weights and the model that were expected. place: where it runs."""

    place: str


@dataclass(frozen=True, slots=True)
class Died:
    """A worker ended unasked."""

    reason: str


class Workers(Protocol):
    """Processes that answer blocks, each in the order in which they were sent; they are known by number."""

    def send(self, worker: int, block: Block) -> None: ...

    def drop(self, worker: int, numbers: Sequence[int]) -> None:
        """Tell of blocks that nobody waits for any more: they are answered, but with what is there by then."""

    def receive(self, timeout: float) -> list[tuple[int, "Ready | Answered | Failed | Died"]]:
        """What came in, by worker; waits so many seconds for the first."""
        ...

    def restart(self, worker: int) -> None:
        """Start one anew that died, or was ended."""

    def end(self, worker: int) -> None:
        """End one, from which nothing more comes in."""

    def close(self) -> None: ...
