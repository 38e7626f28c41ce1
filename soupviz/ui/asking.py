"""Work that is asked for: its button says what it costs; it can be watched, cancelled and taken up again."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from soupviz.kitchen import Kitchen
from soupviz.soups.planning import Cost
from soupviz.ui import session, work
from soupviz.ui.jobs import Job
from soupviz.ui.verbatim import verbatim


def told(cost: Cost, opened: Kitchen) -> str:
    """What it takes, in words."""
    if not cost.evaluations:
        return f"nothing to evaluate: {cost.known} scores are known"
    plural = "s" if cost.evaluations > 1 else ""
    time = "" if cost.seconds is None else f", about {_duration(cost.seconds)}"
    time += starting(opened)
    known = f"; {cost.known} more are known" if cost.known else ""
    beside = ""
    if cost.reestimations:
        times = f"{cost.reestimations} time{'s' if cost.reestimations > 1 else ''}"
        beside = f". BatchNorm statistics are re-estimated on train {times}, once for each mix"
    return f"{cost.evaluations} evaluation{plural} of {cost.examples:,} {opened.task.unit}s in all{time}{known}{beside}"


def starting(opened: Kitchen) -> str:
    """What comes before a score where workers are not there yet."""
    number = opened.scores.num_to_start
    return f", and starting {number} worker{'s' if number > 1 else ''}" if number else ""


def _duration(seconds: float) -> str:
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def find(opened: Kitchen, key: str) -> Job | None:
    """The job that `result` started for a key, as it is now."""
    return work.jobs().find(f"{key} {opened.file}")


def result(
    opened: Kitchen,
    key: str,
    title: str,
    cost: Callable[[], Cost],
    do: Callable[[Job], Any],
    *,
    draw: Callable[[Job], None] | None = None,
    ahead: bool = False,
) -> Job | None:
    """The finished job of a key; until then a button that says what it costs, or the job as it runs.

    Args:
        key: made of all that the result depends on. title: what the button says, and the job is called.
        cost: found out only where it decides, or is told: it may take a look at thousands of scores.
        do: the work, given its job: it calls `job.progress`, appends to `job.events`, and gives the job's result.
        draw: draws what a running job has so far. ahead: start without being asked where every score is known.
    Returns:
        The job, once it finished in this server; None before.
    """
    full = f"{key} {opened.file}"
    job = find(opened, key)
    expected = cost() if job is None else None
    if ahead and expected is not None and not expected.evaluations:
        job = work.jobs().submit(full, title, do, kitchen=str(opened.file))
    if job is not None and session.watch(job, draw):
        return None
    if job is not None and job.state == "finished":
        return job
    row = st.container(horizontal=True, vertical_alignment="center")
    if row.button("Go on" if job else verbatim(title), key=f"ask {full}", type="primary"):
        work.jobs().submit(full, title, do, kitchen=str(opened.file))
        st.rerun()
    words = told(expected or cost(), opened)
    row.caption(f"{words[0].upper()}{words[1:]}.")
    return None
