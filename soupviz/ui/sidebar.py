"""The sidebar: which kitchen, which device, what runs and what waits."""

import re
from itertools import chain
from pathlib import Path

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from soupviz.kitchen import Kitchen
from soupviz.ui import people, session, theme, work, workers, workspace
from soupviz.ui.redrawing import redrawn
from soupviz.ui.verbatim import verbatim


def draw() -> DeltaGenerator:
    """Draw it on every page; gives the place for what runs, which the page may be about to begin."""
    with st.sidebar:
        st.html(f"<style>{theme.style()}</style>")
        _kitchens()
        if opened := work.opened_kitchen(session.chosen_file()):
            workers.choose(opened)
        running = st.container(gap="xsmall")  # below what is clicked, which would move as jobs come and go
        if opened:
            _how(opened)
        return running


def _labels(files: list[Path]) -> dict[Path, str]:
    """Each kitchen's name where no other has it; else its folder, with as many above it as tell it from the others:
    Streamlit goes by the label."""
    labels, names = {}, {file: workspace.name_of(file) for file in files}
    for file in files:
        if (name := names[file]) and list(names.values()).count(name) == 1 and name != file.parent.name:
            labels[file] = f"{name} ({file.parent.name})"
            continue
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


def _how(opened: Kitchen) -> None:
    """On which device the model runs, in which precision, and by which of its ways."""
    is_plain = opened.spec.precision == "tf32" and opened.device.type != "cuda"
    device = f"Device: {opened.device}, evaluated in {opened.spec.precision}" + (" (float32 here)" if is_plain else "")
    short, _, why = re.sub("[.:;] ", "\n", opened.evaluator.routes.note, count=1).partition("\n")
    st.caption(f"{device}  \nModel: {short}", help=verbatim(f"{why[:1].upper()}{why[1:]}") or None)


def draw_running(place: DeltaGenerator) -> None:
    """What runs and what waits, once the page has begun what it begins."""
    active, me = work.jobs().active(), people.person()
    # At first it draws what decided how often it is drawn.
    looks = chain([active], iter(work.jobs().active, None))

    def panel() -> None:
        jobs, opened = next(looks), work.opened_kitchen(session.chosen_file())
        if not jobs:
            st.caption("Nothing runs.")
        for job in jobs:
            waits = "" if job.state == "running" else " (waits)"
            by = f", {verbatim(job.person)}" if job.person not in ("", me) else ""
            left, right = st.columns([3, 1], vertical_alignment="center", gap="xsmall")
            left.caption(f"{verbatim(job.title)}{by}{waits}: {job.fraction:.0%}")
            if job.person in ("", me):
                right.button(
                    "Cancel", type="tertiary", key=f"cancel in the sidebar {job.number}",
                    help=f"Cancel “{verbatim(job.title)}”; what it measured is kept", on_click=work.jobs().cancel,
                    args=(job,),
                )  # fmt: skip
            if opened is not None and job.state == "running" and job.kitchen == str(opened.file):
                workers.told_of(job, opened)

    with place:
        redrawn(panel, every=1.0 if active else None)
    if not active and work.jobs().active():  # begun meanwhile
        st.rerun()
