"""Shift: does what is better in distribution stay better when the data shift?"""

import streamlit as st

from soupviz.ui import session
from soupviz.ui.ending import end_page
from soupviz.ui.shift import picture
from soupviz.ui.shift.scores import KITCHEN, TABLE, of_kitchen, of_table, open_soup

st.title("Shift")
st.write("Is a soup more robust to a shift of the data than its score without shift says?")
session.keep_url()
source = st.segmented_control(
    "Scores of", [KITCHEN, TABLE], default=KITCHEN, required=True, key="source", bind="query-params"
)
found = of_kitchen() if source == KITCHEN else of_table()
if found is None:
    end_page()
view = picture.choose(found, kinds_can_change=source == TABLE)
if view is not None and source == KITCHEN:
    picture.draw(view, st.session_state.get("members") or [], open_soup)
elif view is not None:
    picture.draw(view)
