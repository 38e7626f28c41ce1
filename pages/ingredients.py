"""Ingredients: which checkpoints are there, how good is each, and which do I take?"""

import streamlit as st

from soupviz.ui import guide, session, tables, widgets, work
from soupviz.ui.jobs import Job

st.title("Ingredients")
st.write("Which checkpoints are there, how good is each, and which do I take into the soup?")
opened = session.kitchen()
session.keep_url()

guide.first_visit(opened)
scoring = work.score_job_if_needed(opened, "held_out")
widgets.headline(opened)
widgets.refused(opened)
widgets.notes(opened)
widgets.data_notes(opened)
widgets.offer_test_split(opened)


def draw(_job: Job | None = None) -> None:
    """The table, which fills while scores come; its selection is the subset for the next page."""
    table = widgets.filtered(tables.ingredients(opened))
    chosen = widgets.ingredient_table(table)
    st.session_state["members"] = chosen


if not session.watch(scoring, draw):
    draw()
chosen = st.session_state.get("members") or []
session.keep_url()

left, middle, right = st.columns(3)
label = f"Cook with these {len(chosen)}" if len(chosen) > 1 else "Cook with all"
if left.button(label, type="primary", width="stretch", shortcut="Ctrl+Enter"):
    st.switch_page("pages/soup.py")
if middle.button("Look for new files", width="stretch", help="Reads the folder again, for a sweep still running."):
    work.close_kitchen(opened.file)
    st.rerun()
has_test = "test" in opened.split_names
if right.button("Score the test split", width="stretch", disabled=not has_test):
    work.score_job(opened, "test")
    st.rerun()
if test_job := work.find_score_job(opened, "test"):
    session.watch(test_job)

widgets.scatter(tables.ingredients(opened), chosen)
