"""The plain types that the core passes around: mixes, progress, slices."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator

Progress = Callable[[int, int, str], None]
"""Called as (done, total, what is being done), at least once a batch; raises Cancelled to stop the work."""

FINENESS = 1000
"""Steps in which progress of a stage of size 1 is told."""

Coefficients = tuple[tuple[str, float], ...]
"""A mix by name: ingredients with their coefficients, in the order in which they are accumulated."""

Wanted = tuple[Coefficients, str, str]
"""A score that is asked for: a mix, a split and an aggregation."""

Alpha = Literal["mean"] | float
Order = Annotated[
    Literal["best", "listed", "random"], BeforeValidator(lambda value: "best" if value == "accuracy" else value)
]
"""In which candidates are tried; `accuracy` is what `best` was once called."""


def mix_from(values: Iterable[Sequence[Any]]) -> Coefficients:
    """A mix from plain data, as JSON keeps it."""
    return tuple((str(name), float(weight)) for name, weight in values)


def quiet(done: int, total: int, what: str) -> None:
    """The progress callback of a caller who wants none."""


def part_of(progress: Progress, index: int, count: int) -> Progress:
    """Progress of one of several equal parts, as progress of the whole."""
    return lambda done, total, what: progress(index * total + done, count * total, what)


def stages(progress: Progress, *sizes: int) -> list[Progress]:
    """Progress of stages that follow one another, as progress of the whole, which never goes back.

    Args:
        sizes: of the stages, beside each other. What one does not take of it is passed over when the next begins; a
            stage before which nothing was done has their room too.
    """
    whole, furthest = sum(sizes) or 1, 0.0

    def stage(before: int, size: int) -> Progress:
        start: int | None = None

        def told(done: int, total: int, what: str) -> None:
            nonlocal furthest, start
            if start is None:
                start = before if furthest else 0
            furthest = max(furthest, start + (before + size - start) * done / max(total, 1))
            progress(int(furthest * FINENESS), whole * FINENESS, what)

        return told

    return [stage(sum(sizes[:place]), size) for place, size in enumerate(sizes)]


@dataclass(frozen=True, eq=False)
class Slices:
    """A split divided into parts by which performance is looked at.

    column: what divides it. names: of the slices; each has an example. index: of each example's slice, int64, shape
    (num_examples,).
    """

    column: str
    names: tuple[str, ...]
    index: NDArray[np.int64]

    @cached_property
    def index_digest(self) -> str:
        """SHA-256 of which examples are together."""
        return hashlib.sha256(self.index.tobytes()).hexdigest()


@dataclass(frozen=True, slots=True)
class Grouped:
    """By what units are resampled together, and how many of these groups there are; 0: they were not read yet."""

    column: str
    number: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A file of the kitchen that cannot join a soup, and why.

    remedy: a sentence that ends with a command, which mends all files with this remedy.
    """

    name: str
    file: str
    reason: str
    remedy: str = ""


def refusals_in_words(refused: Sequence[Refusal]) -> list[str]:
    """Why files are refused; what one command mends is told once, with the command at the end, to be copied."""
    told = []
    for remedy in dict.fromkeys(one.remedy or one.name for one in refused):
        first, *others = [one for one in refused if (one.remedy or one.name) == remedy]
        more = f" {len(others)} more files need the same." if others else ""
        told.append(f"{first.reason}{more} {first.remedy}".rstrip())
    return told


ABOVE = {"plot": "notebooks.plotting", "html": "notebooks.showing"}
"""What draws a kitchen, a soup or a curve. A notebook asks these themselves for it; the room is above theirs, and no
code of theirs depends on it."""


def above(name: str) -> Any:
    """What shows a record in a notebook."""
    return getattr(import_module(f"soupviz.{ABOVE[name]}"), name)
