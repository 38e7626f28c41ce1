"""History: what was cooked here, and what came of it?"""

import streamlit as st

from soupviz.analysis import history as core
from soupviz.ui import session
from soupviz.ui.ending import end_page
from soupviz.ui.history import meanwhile, one_run, runs, two_runs

st.title("History")
st.write("What was cooked in this kitchen, by which recipe and when, and what came of it?")
opened = session.kitchen()
session.keep_url()

entries = core.entries(opened)
meanwhile.watch(opened, entries)
runs.offer_undo(opened)
runs.ask_before_deleting(opened)
if not entries:
    st.info("Nothing was cooked here yet: cook a soup on the Soup page, or the menu on the Compare page.")
    end_page()
runs.watch_cooking(opened)
shown = runs.filtered(entries)
selected = runs.selected(opened, shown)
row = st.container(horizontal=True, vertical_alignment="center")
with row:
    runs.offer_to_delete_many(opened, entries, shown)
    if len(selected) > 1:
        runs.offer_to_delete_selected(opened, selected)
row.caption(
    f"{len(shown)} of {len(entries)} runs. Select one to open, repeat, change, pin, name or delete it; "
    "two to see them side by side."
)
if len(selected) == 1:
    one_run.draw(opened, selected[0])
elif len(selected) == 2:
    two_runs.draw(opened, *sorted(selected, key=lambda entry: entry.run.id))
elif selected:
    st.info(f"{len(selected)} runs are selected; side by side there is room for two.")
