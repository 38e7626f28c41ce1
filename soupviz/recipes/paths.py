"""Recipes on the straight line between two sets of weights, and in the plane through three."""

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from soupviz.mixing.averaging import combine, combined
from soupviz.recipes.pool import ScoredPool
from soupviz.recipes.record import Recipe
from soupviz.types import Coefficients


class Interpolation(Recipe):
    """A place on the straight line between two mixes, `(1 - alpha) * a + alpha * b`; kept from Alpha and Curves.

    Source: Wortsman et al. 2022 (WiSE-FT, arXiv 2109.01903), equation 1.
    """

    method: Literal["interpolation"] = "interpolation"
    a: str = Field(description="what the end at alpha 0 is called")
    b: str = Field(description="what the end at alpha 1 is called")
    mix_a: Coefficients = Field(description="the end at alpha 0")
    mix_b: Coefficients = Field(description="the end at alpha 1")
    alpha: float = Field(description="where on the path; outside [0, 1] extrapolates")

    @property
    def own_title(self) -> str:
        return f"{self.a} → {self.b} at {self.alpha:g}"

    @property
    def ends(self) -> tuple[Coefficients, ...]:
        return self.mix_a, self.mix_b

    @property
    def on_path(self) -> tuple[str, str, float] | None:
        return self.a, self.b, self.alpha

    def plan(self, pool: ScoredPool) -> Coefficients:
        return combine(self.mix_a, self.mix_b, self.alpha)


class Point(Recipe):
    """A place in the plane of three mixes, `(1 - beta - gamma) * a + beta * b + gamma * c`; kept from Plane.

    Source: Garipov et al. 2018 (arXiv 1802.10026), appendix A.1.
    """

    method: Literal["point"] = "point"
    a: str = Field(description="what the point at beta 0, gamma 0 is called")
    b: str = Field(description="what the point at beta 1, gamma 0 is called")
    c: str = Field(description="what the point at beta 0, gamma 1 is called")
    mix_a: Coefficients = Field(description="the first point")
    mix_b: Coefficients = Field(description="the second point")
    mix_c: Coefficients = Field(description="the third point")
    beta: float = Field(description="the weight of b; a has what is left to 1")
    gamma: float = Field(description="the weight of c")

    @property
    def own_title(self) -> str:
        shares = ((self.a, 1.0 - self.beta - self.gamma), (self.b, self.beta), (self.c, self.gamma))
        return " + ".join(f"{share:.3g} {name}" for name, share in shares if share).replace("+ -", "- ")

    @property
    def ends(self) -> tuple[Coefficients, ...]:
        return self.mix_a, self.mix_b, self.mix_c

    def plan(self, pool: ScoredPool) -> Coefficients:
        return in_plane(self.ends, self.beta, self.gamma)


def in_plane(corners: Sequence[Coefficients], beta: float, gamma: float) -> Coefficients:
    """Coefficients of `(1 - beta - gamma) * a + beta * b + gamma * c`, in float64; each corner as it is."""
    return combined(zip(corners, (1.0 - beta - gamma, beta, gamma), strict=True))
