"""The guide of a first visit: three sentences, gone for good once they were read or a soup was cooked."""

import streamlit as st

from soupviz.kitchen import Kitchen
from soupviz.ui import workspace

STEPS = (
    "1. **Choose**: select rows of the table below, or take all of them.",
    "2. **Cook**: on the Soup page a search tries them one by one, and keeps those that make it better on held_out.",
    "3. **Decide**: Compare tells on the test split whether the soup is really better, and Export writes its file.",
)


def first_visit(opened: Kitchen) -> None:
    """What to do here, for who has never cooked; whoever has, or says so, does not see it again in any kitchen."""
    if workspace.is_guided():
        return
    if opened.store.num_runs():
        workspace.remember_guided()
        return
    with st.container(border=True, key="guide"):
        st.markdown("\n".join(STEPS))
        if st.button("Got it", key="guided"):
            workspace.remember_guided()
            st.rerun()
