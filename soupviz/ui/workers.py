"""Who makes a kitchen's scores: chosen in the sidebar, and shown while they compute."""

import importlib.util
import os

import streamlit as st

from soupviz.kitchen import Kitchen
from soupviz.scoring.executors.usage import Share, Usage
from soupviz.spec import ExecutorName
from soupviz.ui import work

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
    chosen = st.selectbox(
        "Scored by",
        offered,
        index=offered.index(current),
        format_func=NAMES.__getitem__,
        key=f"executor of {opened.file}",
        help="Scores and decisions are the same, whoever makes them. Each worker holds the model and the data once "
        "more.",
    )
    workers = None
    if chosen != "inline":
        workers = st.number_input(
            "Workers",
            min_value=1,
            max_value=MOST,
            value=executor.num_workers if chosen == current else max(2, (os.cpu_count() or 2) // 2),
            key=f"{chosen} of {opened.file}",
            help="One for each GPU; on the CPU they share its cores.",
        )
    if (chosen, workers or 1) != (current, executor.num_workers):
        work.choose_workers(opened, chosen, workers)
        st.rerun()


def draw(opened: Kitchen) -> None:
    """A bar for each worker: how much of the time it has computed since the last look."""
    now = opened.scores.usage()
    before: Usage = st.session_state.get(LAST, Usage())
    st.session_state[LAST] = now
    if len(before.shares) != len(now.shares):
        return
    used = now.since(before)
    fractions = [used.fraction(share) for share in used.shares]
    names = [f"Worker {number} ({_place(share)})" for number, share in enumerate(now.shares, 1)]
    if len(names) > FEW:
        column = st.column_config.ProgressColumn("computes", format="percent", min_value=0.0, max_value=1.0)
        st.dataframe(
            {"worker": names, "computes": fractions}, column_config={"computes": column}, hide_index=True, height=300
        )
        return
    for name, fraction in zip(names, fractions, strict=True):
        st.progress(fraction, text=f"{name}: {fraction:.0%}")


def _place(share: Share) -> str:
    return (share.place or "starting") + (f", started {share.deaths + 1} times" if share.deaths else "")


def told(used: Usage) -> str:
    """What workers did for a run, in a sentence; nothing where there were none."""
    if not used.shares or used.utilisation is None:
        return ""
    each = ", ".join(f"{used.fraction(share):.0%}" for share in used.shares)
    return f"{len(used.shares)} workers computed {each} of {used.seconds:.1f} s."
