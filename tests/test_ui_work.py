"""What the server does behind the pages: kitchens held open, and the jobs that pages start."""

import gc
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import streamlit as st
from kitchens import MLP, change_yaml, small_kitchen
from streamlit.testing.v1 import AppTest
from test_imports import imported

import soupviz.ui
from soupviz import trust
from soupviz.errors import Cancelled, DataError
from soupviz.kitchen import Kitchen
from soupviz.recipes import Greedy
from soupviz.ui import computing, work, workspace
from soupviz.ui.jobs import FINISHED_KEPT, Job, Jobs
from soupviz.yaml_file import read_kitchen_file

UI = Path(soupviz.ui.__file__).parent


def test_the_rooms_of_the_dashboard_import_one_way() -> None:
    files = {".".join(path.relative_to(UI).with_suffix("").parts): path for path in UI.rglob("*.py")}
    rooms = {name: imported(path.read_text(encoding="utf-8")) for name, path in files.items()}
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


@pytest.fixture
def dashboard(tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A dashboard's own folder; what it holds open is let go."""
    monkeypatch.setattr(sys, "argv", ["app.py", str(tmp_path)])
    monkeypatch.setattr(trust.binding, "_bound", {})
    st.cache_resource.clear()
    yield tmp_path
    st.cache_resource.clear()


def until_idle() -> None:
    deadline = time.monotonic() + 60
    while work.jobs().active():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def opened(file: Path) -> Kitchen:
    """A kitchen that was approved, opened and read as pages do it."""
    asked = workspace.request(file, read_kitchen_file(file))
    job = work.open_kitchen(file, asked)
    until_idle()
    assert job.state == "finished", job.error
    found = work.opened_kitchen(file)
    assert found is not None
    return found


def alive(held: list["weakref.ref[Kitchen]"]) -> list[int]:
    gc.collect()
    return [number for number, kitchen in enumerate(held) if kitchen() is not None]


def test_of_many_kitchens_only_those_used_last_are_held_open_with_all_that_their_jobs_hold(dashboard: Path) -> None:
    held = []
    files = []
    for number in range(work.KITCHENS_KEPT + 3):
        files.append(small_kitchen(dashboard / str(number), num_ingredients=2, num_examples=20))
        kitchen = opened(files[-1])
        computing.sweep_job(kitchen, Greedy(alpha=0.1), [0.5, "mean"])
        computing.score_job_if_needed(kitchen, "test")
        until_idle()
        held.append(weakref.ref(kitchen))
        del kitchen
        work.opened_kitchen(files[0])  # the first stays in use
    assert alive(held) == [0, *range(len(held) - work.KITCHENS_KEPT + 1, len(held))]
    assert work.jobs().find(f"open {files[1]}") is None
    assert opened(files[1]).names == ["m_0", "m_1"]


def test_a_kitchen_that_is_closed_is_let_go_with_what_its_jobs_hold(dashboard: Path) -> None:
    file = small_kitchen(dashboard / "a", num_ingredients=2, num_examples=20)
    kitchen = opened(file)
    computing.sweep_job(kitchen, Greedy(alpha=0.1), [0.5])
    until_idle()
    held = [weakref.ref(kitchen)]
    del kitchen
    work.close_kitchen(file)
    assert alive(held) == []


@pytest.mark.parametrize("end", ["finished", "failed", "cancelled"])
def test_a_job_that_ended_does_not_hold_what_it_worked_on(end: str) -> None:
    class Large:
        """A kitchen, say."""

    queue = Jobs()
    large = Large()
    held = weakref.ref(large)

    def use(job: Job, large: Large = large) -> None:
        if end == "failed":
            raise DataError("no") from KeyError(str(large))
        if end == "cancelled":
            raise Cancelled

    job = queue.submit("a", "a", use)
    del large, use
    deadline = time.monotonic() + 20
    while held() is not None and time.monotonic() < deadline:
        gc.collect()
    assert (job.state, held()) == (end, None)


def test_finished_jobs_are_let_go_while_others_wait() -> None:
    queue, go = Jobs(), threading.Event()
    for number in range(FINISHED_KEPT + 20):
        job = queue.submit(f"{number}", "", lambda _job: None)
        while job.is_active:
            time.sleep(0.001)
    waiting = queue.submit("waiting", "", lambda _job: go.wait(20))
    for number in range(FINISHED_KEPT + 20):
        queue.submit(f"behind {number}", "", lambda _job: None)
    assert queue.find("0") is None and queue.find("waiting") is waiting
    assert sum(not job.is_active for job in queue._all) <= FINISHED_KEPT
    go.set()


def test_trying_again_asks_again_where_the_code_changed_since(dashboard: Path) -> None:
    file = small_kitchen(dashboard / "a", num_examples=20)
    (file.parent / "model.py").write_text("def build():\n    raise ValueError('not yet')\n", encoding="utf-8")
    asked = workspace.request(file, read_kitchen_file(file))
    workspace.trust(asked)
    failed = work.open_kitchen(file, asked)
    until_idle()
    assert "not yet" in failed.error
    (file.parent / "model.py").write_text(MLP, encoding="utf-8")
    work.forget_failure(failed)
    assert work.find_open_job(file) is None
    assert not workspace.is_trusted(workspace.request(file, read_kitchen_file(file)))


def test_what_is_opened_is_the_kitchen_yaml_that_was_approved(dashboard: Path) -> None:
    file = small_kitchen(dashboard / "a", num_examples=20)
    asked = workspace.request(file, read_kitchen_file(file))
    change_yaml(file, lambda yaml: yaml.update(name="another", model={"factory": "/elsewhere/x.py:build"}))
    job = work.open_kitchen(file, asked)
    until_idle()
    assert job.state == "finished", job.error
    found = work.opened_kitchen(file)
    assert found is not None and found.name == "small"
