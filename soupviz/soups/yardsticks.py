"""The yardstick that is there uncooked: what all ingredients say together, at the cost of all their passes."""

from dataclasses import dataclass

from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.types import Coefficients


@dataclass(frozen=True, slots=True)
class EnsembleOfAll:
    """Its name, and what it is scored as."""

    name: str
    mix: Coefficients
    aggregation: str


def ensemble_of_all(kitchen: Kitchen) -> EnsembleOfAll | None:
    """The ensemble of the pool, all alike; None where there is but one, or where the task's answers have no mean."""
    outputs, number = kitchen.task.outputs, len(kitchen.pool)
    if number < 2 or not outputs:
        return None
    return EnsembleOfAll(f"ensemble of all {number}", mean_of(kitchen.pool), outputs[0])
