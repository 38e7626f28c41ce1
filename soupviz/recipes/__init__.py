"""Recipes: plain, hashable descriptions of soups. A recipe says what to do; `cooking` does it."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from soupviz.errors import RecipeError, did_you_mean
from soupviz.files import digest
from soupviz.recipes.alphas import AlphaSearch, LineSearch
from soupviz.recipes.averages import NBest, Uniform, Weighted
from soupviz.recipes.based import Breadcrumbs, Dare, Karcher, ModelStock, Slerp, TaskArithmetic, Ties, WiseFt
from soupviz.recipes.bayesian import Bayesian
from soupviz.recipes.blocks import Blocks
from soupviz.recipes.distilled import Distilled
from soupviz.recipes.greedy import Greedy, parse_alpha
from soupviz.recipes.learned import Fisher, Learned, ReBasin, RegMean
from soupviz.recipes.merges import Merge
from soupviz.recipes.outputs import Ensemble
from soupviz.recipes.overtime import Ema, Lawa, Swa, Wsm
from soupviz.recipes.paths import Interpolation, Point
from soupviz.recipes.pool import ScoredPool
from soupviz.recipes.record import Pooled, Recipe
from soupviz.recipes.subsets import Beam, Exhaustive, Pruned, Restarts
from soupviz.recipes.windows import RunningMeans, Windows

__all__ = [
    "MENU",
    "Blocks",
    "Ensemble",
    "Greedy",
    "Interpolation",
    "Merge",
    "Point",
    "Pooled",
    "Recipe",
    "ScoredPool",
    "own_parameters",
    "parse",
    "parse_alpha",
    "recipe_digest",
]  # fmt: skip

MENU: dict[str, type[Pooled]] = {
    kind.model_fields["method"].default: kind
    for kind in (
        Uniform, Greedy, AlphaSearch, LineSearch, Bayesian, Weighted, Exhaustive, Pruned, Beam, Restarts,
        WiseFt, TaskArithmetic, Ties, Dare, Breadcrumbs, ModelStock, Slerp, Karcher, NBest, Swa, Ema, Lawa, Wsm,
        RunningMeans, Windows,
        Learned, Fisher, RegMean, ReBasin, Ensemble, Distilled,
    )
}  # fmt: skip
"""What can be asked for by name, with parameters."""

PATHS: dict[str, type[Recipe]] = {"interpolation": Interpolation, "blocks": Blocks, "point": Point, "merge": Merge}
"""Between mixes that are named: kept from the Alpha page and Curves, from Layers, and from Plane; read from mergekit's
files."""


COMMON = ("method", "members", "batchnorm")
"""Fields that are not of one recipe; commands have them as options of their own."""


def parse(values: str | Mapping[str, Any]) -> Recipe:
    """A recipe from plain data, or from its name alone.

    Raises:
        RecipeError: an unknown method or parameter, or a value out of range.
    """
    values = {"method": values} if isinstance(values, str) else values
    method = values.get("method")
    kind = PATHS.get(str(method)) or MENU.get(str(method))
    if kind is None:
        raise RecipeError(f"no recipe {method!r}; {did_you_mean(str(method), MENU)}")
    if unknown := [name for name in values if name not in kind.model_fields]:
        known = [name for name in kind.model_fields if name != "method"]
        raise RecipeError(f"recipe: {method} has no {unknown[0]!r}; it has {', '.join(known)}.")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        if isinstance(own := first.get("ctx", {}).get("error"), RecipeError):  # a validator's, which says it all
            raise own from None
        place = ".".join(str(part) for part in (method, *first["loc"]))
        raise RecipeError(f"recipe: {place}: {first['msg']} (got {str(first['input'])[:80]!r}).") from None


def recipe_digest(recipe: Recipe) -> str:
    """The recipe's hash: the same parameters give the same digest."""
    return digest(recipe.model_dump(mode="json"))


def own_parameters(kind: type[Recipe]) -> list[str]:
    """A recipe's parameters beside those that all recipes have."""
    return [name for name in kind.model_fields if name not in COMMON]
