"""The menu: every recipe that fits a kitchen, with sensible defaults, cooked one after the other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from soupviz.errors import CompatibilityError, KitchenError, RecipeError
from soupviz.extras import lacking
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import RECALIBRATE
from soupviz.recipes import MENU, Recipe, parse
from soupviz.scoring.batchnorm import norms_of
from soupviz.soups.comparing import paired
from soupviz.soups.cooking import cook
from soupviz.soups.needs import lacking_for
from soupviz.soups.planning import cooking_cost
from soupviz.soups.soup import Soup
from soupviz.spec import HELD_OUT, TEST
from soupviz.tasks.objective import Objective
from soupviz.tasks.paired import Compared, compare_pairs
from soupviz.types import Progress, quiet
from soupviz.weights.ingredients import pick

BUDGET = 500
"""Scores that one recipe may take at most, unless told otherwise."""

DEFAULTS: Sequence[Mapping[str, object]] = (
    {"method": "uniform"},
    {"method": "greedy"},
    {"method": "greedy", "alpha": 0.1},
    {"method": "greedy", "objective": "loss"},
    {"method": "greedy", "objective": "worst_class"},
    {"method": "weighted"},
    {"method": "weighted", "metric": "loss", "temperature": 0.1},
    *({"method": name} for name in MENU if name not in ("uniform", "greedy", "weighted", "ensemble")),
    {"method": "learned", "per": "layer"},
    {"method": "ensemble"},
    {"method": "ensemble", "output": "logits"},
    {"method": "ensemble", "choice": "greedy"},
)


REESTIMATED: Sequence[Mapping[str, object]] = (
    {"method": "uniform", "batchnorm": RECALIBRATE},
    {"method": "greedy", "batchnorm": RECALIBRATE},
    {"method": "pruned", "batchnorm": RECALIBRATE},
    {"method": "learned", "per": "layer", "batchnorm": RECALIBRATE},
)
"""What is cooked too where the model keeps running statistics, and there is train data to re-estimate them on."""


@dataclass(frozen=True, slots=True)
class Menu:
    """soups: best on held_out first. left_out: by title, why a recipe was not cooked.

    best: the ingredient that is best on held_out. compared: by key, each soup against it on the split that reports,
    `reports_on`; p-values are Holm-corrected over the menu.
    """

    soups: Sequence[Soup]
    left_out: Mapping[str, str]
    best: str
    reports_on: str
    compared: Mapping[str, Compared]


def cook_menu(
    kitchen: Kitchen,
    *,
    members: Sequence[str] | None = None,
    batchnorm: str = "average",
    budget: int = BUDGET,
    progress: Progress = quiet,
    on_soup: Callable[[Soup], None] = lambda _soup: None,
) -> Menu:
    """Cook every recipe of the menu that fits; scores that they have in common are computed once.

    Args:
        budget: scores that one recipe may take at most. on_soup: given each soup when it is ready.
    Raises:
        SoupError: an unknown member, or data that does not fit.
    """
    pick(kitchen.ingredients, members)  # an unknown member is nobody's reason to be left out
    kitchen.splits.load(HELD_OUT, progress)
    soups: list[Soup] = []
    left_out: dict[str, str] = {}
    can_reestimate = bool(norms_of(kitchen.evaluator.model)) and not lacking_for(kitchen, {"train"})
    metrics = {metric.name for metric in kitchen.task.metrics}
    defaults = [
        one
        for one in DEFAULTS
        if ("loss" in metrics or "loss" not in one.values()) and one.get("output", "") in ("", *kitchen.task.outputs)
    ]
    chosen = (*defaults, *(REESTIMATED if can_reestimate and batchnorm == "average" else ()))
    for index, values in enumerate(chosen):
        # Each member of an ensemble keeps its own statistics.
        shared = {"members": members} | ({"batchnorm": batchnorm} if values["method"] != "ensemble" else {})
        recipe = parse(shared | dict(values)).suited(kitchen.task)

        def within(done: int, total: int, what: str, index: int = index, title: str = recipe.title) -> None:
            progress(index * total + done, len(chosen) * total, f"{title}: {what}")

        try:
            if reason := _unfit(kitchen, recipe, budget):
                left_out[recipe.title] = reason
                continue
            soups.append(cook(kitchen, recipe, progress=within))
        # Checkpoints that are not of one run, units that cannot be followed, another model without the same data.
        except (RecipeError, CompatibilityError, KitchenError) as error:
            left_out[recipe.title] = str(error)
            continue
        on_soup(soups[-1])
    singles = kitchen.scores.of_ingredients(HELD_OUT, members, progress)
    objective = Objective(kitchen.objective)
    best = objective.best_first(singles)[0]
    reports_on = TEST if TEST in kitchen.splits.names else HELD_OUT
    rival = kitchen.scores.score(((best, 1.0),), reports_on, progress=progress)
    tested = {soup.key: (soup.mix, reports_on, soup.recipe.aggregation) for soup in soups}
    pairs = paired(kitchen, tested.values(), (((best, 1.0),), reports_on, "average"))
    found = {soup.key: (soup.scores[reports_on], pairs[tested[soup.key]]) for soup in soups}
    compared = compare_pairs(kitchen.task, kitchen.objective, rival, found)
    order = objective.best_first({soup.key: soup.scores[HELD_OUT] for soup in soups})
    ranked = sorted(soups, key=lambda soup: order.index(soup.key))
    return Menu(ranked, left_out, best, reports_on, compared)


def _unfit(kitchen: Kitchen, recipe: Recipe, budget: int) -> str:
    """Why a recipe is not cooked; empty where it is."""
    if missing := lacking_for(kitchen, recipe.needs) or recipe.unfit(kitchen.task):
        return missing
    cost = cooking_cost(kitchen, recipe)
    if (needed := cost.evaluations + cost.known) > budget:
        return f"takes up to {needed:,} scores, the budget is {budget:,}"
    if MENU["bayesian"] is type(recipe) and find_spec("optuna") is None:
        return f"needs {lacking('optuna', 'cmaes')}"
    return ""
