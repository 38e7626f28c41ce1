"""Would another precision decide the same? The search again, evaluated in it, beside the kitchen's own."""

from typing import Any

import pandas as pd
import streamlit as st

from soupviz.kitchen import Kitchen, at_precision
from soupviz.pictures import search
from soupviz.recipes import Recipe
from soupviz.recipes.trajectory import Step, steps_from
from soupviz.soups.cooking import cook
from soupviz.spec import Precision
from soupviz.store.runs import Run
from soupviz.tasks.metric import Metric
from soupviz.ui import computing, session, work
from soupviz.ui.jobs import Job
from soupviz.ui.verbatim import verbatim


def other_than(precision: Precision) -> Precision:
    """What a precision is compared with."""
    return "bfloat16" if precision == "float32" else "float32"


def compare(opened: Kitchen, recipe: Recipe, run: Run) -> None:
    """A button, then both trajectories side by side, and a sentence on whether they decide the same."""
    own = opened.spec.precision
    other = other_than(own)
    key = f"{other} {computing.cook_key(opened, recipe)}"
    with st.expander(f"Would {other} decide the same?"):
        job = work.jobs().find(key)
        if job is None or job.state == "cancelled":
            st.write(f"The same search, evaluated in {other}; its scores are kept apart from those in {own}.")
            if st.button(f"Search in {other}"):
                job = _job(opened, recipe, other, key)
        if job is not None and not session.watch(job) and job.state == "finished":
            steps = list(steps_from(opened.store.decisions(run)))
            st.write(verbatim(verdict(steps, job.result, own, other)))
            st.dataframe(
                table(opened.objective, steps, job.result, own, other),
                hide_index=True,
                alt="Decisions in two precisions",
            )


def _job(opened: Kitchen, recipe: Recipe, precision: Precision, key: str) -> Job:
    def work_on(job: Job) -> Any:
        return list(cook(at_precision(opened, precision), recipe, progress=job.progress).trajectory)

    return work.jobs().submit(key, f"{recipe.title} in {precision}", work_on, kitchen=str(opened.file))


def verdict(own: list[Step], other: list[Step], name: str, other_name: str) -> str:
    """Whether two searches accepted the same ingredients, in a sentence."""
    accepted = [[step.ingredient for step in steps if step.accepted] for steps in (own, other)]
    if accepted[0] == accepted[1]:
        return f"Yes: both accept {', '.join(accepted[0])}."
    told = [", ".join(names) for names in accepted]
    return f"No: {name} accepts {told[0]}; {other_name} accepts {told[1]}."


def table(metric: Metric, own: list[Step], other: list[Step], name: str, other_name: str) -> pd.DataFrame:
    """One row per ingredient, in the order of the first search: decision and value in both."""
    theirs = {step.ingredient: step for step in other}
    return pd.DataFrame(
        {
            "ingredient": step.ingredient,
            name: step.outcome,
            f"{metric.label} in {name}": search.told(step, metric),
            other_name: theirs[step.ingredient].outcome,
            f"{metric.label} in {other_name}": search.told(theirs[step.ingredient], metric),
        }
        for step in own
    )
