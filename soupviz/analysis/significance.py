"""A score with its interval: what a verdict tells of one model on one split."""

from dataclasses import dataclass

from soupviz.kitchen import Kitchen
from soupviz.soups.comparing import intervals
from soupviz.soups.planning import summaries
from soupviz.tasks.figures import counts
from soupviz.types import Grouped, Wanted


@dataclass(frozen=True, slots=True)
class Measured:
    """Under the objective on a split, with its 95 % interval. selects: whether the split had a part in the choice.

    right: how many units are right, where the objective is their share. value, low, high: nan
    where it says nothing, or not how sure it is. grouped: by what units are resampled together.
    """

    split: str
    num_units: int
    value: float
    low: float
    high: float
    right: int | None
    selects: bool
    grouped: Grouped | None = None


def measured(kitchen: Kitchen, wanted: list[Wanted], selects: tuple[str, ...] = ()) -> dict[str, Measured]:
    """What is known of a model by split. selects: the splits that had a part in the choice."""
    scores = summaries(kitchen, wanted)
    around = intervals(kitchen, scores)
    found, nothing = {}, (float("nan"), float("nan"))
    for one, score in scores.items():
        value = score.shown(kitchen.objective.name)
        low, high = around.get(one, nothing)
        counted = counts(kitchen.objective, score)
        found[score.split] = Measured(
            split=score.split,
            num_units=score.num_units,
            value=float("nan") if value is None else value,
            low=low,
            high=high,
            right=counted[0] if counted else None,
            selects=score.split in selects,
            grouped=score.grouped,
        )
    return found
