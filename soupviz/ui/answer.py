"""What the work has come to so far, in a sentence, and the steps that follow from it."""

from collections.abc import Sequence

import streamlit as st

from soupviz.analysis.verdicts import Verdict, verdict_of
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.recipes import parse
from soupviz.soups.soup import aggregation_in, mix_in
from soupviz.store.runs import Run
from soupviz.tasks.significance import chance
from soupviz.tasks.wording import places, shown
from soupviz.ui import computing, session, work, workspace
from soupviz.ui.history import runs
from soupviz.ui.history.one_run import settings
from soupviz.ui.soup import decisions
from soupviz.ui.verbatim import verbatim

SHOWN = parse({"method": "greedy"})
"""What the demo is shown with: whoever opens it sees what a soup is without having cooked one."""


COOKED = "cooked on the first page"
"""In the session: the kitchen's file, the recipe, and the soup that was open then."""


def cook(opened: Kitchen, members: Sequence[str]) -> None:
    """Cook the greedy soup of some ingredients, or of all, where the answer stands."""
    recipe = parse(SHOWN.model_dump() | {"members": tuple(members) if len(members) > 1 else None})
    computing.cook_job(opened, recipe)
    st.session_state[COOKED] = str(opened.file), recipe, session.soup_key()
    st.rerun()


def is_cooking(opened: Kitchen) -> bool:
    """Draw what was cooked last on this page while it comes; what it came to is the soup that is open."""
    file, recipe, before = st.session_state.get(COOKED, ("", None, ""))
    job = work.jobs().find(computing.cook_key(opened, recipe)) if file == str(opened.file) else None
    if job is None:
        return False
    if session.watch(job, lambda job: decisions.draw_live(opened, recipe, job)):
        return True
    if job.state != "failed":
        del st.session_state[COOKED]
    if job.state == "finished" and (run := opened.store.run(job.result)):
        st.toast(f"Cooked: {verbatim(run.name)}, no. {run.id} in History.", icon=":material/soup_kitchen:")
        if session.soup_key() == before:
            session.choose_soup(run)
    return False


def draw(opened: Kitchen) -> None:
    """On the first page: the soup that is open, else the best, against the best checkpoint; nothing before one is."""
    reading = work.find_read_job(opened)
    if reading is not None and session.watch(reading):  # what is not read yet would seem not to be scored
        return
    if run := session.chosen_run(opened):
        st.session_state[session.ANSWERED] = str(opened.file), run.key[:12]
        with st.container(border=True, key="answer"):
            st.markdown(told(opened, run, verdict_of(opened, run)))
            next_steps(opened, run)
    elif opened.file == workspace.demo_file():
        session.watch(work.jobs().find(computing.cook_key(opened, SHOWN)) or computing.cook_job(opened, SHOWN))


def told(opened: Kitchen, run: Run, found: Verdict) -> str:
    """ "greedy (alpha = mean), of 5: 92.4 % on test; best single, ft_03: 89.1 %; better, p = 0.002"."""
    metric, split, best = opened.objective, found.reports_on, found.best
    number = len(mix_in(run))
    named = f"**{verbatim(run.name)}**, of {number}"
    is_told = best is not None and split in best.differences and mix_in(run) != best.mix
    if best is None or not is_told:
        return f"{named}: {verbatim(found.sentence)}"
    verdict = found.sentence.partition(":")[0].rstrip(".").lower()
    one, digits = best.differences[split], places(found.values[split].num_units)
    has, had = (shown(metric, whose.values[split].value, digits) for whose in (found, best))
    return (
        f"{named}: **{has}** on {split}; best single, {verbatim(best.name)}: {had}; {verdict}, "
        f"{chance(one.p_value, one.is_least)}."
    )


def next_steps(opened: Kitchen, run: Run, *, is_explained_here: bool = False) -> None:
    """After a soup: why these, is it real, take it along; from the demo also to a kitchen of one's own.

    Args:
        is_explained_here: its decisions stand on this page.
    """
    query = {"kitchen": str(st.session_state["kitchen"]), "soup": run.key[:12]}
    row = st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="next steps")
    recipe = runs.recipe_of(run)
    if is_explained_here:
        row.markdown("[:material/manage_search: Why these?](#decisions)", width="content")
    elif recipe is not None and (place := settings(opened, recipe)) is not None:
        page, own, _ = place
        led = query | own | ({decisions.AT: decisions.PLACE} if page == "soup" else {})
        row.page_link(f"pages/{page}.py", label="Why these?", icon=":material/manage_search:", query_params=led)
    row.page_link("pages/compare.py", label="Is it real?", icon=":material/balance:", query_params=query)
    if aggregation_in(run) not in OUTPUTS:
        row.page_link("pages/export.py", label="Take it with me", icon=":material/download:", query_params=query)
    if opened.file == workspace.demo_file():
        row.page_link("pages/kitchens.py", label="Open my own checkpoints", icon=":material/folder_open:")
