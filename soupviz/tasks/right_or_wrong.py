"""Tasks whose answer for a unit is one of several, and right or wrong."""

import numpy as np
from numpy.typing import NDArray

from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.task import Task


class RightOrWrong(Task):
    """Of each unit `right`, the `prediction` among the choices, and by which `margin` it leads."""

    gains = ("fixed", "broken")
    verbs = ("fixes", "breaks")

    def better(self, new: Outcomes, old: Outcomes) -> tuple[int, int]:
        """Units that only the new model has right, and that only the old one has."""
        right, was_right = new["right"], old["right"]
        return int((right & ~was_right).sum()), int((~right & was_right).sum())

    def only(self, model: str) -> str:
        return f"{self.unit}s that only {model} has right"

    def wrong(self, outcomes: Outcomes) -> NDArray[np.bool_] | None:
        found: NDArray[np.bool_] = ~outcomes["right"]
        return found

    def choices(self, outcomes: Outcomes) -> NDArray[np.int64] | None:
        found: NDArray[np.int64] = outcomes["prediction"].astype(np.int64)[:, None]
        return found

    def hardness(self, outcomes: Outcomes) -> NDArray[np.float64]:
        """What is wrong by the largest margin, before what is right by the least."""
        margins = outcomes["margin"].astype(np.float64)
        return np.where(outcomes["right"], -margins, margins)
