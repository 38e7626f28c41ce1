"""Who averages one run's checkpoints chooses by loss, mostly: what that comes to by the metric that counts.

The n best by the kitchen's metric, by the task's next one and by what the run logged, side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from soupviz.analysis.grids import mark
from soupviz.kitchen import Kitchen
from soupviz.recipes import Recipe
from soupviz.recipes.averages import NBest
from soupviz.soups.cooking import cook
from soupviz.soups.planning import Cost, cost_of_all
from soupviz.soups.soup import mix_in, pool_of, run_key, summed
from soupviz.spec import HELD_OUT, TEST
from soupviz.store.runs import Run
from soupviz.tasks.figures import two_metrics
from soupviz.tasks.score import Score
from soupviz.tasks.wording import of_score
from soupviz.types import Progress, part_of, quiet
from soupviz.weights.logged import logged_loss

SPLITS = (HELD_OUT, TEST)


@dataclass(frozen=True, slots=True)
class Choice:
    """The n best by something. by: in words. run: of the soup of them, None until it is cooked. scores: by split."""

    by: str
    recipe: NBest
    run: Run | None
    names: tuple[str, ...]
    scores: Mapping[str, Score]

    def as_dict(self) -> dict[str, Any]:
        return {
            "by": self.by,
            "n": self.recipe.n,
            "ingredients": list(self.names),
            "scores": {split: score.summary() for split, score in self.scores.items()},
        }


def choices(kitchen: Kitchen, recipe: Recipe, run: Run | None = None) -> list[Choice]:
    """The n best by each, n being as many as a soup is made of; nothing is computed.

    Args:
        recipe: of the soup. run: of it, where it is cooked.
    Returns:
        The kitchen's metric first; empty of a recipe that is not over one run, of all of its checkpoints, and where
        there is nothing to choose by but that.
    """
    number, pool = _number(recipe, run), pool_of(kitchen, recipe)
    if not recipe.is_of_one_run or not 0 < number < len(pool):
        return []
    shared: dict[str, Any] = {"n": number, "members": recipe.considered, "batchnorm": recipe.batchnorm}
    objective, *others = two_metrics(kitchen.task.metrics, kitchen.objective)
    found = {objective.label: NBest(**shared)}
    found |= {metric.label: NBest(**shared, metric=metric.name) for metric in others}
    logged = [logged_loss(kitchen.weights.resolve(name).metadata) for name in pool]
    if all(logged) and logged[0]:
        found[f"the logged {logged[0][0]}"] = NBest(**shared, by="log")
    return [_choice(kitchen, by, one) for by, one in found.items()] if len(found) > 1 else []


def _number(recipe: Recipe, run: Run | None) -> int:
    if recipe.num_best is not None:
        return recipe.num_best
    if run is None or run.status != "finished" or run.result is None or not run.result["coefficients"]:
        return 0
    return min(100, len(summed(mix_in(run), run.result["coefficients"])))


def _choice(kitchen: Kitchen, by: str, recipe: NBest) -> Choice:
    run = kitchen.store.run(run_key(kitchen, recipe))
    if run is None or run.status != "finished" or run.result is None:
        return Choice(by, recipe, None, (), {})
    kept = {split: run.result["scores"].get(split) for split in SPLITS if split in kitchen.splits.reporting}
    scores = {split: kitchen.scores.recalled(one, split) for split, one in kept.items() if one}
    return Choice(by, recipe, run, tuple(name for name, _ in mix_in(run)), scores)


def called(one: Choice) -> str:
    return "best" if one.recipe.n == 1 else f"{one.recipe.n} best"


def cost_of(kitchen: Kitchen, found: Sequence[Choice]) -> Cost:
    """What it takes to know them all."""
    return cost_of_all(kitchen, [one.recipe for one in found if one.run is None])


def cook_all(kitchen: Kitchen, found: Sequence[Choice], progress: Progress = quiet) -> list[Choice]:
    """Cook those that are not known; lists of soups leave them out, until they are asked for themselves."""
    for index, one in enumerate(found):
        if one.run is None:
            is_new = kitchen.store.run(run_key(kitchen, one.recipe)) is None
            soup = cook(kitchen, one.recipe, progress=part_of(progress, index, len(found)))
            if is_new:
                mark(kitchen, soup.key)
    return [_choice(kitchen, one.by, one.recipe) for one in found]


def told(kitchen: Kitchen, found: Sequence[Choice]) -> list[str]:
    """A sentence for each that is known: what the kitchen's metric says of it."""
    metric = kitchen.objective
    return [
        f"the {called(one)} by {one.by}: {metric.label} "
        + ", ".join(f"{of_score(metric, score)} on {split}" for split, score in one.scores.items())
        for one in found
        if one.scores
    ]
