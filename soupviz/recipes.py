"""Recipes: plain, hashable descriptions of soups. A recipe says what to do; `cooking` does it."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator

from soupviz.errors import RecipeError
from soupviz.files import digest
from soupviz.mixing import BatchNorm
from soupviz.records import Coefficients

Alpha = Literal["mean"] | float
Order = Literal["accuracy", "listed", "random"]


class _Recipe(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    batchnorm: BatchNorm = Field("average", description="running statistics: averaged, or the first ingredient's")


class Uniform(_Recipe):
    """The plain mean of the members. Source: Wortsman et al. 2022, table 1, "uniform"."""

    method: Literal["uniform"] = "uniform"
    members: tuple[str, ...] | None = Field(None, description="ingredients; None for all")

    @property
    def title(self) -> str:
        return "average" + ("" if self.members is None else f" of {len(self.members)}")


class Greedy(_Recipe):
    """Start from the best, keep each candidate that raises held-out accuracy. Source: same, algorithm 1 (recipe 1).

    Differs: accepts on strictly more correct examples, as the authors' code does; the paper's text accepts ties.
    """

    method: Literal["greedy"] = "greedy"
    members: tuple[str, ...] | None = Field(None, description="ingredients; None for all")
    alpha: Alpha = Field("mean", description="mean, or the newcomer's weight, above 0 and at most 1")
    order: Order = Field("accuracy", description="in which candidates are tried")
    seed: int = Field(0, description="of the random order")

    @field_validator("alpha", mode="before")
    @classmethod
    def _in_range(cls, value: Any) -> Any:
        return parse_alpha(value)

    @property
    def title(self) -> str:
        details = [f"alpha = {self.alpha}"]
        details += [f"{self.order} order"] if self.order != "accuracy" else []
        details += [f"of {len(self.members)}"] if self.members is not None else []
        return f"greedy ({', '.join(details)})"


class Interpolation(_Recipe):
    """`(1 - alpha) * a + alpha * b` between two mixes. Source: Wortsman et al. 2022 (WiSE-FT), equation 1."""

    method: Literal["interpolation"] = "interpolation"
    a: str = Field(description="what the end at alpha 0 is called")
    b: str = Field(description="what the end at alpha 1 is called")
    mix_a: Coefficients = Field(description="the end at alpha 0")
    mix_b: Coefficients = Field(description="the end at alpha 1")
    alpha: float = Field(description="where on the path; outside [0, 1] extrapolates")

    @property
    def title(self) -> str:
        return f"{self.a} → {self.b} at {self.alpha:g}"


Recipe = Uniform | Greedy | Interpolation
_ADAPTER: TypeAdapter[Recipe] = TypeAdapter(Annotated[Recipe, Field(discriminator="method")])


def parse_alpha(value: Any) -> Alpha:
    """An alpha from text or a number.

    Raises:
        RecipeError: neither `mean` nor a number in (0, 1].
    """
    if value == "mean":
        return "mean"
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0.0 < number <= 1.0:
        raise RecipeError(f"alpha is {value!r}; expected mean, or a number above 0 and at most 1.")
    return number


def parse(values: Mapping[str, Any]) -> Recipe:
    """A recipe from plain data.

    Raises:
        RecipeError: an unknown method or parameter, or a value out of range.
    """
    try:
        return _ADAPTER.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "recipe"
        raise RecipeError(f"recipe: {place}: {first['msg']} (got {str(first['input'])[:80]!r}).") from None


def recipe_digest(recipe: Recipe) -> str:
    """The recipe's hash: the same parameters give the same digest."""
    return digest(recipe.model_dump(mode="json"))
