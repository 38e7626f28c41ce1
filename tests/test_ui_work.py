"""What the server does behind the pages: kitchens held open, and the jobs that pages start."""

from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from test_imports import imported

import soupviz.ui
from soupviz.ui.jobs import Job

UI = Path(soupviz.ui.__file__).parent


def test_the_rooms_of_the_dashboard_import_one_way() -> None:
    rooms = {path.stem: imported(path.read_text(encoding="utf-8")) for path in UI.glob("*.py")}
    graph = {room: {name for name in rooms if f"soupviz.ui.{name}" in names} for room, names in rooms.items()}
    order = list(TopologicalSorter(graph).static_order())  # a circle raises CycleError
    assert order.index("jobs") < order.index("work") < order.index("session") < order.index("sidebar")


def one_watched_job() -> None:
    import streamlit as st

    from soupviz.ui import session

    job = st.session_state["job"]
    if not session.watch(job):
        st.write(f"after the end: {job.state}")


@pytest.mark.parametrize("looks", [1, 2, 3, 4])
def test_a_job_that_ends_while_the_page_is_drawn_is_seen_to_end(looks: int) -> None:
    class EndsAfterSomeLooks(Job):
        looks_left = looks

        def __getattribute__(self, name: str) -> object:
            if name == "state":
                self.looks_left -= 1
                return "running" if self.looks_left >= 0 else "finished"
            return super().__getattribute__(name)

    app = AppTest.from_function(one_watched_job)
    app.session_state["job"] = EndsAfterSomeLooks("key", "title", "", 1, lambda _job: None, 1)
    app.run()
    app.run()  # the look that the browser's timer asks for
    assert [text.value for text in app.markdown] == ["after the end: finished"]
