"""A place between other models is kept as a soup, and judged as every soup is."""

import streamlit as st

from soupviz.kitchen import Kitchen
from soupviz.recipes import Recipe
from soupviz.soups.soup import run_key
from soupviz.store.runs import Run
from soupviz.ui import computing, session, verdict, work
from soupviz.ui.verbatim import verbatim


def offer(opened: Kitchen, recipe: Recipe) -> None:
    """A button that cooks the recipe; once it is among the soups, what can be said of it."""
    run = opened.store.run(run_key(opened, recipe))
    cooking = work.jobs().find(computing.cook_key(opened, recipe))
    if cooking is not None and session.watch(cooking):
        return
    if run is None or run.status != "finished" or run.result is None:
        if st.button("Keep as a soup", type="primary", key=f"keep {computing.cook_key(opened, recipe)}"):
            computing.cook_job(opened, recipe)
            st.rerun()
        return
    show(opened, run)


def show(opened: Kitchen, run: Run) -> None:
    """That a run is kept, and the verdict on it."""
    st.success(f"Kept: “{verbatim(run.name)}” is among the soups on the Compare page.")
    verdict.draw(opened, run)
