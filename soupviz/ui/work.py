"""What the server does behind the pages: the kitchens it holds open, and the queue of jobs."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from soupviz.analysis.decisions import log
from soupviz.analysis.history import best_of
from soupviz.demo.digits import demo_kitchen
from soupviz.kitchen import Kitchen, with_workers
from soupviz.recipes import parse
from soupviz.recipes.trajectory import steps_from
from soupviz.soups.planning import summaries
from soupviz.soups.soup import aggregation_in, mix_in
from soupviz.soups.standing import current
from soupviz.spec import HELD_OUT, ExecutorName, KitchenSpec
from soupviz.trust import Request
from soupviz.ui import people, workspace
from soupviz.ui.jobs import AHEAD, URGENT, Job, Jobs
from soupviz.yaml_file import read_kitchen_file

KITCHENS_KEPT = 4
"""Kitchens that are held open; each holds its model, and splits made ready for it."""

_lock = threading.Lock()
"""Pages and the worker change which kitchens are open."""


@st.cache_resource(show_spinner=False)
def jobs() -> Jobs:
    """The one queue of the server."""
    return Jobs(people.person)


@st.cache_resource(show_spinner=False)
def _opened() -> dict[str, Kitchen]:
    """The open kitchens by file, the one used last at the end."""
    return {}


@st.cache_resource(show_spinner=False)
def _typed() -> dict[str, KitchenSpec]:
    """Kitchens that were opened without a file, as long as the server runs."""
    return {}


@st.cache_resource(show_spinner=False)
def _without_corrupt() -> set[str]:
    """Kitchens of which corrupt images are left out, as long as the server runs."""
    return set()


def specification(file: Path) -> KitchenSpec:
    """What a kitchen.yaml says, or what was typed where there is none."""
    typed = _typed().get(str(file))
    return typed if typed is not None and not file.is_file() else read_kitchen_file(file)


def opened_kitchen(file: Path) -> Kitchen | None:
    """A kitchen that is open already; it counts as used now."""
    with _lock:
        opened = _opened()
        if found := opened.pop(str(file), None):
            opened[str(file)] = found
        return found


def _hold(file: Path, kitchen: Kitchen) -> None:
    """Keep a kitchen open; those that were used longest ago are let go, with what the jobs of each hold."""
    with _lock:
        opened = _opened()
        opened.pop(str(file), None)
        opened[str(file)] = kitchen
        gone = list(opened)[:-KITCHENS_KEPT]
        for name in gone:
            del opened[name]
    jobs().forget(lambda job: job.kitchen in gone)


def open_kitchen(file: Path, asked: Request | None) -> Job:
    """Open (or open again) a kitchen in the background: checkpoints are read, held_out is decoded.

    Args:
        asked: what the user approved, which is what is opened; None for the demo, which may have to be built first.
    """

    queue = jobs()
    skip_corrupt = str(file) in _without_corrupt()
    if asked is not None and not file.is_file():
        _typed()[str(file)] = asked.spec

    def work(job: Job) -> None:
        if asked is None:
            demo_kitchen(progress=job.progress)
        approved = asked or workspace.request(file, read_kitchen_file(file))
        workspace.bind(approved)
        opened = Kitchen.open(
            approved.spec, file, skip_incompatible=True, skip_corrupt=skip_corrupt, other_models=approved.other_models,
            progress=job.progress,
        )  # fmt: skip
        opened.splits.load(HELD_OUT, job.progress)
        if chosen := _chosen_workers().get(str(file)):
            opened = with_workers(opened, *chosen)
        current(opened, opened.store.runs())  # thousands of them are looked at here, not when the first page asks
        _hold(file, opened)
        if asked is not None and file.is_file():
            workspace.remember_opened(file)

        def read_others(job: Job) -> None:
            import scipy.stats  # noqa: F401  # a second or two, which the first interval on a page would wait for

            for split in opened.splits.reporting:
                opened.splits.load(split, job.progress)
            _look_ahead(opened)

        queue.submit(f"read {file}", "Reading the other splits", read_others, kitchen=str(file), priority=AHEAD)

    return queue.submit(f"open {file}", "Opening the kitchen", work, kitchen=str(file), priority=URGENT)


@st.cache_resource(show_spinner=False)
def _chosen_workers() -> dict[str, tuple[ExecutorName, int | None]]:
    """By kitchen, who evaluates where that was chosen here, as long as the server runs."""
    return {}


def choose_workers(opened: Kitchen, executor: ExecutorName, workers: int | None) -> None:
    """From now on others make a kitchen's scores; what is computed ahead is begun anew with them.

    What the user asked for goes on as it was begun.
    """
    _chosen_workers()[str(opened.file)] = executor, workers
    with _lock:
        _opened()[str(opened.file)] = chosen = with_workers(opened, executor, workers)
    for job in jobs().active():
        if job.kitchen == str(opened.file) and job is not find_read_job(opened):
            if job.again is not None:
                jobs().begin_anew(job, chosen)
            else:
                job.before = job.before or opened


def ahead(opened: Kitchen, key: str, title: str, on: Callable[[Kitchen], Callable[[Job], Any]]) -> Job:
    """Queue work behind everything the user asks for; `on` makes it of the kitchen, with whom its scores then make."""
    return jobs().submit(key, title, on(opened), kitchen=str(opened.file), priority=AHEAD, again=on)


def _look_ahead(opened: Kitchen) -> None:
    """Read what lists of thousands of soups need before a page asks for it; it is kept while the kitchen is open."""
    runs = current(opened, opened.store.runs())
    wanted = [(mix_in(run), split, aggregation_in(run)) for split in opened.splits.reporting for run in runs]
    summaries(opened, wanted)
    if best := best_of(opened, runs):  # the one that pages show at first
        log(opened, parse(best.recipe), steps_from(opened.store.decisions(best)))


def find_read_job(opened: Kitchen) -> Job | None:
    """The job that reads the splits beside held_out, after the kitchen was opened."""
    return jobs().find(f"read {opened.file}")


def find_open_job(file: Path) -> Job | None:
    """The newest job that opens a kitchen."""
    return jobs().find(f"open {file}")


def forget_failure(failed: Job) -> None:
    """Let go of a job that failed, so that it is tried again from the start: what changed since is asked about."""
    jobs().forget(lambda job: job is failed)


def close_kitchen(file: Path) -> None:
    """Forget an open kitchen and what its jobs hold, so that it is read anew."""
    with _lock:
        _opened().pop(str(file), None)
    jobs().forget(lambda job: job.kitchen == str(file))


def leave_out_corrupt(file: Path) -> None:
    """From now on go on without a kitchen's corrupt images: it is read anew, and what failed of them is forgotten."""
    _without_corrupt().add(str(file))
    close_kitchen(file)


def close_kitchens() -> None:
    """Forget every open kitchen: they hold what is kept in the cache folder."""
    for name in list(_opened()):
        close_kitchen(Path(name))
