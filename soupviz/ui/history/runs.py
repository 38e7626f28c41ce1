"""The History page's parts: the table of runs, what can be done with one, and what deletes many."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pandas as pd
import streamlit as st

from soupviz.analysis import history, wording
from soupviz.analysis.history import Entry
from soupviz.errors import SoupError
from soupviz.kitchen import Kitchen
from soupviz.recipes import MENU, Recipe, parse
from soupviz.soups.soup import mix_in, pool_in, summed
from soupviz.spec import HELD_OUT, TEST
from soupviz.store.runs import Run, others_in
from soupviz.tasks.wording import of_score
from soupviz.ui import computing, people, session, tables, widgets, work
from soupviz.ui.formats import in_unit, value_format
from soupviz.ui.history.meanwhile import DELETED
from soupviz.ui.verbatim import verbatim

CHOSEN = "runs"
"""Where the URL has the numbers of the selected runs."""

ANY = "any"


def filtered(entries: Sequence[Entry]) -> list[Entry]:
    """The runs that the search field and the filters leave; what they are set to stands in the URL."""
    row = st.container(horizontal=True, vertical_alignment="bottom")
    text = row.text_input(
        "Find", key="find", bind="query-params", placeholder="greedy ft_03 alpha=0.1", width=300,
        help="Words of a name, a recipe, an ingredient or an error; #12 is a number, alpha=0.1 a recipe's field.",
    )  # fmt: skip
    methods = sorted({method_of(entry.run) for entry in entries})
    method = row.selectbox("Recipe", [ANY, *methods], key="of_recipe", bind="query-params", width=200)
    states = [state for state in history.STATES if any(entry.state == state for entry in entries)]
    state = row.selectbox("State", [ANY, *states], key="state", bind="query-params", width=150)
    pinned = row.toggle("Pinned only", key="pinned", bind="query-params")
    return [
        entry
        for entry in entries
        if history.found(entry, text or "")
        and method in (ANY, method_of(entry.run))
        and state in (ANY, entry.state)
        and (entry.run.pinned or not pinned)
    ]


def method_of(run: Run) -> str:
    """What the page calls a run's method."""
    kind = MENU.get(str(run.recipe.get("method")))
    return (kind.label if kind else "") or str(run.recipe.get("method"))


def table(opened: Kitchen, entries: Sequence[Entry]) -> pd.DataFrame:
    """One row per run; values in the objective's unit, times of the clock on the wall."""
    return pd.DataFrame([_row(opened, entry) for entry in entries])


def _row(opened: Kitchen, entry: Entry) -> dict[str, object]:
    run, result, metric = entry.run, entry.run.result or {}, opened.objective
    scores, made_in = history.scores_in(opened, run), result.get("made_in", {})
    values = {
        split: in_unit(metric, scores[split].shown(metric.name)) if split in scores else None
        for split in (HELD_OUT, TEST)
    }
    pool = len(pool_in(run)) if "mix" in result else None
    return {
        "pin": "✓" if run.pinned else "",
        "no": run.id,
        "name": run.name,
        "state": entry.state,
        "by": run.person or None,
        **values,
        "made of": f"{len(summed(mix_in(run), result['coefficients']))} of {pool}"
        if pool and result.get("coefficients")
        else None,
        "cooked": datetime.fromtimestamp(run.created),
        "seconds": result.get("seconds"),
        "scores": result.get("evaluations"),
        "device": f"{made_in['device']}, {made_in['precision']}" if made_in else None,
        "recipe": told(run),
        "title": run.title,
    }


def told(run: Run) -> str:
    """A recipe in a line: its fields, long ones left out."""
    fields = {name: history.plain(value) for name, value in history.fields_of(run).items()}
    return ", ".join(f"{name}={value}" for name, value in fields.items() if len(value) <= 40)


def columns(opened: Kitchen) -> dict[str, Any]:
    """How the table of runs is shown."""
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    metric = opened.objective
    on_held_out, on_test = (value_format(metric, of=opened.splits.num_examples(split)) for split in (HELD_OUT, TEST))
    meaning = f"{metric.label}. {wording.direction(metric)}"
    return {
        "pin": text("pin", width=45, help="pinned: first in the list, and kept from what deletes many"),
        "no": number("no.", format="#%d", width=50),
        "name": text("name", width=200),
        "state": text("state", width=80, help=f"“{history.OUTDATED}”: its ingredients, data or model changed since"),
        "by": text("by", width=90, help="who started it"),
        "held_out": number("held_out (selects)", format=on_held_out, width=120, help=meaning),
        "test": number("test", format=on_test, width=70, help=meaning),
        "made of": text("made of", width=72, help="ingredients with a coefficient, of those it chose among"),
        "cooked": st.column_config.DatetimeColumn("cooked", format="YYYY-MM-DD HH:mm", width=130),
        "seconds": number("took", format="%.1f s", width=75, help="seconds, when it was cooked first"),
        "scores": number("scores", width=70, help="that it took to find it; shared ones among them"),
        "device": text("device", width=105, help="and precision, when it was cooked last"),
    }


def selected(opened: Kitchen, entries: Sequence[Entry]) -> list[Entry]:
    """Draw the table; the rows that are selected, which stand in the URL by their numbers."""
    named = str(st.query_params.get(CHOSEN, "")).split(",")
    ids = [str(entry.run.id) for entry in entries]
    state = st.dataframe(
        table(opened, entries),
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        selection_default={
            "selection": {"rows": [ids.index(one) for one in named if one in ids], "columns": [], "cells": []}
        },
        height="content" if len(ids) <= 12 else 460,
        key=f"history {tables.digest(ids)} {st.session_state.get('history', 0)}",
        column_config=columns(opened),
        placeholder="–",
        alt=f"{len(ids)} runs of this kitchen with their state, {opened.objective.label}, time and recipe",
    )
    chosen = widgets.of_rows(state, entries)
    choose([entry.run for entry in chosen])
    return chosen


def choose(runs: Sequence[Run], *, anew: bool = False) -> None:
    """Write the selection into the URL; `anew`: it was not made in the table, which has to take it from there."""
    named = ",".join(str(run.id) for run in runs)
    if named:
        st.query_params[CHOSEN] = named
    elif CHOSEN in st.query_params:
        del st.query_params[CHOSEN]
    if anew:
        st.session_state["history"] = st.session_state.get("history", 0) + 1


def delete(opened: Kitchen, runs: Sequence[Run]) -> None:
    """Forget runs, those of others only once it was asked about; they can be taken back until others are deleted."""
    if others_in(runs, people.person()):
        st.session_state["to be deleted"] = (str(opened.file), list(runs))
        st.rerun()
    _forget(opened, runs)


def ask_before_deleting(opened: Kitchen) -> None:
    """Before runs go that others started, who see them too."""
    file, runs = st.session_state.get("to be deleted", ("", []))
    if file != str(opened.file) or not runs:
        return
    others, them = others_in(runs, people.person()), "it" if len(runs) == 1 else "them"
    what = f"“{verbatim(runs[0].name)}”" if len(runs) == 1 else f"{len(runs)} runs"
    row = st.container(horizontal=True, vertical_alignment="center")
    row.warning(f"Delete {what}, started by {verbatim(', '.join(others))}? All who open this kitchen see {them}.")
    if row.button(f"Delete {them}", type="primary"):
        del st.session_state["to be deleted"]
        _forget(opened, runs)
    if row.button(f"Keep {them}"):
        del st.session_state["to be deleted"]
        st.rerun()


def _forget(opened: Kitchen, runs: Sequence[Run]) -> None:
    for run in runs:
        opened.store.forget_run(run.key)
    session.forget_soups([run.key for run in runs])
    st.session_state[DELETED] = (str(opened.file), list(runs))
    choose([], anew=True)
    st.rerun()


def offer_undo(opened: Kitchen) -> None:
    """What was deleted last, and a way back."""
    file, runs = st.session_state.get(DELETED, ("", []))
    if file != str(opened.file) or not runs:
        return
    row = st.container(horizontal=True, vertical_alignment="center")
    what = f"“{verbatim(runs[0].name)}”" if len(runs) == 1 else f"{len(runs)} runs"
    row.write(f"Deleted {what}; the scores are kept.")
    if row.button("Undo", icon=":material/undo:"):
        opened.store.take_back(runs)
        del st.session_state[DELETED]
        choose(runs if len(runs) <= 2 else [], anew=True)
        st.rerun()


def offer_to_delete_many(opened: Kitchen, entries: Sequence[Entry], listed: Sequence[Entry]) -> None:
    """Delete what is no soup of this kitchen, or all that the filters leave; never what is pinned or running."""
    loose = [entry for entry in listed if not entry.run.pinned and entry.state != "running"]
    undone = [entry for entry in entries if not entry.run.pinned and entry.state in history.UNDONE]
    with st.popover("Delete many", icon=":material/delete_sweep:", disabled=not loose and not undone):
        st.caption("Pinned runs stay, and so does every score: cooking a recipe again costs nothing.")
        counts = {state: sum(entry.state == state for entry in undone) for state in history.UNDONE}
        what = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        if undone and st.button(f"Delete what is no soup of this kitchen: {what}"):
            delete(opened, [entry.run for entry in undone])
        if loose and st.button(f"Delete the {len(loose)} unpinned runs in the list"):
            delete(opened, [entry.run for entry in loose])


def offer_to_delete_selected(opened: Kitchen, selected: Sequence[Entry]) -> None:
    """Delete what is selected, but what is pinned or running."""
    loose = [entry.run for entry in selected if not entry.run.pinned and entry.state != "running"]
    kept = len(selected) - len(loose)
    label = f"Delete the {len(loose)} selected" + (f", not {kept} pinned or running" if kept else "")
    if loose and st.button(label, icon=":material/delete:"):
        delete(opened, loose)


def recipe_of(run: Run) -> Recipe | None:
    """A run's recipe, if this version of soupviz knows it; else the page says what is wrong with it."""
    try:
        return parse(run.recipe)
    except SoupError as error:
        st.error(verbatim(f"Its recipe cannot be cooked again: {error}"))
        return None


def cook(opened: Kitchen, recipe: Recipe) -> None:
    """Cook a recipe from this page, and watch it here."""
    computing.cook_job(opened, recipe)
    st.session_state["cooked here"] = (str(opened.file), recipe)
    st.rerun()


def watch_cooking(opened: Kitchen) -> None:
    """What was cooked last from this page: its progress, then what it came to."""
    file, recipe = st.session_state.get("cooked here", ("", None))
    job = work.jobs().find(computing.cook_key(opened, recipe)) if recipe and file == str(opened.file) else None
    if job is None or session.watch(job) or job.state != "finished":
        return
    run = opened.store.run(job.result)
    if run is None:
        return
    row = st.container(horizontal=True, vertical_alignment="center")
    value = of_score(opened.objective, history.scores_in(opened, run)[HELD_OUT])
    row.write(f"Cooked #{run.id} **{verbatim(run.name)}**: {value} on held_out.")
    named = [one for one in str(st.query_params.get(CHOSEN, "")).split(",") if one]
    if str(run.id) not in named:
        beside = next((one for one in opened.store.runs() if named and str(one.id) == named[0]), None)
        if row.button(f"Compare it with #{beside.id}" if beside else "Select it"):
            choose([beside, run] if beside else [run], anew=True)
            st.rerun()
