"""Ingredients: which checkpoints are there, how good is each, and which do I take?"""

import streamlit as st

from soupviz.spec import HELD_OUT, TEST
from soupviz.ui import answer, computing, opening, recognising, session, tables, widgets, work
from soupviz.ui.jobs import Job

st.title("Ingredients")
st.write("Which checkpoints are there, how good is each, and which do I take into the soup?")
opened = session.kitchen()
session.keep_url()

recognising.told(opened)
opening.offer_split(opened)
first, row = st.container(), st.container(horizontal=True)
scoring = computing.score_job_if_needed(opened, HELD_OUT)
widgets.headline(opened)
widgets.refused(opened)
widgets.notes(opened)
widgets.data_notes(opened)


def draw(_job: Job | None = None) -> None:
    """The table, which fills while scores come; its selection is the subset for the next page."""
    table, same = tables.without_shared(opened, tables.ingredients(opened))
    chosen = widgets.ingredient_table(opened, widgets.filtered(opened, table))
    widgets.shared(same)
    st.session_state["members"] = chosen


with first:
    is_cooking = answer.is_cooking(opened)
if not session.watch(scoring, draw):
    if not is_cooking:
        with first:
            answer.draw(opened)
    draw()
chosen = st.session_state.get("members") or []
session.keep_url()

widgets.disagreements(opened)
label = f"Cook with these {len(chosen)}" if len(chosen) > 1 else "Cook with all"
if row.button(label, type="primary", shortcut="Ctrl+Enter"):
    answer.cook(opened, chosen)
if row.button("Look for new files", help="Reads the folder again, for a sweep still running."):
    work.close_kitchen(opened.file)
    st.rerun()
has_test = TEST in opened.splits.names
if row.button("Score the test split", disabled=not has_test):
    computing.score_job(opened, TEST)
    st.rerun()
if test_job := computing.find_score_job(opened, TEST):
    session.watch(test_job)

widgets.scatter(opened, tables.without_shared(opened, tables.ingredients(opened))[0], chosen)
