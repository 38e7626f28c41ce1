"""Pieces of pages that need more than a line."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
import streamlit as st

from soupviz.analysis import readings
from soupviz.analysis.wording import plain, test_of
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import RECALIBRATE, WEIGHTS
from soupviz.pictures import models
from soupviz.soups.needs import lacking_for
from soupviz.spec import HELD_OUT, SHIFTS, TEST
from soupviz.tasks import wording
from soupviz.tasks.figures import counts
from soupviz.tasks.metric import Metric
from soupviz.tasks.score import Score
from soupviz.tasks.wording import of_score
from soupviz.types import refusals_in_words
from soupviz.ui import charts, formats, tables
from soupviz.ui.verbatim import verbatim

if TYPE_CHECKING:
    from streamlit.elements.arrow import DataframeState

Item = TypeVar("Item")

SPLITS = (HELD_OUT, TEST)
"""Columns of the kitchen's metric."""

SHOWN_WHOLE = 20
"""Rows of a table that is shown whole; a longer one scrolls."""


def metric_row(items: Iterable[tuple[str, str, str]]) -> None:
    """Metrics side by side, as many as fit in a line: title, value, and a note on where the value comes from."""
    with st.container(horizontal=True):
        for title, value, note in items:
            st.metric(
                verbatim(title),
                value,
                verbatim(note),
                delta_color="off",
                delta_arrow="off",
                border=True,
                width=192,
            )


def score_metrics(metric: Metric, scores: Mapping[str, Score], selected_on: Sequence[str] = (HELD_OUT,)) -> None:
    """A value per split; those that selected say so."""
    items = []
    for split, score in scores.items():
        role = "selects" if split in selected_on else "reports"
        counted = counts(metric, score)
        number = f"{counted[0]} of {counted[1]}" if counted else f"n = {score.num_units:,}"
        items.append((split.removeprefix(SHIFTS), of_score(metric, score), f"{role}: {number}"))
    metric_row(items)


def headline(opened: Kitchen) -> None:
    """Best, uniform and base above the table."""
    items, metric = [], opened.objective
    for title, (name, held_out, test) in tables.headline(opened).items():
        value = "…" if held_out is None else wording.of_score(metric, held_out)
        told = (
            "" if test is None else f"test {plain(metric, test.shown(metric.name), wording.places(test.num_units))}; "
        )
        items.append((title, value, told + name))
    count = f"{len(opened.splits.load(HELD_OUT)):,} held-out {opened.task.unit}s"
    metric_row([*items, ("Checkpoints", str(len(opened.ingredients)), count)])
    st.caption(f"{wording.titled(metric)} on held_out, the split that selects{wording.hint(metric)}.")


def refused(opened: Kitchen) -> None:
    """What cannot join, and why."""
    if opened.refused:
        with st.expander(f"{len(opened.refused)} files are refused", icon="⚠️"):
            for reason in refusals_in_words(opened.refused):
                st.write(verbatim(reason))


def notes(opened: Kitchen) -> None:
    """How the files were understood: what was chosen, left over and passed over."""
    if opened.notes:
        with st.expander(f"How the files were read ({len(opened.notes)})", icon=":material/info:"):
            st.markdown("\n".join(f"- {verbatim(note)}" for note in opened.notes))


def data_notes(opened: Kitchen) -> None:
    """What there is to tell of how the splits were read."""
    for note in readings.notes_of(opened):
        st.caption(verbatim(note))


def filtered(opened: Kitchen, table: pd.DataFrame) -> pd.DataFrame:
    """The rows that a filter on one of the metadata columns leaves."""
    columns = tables.metadata_columns(opened, table)
    if not columns or len(table) < 2:
        return table
    left, right = st.columns([1, 3], vertical_alignment="bottom")
    column = left.selectbox("Filter by", columns, index=None, placeholder="nothing", key="filter by")
    if column is None:
        return table
    values = table[column].dropna()
    if pd.api.types.is_numeric_dtype(values) and values.min() < values.max():
        low, high = float(values.min()), float(values.max())
        lower, upper = right.slider(verbatim(column), low, high, (low, high), key=f"filter {column}")
        return table[table[column].between(lower, upper)]
    chosen = right.multiselect(verbatim(column), sorted(values.unique(), key=str), key=f"filter {column}")
    return table[table[column].isin(chosen)] if chosen else table


def ingredient_table(opened: Kitchen, table: pd.DataFrame) -> list[str]:
    """The table of ingredients; returns the names of the selected rows."""
    names = table["ingredient"].tolist()
    wanted = [names.index(name) for name in st.session_state.get("members", []) if name in names]
    nonce = st.session_state.get("selection", 0)
    shares = [name for name, metric in _metric_columns(opened, table).items() if metric.unit == wording.PERCENT]
    state = st.dataframe(
        table.assign(**{name: 100 * table[name].astype(float) for name in shares}),
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        selection_default={"selection": {"rows": wanted, "columns": [], "cells": []}},
        height="content" if len(names) <= SHOWN_WHOLE else "auto",
        key=f"ingredients {tables.digest(names)} {nonce}",
        column_config=columns_of(opened, table),
        alt=f"Ingredients with their {opened.objective.label} on held_out",
    )
    return of_rows(state, names)


def disagreements(opened: Kitchen) -> None:
    """Where a run logged another score than ours, by more than chance."""
    if told := tables.disagreements(opened):
        with st.expander(f"{len(told)} logged scores are others than ours", icon="⚠️", expanded=True):
            for sentence in told:
                st.write(verbatim(sentence))


def shared(same: Mapping[str, object]) -> None:
    """What is known of the checkpoints and the same in all, out of the way."""
    if same:
        with st.expander(f"The same in all of them ({len(same)})"):
            st.write(verbatim(", ".join(f"{name}: {value}" for name, value in same.items() if value != "")))


def columns_of(opened: Kitchen, table: pd.DataFrame) -> dict[str, Any]:
    """Shares as bars from 0 to 100 %, other values and sizes to a sensible precision."""

    def of(column: str) -> int | None:
        return opened.splits.num_examples(column if column in SPLITS else HELD_OUT)

    config: dict[str, Any] = {
        name: st.column_config.ProgressColumn(
            name, format=formats.value_format(metric, of=of(name)), min_value=0.0, max_value=100.0, width=140
        )
        if metric.unit == wording.PERCENT
        else st.column_config.NumberColumn(
            name if name in SPLITS else wording.axis_title(metric),
            format=formats.value_format(metric, table[name].dropna()).removesuffix(f" {metric.unit}"),
            help=wording.on_split(metric, name if name in SPLITS else HELD_OUT),
        )
        for name, metric in _metric_columns(opened, table).items()
    }
    config["MB"] = st.column_config.NumberColumn("MB", format="%.2f")
    config["ingredient"] = st.column_config.TextColumn("ingredient", pinned=True)
    return config


def _metric_columns(opened: Kitchen, table: pd.DataFrame) -> dict[str, Metric]:
    """Which metric each column of a table of ingredients holds."""
    beside = {metric.label: metric for metric in tables.metrics_beside(opened)}
    columns = dict.fromkeys(SPLITS, opened.objective) | beside
    return {name: metric for name, metric in columns.items() if name in table}


def slice_columns(opened: Kitchen, best: str, split: str) -> dict[str, Any]:
    """How a table of slices is shown."""
    number, metric, (better, worse) = st.column_config.NumberColumn, opened.objective, opened.task.gains
    value = "%.1f %%" if metric.unit == wording.PERCENT else formats.value_format(metric)
    apart = "%+.1f" if metric.unit == wording.PERCENT else formats.gap_format(metric)
    test = test_of(metric, opened.splits.grouped(split))
    return {
        "before": number(best, format=value),
        "after": number("soup", format=value),
        "difference": number("difference", format=apart, help=wording.gap_unit(metric) or metric.label),
        better: number(better, help=opened.task.only("the soup")),
        worse: number(worse, help=opened.task.only("the ingredient")),
        "p": number("p", format=formats.CHANCE, width=95, help=f"{test} on the {opened.task.unit}s of this slice"),
    }


def of_rows(state: "DataframeState", items: Sequence[Item]) -> list[Item]:
    """What stands behind the rows that are selected; a table that became shorter may still remember others."""
    return [items[row] for row in state["selection"]["rows"] if row < len(items)]


def newly_clicked(**selections: list[str]) -> list[str]:
    """What was clicked last: a selection elsewhere on the page stays as it was, and must not win over it."""
    changed: list[str] = []
    for place, now in selections.items():
        if st.session_state.get(f"clicked in {place}") != now:
            st.session_state[f"clicked in {place}"] = now
            changed += now
    return changed


def scatter(opened: Kitchen, table: pd.DataFrame, chosen: Sequence[str]) -> None:
    """The value against any numeric column; a click takes an ingredient into the selection, or out of it."""
    metric, labels = (
        opened.objective,
        [one.label for one in tables.metrics_beside(opened) if one.unit != wording.PERCENT],
    )
    known = [name for name in (*tables.metadata_columns(opened, table), *labels, "MB") if name in table]
    columns = tables.numeric(table, known)
    if not columns or table["held_out"].isna().all():
        return
    st.header(f"{wording.titled(metric)} against what is known of the checkpoints")
    x = st.selectbox("Against", columns, key="against", width=240)
    nonce = st.session_state.get("selection", 0)
    shown = table.rename(columns={"ingredient": "id"}).assign(
        held_out=wording.factor(metric) * table["held_out"].astype(float)
    )
    clicked = charts.show(
        models.against(
            shown,
            x,
            "held_out",
            chosen,
            metric=metric,
            of=opened.splits.num_examples(HELD_OUT),
        ),
        key=f"scatter {x} {nonce}",
        alt=f"{wording.titled(metric)} against {x}",
        clicked=models.MODEL,
    )
    if clicked:
        name = str(clicked[0]["id"])
        members = list(chosen)
        members = [member for member in members if member != name] if name in members else [*members, name]
        st.session_state["members"] = members
        st.session_state["selection"] = nonce + 1
        st.rerun()


def has_batchnorm(opened: Kitchen) -> bool:
    """Whether the model keeps running statistics, so that the choice of how to mix them matters."""
    return any(key.endswith("running_mean") for key in opened.ingredients[0].tensors)


def aggregations(opened: Kitchen, *used: str | None) -> list[str]:
    """What can become of running statistics here, and what soups were cooked with; re-estimating needs train data."""
    offered = [name for name in WEIGHTS if name != RECALIBRATE or not lacking_for(opened, {"train"})]
    return list(dict.fromkeys([*offered, *filter(None, used)]))
