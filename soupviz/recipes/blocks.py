"""Recipes with a weight for every layer group."""

import math
from typing import Literal

from pydantic import Field, field_validator

from soupviz.errors import RecipeError
from soupviz.models.layers import Grouping
from soupviz.recipes.pool import ScoredPool
from soupviz.recipes.record import Recipe
from soupviz.types import Coefficients

FEW = 6
"""Weights that a title lists one by one."""


class Blocks(Recipe):
    """`(1 - alpha_g) * a + alpha_g * b` between two mixes, with an alpha for every layer group g; kept from Layers.

    A group's running statistics go with its weights. With one alpha for all it is the interpolation.
    """

    method: Literal["blocks"] = "blocks"
    services = frozenset({"blend"})
    a: str = Field(description="what the end at weight 0 is called")
    b: str = Field(description="what the end at weight 1 is called")
    mix_a: Coefficients = Field(description="the end at weight 0")
    mix_b: Coefficients = Field(description="the end at weight 1")
    weights: dict[str, float] = Field(description="of every layer group: where between a and b; else it extrapolates")
    by: Grouping = Field("block", description="how coarse the groups are: part, block or module")

    @field_validator("weights")
    @classmethod
    def _are_numbers(cls, value: dict[str, float]) -> dict[str, float]:
        for group, alpha in value.items():
            if not math.isfinite(alpha):
                raise RecipeError(f"blocks: the weight of {group!r} is {alpha}; expected a finite number.")
        return value

    @property
    def own_title(self) -> str:
        moved = {group: alpha for group, alpha in self.weights.items() if alpha}
        if len(moved) == 1:
            ((group, alpha),) = moved.items()
            return f"{self.a} with {group} from {self.b}" + (f" at {alpha:g}" if alpha != 1 else "")
        return f"{self.a} → {self.b} by {self.by}, {self._told}"

    @property
    def _told(self) -> str:
        alphas = list(self.weights.values())
        if len(alphas) <= FEW:
            return ", ".join(f"{alpha:g}" for alpha in alphas)
        return f"{min(alphas):g} to {max(alphas):g}, mean {math.fsum(alphas) / len(alphas):.3g}"

    @property
    def ends(self) -> tuple[Coefficients, ...]:
        return self.mix_a, self.mix_b

    def plan(self, pool: ScoredPool) -> Coefficients:
        return pool.services.blend(self.mix_a, self.mix_b, self.weights, self.by)
