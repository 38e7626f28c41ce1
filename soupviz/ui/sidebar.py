"""The sidebar: which kitchen, which device, what runs and what waits."""

from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from soupviz.ui import people, session, theme, work, workers, workspace
from soupviz.ui.verbatim import verbatim


def draw() -> DeltaGenerator:
    """Draw it on every page; gives the place for what runs, which the page may be about to begin."""
    with st.sidebar:
        st.html(f"<style>{theme.style()}</style>")
        _kitchens()
        running = st.container()
        if opened := work.opened_kitchen(session.chosen_file()):
            workers.choose(opened)
        return running


def _labels(files: list[Path]) -> dict[Path, str]:
    """Each kitchen's folder, with as many folders above it as tell it from the others: Streamlit goes by the label."""
    labels = {}
    for file in files:
        parts = file.parent.parts
        depth = 1
        while depth < len(parts) and sum(other.parent.parts[-depth:] == parts[-depth:] for other in files) > 1:
            depth += 1
        named = "" if file.name == "kitchen.yaml" else f" ({file.name})"
        labels[file] = f"{Path(*parts[-depth:])}{named}"
    return labels | {workspace.demo_file(): "Demo: handwritten digits"}


def _kitchens() -> None:
    current = session.chosen_file()
    known = [workspace.demo_file(), *workspace.opened_before(), *workspace.found_kitchens(), current]
    options = list(dict.fromkeys(known))
    labels = _labels(options)
    index = options.index(current)
    chosen = st.selectbox("Kitchen", options, index=index, format_func=labels.__getitem__, help=str(current))
    if chosen != current:
        session.choose_file(chosen)
        st.rerun()
    if opened := work.opened_kitchen(current):
        is_plain = opened.spec.precision == "tf32" and opened.device.type != "cuda"
        st.caption(
            f"Device: {opened.device}, evaluated in {opened.spec.precision}" + (" (float32 here)" if is_plain else "")
        )
        short, _, why = opened.evaluator.routes.note.partition(". ")
        st.caption(f"Model: {short}", help=verbatim(why) or None)


def draw_running(place: DeltaGenerator) -> None:
    """What runs and what waits, once the page has begun what it begins."""
    active, me = work.jobs().active(), people.person()

    @st.fragment(run_every=1.0 if active else None)
    def panel() -> None:
        jobs, opened = work.jobs().active(), work.opened_kitchen(session.chosen_file())
        if not jobs:
            st.caption("Nothing runs.")
        for job in jobs:
            waits = "" if job.state == "running" else " (waits)"
            by = f", {verbatim(job.person)}" if job.person not in ("", me) else ""
            st.caption(f"{job.title}{by}{waits}: {job.fraction:.0%}")
            if opened is not None and job.state == "running" and job.kitchen == str(opened.file):
                workers.told_of(job, opened)

    with place:
        panel()
