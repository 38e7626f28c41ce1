"""Soup: which ingredients and which alpha make the best soup?"""

import streamlit as st

from soupviz.ui import answer, clicks, computing, session
from soupviz.ui.soup import decisions, linked, soups
from soupviz.ui.verbatim import verbatim

st.title("Soup")
st.write("Which ingredients, mixed how, make it better on held_out, and what does alpha do to it?")
opened = session.kitchen()
linked.take_open_soup(opened)
session.keep_url()

recipe = soups.choose_recipe(opened)
job = soups.find_cook_job(opened, recipe)
row = st.container(horizontal=True, vertical_alignment="center")
is_cooking = job is not None and job.is_active
if row.button("Cook", type="primary", disabled=is_cooking, shortcut="Ctrl+Enter"):
    job = computing.cook_job(opened, recipe)
row.caption(verbatim(recipe.title))

if job is None or not session.watch(job, lambda job: decisions.draw_live(opened, recipe, job)):
    steps = st.container()
    soups.draw_plan(opened, recipe)
    soups.draw_soup(opened, recipe)
    if (run := soups.finished(opened, recipe)) is not None and run.status == "finished":
        with steps:
            answer.next_steps(opened, run, is_explained_here=True)

if recipe.method == "greedy" and soups.is_cooked(opened, recipe):
    soups.alpha_sweep(opened, recipe)
clicks.done()
linked.note_open_soup(opened)
