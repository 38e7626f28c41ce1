"""Diversity: where do ingredients err apart, and where does a soup answer better?"""

import streamlit as st

from soupviz.analysis.wording import alone_tells_nothing
from soupviz.kitchen import Kitchen
from soupviz.ui import clicks, session
from soupviz.ui.diversity import examples, overlaps, pair

PAIRS, SOUP = "Pairs of ingredients", "A soup and its rival"


def draw_pairs(opened: Kitchen, split: str) -> None:
    """Errors in common, gain against disagreement, and one pair closely."""
    if len(opened.names) < 2:
        st.info("This kitchen has one ingredient; a pair needs two. Add a checkpoint to kitchen.yaml.")
        return
    if not opened.task.judges_units:
        st.info(f"There are no errors to hold against each other. {alone_tells_nothing(opened.task, opened.objective)}")
        return
    asked = overlaps.choose_ingredients(opened, split)
    pairs = overlaps.pairs(opened, asked)
    if pairs is None:
        return
    selected = overlaps.chosen_pair(pairs)
    cell = overlaps.draw_overlaps(opened, pairs, asked, selected)
    point = overlaps.draw_made(opened, asked, pairs, selected)
    overlaps.take_click(pairs, overlaps=cell, gains=point)
    pair.draw(opened, asked, pairs)


def draw_soup(opened: Kitchen, split: str) -> None:
    """Classes, confusions and examples of a soup beside a rival."""
    if len(examples.models(opened, [])) < 2:
        st.info("There is one model only. Add a checkpoint or a base to kitchen.yaml, to have something to compare.")
        return
    match = examples.compared(opened, split, *examples.choose(opened))
    if match is not None:
        examples.draw(opened, match)


st.title("Diversity")
st.write("Where do ingredients err apart, and where does a soup answer better?")
OPENED = session.kitchen()
session.keep_url()
clicks.apply()
row = st.container(horizontal=True)
view = row.segmented_control("View", [PAIRS, SOUP], default=PAIRS, required=True, key="view", bind="query-params")
with row:
    SPLIT = overlaps.choose_split(OPENED)
overlaps.wait_for(OPENED, SPLIT)
(draw_pairs if view == PAIRS else draw_soup)(OPENED, SPLIT)
clicks.done()
