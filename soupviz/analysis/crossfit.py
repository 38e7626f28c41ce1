"""What selecting on held_out does to the numbers there: search on one half, score on the other, both ways."""

import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soupviz.analysis.folds import halved, singles
from soupviz.data.classes import stratified_part
from soupviz.data.split import Split
from soupviz.errors import RecipeError
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.mixing.averaging import mean_of
from soupviz.recipes import Recipe, parse
from soupviz.recipes.pool import outcomes_of
from soupviz.soups.cooking import cook
from soupviz.soups.planning import Cost, lacking
from soupviz.soups.soup import pool_in, pool_of, run_key
from soupviz.spec import HELD_OUT, TEST, TRAIN
from soupviz.store.runs import Run
from soupviz.tasks.objective import Objective
from soupviz.tasks.outcomes import Outcomes, joined
from soupviz.tasks.paired import compare
from soupviz.tasks.score import Score
from soupviz.types import Progress, part_of, quiet

VERSION = 2
"""Of what is kept of a cross-fit; another version makes old ones unfindable."""

GROUPED_VERSION = 3
"""Of one of groups."""

LEAST = 20
"""Units of held_out below which halves say nothing."""


@dataclass(frozen=True, slots=True)
class Half:
    """One of the two searches: what it made, the best ingredient on the half that selected, and what became of both.

    Values of the objective: of the soup and of that ingredient, on the half that selected and on the half that judged.
    """

    made_of: str
    best: str
    num_selecting: int
    selecting: float
    best_selecting: float
    num_judging: int
    judging: float
    best_judging: float


@dataclass(frozen=True, slots=True)
class CrossFit:
    """Both searches together; every unit of held_out selects once and judges once.

    selecting, judging: the objective's value over all units, each with the soup that its half selected, and with the
    other. optimism: how much better the former is. better, worse: units that the soup answers better, and worse, than
    the best ingredient, both chosen on the other half. difference, low, high: of their values, with a 95 % bootstrap
    interval. p_value: of the paired test; is_least: as small as the number of permutations allows.
    """

    title: str
    num_units: int
    seed: int
    selecting: float
    judging: float
    optimism: float
    better: int | None
    worse: int | None
    difference: float
    low: float
    high: float
    p_value: float
    halves: tuple[Half, ...]
    is_least: bool = False


def recipe_in(kitchen: Kitchen, run: Run) -> Recipe:
    """A finished run's recipe, over what it chose among: ingredients may have joined the kitchen since."""
    recipe = parse(run.recipe)
    if recipe.ends or run_key(kitchen, recipe) == run.key:
        return recipe
    return recipe.model_copy(update={"members": tuple(pool_in(run))})


def known(kitchen: Kitchen, recipe: Recipe, seed: int = 0) -> CrossFit | None:
    """The cross-fit of a recipe if it was estimated before; nothing is computed."""
    if not kitchen.splits.is_loaded(HELD_OUT):
        return None
    kept = kitchen.store.finding(finding_key(kitchen, recipe, seed))
    return kept and CrossFit(**kept | {"halves": tuple(Half(**half) for half in kept["halves"])})


def finding_key(kitchen: Kitchen, recipe: Recipe, seed: int = 0) -> str:
    """What a cross-fit is kept under: the run's key, all ingredients (one is the best), and the halves' seed."""
    everyone = {item.name: item.fingerprint for item in kitchen.ingredients}
    groups = [key] if (key := kitchen.splits.load(HELD_OUT).group_key) else []
    version = GROUPED_VERSION if groups else VERSION
    return digest(["crossfit", version, kitchen.objective.name, run_key(kitchen, recipe), everyone, seed, *groups])


def check(kitchen: Kitchen, recipe: Recipe) -> None:
    """Refuse what cannot be cross-fitted.

    Raises:
        RecipeError: the recipe selects on more than held_out, chooses nothing, or is joined by other models; or
            held_out is too small.
    """
    where = f"{recipe.title} cannot be cross-fitted:"
    if recipe.ends:
        raise RecipeError(f"{where} its place was named, not searched for; cross-fit a soup that a search chose.")
    if "shifts" in recipe.needs:
        raise RecipeError(f"{where} it selects on the shifts too, and only held_out is halved; take another objective.")
    if recipe.meets_other_models and kitchen.other_models.items:
        raise RecipeError(
            f"{where} models of other kitchens join it, which cannot be halved; take a kitchen without other_models."
        )
    number = len(kitchen.splits.load(HELD_OUT))
    if number < LEAST:
        raise RecipeError(
            f"{where} held_out has {number} {kitchen.task.unit}s; expected at least {LEAST}, to be halved."
        )
    grouped = kitchen.splits.grouped(HELD_OUT)
    if grouped and grouped.number < 2:
        raise RecipeError(f"{where} held_out has one {grouped.column}; expected at least 2, which are kept whole.")


def cost(kitchen: Kitchen, recipe: Recipe) -> Cost:
    """What a cross-fit takes at most; nothing is evaluated. A recipe's learning is not in it.

    Args:
        kitchen: whose held_out was read.
    """
    number = len(kitchen.splits.load(HELD_OUT))
    alone = singles(kitchen, recipe)
    missing = len(lacking(kitchen, alone))
    evaluations, examples = missing, missing * number
    if recipe.aggregation in OUTPUTS:
        pass  # of logits that are kept
    elif recipe.is_search or recipe.trains:
        candidates = recipe.candidates(len(pool_of(kitchen, recipe)))
        evaluations += 2 * candidates + 4  # each of the two soups is scored on both halves
        examples += (candidates + 2) * number
    elif not _is_known(kitchen, recipe):
        evaluations, examples = evaluations + 4, examples + 2 * number
    return Cost(evaluations, len(alone) - missing, examples, kitchen.scores.seconds_for(examples))


def _is_known(kitchen: Kitchen, recipe: Recipe) -> bool:
    """Whether a soup that is the same for both halves was scored on the whole."""
    if recipe.is_mean:
        everyone = mean_of(pool_of(kitchen, recipe))
        if not lacking(kitchen, [(everyone, HELD_OUT, recipe.aggregation)]):
            return True
    run = kitchen.store.run(run_key(kitchen, recipe))
    return run is not None and run.status == "finished"


def crossfit(kitchen: Kitchen, recipe: Recipe, *, seed: int = 0, progress: Progress = quiet) -> CrossFit:
    """Search on one half of held_out and score on the other, both ways; kept from then on.

    The halves are stratified by class where there are classes, and share no group. What was scored on the whole of
    held_out is not scored again: its halves are cut out of it. The searches have a store of their own, from which they
    go on when they were stopped, and which is removed when both are done, so that they never stand among the kitchen's
    soups.

    Args:
        seed: of the halves.
    Raises:
        RecipeError: see `check`.
        Cancelled: from the progress callback.
    Source:
        Chernozhukov et al. 2018 (arXiv 1608.00060), cross-fitting: what is chosen on one half is judged on the other.
    """
    check(kitchen, recipe)
    if kept := known(kitchen, recipe, seed):
        return kept
    whole = kitchen.splits.load(HELD_OUT, progress)
    kitchen.scores.aggregation(recipe.aggregation, progress)
    if "train" in recipe.needs:
        kitchen.splits.load(TRAIN, progress)
    kitchen.scores.score_all(singles(kitchen, recipe), progress)
    progress(0, 1, "cutting held_out in two")
    key = finding_key(kitchen, recipe, seed)
    folder = kitchen.store.folder / "crossfit" / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    rows = [stratified_part(_strata(kitchen, whole), index, 2, seed, whole.group_of) for index in (0, 1)]
    searches = []
    for index, (selecting, judging) in enumerate(zip(rows, reversed(rows), strict=True)):
        own = halved(kitchen, recipe, {HELD_OUT: selecting, TEST: judging}, seed, folder)
        soup = cook(own, recipe, progress=part_of(progress, index, 2))
        chosen, judged = (own.scores.score(soup.mix, split, recipe.aggregation, progress) for split in (HELD_OUT, TEST))
        best, known_of_best = _best(kitchen, selecting.numpy())
        # A half has numbered its groups anew; those of the whole say which are others in the other half.
        of_soup = [
            replace(outcomes_of(score), groups=None if whole.group_of is None else whole.group_of[part.numpy()])
            for score, part in ((chosen, selecting), (judged, judging))
        ]
        searches.append(
            Search(
                soup.made_of, best, *(_bare(kitchen, outcomes) for outcomes in of_soup),
                *(_bare(kitchen, known_of_best.take(part.numpy())) for part in (selecting, judging)),
            )
        )  # fmt: skip
    found = _together(kitchen, recipe, seed, searches)
    kitchen.store.keep_finding(key, asdict(found))
    shutil.rmtree(folder, ignore_errors=True)
    return found


class Search(NamedTuple):
    """One of the two searches, with its units: the soup and the best ingredient on the half that selected them, and on
    the half that judged."""

    made_of: str
    best: str
    selecting: Score
    judging: Score
    best_selecting: Score
    best_judging: Score


def _strata(kitchen: Kitchen, whole: Split) -> Tensor:
    """What both halves shall have as much of: each class, where there are classes."""
    groups = kitchen.task.groups(whole.labels)
    return torch.zeros(len(whole), dtype=torch.int64) if groups is None else torch.from_numpy(groups)


def _bare(kitchen: Kitchen, *parts: Outcomes) -> Score:
    """What the objective alone says of units, those of several parts together."""
    outcomes, metric = joined(parts), kitchen.objective
    values = {metric.name: metric.value(outcomes)}
    return Score(HELD_OUT, len(outcomes), values, outcomes.num_nonfinite, outcomes=outcomes)


def _together(kitchen: Kitchen, recipe: Recipe, seed: int, searches: Sequence[Search]) -> CrossFit:
    task, metric = kitchen.task, kitchen.objective

    def over_both(scores: Iterable[Score]) -> Score:
        return _bare(kitchen, *(outcomes_of(score) for score in scores))

    def value(score: Score) -> float:
        found = score.shown(metric.name)
        return math.nan if found is None else found

    selecting, judging = (over_both(one) for one in zip(*((s.selecting, s.judging) for s in searches), strict=True))
    found = compare(task, metric, judging, over_both(one.best_judging for one in searches))
    sign = 1 if metric.higher_is_better else -1
    return CrossFit(
        title=recipe.title,
        num_units=judging.num_units,
        seed=seed,
        selecting=value(selecting),
        judging=value(judging),
        optimism=sign * (value(selecting) - value(judging)),
        better=found.better,
        worse=found.worse,
        difference=found.difference,
        low=found.low,
        high=found.high,
        p_value=found.p_value,
        is_least=found.is_least,
        halves=tuple(
            Half(
                made_of=one.made_of, best=one.best,
                num_selecting=one.selecting.num_units, selecting=value(one.selecting),
                best_selecting=value(one.best_selecting),
                num_judging=one.judging.num_units, judging=value(one.judging), best_judging=value(one.best_judging),
            )
            for one in searches
        ),
    )  # fmt: skip


def _best(kitchen: Kitchen, selecting: NDArray[np.int64]) -> tuple[str, Outcomes]:
    """The best ingredient on a half, ties by kitchen order, and what became of all units with it."""
    whole = {name: outcomes_of(kitchen.scores.score(((name, 1.0),), HELD_OUT)) for name in kitchen.names}
    parts = {name: _bare(kitchen, outcomes.take(selecting)) for name, outcomes in whole.items()}
    best = Objective(kitchen.objective).best_first(parts)[0]
    return best, whole[best]
