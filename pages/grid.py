"""Grid: how do two numbers of one recipe work together?"""

import streamlit as st

from soupviz.ui import grid, session

st.title("Grid")
st.write("How do two numbers of one recipe work together, and which pair is best on held_out?")
opened = session.kitchen()
session.keep_url()
chosen = grid.choose(opened)
cells, outcomes, is_drawn = grid.compute(opened, chosen)
if not is_drawn:
    grid.summarize(opened, chosen, outcomes, grid.draw_map(opened, chosen, cells, outcomes))
if run := grid.open_cell(opened, chosen, outcomes):
    grid.draw_cell(opened, run)
