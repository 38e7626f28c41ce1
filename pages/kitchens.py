"""Kitchens: which kitchens are there, how do I open another, and what is kept on disk?"""

import streamlit as st

from soupviz.ui import opening, recognising, session, work, workspace
from soupviz.ui.verbatim import code, verbatim

st.title("Kitchens")
st.write("Which kitchens are there, how do I open another one, and what is kept on disk?")
session.keep_url()
current = session.chosen_file()
opened = work.opened_kitchen(current)

st.header("Open a folder")
recognising.a_folder()

st.header("Kitchens opened before, or found")
known = dict.fromkeys([workspace.demo_file(), *workspace.opened_before(), *workspace.found_kitchens()])
for file in known:
    row = st.container(horizontal=True, vertical_alignment="center")
    is_demo = file == workspace.demo_file()
    if row.button("Open", key=f"open {file}", disabled=file == current and opened is not None):
        session.choose_file(file)
        st.switch_page("pages/ingredients.py")
    row.write("Demo: handwritten digits" if is_demo else f"**{verbatim(file.parent.name)}** {code(str(file))}")

st.header("Open by path")
opening.by_path()
st.header("Open without a file")
opening.without_file()
st.header("Kept on disk")
opening.kept(opened)
