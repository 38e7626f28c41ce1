"""Jobs that compute what a page asks for: scores, soups, and sweeps."""

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from soupviz.analysis.grids import mark, unmark
from soupviz.analysis.verdicts import of_the_best
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.recipes import Greedy, Recipe, recipe_digest
from soupviz.soups.cooking import cook
from soupviz.soups.menu import cook_menu
from soupviz.soups.soup import run_key
from soupviz.soups.textbook import sweep
from soupviz.types import Alpha, Coefficients
from soupviz.ui import work
from soupviz.ui.jobs import Job
from soupviz.weights.selection import BASE


def score_job(opened: Kitchen, split: str, extra: Sequence[tuple[Coefficients, str]] = ()) -> Job:
    """Score the ingredients, their average, the base, and further mixes each with its own aggregation."""
    names = [*opened.names, BASE] if opened.base else opened.names
    mixes: list[tuple[Coefficients, str]] = [(((name, 1.0),), "average") for name in names]
    mixes += [(mean_of(opened.pool), "average"), *extra]

    def do(job: Job) -> None:
        opened.scores.score_all([(mixture, split, aggregation) for mixture, aggregation in mixes], job.progress)

    return work.jobs().submit(f"score {split} {opened.file}", f"Scoring on {split}", do, kitchen=str(opened.file))


def find_score_job(opened: Kitchen, split: str) -> Job | None:
    """The newest job that scores a split of this kitchen."""
    return work.jobs().find(f"score {split} {opened.file}")


def score_job_if_needed(opened: Kitchen, split: str) -> Job:
    """The job that scores a split; started once for each opening of a kitchen (what is in the store costs nothing)."""
    job = find_score_job(opened, split)
    started = _started().get(f"{split} {opened.file}")
    if job is not None and started is not None and started() is opened:
        return job
    _started()[f"{split} {opened.file}"] = weakref.ref(opened)
    return score_job(opened, split)


@st.cache_resource(show_spinner=False)
def _started() -> dict[str, "weakref.ref[Kitchen]"]:
    """For which opening of a kitchen the scores of a split were asked for; it holds none of them."""
    return {}


def forget_started() -> None:
    """Let the ingredients be scored anew, after their scores were forgotten."""
    _started().clear()


def cook_job(opened: Kitchen, recipe: Recipe) -> Job:
    """Cook a recipe, and score what its soup is judged against; the job's events are its decisions."""

    def do(job: Job) -> Any:
        job.events.clear()
        cooked = cook(opened, recipe, progress=job.progress, on_step=job.events.append)
        unmark(opened, cooked.key)
        opened.scores.score_all(of_the_best(opened), job.progress)
        return cooked.key

    return work.jobs().submit(cook_key(opened, recipe), recipe.title, do, kitchen=str(opened.file))


def menu_job(opened: Kitchen) -> Job:
    """Cook every recipe that fits; the job's result says which do not, and why."""

    def do(job: Job) -> Any:
        menu = cook_menu(opened, progress=job.progress)
        unmark(opened, *(soup.key for soup in menu.soups))
        return dict(menu.left_out)

    return work.jobs().submit(f"menu {opened.file}", "The menu", do, kitchen=str(opened.file))


def complete_job(opened: Kitchen, recipe: Recipe) -> Job:
    """Score a finished search's rejected candidates whole, behind everything the user asks for; started once."""
    key = f"complete {cook_key(opened, recipe)}"
    known = work.jobs().find(key)
    if known is not None:
        return known

    def on(kitchen: Kitchen) -> Callable[[Job], Any]:
        return lambda job: cook(kitchen, recipe, progress=job.progress, complete=True).key

    return work.ahead(opened, key, "Scoring the rejected whole", on)


def cook_key(opened: Kitchen, recipe: Recipe) -> str:
    return f"cook {recipe_digest(recipe)} {opened.file}"


def sweep_job(opened: Kitchen, recipe: Greedy, alphas: list[Alpha]) -> Job:
    """Cook greedy soups for a grid of alphas, behind everything the user asks for."""
    parameters = recipe.model_dump(exclude={"method", "alpha"})

    def on(kitchen: Kitchen) -> Callable[[Job], None]:
        def do(job: Job) -> None:
            keys = [run_key(kitchen, recipe.model_copy(update={"alpha": alpha})) for alpha in alphas]
            mark(kitchen, *(key for key in keys if kitchen.store.run(key) is None))
            sweep(kitchen, alphas, progress=job.progress, **parameters)

        return do

    return work.ahead(opened, _sweep_key(opened, recipe), "Alpha sweep", on)


def _sweep_key(opened: Kitchen, recipe: Greedy) -> str:
    return f"sweep {recipe_digest(recipe.model_copy(update={'alpha': 'mean'}))} {opened.file}"


def find_sweep_job(opened: Kitchen, recipe: Greedy) -> Job | None:
    """The newest sweep of this recipe."""
    return work.jobs().find(_sweep_key(opened, recipe))
