"""Recipes over what fine-tuning changed: differences from the base, and means on the sphere."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from soupviz.errors import RecipeError
from soupviz.mixing.averaging import combine, mean_of
from soupviz.mixing.formulas import Formula
from soupviz.recipes.pool import ScoredPool
from soupviz.recipes.record import Pooled
from soupviz.types import Coefficients

BASE = "base"
DENSITY: Any = Field(0.2, gt=0, le=1, description="the share of each difference that is kept")
SCALE: Any = Field(1.0, gt=0, le=3, description="what the merged difference is multiplied by")


class WiseFt(Pooled):
    """From the base to the mean of the fine-tuned: `(1 - alpha) * base + alpha * mean`, alpha given or the best.

    Source: Wortsman et al. 2022 (WiSE-FT, arXiv 2109.01903), equation 1.
    """

    method: Literal["wise_ft"] = "wise_ft"
    label = "WiSE-FT, base to mean"
    requires: ClassVar[frozenset[str]] = frozenset({BASE})
    is_search = True
    alpha: Literal["best"] | float = Field("best", description="best on held_out of 11, or a number from 0 to 1")

    @field_validator("alpha", mode="before")
    @classmethod
    def _in_range(cls, value: Any) -> Any:
        if value == "best":
            return value
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if not 0.0 <= number <= 1.0:
            raise RecipeError(f"wise_ft: alpha is {value!r}; expected best, or a number from 0 to 1.")
        return number

    @property
    def own_title(self) -> str:
        return self.titled("WiSE-FT", f"alpha = {self.alpha}")

    def candidates(self, num_members: int) -> int:
        return 11 if self.alpha == "best" else 1

    def plan(self, pool: ScoredPool) -> Coefficients:
        mean = mean_of(pool.names)
        if self.alpha != "best":
            return combine(((BASE, 1.0),), mean, self.alpha)
        numbers = range(0 if pool.base_is_whole else 1, 11)
        return pool.best_of(
            [(number, f"alpha {number / 10:g}", combine(((BASE, 1.0),), mean, number / 10)) for number in numbers]
        )


def formula_of(recipe: Pooled, names: Sequence[str]) -> Formula:
    """The formula that makes a soup tensor by tensor, every ingredient alike; the record's parameters are its own."""
    own = recipe.model_dump(exclude={"method", "members", "batchnorm"})
    base = BASE if BASE in recipe.requires else None
    return Formula(kind=recipe.method, parts=mean_of(names), base=base, parameters=own, batchnorm=recipe.of_statistics)


class TaskArithmetic(Pooled):
    """The base and a multiple of the mean difference from it: `base + scale * mean(ingredient - base)`.

    Source: Ilharco et al. 2023 (arXiv 2212.04089).
    """

    method: Literal["task_arithmetic"] = "task_arithmetic"
    label = "task arithmetic"
    requires: ClassVar[frozenset[str]] = frozenset({BASE})
    scale: float = SCALE

    @property
    def own_title(self) -> str:
        return self.titled("task arithmetic", f"scale {self.scale:g}")

    def plan(self, pool: ScoredPool) -> Coefficients:
        return pool.adopt(formula_of(self, pool.names))


class Ties(Pooled):
    """Trim each difference from the base to its largest numbers, elect a sign for each, average those that agree.

    Source: Yadav et al. 2023 (arXiv 2306.01708). Differs: trims each tensor by itself.
    """

    method: Literal["ties"] = "ties"
    label = "TIES"
    requires: ClassVar[frozenset[str]] = frozenset({BASE})
    density: float = DENSITY
    scale: float = SCALE

    @property
    def own_title(self) -> str:
        return self.titled("TIES", f"density {self.density:g}", f"scale {self.scale:g}")

    def plan(self, pool: ScoredPool) -> Coefficients:
        return pool.adopt(formula_of(self, pool.names))


class Dare(Pooled):
    """Drop numbers of each difference from the base at random, divide the others by the share that is kept, average.

    Source: Yu et al. 2024 (arXiv 2311.03099).
    """

    method: Literal["dare"] = "dare"
    label = "DARE"
    requires: ClassVar[frozenset[str]] = frozenset({BASE})
    density: float = Field(0.5, gt=0, le=1, description="the share of each difference that is kept, at random")
    scale: float = SCALE
    seed: int = Field(0, ge=0, description="of what is random")

    @property
    def own_title(self) -> str:
        return self.titled("DARE", f"density {self.density:g}", f"scale {self.scale:g}")

    def plan(self, pool: ScoredPool) -> Coefficients:
        return pool.adopt(formula_of(self, pool.names))


class Breadcrumbs(Pooled):
    """Leave out the largest and the smallest numbers of each difference from the base, average.

    Source: Davari and Belilovsky 2023 (arXiv 2312.06795).
    """

    method: Literal["breadcrumbs"] = "breadcrumbs"
    label = "Breadcrumbs"
    requires: ClassVar[frozenset[str]] = frozenset({BASE})
    density: float = Field(0.9, gt=0, le=1, description="the share of each difference that is kept")
    gamma: float = Field(0.01, ge=0, lt=1, description="the share of the largest that is left out")
    scale: float = SCALE

    @property
    def own_title(self) -> str:
        return self.titled("Breadcrumbs", f"density {self.density:g}", f"gamma {self.gamma:g}", f"scale {self.scale:g}")

    def plan(self, pool: ScoredPool) -> Coefficients:
        return pool.adopt(formula_of(self, pool.names))


class ModelStock(Pooled):
    """From the base towards the mean, layer by layer as far as the ingredients agree: `base + t * (mean - base)`.

    `t = n c / (1 + (n - 1) c)` for n ingredients, c being the mean cosine of two differences from the base.

    Source: Jang et al. 2024 (arXiv 2403.19522). Differs: of more than two, by the mean of their pairwise cosines.
    """

    method: Literal["model_stock"] = "model_stock"
    label = "Model Stock"
    requires: ClassVar[frozenset[str]] = frozenset({BASE})

    @property
    def own_title(self) -> str:
        return self.titled("Model Stock")

    def plan(self, pool: ScoredPool) -> Coefficients:
        return pool.adopt(formula_of(self, pool.names))


class Slerp(Pooled):
    """Between two ingredients along the great circle instead of the straight line.

    Of more than two, the two that are best on held_out are taken.

    Source: Shoemake 1985.
    """

    method: Literal["slerp"] = "slerp"
    label = "SLERP of two"
    is_search = True
    alpha: float = Field(0.5, ge=0, le=1, description="0 is the better of the two, 1 the other")

    @property
    def own_title(self) -> str:
        return self.titled("SLERP", f"alpha = {self.alpha:g}")

    def plan(self, pool: ScoredPool) -> Coefficients:
        if len(pool.names) < 2:
            raise RecipeError(f"slerp: needs two ingredients; got {pool.names[0]!r} alone.")
        scores = pool.singles()
        first, second = pool.best_first(scores)[:2]
        parts = ((first, 1.0 - self.alpha), (second, self.alpha))
        parameters = {"alpha": self.alpha}
        return pool.adopt(Formula(kind="slerp", parts=parts, parameters=parameters, batchnorm=self.of_statistics))


class Karcher(Pooled):
    """The mean on the sphere of directions, with the mean of the norms.

    Source: Karcher 1977.
    """

    method: Literal["karcher"] = "karcher"
    label = "Karcher mean"

    @property
    def own_title(self) -> str:
        return self.titled("Karcher mean")

    def plan(self, pool: ScoredPool) -> Coefficients:
        return pool.adopt(formula_of(self, pool.names))
