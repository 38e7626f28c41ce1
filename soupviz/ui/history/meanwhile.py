"""What becomes of the list while it is looked at: others cook and delete in the same kitchen."""

from collections.abc import Sequence

import streamlit as st

from soupviz.analysis.history import Entry
from soupviz.kitchen import Kitchen
from soupviz.store.runs import Run
from soupviz.ui.redrawing import redrawn
from soupviz.ui.verbatim import verbatim

EVERY = 5.0
"""Seconds between two looks."""

LISTED, DELETED = "listed runs", "deleted"
"""In the session, with the kitchen's file: the runs that were drawn last by their numbers; what it deleted last."""


def watch(opened: Kitchen, entries: Sequence[Entry]) -> None:
    """Draw the page anew once its runs are no longer those of the store, and say which of them were deleted."""
    drawn = _as_seen([entry.run for entry in entries])

    def look() -> None:
        if _as_seen(opened.store.runs()) != drawn:
            st.rerun()

    redrawn(look, every=EVERY)
    file, before = st.session_state.get(LISTED, ("", {}))
    now = {entry.run.id: entry.run.name for entry in entries}
    st.session_state[LISTED] = str(opened.file), now
    _, mine = st.session_state.get(DELETED, ("", []))
    gone = [name for number, name in before.items() if number not in now and number not in {run.id for run in mine}]
    if file == str(opened.file) and gone:
        listed = ", ".join(f"“{name}”" for name in gone[:3]) + ", …" * (len(gone) > 3)
        st.info(verbatim(f"Deleted meanwhile, not here: {listed}."))


def _as_seen(runs: Sequence[Run]) -> list[tuple[int, str, str, bool]]:
    return sorted((run.id, run.status, run.name, run.pinned) for run in runs)
