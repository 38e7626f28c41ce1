"""What selecting on held_out does to the numbers there: search on one half, score on the other, both ways."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from soupviz.analysis.halves import halved, singles
from soupviz.analysis.significance import bootstrap_interval
from soupviz.data.classes import stratified_part
from soupviz.errors import RecipeError
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.mixing.treatments import OUTPUTS
from soupviz.recipes import Pooled, Recipe, parse
from soupviz.recipes.averages import Uniform
from soupviz.recipes.judge import HELD_OUT, outcomes_of
from soupviz.soups.cooking import cook
from soupviz.soups.planning import Cost, lacking
from soupviz.soups.soup import Soup, pool_in, pool_of, run_key
from soupviz.store.runs import Run
from soupviz.tasks.metrics import mcnemar
from soupviz.tasks.score import Score
from soupviz.types import Progress, part_of, quiet

VERSION = 1
"""Of what is kept of a cross-fit; another version makes old ones unfindable."""

LEAST = 20
"""Examples of held_out below which halves say nothing."""


@dataclass(frozen=True, slots=True)
class Half:
    """One of the two searches: what it made, the best ingredient on the half that selected, and what became of both.

    Counts of correct examples: of the soup and of that ingredient, on the half that selected and on the half that
    judged.
    """

    made_of: str
    best: str
    num_selecting: int
    selecting: int
    best_selecting: int
    num_judging: int
    judging: int
    best_judging: int


@dataclass(frozen=True, slots=True)
class CrossFit:
    """Both searches together; every example of held_out selects once and judges once.

    selecting, judging: examples right where the half that they are in selected the soup, and where it did not.
    optimism: the difference of the two accuracies, a fraction. fixed, broken: examples that only the soup, or only the
    best ingredient had right, both chosen on the other half. difference, low, high: of their accuracies, with a 95 %
    bootstrap interval. p_value: of McNemar's exact test.
    """

    title: str
    num_examples: int
    seed: int
    selecting: int
    judging: int
    optimism: float
    fixed: int
    broken: int
    difference: float
    low: float
    high: float
    p_value: float
    halves: tuple[Half, ...]


def recipe_in(kitchen: Kitchen, run: Run) -> Recipe:
    """A finished run's recipe, over what it chose among: ingredients may have joined the kitchen since."""
    recipe = parse(run.recipe)
    if not isinstance(recipe, Pooled) or run_key(kitchen, recipe) == run.key:
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
    return digest(["crossfit", VERSION, run_key(kitchen, recipe), everyone, seed])


def check(kitchen: Kitchen, recipe: Recipe) -> None:
    """Refuse what cannot be cross-fitted.

    Raises:
        RecipeError: the recipe selects on more than held_out, chooses nothing, has guests, or held_out is too small.
    """
    where = f"{recipe.title} cannot be cross-fitted:"
    if not isinstance(recipe, Pooled):
        raise RecipeError(f"{where} its place was named, not searched for; cross-fit the soups that it lies between.")
    if "shifts" in recipe.needs:
        raise RecipeError(f"{where} it selects on the shifts too, and only held_out is halved; take another objective.")
    if recipe.meets_guests and kitchen.guests.items:
        raise RecipeError(f"{where} guests join it, whose kitchens cannot be halved; take a kitchen without guests.")
    number = len(kitchen.splits.load(HELD_OUT))
    if number < LEAST:
        raise RecipeError(f"{where} held_out has {number} examples; expected at least {LEAST}, to be halved.")


def cost(kitchen: Kitchen, recipe: Recipe) -> Cost:
    """What a cross-fit takes at most; nothing is evaluated. A recipe's learning is not in it.

    Args:
        kitchen: whose held_out was read.
    """
    number = len(kitchen.splits.load(HELD_OUT))
    alone = singles(kitchen, recipe)
    missing = len(lacking(kitchen, alone))
    evaluations, examples = missing, missing * number
    if recipe.treatment in OUTPUTS:
        pass  # of logits that are kept
    elif recipe.is_search or recipe.trains:
        candidates = recipe.candidates(len(pool_of(kitchen, recipe)))
        evaluations += 2 * candidates + 4  # each of the two soups is scored on both halves
        examples += (candidates + 2) * number
    elif not _is_known(kitchen, recipe):
        evaluations, examples = evaluations + 4, examples + 2 * number
    rate = kitchen.evaluator.rate
    return Cost(evaluations, len(alone) - missing, examples, examples / rate if rate else None)


def _is_known(kitchen: Kitchen, recipe: Recipe) -> bool:
    """Whether a soup that is the same for both halves was scored on the whole."""
    if isinstance(recipe, Uniform):
        everyone = mean_of(pool_of(kitchen, recipe))
        if not lacking(kitchen, [(everyone, HELD_OUT, recipe.treatment)]):
            return True
    run = kitchen.store.run(run_key(kitchen, recipe))
    return run is not None and run.status == "finished"


def crossfit(kitchen: Kitchen, recipe: Recipe, *, seed: int = 0, progress: Progress = quiet) -> CrossFit:
    """Search on one half of held_out and score on the other, both ways; kept from then on.

    The halves are stratified by class. What was scored on the whole of held_out is not scored again: its halves are
    cut out of it. The searches have a store of their own, from which they go on when they were stopped, and which is
    removed when both are done, so that they never stand among the kitchen's soups.

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
    kitchen.scores.treatment(recipe.treatment, progress)
    if "train" in recipe.needs:
        kitchen.splits.load("train", progress)
    for one in singles(kitchen, recipe):
        kitchen.scores.score(*one, progress)
    progress(0, 1, "cutting held_out in two")
    key = finding_key(kitchen, recipe, seed)
    folder = kitchen.store.folder / "crossfit" / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    rows = [stratified_part(whole.labels, index, 2, seed) for index in (0, 1)]
    halves, rights = [], []
    for index, (selecting, judging) in enumerate(zip(rows, reversed(rows), strict=True)):
        own = halved(kitchen, recipe, {HELD_OUT: selecting, "test": judging}, seed, folder)
        soup = cook(own, recipe, progress=part_of(progress, index, 2))
        judged = own.scores.score(soup.mix, "test", recipe.treatment, progress)
        best, right = _best(kitchen, selecting.numpy())
        halves.append(_half(soup, judged, best, right[selecting.numpy()], right[judging.numpy()]))
        rights.append((outcomes_of(judged)["right"], right[judging.numpy()]))
    found = _together(recipe, seed, halves, rights)
    kitchen.store.keep_finding(key, asdict(found))
    shutil.rmtree(folder, ignore_errors=True)
    return found


def _half(
    soup: Soup, judged: Score, best: str, best_selecting: NDArray[np.bool_], best_judging: NDArray[np.bool_]
) -> Half:
    """One search, counted. best_selecting, best_judging: what the best ingredient has right on either half."""
    return Half(
        made_of=soup.made_of,
        best=best,
        num_selecting=len(best_selecting),
        selecting=soup.scores[HELD_OUT].correct,
        best_selecting=int(best_selecting.sum()),
        num_judging=len(best_judging),
        judging=judged.correct,
        best_judging=int(best_judging.sum()),
    )


def _together(
    recipe: Recipe, seed: int, halves: Sequence[Half], rights: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]]
) -> CrossFit:
    fixed = sum(int((new & ~old).sum()) for new, old in rights)
    broken = sum(int((~new & old).sum()) for new, old in rights)
    number = sum(half.num_judging for half in halves)
    selecting, judging = sum(half.selecting for half in halves), sum(half.judging for half in halves)
    low, high = bootstrap_interval(fixed, broken, number)
    return CrossFit(
        title=recipe.title,
        num_examples=number,
        seed=seed,
        selecting=selecting,
        judging=judging,
        optimism=(selecting - judging) / number,
        fixed=fixed,
        broken=broken,
        difference=(fixed - broken) / number,
        low=low,
        high=high,
        p_value=mcnemar(fixed, broken),
        halves=tuple(halves),
    )


def _best(kitchen: Kitchen, selecting: NDArray[np.int64]) -> tuple[str, NDArray[np.bool_]]:
    """The best ingredient on a half, ties by kitchen order, and what it has right of the whole."""
    rights = {name: outcomes_of(kitchen.scores.score(((name, 1.0),), HELD_OUT))["right"] for name in kitchen.names}
    best = max(rights, key=lambda name: int(rights[name][selecting].sum()))
    return best, rights[best]
