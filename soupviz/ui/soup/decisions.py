"""The decision log of a search: a sentence, its picture, and a table that can be filtered, clicked and saved."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from soupviz.analysis import decisions
from soupviz.analysis.decision_summary import so_far
from soupviz.analysis.decisions import Decision
from soupviz.analysis.regime import explained
from soupviz.analysis.wording import test_of
from soupviz.kitchen import Kitchen
from soupviz.pictures import search
from soupviz.pictures.basics import Chart
from soupviz.recipes import Recipe, parse
from soupviz.recipes.trajectory import Step, steps_from
from soupviz.soups.cooking import cook
from soupviz.soups.planning import cost
from soupviz.spec import HELD_OUT
from soupviz.store.runs import Run
from soupviz.tasks.metric import Metric, is_share
from soupviz.tasks.wording import NATS, factor, gap, on_split
from soupviz.ui import asking, charts, computing, tables, widgets, work
from soupviz.ui.charts import Place
from soupviz.ui.formats import CHANCE, value_format
from soupviz.ui.jobs import Job
from soupviz.ui.verbatim import verbatim

AT, PLACE = "at", "decisions"
"""In the address: what a link leads to on the page, which Streamlit's own links cannot say."""

TO_PLACE = """<script>{
let times = 0;  // what lies above takes its height bit by bit
const timer = setInterval(() => {
  document.getElementById("decisions")?.scrollIntoView();
  if (++times === 5) clearInterval(timer);
}, 250);
}</script>"""

LATEST = 8
"""Decisions that are told while a search runs."""


def draw_live(opened: Kitchen, recipe: Recipe, job: Job) -> None:
    """The decisions so far, the last of them on top."""
    steps = [event for event in job.events if isinstance(event, Step)]
    if not steps:
        st.caption("Scoring the ingredients first: the best of them is the start.")
        return
    charts.show(_picture(opened, steps), key="trajectory", alt=f"{len(steps)} decisions so far")
    # What a decision is compared with may lie before the latest: the log is made from there.
    last = max((at for at, step in enumerate(steps[:-LATEST]) if step.accepted), default=0)
    start = 0 if decisions.of_training(steps) else last
    latest = decisions.log(opened, recipe, decisions.with_mixes(recipe, steps)[start:])[-LATEST:]
    table = _shown(opened, latest[::-1])
    st.dataframe(
        table,
        hide_index=True,
        placeholder="–",
        column_config=_columns(opened, table),
        key="latest decisions",
        alt="The latest decisions",
    )


def _picture(opened: Kitchen, steps: Sequence[Step], chosen: Sequence[int] = ()) -> Chart:
    of = opened.splits.num_examples(HELD_OUT)
    return search.trajectory(steps, opened.objective, chosen, unit=opened.task.unit, of=of)


def draw(opened: Kitchen, run: Run, place: Place = st) -> None:
    """The log of a run, as far as it has come.

    Args:
        place: where the picture goes; the table takes the whole width.
    """
    steps = list(steps_from(opened.store.decisions(run)))
    if not steps:
        return
    recipe = parse(run.recipe)
    found = decisions.log(opened, recipe, steps)
    place.header("Decisions")
    told = explained(opened, recipe, found) if run.status == "finished" else so_far(found)
    place.write(verbatim(told))
    chosen = st.session_state.get(f"decision of {run.key}")
    clicked = charts.show(
        _picture(opened, steps, [] if chosen is None else [chosen]),
        key=f"trajectory {run.key}",
        alt=told,
        clicked=search.DECISION,
        place=place,
    )
    points = [str(int(one["step"])) for one in clicked]
    rows = _table(opened, found, run, chosen)
    picked = widgets.newly_clicked(**{f"log of {run.key}": rows, f"trajectory of {run.key}": points})
    if picked and picked[0] != str(chosen):
        st.session_state[f"decision of {run.key}"] = int(picked[0])
        st.rerun()
    _score_whole(opened, run, recipe, found)
    if st.query_params.get(AT) == PLACE:
        st.html(TO_PLACE, unsafe_allow_javascript=True)


def _table(opened: Kitchen, found: Sequence[Decision], run: Run, chosen: int | None) -> list[str]:
    """The log as a table; returns the number of the step that is selected in it."""
    shown = _filtered(found, run)
    ids = [one.step for one in shown]
    rows = [ids.index(chosen)] if chosen in ids else []
    table = _shown(opened, shown)
    state = st.dataframe(
        table,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        height="content" if len(shown) <= widgets.SHOWN_WHOLE else "auto",
        selection_default={"selection": {"rows": rows, "columns": [], "cells": []}},
        placeholder="–",
        column_config=_columns(opened, table),
        key=f"log {run.key} {tables.digest(map(str, ids))} {chosen}",
        alt="Every decision with what it would have changed",
    )
    if one := next((one for one in shown if one.step == chosen), None):
        st.info(f"**{verbatim(one.candidate)}** {verbatim(one.sentence)}.")
    st.download_button(
        "Save the log as CSV",
        tables.as_csv(decisions.frame(opened.task, opened.objective, shown)),
        file_name=f"decisions-{run.key[:12]}.csv",
        mime="text/csv",
        on_click="ignore",
        key=f"save log {run.key}",
    )
    return [str(step) for step in widgets.of_rows(state, ids)]


def _filtered(found: Sequence[Decision], run: Run) -> list[Decision]:
    """The decisions that the filter leaves."""
    outcomes = [name for name in decisions.OUTCOMES if any(one.outcome == name for one in found)]
    row = st.container(horizontal=True, vertical_alignment="bottom")
    wanted = row.pills(
        "Show", outcomes, selection_mode="multi", key=f"outcomes of {run.key}", help="None selected: all are shown."
    )
    text = row.text_input("Search", placeholder="a candidate's name", key=f"candidates of {run.key}", width=240)
    return [
        one for one in found if (not wanted or one.outcome in wanted) and text.strip().lower() in one.candidate.lower()
    ]


def _shown(opened: Kitchen, found: Sequence[Decision]) -> pd.DataFrame:
    """What the page shows of the log: values in the metric's unit, and bounds that say so."""
    metric = opened.objective
    table = decisions.frame(opened.task, metric, found)
    margins = [_margin(metric, one) for one in found]
    told = table.assign(held_out=factor(metric) * table["held_out"], margin=margins)
    counts = opened.task.gains if opened.task.judges_units else ()
    return told[["step", "candidate", "outcome", "held_out", *counts, "p", "margin", "sentence"]]


def _margin(metric: Metric, one: Decision) -> str:
    """How much better than the soup before it: a count of units where they are right or wrong."""
    if one.difference is None:
        return "–"
    told = gap(metric, one.difference) if one.margin is None else f"{one.margin:+,}"
    at_best = f"at {'most' if metric.higher_is_better else 'least'} " if one.is_bound else ""
    return at_best + told.replace("-", "−")


def _columns(opened: Kitchen, rows: pd.DataFrame) -> dict[str, Any]:
    number, (better, worse), metric = st.column_config.NumberColumn, opened.task.gains, opened.objective
    form = value_format(metric, rows["held_out"].dropna(), of=opened.splits.num_examples(HELD_OUT)).removesuffix(NATS)
    counted = f"{opened.task.unit}s of held_out" if is_share(metric) else metric.label
    test = test_of(metric, opened.splits.grouped("held_out"))
    return {
        "step": number("step", width=55),
        "candidate": st.column_config.TextColumn("candidate", width=130),
        "outcome": st.column_config.TextColumn("outcome", width=105),
        "held_out": number("held_out", format=form, width=80, help=on_split(metric, HELD_OUT)),
        better: number(better, width=60, help=f"{opened.task.only('the candidate')}, on held_out"),
        worse: number(worse, width=65, help=f"{opened.task.only('the soup before it')}, on held_out"),
        "p": number("p", format=CHANCE, width=95, help=f"{test}; none where scoring stopped early"),
        "margin": st.column_config.TextColumn("margin", width=90, help=f"{counted}, to the soup before it"),
        "sentence": st.column_config.TextColumn("in words", width=620),
    }


def _score_whole(opened: Kitchen, run: Run, recipe: Recipe, found: Sequence[Decision]) -> None:
    """What would make the log whole: scoring what was given up, or cooking again what an earlier version cooked."""
    if any(one.outcome == decisions.EPOCH for one in found):
        return
    if any(one.mix is None for one in found):
        st.caption(
            "This search was made by an earlier version, which did not keep what it tried: cook it again, from scores "
            f"that are known, and the log counts what every candidate {' and '.join(opened.task.verbs)}."
        )
        return
    early = [one for one in found if one.is_bound and one.mix]
    if not early or run.status != "finished" or work.jobs().find(f"complete {computing.cook_key(opened, recipe)}"):
        return

    def complete(job: Job) -> None:
        cook(opened, recipe, progress=job.progress, complete=True)

    mixes = [(one.mix, HELD_OUT, recipe.aggregation) for one in early if one.mix]
    what = f"Score the {len(early)} rejected early whole" if not recipe.has_rounds else "Score all whole"
    asking.result(opened, f"whole log of {run.key}", what, lambda: cost(opened, mixes), complete)
