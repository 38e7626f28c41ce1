"""Recipes on the straight line between two sets of weights."""

from typing import Literal

from pydantic import Field

from soupviz.mixing import combine
from soupviz.recipes.judge import Judge
from soupviz.recipes.record import Recipe
from soupviz.records import Coefficients


class Interpolation(Recipe):
    """`(1 - alpha) * a + alpha * b` between two mixes. Source: Wortsman et al. 2022 (WiSE-FT), equation 1."""

    method: Literal["interpolation"] = "interpolation"
    a: str = Field(description="what the end at alpha 0 is called")
    b: str = Field(description="what the end at alpha 1 is called")
    mix_a: Coefficients = Field(description="the end at alpha 0")
    mix_b: Coefficients = Field(description="the end at alpha 1")
    alpha: float = Field(description="where on the path; outside [0, 1] extrapolates")

    @property
    def own_title(self) -> str:
        return f"{self.a} → {self.b} at {self.alpha:g}"

    def plan(self, judge: Judge) -> Coefficients:
        return combine(self.mix_a, self.mix_b, self.alpha)
