"""Writing a soup's report: what it costs, the job, and the file to take away."""

from pathlib import Path

import streamlit as st

from soupviz.addresses import is_remote
from soupviz.errors import SoupError
from soupviz.kitchen import Kitchen
from soupviz.reports.contents import needed
from soupviz.reports.page import check_target, report
from soupviz.soups.planning import cost
from soupviz.soups.soup import recall
from soupviz.store.runs import Run
from soupviz.ui import asking, workspace
from soupviz.ui.export import exporting
from soupviz.ui.jobs import Job
from soupviz.ui.verbatim import code, verbatim

AGAIN = "reports written again"


def draw(opened: Kitchen, run: Run, folder: str | None = None) -> None:
    """The button that writes a report of a finished run, and once it is written the file.

    Args:
        folder: where to, below the dashboard's folders; of an address, and by default: the first of these.
    """
    st.caption("Everything known of this soup in one HTML file, with its pictures; it reads without a network.")
    try:
        here = str(workspace.roots()[0]) if not folder or is_remote(folder) else folder
        place = exporting.target(here, f"{exporting.file_name(run.name)}.html")
        check_target(place)
    except SoupError as error:
        st.error(verbatim(str(error)))
        return
    soup = recall(opened, run)

    def write(job: Job) -> Path:
        return report(soup, place, progress=job.progress)

    written = st.session_state.setdefault(AGAIN, {})
    key = f"report {run.key} {place} {written.get(run.key, 0)}"
    job = asking.result(opened, key, "Make a report", lambda: cost(opened, needed(soup)), write)
    if job is None:
        return
    row = st.container(horizontal=True, vertical_alignment="center")
    if place.is_file():
        row.download_button(
            "Download the report", place.read_bytes(), place.name, "text/html", icon=":material/download:"
        )
    if row.button("Make it again", help="With what was measured since."):
        written[run.key] = written.get(run.key, 0) + 1
        st.rerun()
    where = code(str(place))
    row.markdown(f"The report: {where}" if place.is_file() else f"{where} is no longer there.")
