"""The Soup page's parts: choosing a recipe, the finished soup, the alpha sweep."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import streamlit as st

from soupviz.analysis import decision_words
from soupviz.errors import SoupError
from soupviz.kitchen import Kitchen
from soupviz.pictures import search
from soupviz.recipes import MENU, Greedy, Recipe, parse
from soupviz.recipes.trajectory import Step
from soupviz.scoring.executors.usage import Usage
from soupviz.soups import planning
from soupviz.soups.goals import goal_of, goals_of
from soupviz.soups.needs import lacking_for
from soupviz.soups.soup import aggregation_in, mix_in, run_key
from soupviz.spec import HELD_OUT, TEST
from soupviz.store.runs import Run
from soupviz.tasks.metric import Value, is_share
from soupviz.tasks.wording import cell, places, titled
from soupviz.types import Alpha
from soupviz.ui import asking, charts, clicks, computing, session, verdict, widgets, work, workers
from soupviz.ui.ending import end_page
from soupviz.ui.jobs import Job
from soupviz.ui.soup import decisions, forms, learned, onerun, panels, precision
from soupviz.ui.verbatim import verbatim

BY_ALPHA, BY_MEAN = "greedy, alpha", "greedy, mean"
RECIPES = {BY_ALPHA: Greedy, BY_MEAN: Greedy} | {kind.label: kind for kind in MENU.values() if kind is not Greedy}
"""By the name on the page; greedy stands there twice, as alpha is a number or the mean."""
SWEPT: tuple[Alpha, ...] = tuple(round(0.05 * step, 2) for step in (2, 10, 6, 14, 18, 4, 8, 12, 16, 1, 3, 5, 7, 9, 20))
"""Alphas computed ahead, coarse to fine."""

ALPHAS = 0.05, 1.0
"""From which to which a newcomer's weight can be chosen."""

UNASKED = 600.0
"""Seconds that searches nobody asked for may take at most."""


def choose_recipe(opened: Kitchen) -> Recipe:
    """The widgets on top of the page, as a recipe; what is chosen stands in the URL."""
    with clicks.applied():
        return _chosen(opened)


def _chosen(opened: Kitchen) -> Recipe:
    chosen = [name for name in st.session_state.get("members") or [] if name in opened.names]
    row = st.container(horizontal=True)
    label = row.selectbox("Recipe", list(RECIPES), key="recipe", bind="query-params", width=230)
    kind = RECIPES[label]
    members = st.multiselect(
        "Ingredients", opened.names, default=chosen, placeholder=f"all {len(opened.names)}", key="pool",
        help="Empty means all. Rows selected on the Ingredients page arrive here.",
    )  # fmt: skip
    st.session_state["members"] = members
    session.keep_url()  # the link to this page names them
    values: dict[str, Any] = {"members": tuple(members) or None}
    if widgets.has_batchnorm(opened) and kind.mixes_weights:
        values["batchnorm"] = row.selectbox(
            "BatchNorm statistics", widgets.aggregations(opened), key="batchnorm", bind="query-params", width=170
        )
    if label == BY_MEAN:
        values["alpha"] = "mean"
    elif label == BY_ALPHA:
        values["alpha"] = row.slider(
            "alpha, the newcomer's weight", *ALPHAS, 0.1, 0.05, key="alpha", bind="query-params", width=280,
            help="(1 − alpha) · soup + alpha · newcomer",
        )  # fmt: skip
    parameters = (
        {"method": kind.model_fields["method"].default}
        | values
        | forms.parameters(kind, row, opened.task, goals_of(opened), decided=values)
    )
    try:
        recipe = parse(parameters).suited(opened.task)
        missing = lacking_for(opened, recipe.needs) or recipe.unfit(opened.task)
    except SoupError as error:
        missing = str(error)
    if missing:
        st.error(verbatim(missing))
        end_page()
    return recipe


def find_cook_job(opened: Kitchen, recipe: Recipe) -> Job | None:
    """The newest job that cooks this recipe; one that was cancelled only until others took up its run."""
    job = work.jobs().find(computing.cook_key(opened, recipe))
    if job is None or job.state != "cancelled":
        return job
    run = finished(opened, recipe)
    return None if run is not None and run.status in ("running", "finished") else job


def draw_plan(opened: Kitchen, recipe: Recipe) -> None:
    """What cooking will cost at most, unless it is done already."""
    cost = planning.cooking_cost(opened, recipe)
    if not cost.evaluations:
        return
    time = f", {cost.seconds:.0f} s" if cost.seconds is not None else ""
    time += asking.starting(opened)
    st.caption(
        f"At most {cost.evaluations} evaluations ({cost.known} more are known){time}{_shared(cost)}; "
        f"reads {_megabytes(cost.bytes_read)} of checkpoints, takes {_megabytes(cost.peak_bytes)} of memory."
        + (" What it learns from, and the learning itself, is not in that." if recipe.trains else "")
        + "".join(f" {verbatim(note)}" for note in cost.notes)
    )


def _shared(cost: planning.CookingCost) -> str:
    return f" with {cost.workers} workers, at best {cost.utilisation:.0%} busy" if cost.workers > 1 else ""


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.0f} MB" if num_bytes < 1e10 else f"{num_bytes / 1e9:,.0f} GB"


def finished(opened: Kitchen, recipe: Recipe) -> Run | None:
    """The run of this very recipe, if it was finished before."""
    try:
        run = opened.store.run(run_key(opened, recipe))
    except SoupError as error:
        st.error(verbatim(str(error)))
        end_page()
    return run


def is_cooked(opened: Kitchen, recipe: Recipe) -> bool:
    """Whether there is a finished soup of this recipe."""
    run = finished(opened, recipe)
    return run is not None and run.status == "finished"


def was_asked_for(opened: Kitchen, recipe: Recipe) -> bool:
    """Whether this recipe was cooked here, rather than earlier, or ahead."""
    return work.jobs().find(computing.cook_key(opened, recipe)) is not None


def draw_soup(opened: Kitchen, recipe: Recipe) -> None:
    """The soup of this recipe, or what to do to get one."""
    onerun.draw_windows(opened, recipe)
    run = finished(opened, recipe)
    if run is None:
        st.info("Not computed yet: **Cook** it. The search shows its decisions while it runs; Cancel keeps its scores.")
        return
    if run.status == "running":  # as a part of a sweep or of the menu, say
        here = next((job for job in work.jobs().active() if job.state == "running"), None)
        who = f"“{here.title}”" if here is not None and here.kitchen == str(opened.file) else "Another process"
        st.info(verbatim(f"{who} is at this very search: this is as far as it has come."))
    elif run.status != "finished":
        st.info(f"This run is {run.status}. Cook goes on from its last score.")
    if run.status == "finished":
        session.choose_soup(run)
    draw_result(opened, run)
    is_whole = all(Step.from_dict(step).value is not None for step in opened.store.decisions(run))
    if run.status == "finished" and was_asked_for(opened, recipe) and not is_whole:
        session.watch(computing.complete_job(opened, recipe))
    if run.status == "finished":
        onerun.draw_choices(opened, recipe, run)
        panels.draw(opened, run)
        if recipe.newcomer_weight is not None:
            precision.compare(opened, recipe, run)


def draw_result(opened: Kitchen, run: Run) -> None:
    """A run's verdict, decisions and coefficients, as far as it has them."""
    result = run.result or {}
    if run.status == "finished":
        verdict.draw(opened, run)
        if result["clamped_variances"]:
            st.caption(f"{result['clamped_variances']} running variances were below 0 and are clamped.")
        if result.get("usage"):
            st.caption(workers.told(Usage.from_plain(result["usage"])))
    left, right = st.columns([3, 2]) if opened.store.decisions(run) else (st.container(), st.container())
    if result.get("coefficients"):
        right.header("Coefficients")
        charts.show(
            search.coefficients(result["coefficients"]), key="coefficients", alt="Coefficients as bars", place=right
        )
    elif "mix" in result:
        right.header("Not one weighted sum")
        right.caption(f"Made from {len(result['pool'])} ingredients: {verbatim(', '.join(result['pool']))}.")
    learned.draw_notes(right, result.get("notes", {}))
    decisions.draw(opened, run, left)


def alpha_sweep(opened: Kitchen, recipe: Greedy) -> None:
    """The value against alpha, all else as the recipe has it: in the background, behind what the user asks for."""
    st.header("The same search for other alphas")
    keys = {alpha: run_key(opened, recipe.model_copy(update={"alpha": alpha})) for alpha in SWEPT}
    runs = opened.store.finished(keys.values())
    missing = [alpha for alpha, key in keys.items() if key not in runs]
    job = computing.find_sweep_job(opened, recipe)
    searches = [recipe.model_copy(update={"alpha": alpha}) for alpha in missing] if job is None else []
    cost = planning.cost_of_all(opened, searches)
    is_quick = (cost.seconds or 0.0) <= UNASKED
    ahead = st.toggle(
        "Compute ahead",
        value=is_quick and was_asked_for(opened, recipe),
        key="ahead",
        help="At low priority, while nothing else runs.",
    )
    if searches and not ahead:
        st.caption(f"{len(missing)} searches: at most {asking.told(cost, opened)}.")
    if missing and ahead and (job is None or job.state == "finished"):
        job = computing.sweep_job(opened, recipe, missing)

    def draw(_job: Job | None = None) -> None:
        runs = opened.store.finished(keys.values())
        known = [
            sweep_row(opened, alpha, runs[keys[alpha]]) for alpha in sorted(SWEPT, key=float) if keys[alpha] in runs
        ]
        if known:
            at = recipe.alpha if isinstance(recipe.alpha, float) else None
            alt = f"{titled(opened.objective)} of the greedy soup against alpha"
            picture = search.sweep(known, at, opened.objective, of=opened.splits.num_examples(HELD_OUT))
            charts.show(picture, key="sweep", alt=alt)
            st.caption(f"{len(known)} of {len(SWEPT)} alphas computed.{_best_alpha(opened, recipe, keys, runs)}")

    if job is not None and session.watch(job, draw):
        return
    draw()
    if missing and ahead and job is not None and st.button("Go on", key=f"go on {job.key}"):
        computing.sweep_job(opened, recipe, missing)
        st.rerun()


def _best_alpha(opened: Kitchen, recipe: Greedy, keys: Mapping[Alpha, str], runs: Mapping[str, Run]) -> str:
    """Which alpha is best by what the search raises, in a sentence; empty where that is not known of any."""
    values = {alpha: raised(opened, recipe, runs[key]) for alpha, key in keys.items() if key in runs}
    found = {alpha: value for alpha, value in values.items() if value is not None}
    if not found:
        return ""
    best = max(found, key=lambda alpha: found[alpha])
    metric = opened.objective
    what = decision_words.goal(opened.task, metric, recipe.objective or metric.name)
    digits = places(opened.splits.num_examples(HELD_OUT))
    told = cell(metric, sweep_row(opened, best, runs[keys[best]])["held_out"], digits)
    has = f"{told} of held_out right" if is_share(metric) else f"{metric.label} {told} on held_out"
    return f" Best by {what}: alpha = {best:g}, with {has}; choosing it is one more choice made on held_out."


def raised(opened: Kitchen, recipe: Greedy, run: Run) -> tuple[int, Value] | None:
    """What a search raises, of the soup that it ended with, as merit; None where that was not measured here."""
    mix, aggregation = mix_in(run), aggregation_in(run)
    selecting = recipe.selects_on(opened.splits.names)
    held_out, *further = [planning.known(opened, mix, split, aggregation) for split in selecting]
    if held_out is None or None in further:
        return None
    score = replace(held_out, further=tuple(one for one in further if one is not None))
    return goal_of(opened, recipe.objective, recipe.shift_weight).merit(score)


def sweep_row(opened: Kitchen, alpha: Alpha, run: Run) -> dict[str, float | None]:
    """One point of the sweep, by the kitchen's metric."""
    scores, name = (run.result or {})["scores"], opened.objective.name
    values = {
        split: opened.scores.recalled(scores[split], split).shown(name) if split in scores else None
        for split in (HELD_OUT, TEST)
    }
    return {"alpha": float(alpha), **values}
