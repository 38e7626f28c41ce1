"""Merges by one of the field's formulas in which each ingredient has a weight of its own, as mergekit writes them."""

import math
from typing import Any, Literal

from pydantic import Field, model_validator

from soupviz.errors import RecipeError
from soupviz.mixing.formulas import Formula
from soupviz.recipes.pool import ScoredPool
from soupviz.recipes.record import Recipe
from soupviz.types import Coefficients

LINEAR = "linear"
Kind = Literal["linear", "task_arithmetic", "ties", "dare", "breadcrumbs", "model_stock", "slerp", "karcher"]
OWN: dict[str, tuple[str, ...]] = {
    "task_arithmetic": ("scale",), "ties": ("density", "scale"), "dare": ("density", "scale", "seed"),
    "breadcrumbs": ("density", "gamma", "scale"), "model_stock": (), "slerp": ("alpha",),
    "karcher": ("iterations", "tolerance"),
}  # fmt: skip
"""Which of the parameters a formula has."""

ON_BASE = frozenset({"task_arithmetic", "ties", "dare", "breadcrumbs", "model_stock"})
ALIKE = frozenset({"model_stock", "karcher"})
"""Formulas in which all ingredients count alike."""


class Merge(Recipe):
    """A formula over ingredients that each have a weight; read from a configuration of mergekit.

    `linear` is the weighted sum; the others are the recipes of these names, with weights. Weights are divided by their
    sum, which multiplies `scale` where they are not shares.

    Source: Goddard et al. 2024 (mergekit, arXiv 2403.13257).
    """

    method: Literal["merge"] = "merge"
    formula: Kind = Field(description="by which formula")
    parts: Coefficients = Field(description="names, each with its weight, in order")
    base: str = Field("", description="what differences are from, by name, where the formula has differences")
    density: float = Field(1.0, gt=0, le=1, description="the share of each difference that is kept")
    scale: float = Field(1.0, description="what the merged difference is multiplied by")
    gamma: float = Field(0.01, ge=0, lt=1, description="breadcrumbs: the share of the largest that is left out")
    seed: int = Field(0, ge=0, description="dare: of what is random")
    alpha: float = Field(0.5, ge=0, le=1, description="slerp: 0 is the first, 1 the second")
    iterations: int = Field(50, ge=1, description="karcher: steps at most")
    tolerance: float = Field(1e-6, gt=0, description="karcher: in radians, the step with which it ends")

    @model_validator(mode="after")
    def _is_whole(self) -> "Merge":
        names, weights = [name for name, _ in self.parts], [weight for _, weight in self.parts]
        if not names or len(set(names)) < len(names):
            raise RecipeError(f"merge: names {', '.join(names) or 'no model'}; expected each once, and at least one.")
        if not all(math.isfinite(weight) for weight in weights):
            raise RecipeError(f"merge: weights are {weights}; expected finite numbers.")
        if (self.formula in ON_BASE) != bool(self.base):
            expected = "a base" if self.formula in ON_BASE else "none"
            raise RecipeError(f"merge: {self.formula} has the base {self.base or 'none'!r}; expected {expected}.")
        if self.formula == "slerp" and len(names) != 2:
            raise RecipeError(f"merge: slerp is between two; got {len(names)}: {', '.join(names)}.")
        if self.formula == "ties" and min(weights) < 0:
            raise RecipeError(f"merge: ties has the weight {min(weights):g}; expected none below 0.")
        if self.formula in OWN and self.formula not in ALIKE and self.formula != "slerp" and not self._total:
            raise RecipeError(f"merge: the weights of {self.formula} sum to 0; expected another sum.")
        return self

    @property
    def _total(self) -> float:
        total = math.fsum(weight for _, weight in self.parts)
        return 1.0 if math.isclose(total, 1.0, rel_tol=1e-12) else total

    @property
    def own_title(self) -> str:
        told = [f"{name} {getattr(self, name):g}" for name in OWN.get(self.formula, ())]
        return ", ".join([f"merge by {self.formula} of {len(self.parts)}", *told])

    @property
    def ends(self) -> tuple[Coefficients, ...]:
        return (self.parts,)

    @property
    def needs(self) -> frozenset[str]:
        named = {self.base, *(name for name, _ in self.parts)}
        return super().needs | ({"base"} & named)

    def renamed(self, names: dict[str, str]) -> "Merge":
        """The same over ingredients that are called otherwise."""
        values = self.model_dump() | {"base": names.get(self.base, self.base)}
        return Merge.model_validate(values | {"parts": [(names[name], weight) for name, weight in self.parts]})

    def plan(self, pool: ScoredPool) -> Coefficients:
        if self.formula == LINEAR:
            return tuple((name, weight) for name, weight in self.parts if weight)
        own: dict[str, Any] = {name: getattr(self, name) for name in OWN[self.formula]}
        shares = self.parts
        if self.formula in ALIKE:
            shares = tuple((name, 1.0 / len(self.parts)) for name, _ in self.parts)
        elif self.formula == "slerp":
            shares = tuple(zip((name for name, _ in self.parts), (1.0 - self.alpha, self.alpha), strict=True))
        elif (total := self._total) != 1.0:
            shares = tuple((name, weight / total) for name, weight in self.parts)
            own |= {"scale": self.scale * total}
        formula = Formula(
            kind=self.formula, parts=shares, base=self.base or None, parameters=own, batchnorm=self.of_statistics
        )
        return pool.adopt(formula)
