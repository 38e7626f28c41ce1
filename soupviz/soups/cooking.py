"""Cooking: a recipe and a kitchen make a soup; every score and every run goes through the kitchen's store."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from soupviz.errors import RecipeError
from soupviz.kitchen import Kitchen
from soupviz.recipes import Recipe, ScoredPool, parse
from soupviz.recipes.trajectory import Step, steps_from
from soupviz.scoring.limits import Limit
from soupviz.scoring.precision import arithmetic_of
from soupviz.soups.goals import groups_of
from soupviz.soups.needs import lacking_for
from soupviz.soups.selecting import Examples, examples_in, from_plain, met_by
from soupviz.soups.services import KitchenServices
from soupviz.soups.soup import ELSEWHERE, Soup, mix_in, plain_step, pool_of, recall, run_key
from soupviz.soups.standing import is_current
from soupviz.spec import HELD_OUT, TRAIN
from soupviz.store.recording import recorded
from soupviz.store.runs import Run
from soupviz.tasks.objective import Objective
from soupviz.tasks.score import Bound, Score
from soupviz.types import Coefficients, Progress, quiet, stages

OnStep = Callable[[Step], None]


LEARNED = 3
"""Passes over a split that learning is taken to be as long as, for each of the splits: how long is not known before."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a recipe is cooked; nothing here changes its decisions.

    complete: score rejected candidates whole too, instead of giving them up once they cannot win.
    """

    progress: Progress = quiet
    complete: bool = False


def cook(
    kitchen: Kitchen,
    recipe: Recipe | str | Mapping[str, Any],
    *,
    progress: Progress = quiet,
    on_step: OnStep = lambda _step: None,
    complete: bool = False,
) -> Soup:
    """Cook a recipe: find its coefficients, score the soup on held_out, test and the shifts, and keep the run.

    The run is kept from its first second: what is killed or cancelled goes on from its last score when cooked again.
    Cooked again with `complete`, the rejected candidates are scored from where they were given up.

    Args:
        recipe: a record, its name, or its parameters as plain data: {"method": "beam", "width": 5}.
        on_step: told of each decision. complete: as of `greedy`.
    Raises:
        SoupError: there is no such recipe, it names what the kitchen lacks, or the data does not fit.
        Cancelled: from the progress callback.
    """
    recipe = (parse(recipe) if isinstance(recipe, Mapping | str) else recipe).suited(kitchen.task)
    if missing := lacking_for(kitchen, recipe.needs):
        raise RecipeError(f"{recipe.title}: {missing}, or choose another recipe.")
    if reason := recipe.unfit(kitchen.task):
        raise RecipeError(reason)
    kitchen.scores.aggregation(recipe.aggregation, progress)
    for split in kitchen.splits.reporting:  # what is wrong with the test split shows before hours of search, not after
        kitchen.splits.load(split, progress)
    _learned_from(kitchen, recipe, progress)
    key = run_key(kitchen, recipe)
    steps: list[Step] = []

    before = kitchen.store.run(key)
    if recipe.trains and before is not None and _stands(kitchen, recipe, before, progress):
        return _again(kitchen, before, on_step, progress)
    earlier = steps_from(((before and before.result) or {}).get("trajectory", []))

    kept_before, kept = ([plain_step(kitchen, step) for step in found] for found in (earlier, steps))

    def stepped(step: Step) -> None:
        steps.append(step)
        kept.append(plain_step(kitchen, step))
        # Decisions of a run that was stopped stay until this one has as many: it may be stopped again before that.
        kitchen.store.touch_run(key, {"trajectory": max(kept, kept_before, key=len)})
        on_step(step)

    started, used = time.monotonic(), kitchen.scores.usage()
    # What learns computes as what is scored does.
    with (
        arithmetic_of(kitchen.spec.precision),
        recorded(kitchen.store, key, recipe.title, recipe.model_dump(mode="json")),
        kitchen.scores.looking_ahead(),
    ):
        splits = kitchen.splits.reporting
        # The soup is scored on each split; of a search those that select are known by then.
        selecting = recipe.selects_on(splits) if recipe.is_search else []
        searched = _num_asked(kitchen, recipe) if recipe.is_search else 0
        reported = len(set(splits) - set(selecting))
        learned = LEARNED * len(splits) if recipe.trains else 0
        searching, learning, reporting = stages(progress, searched, learned, reported)
        pool = _scored_pool(kitchen, recipe, Options(learning, complete), searching, stepped, earlier)
        coefficients = recipe.plan(pool)
        known_first = sorted(splits, key=lambda split: split not in selecting)
        wanted = [(coefficients, split, recipe.aggregation) for split in known_first]
        found = dict(zip(known_first, kitchen.scores.each(wanted, reporting), strict=True))
        scores = {split: found[split] for split in splits}
        summed = kitchen.weights.as_sum(coefficients)
        selecting_data = _selecting(kitchen, recipe)
        soup = Soup(
            key=key,
            recipe=recipe,
            mix=coefficients,
            coefficients=None if summed is None else dict.fromkeys(pool.names, 0.0) | dict(summed),
            pool=tuple(pool.names),
            trajectory=tuple(steps),
            scores=scores,
            clamped=kitchen.scores.count_clamped(coefficients, recipe.aggregation),
            kitchen=kitchen,
            notes=pool.notes | _learned_from(kitchen, recipe, progress),
            evaluations=len(pool.asked | {(coefficients, split) for split in scores}),
            seconds=((before and before.result) or {}).get("seconds") or time.monotonic() - started,
            selecting_data=selecting_data,
            usage=kitchen.scores.usage().since(used),
            # A test that shares examples with held_out, in this very kitchen, reports on nothing.
            selected_on=tuple(dict.fromkeys([*recipe.selects_on(scores), *met_by(kitchen, selecting_data, scores)])),
        )
        kitchen.store.end_run(key, "finished", soup.as_dict())
    return soup


def _selecting(kitchen: Kitchen, recipe: Recipe) -> dict[str, Examples]:
    """What selects a soup: splits of this kitchen; and of a place between soups, what selected those loaded back."""
    found = {split: examples_in(kitchen, split) for split in recipe.selects_on(kitchen.splits.names)}
    for run in kitchen.store.runs() if recipe.ends else ():
        if run.status == "finished" and run.result and ELSEWHERE in run.result["notes"] and mix_in(run) in recipe.ends:
            data = from_plain(run.result["selecting_data"])
            found |= {f"{split} of {run.name}": examples for split, examples in data.items()}
    return found


def _learned_from(kitchen: Kitchen, recipe: Recipe, progress: Progress) -> dict[str, str]:
    """What train holds: a run's key has only what kitchen.yaml says of it, so that listing soups does not read it."""
    has_learned = recipe.trains and "train" in recipe.needs
    return {TRAIN: kitchen.splits.load(TRAIN, progress).fingerprint} if has_learned else {}


def _stands(kitchen: Kitchen, recipe: Recipe, run: Run, progress: Progress) -> bool:
    """Whether a finished training is of this kitchen, and of what is in train now."""
    if run.status != "finished" or run.result is None or not is_current(kitchen, run):
        return False
    notes: dict[str, Any] = run.result.get("notes", {})
    return all(notes.get(name) == seen for name, seen in _learned_from(kitchen, recipe, progress).items())


def _again(kitchen: Kitchen, run: Run, on_step: OnStep, progress: Progress) -> Soup:
    """The soup of a finished run whose training would take as long again; its scores come from the store."""
    soup = recall(kitchen, run)
    for step in soup.trajectory:
        on_step(step)
    splits = kitchen.splits.reporting
    wanted = [(soup.mix, split, soup.recipe.aggregation) for split in splits]
    scores = dict(zip(splits, kitchen.scores.each(wanted, progress), strict=True))
    again = replace(soup, scores=scores)
    kitchen.store.end_run(run.key, "finished", again.as_dict())
    return again


def _num_asked(kitchen: Kitchen, recipe: Recipe) -> int:
    """How many scores a search asks for at most."""
    number = len(pool_of(kitchen, recipe))
    return (number + recipe.candidates(number)) * len(recipe.selects_on(kitchen.splits.names))


def _scored_pool(
    kitchen: Kitchen, recipe: Recipe, options: Options, progress: Progress, tell: OnStep, earlier: Sequence[Step]
) -> ScoredPool:
    """What the planner may ask of this kitchen; each answer is kept in the store, and tells how far the search is."""
    names = pool_of(kitchen, recipe)
    selecting = recipe.selects_on(kitchen.splits.names)
    expected = _num_asked(kitchen, recipe)
    scored = 0

    def within(done: int, total: int, what: str) -> None:
        progress(min(scored, expected - 1) * total + done, expected * total, what)

    def attempt(mixture: Coefficients, limit: Limit | None) -> Score | Bound:
        nonlocal scored
        result = kitchen.scores.attempt(mixture, HELD_OUT, recipe.aggregation, within, limit)
        scored += 1
        return result

    def also(mixture: Coefficients, split: str) -> Score:
        nonlocal scored
        result = kitchen.scores.score(mixture, split, recipe.aggregation, within)
        scored += 1
        return result

    return ScoredPool(
        names,
        kitchen.task,
        Objective(kitchen.objective),
        attempt,
        tell,
        facts=lambda name: kitchen.weights.resolve(name).metadata,
        adopt=kitchen.weights.adopt,
        asks=KitchenServices(kitchen, options.progress, recipe.of_statistics, earlier) if recipe.services else None,
        complete=options.complete,
        groups=groups_of(kitchen),
        ahead=kitchen.scores.ahead_on(HELD_OUT, recipe.aggregation),
        shifts=selecting[1:],
        also=also,
        base_is_whole=kitchen.base is not None,
    )
