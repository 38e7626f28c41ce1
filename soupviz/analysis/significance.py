"""A score with its interval: what a verdict tells of one model on one split."""

from dataclasses import dataclass

from soupviz.kitchen import Kitchen
from soupviz.soups.comparing import intervals
from soupviz.soups.planning import Wanted, summaries
from soupviz.tasks.metric import is_share
from soupviz.tasks.paired import num_right
from soupviz.tasks.significance import bootstrap_interval as bootstrap_interval
from soupviz.types import Grouped


@dataclass(frozen=True, slots=True)
class Measured:
    """Under the objective on a split, with its 95 % interval. selects: whether the split had a part in the choice.

    right: how many units are right, where the objective is their share. value, low, high: nan where it says nothing.
    grouped: by what units were resampled together.
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
    found = {}
    for one, score in scores.items():
        value = score.shown(kitchen.objective.name)
        found[score.split] = Measured(
            split=score.split,
            num_units=score.num_units,
            value=float("nan") if value is None else value,
            low=around[one][0],
            high=around[one][1],
            right=num_right(kitchen.objective, score) if is_share(kitchen.objective) else None,
            selects=score.split in selects,
            grouped=score.grouped,
        )
    return found
