"""Who makes a kitchen's scores: chosen in the sidebar, and shown while they compute."""

import importlib.util
import os

import streamlit as st

from soupviz.kitchen import Kitchen
from soupviz.scoring.executors.usage import Share, Usage
from soupviz.spec import ExecutorName
from soupviz.ui import work
from soupviz.ui.jobs import Job

NAMES: dict[ExecutorName, str] = {
    "inline": "this process",
    "processes": "workers of this machine",
    "ray": "workers of a Ray cluster",
}
LAST = "what workers had done"
"""The last look at them, in the session: a bar shows what they did since."""

MOST = 1024

FEW = 8
"""Workers that have a bar each; more of them stand in a table."""


def choose(opened: Kitchen) -> None:
    """Ask who evaluates; it is changed at once."""
    executor = opened.scores.executor
    current = next(name for name in NAMES if name == executor.name)
    offered = [name for name in NAMES if name in ("inline", "processes", current) or importlib.util.find_spec("ray")]
    by, number = f"executor of {opened.file}", f"workers of {opened.file}"

    def change() -> None:
        chosen: ExecutorName = st.session_state[by]
        several = st.session_state.get(number) or max(2, (os.cpu_count() or 2) // 2)
        work.choose_workers(opened, chosen, None if chosen == "inline" else several)

    # What is so, not what this session chose last: another one may have chosen since.
    st.session_state[by] = current
    st.selectbox(
        "Scored by",
        offered,
        format_func=NAMES.__getitem__,
        key=by,
        on_change=change,
        help="Scores and decisions are the same, whoever makes them. Each worker holds the model and the data once "
        "more.",
    )
    if current != "inline":
        st.session_state[number] = executor.num_workers
        st.number_input(
            "Workers", min_value=1, max_value=MOST, key=number, on_change=change,
            help="One for each GPU; on the CPU they share its cores.",
        )  # fmt: skip


def told_of(job: Job, opened: Kitchen) -> None:
    """What the workers do that a running job has; those chosen since it was begun are not its own."""
    draw(job.before or opened)
    if job.before is not None:
        before, now = _named(job.before), _named(opened)
        st.caption(f"It goes on with {before}, as it was begun; what is begun next is scored by {now}.")


def _named(opened: Kitchen) -> str:
    executor = opened.scores.executor
    name = next(told for name, told in NAMES.items() if name == executor.name)
    return name if executor.name == "inline" else f"{executor.num_workers} {name}"


def draw(opened: Kitchen) -> None:
    """A bar for each worker: how much of the time it has computed since the last look."""
    now = opened.scores.usage()
    whose, before = st.session_state.get(LAST, (0, Usage()))
    st.session_state[LAST] = id(opened.scores.executor), now
    if whose != id(opened.scores.executor):
        return
    used = now.since(before)
    fractions = [used.fraction(share) for share in used.shares]
    names = [f"Worker {number} ({_place(share)})" for number, share in enumerate(now.shares, 1)]
    if len(names) > FEW:
        column = st.column_config.ProgressColumn("computes", format="percent", min_value=0.0, max_value=1.0)
        st.dataframe(
            {"worker": names, "computes": fractions},
            column_config={"computes": column},
            hide_index=True,
            height=300,
            alt="How much each worker computes",
        )
        return
    for name, fraction in zip(names, fractions, strict=True):
        st.progress(fraction, text=f"{name}: {fraction:.0%}")


def _place(share: Share) -> str:
    if not share.place:
        return "starting again" if share.deaths else "starting"
    return share.place + (f", started {share.deaths + 1} times" if share.deaths else "")


def told(used: Usage) -> str:
    """What workers did for a run, in a sentence; nothing where there were none."""
    if not used.shares or used.utilisation is None:
        return ""
    each = ", ".join(f"{used.fraction(share):.0%}" for share in used.shares)
    return f"{len(used.shares)} workers computed {each} of {used.seconds:.1f} s."
