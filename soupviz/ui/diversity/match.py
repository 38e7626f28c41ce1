"""Two models that are held against each other on one split."""

from collections.abc import Sequence
from dataclasses import dataclass

from soupviz.data.split import Split
from soupviz.spec import HELD_OUT
from soupviz.store.runs import Run
from soupviz.tasks.score import Score
from soupviz.types import Coefficients


@dataclass(frozen=True, slots=True)
class Model:
    """What can be looked at: an ingredient, the base, a soup, or an ensemble. run: of a soup that was cooked."""

    name: str
    kind: str
    mix: Coefficients
    aggregation: str = "average"
    run: Run | None = None

    @property
    def selected_on(self) -> list[str]:
        """The splits that chose it."""
        return list((self.run.result or {}).get("selected_on", [HELD_OUT])) if self.run else []


@dataclass(frozen=True, slots=True)
class Match:
    """A soup and a rival on the same examples."""

    split: Split
    classes: Sequence[str]
    soup: Model
    rival: Model
    new: Score
    old: Score
