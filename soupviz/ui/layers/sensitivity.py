"""The Layers page's first half: which two models, which layer groups, and what each of these does alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from soupviz.analysis import sensitivity
from soupviz.analysis.curve_sets import drawn_metrics
from soupviz.analysis.sensitivity import Effect, Group, Probe
from soupviz.analysis.verdicts import by_merit
from soupviz.kitchen import Kitchen
from soupviz.models.layers import Grouping, keys_of
from soupviz.pictures import layers
from soupviz.soups.blending import groups_of
from soupviz.soups.planning import FREE, cost
from soupviz.spec import HELD_OUT
from soupviz.tasks.metric import Metric
from soupviz.types import Wanted
from soupviz.ui import asking, charts, formats, session, tables, widgets
from soupviz.ui.ending import end_page
from soupviz.ui.jobs import Job
from soupviz.ui.path import Choice, choices, usual_batchnorm
from soupviz.ui.verbatim import verbatim
from soupviz.weights.selection import BASE

GROUPINGS: dict[str, Grouping] = {"blocks": "block", "parts": "part", "modules": "module"}
TAKEN, SCALED = "taken from B", "update scaled"
BY_EFFECT, BY_DEPTH = "by effect", "front to back"
BOUND: dict[str, Any] = {"bind": "query-params"}


@dataclass(frozen=True, slots=True)
class Asked:
    """What the page is about. factor: what the update from the base is multiplied by; None where groups are taken
    from b."""

    a: Choice
    b: Choice
    by: Grouping
    factor: float | None
    batchnorm: str

    @property
    def probe(self) -> Probe:
        alpha = 1.0 if self.factor is None else 1.0 - self.factor
        return Probe(self.a.mix, self.b.mix, alpha, self.by, self.batchnorm)

    @property
    def what(self) -> str:
        """What happens to a group, in words."""
        if self.factor is None:
            return f"taken from {self.b.name}"
        return "reset to the base" if self.factor == 0 else f"with its update from the base × {self.factor:g}"


def choose(opened: Kitchen) -> Asked:
    """The two models, the groups, what happens to them, and BatchNorm; all of it in the URL."""
    ends = choices(opened, session.finished_runs(opened))
    if len(ends) < 2:
        st.info("This takes two models. Add a checkpoint or a base to kitchen.yaml, or cook a soup on the Soup page.")
        end_page()
    names = list(ends)
    first, second = _best_two(opened, names)
    row = st.container(horizontal=True, vertical_alignment="bottom")
    a = row.selectbox("A, the model that is changed", names, index=first, key="a", width=215, **BOUND)
    offered = [TAKEN, SCALED] if opened.base else [TAKEN]
    how = row.selectbox("A layer group is", offered, key="change", width=155, **BOUND)
    factor = None
    if how == SCALED:
        b = BASE
        factor = row.number_input(
            "times", -1.0, 3.0, 0.0, 0.25, key="factor", width=130, **BOUND,
            help="base + factor · (A − base): 0 resets it to the base, 1 leaves it as it is, more exaggerates it",
        )  # fmt: skip
    else:
        b = row.selectbox("B, the other model", names, index=second, key="b", width=215, **BOUND)
        row.button("⇄", on_click=_exchange, args=(b, a), help="Exchange A and B")
    label = row.selectbox("Layer groups", _groupings(opened), key="by", width=130, **BOUND)
    batchnorm = "average"
    if widgets.has_batchnorm(opened):
        offered = widgets.aggregations(opened, ends[a].batchnorm, ends[b].batchnorm)
        usual = offered.index(usual_batchnorm(ends[a], ends[b]))
        batchnorm = row.selectbox("BatchNorm", offered, index=usual, key="batchnorm", width=130, **BOUND)
    _explain(opened, ends[a], ends[b], batchnorm)
    return Asked(ends[a], ends[b], GROUPINGS[label], factor, batchnorm)


def _exchange(a: str, b: str) -> None:
    st.session_state["a"], st.session_state["b"] = a, b


def _best_two(opened: Kitchen, names: list[str]) -> tuple[int, int]:
    """Where the two best ingredients on held_out stand; once for each opening, so that the choice does not move."""
    key = f"two best of {opened.file}"
    if key not in st.session_state:
        ranked = by_merit(opened)
        st.session_state[key] = [*ranked, *(name for name in names if name not in ranked)][:2]
    first, second = st.session_state[key]
    return names.index(first), names.index(second)


def _groupings(opened: Kitchen) -> list[str]:
    """The ways to group the layers that differ for this model."""
    found: dict[int, str] = {}
    for label, by in GROUPINGS.items():
        found.setdefault(len(set(groups_of(opened, by).values())), label)
    return list(found.values())


def _explain(opened: Kitchen, a: Choice, b: Choice, batchnorm: str) -> None:
    if a.mix == b.mix:
        st.warning("A and B are the same weights; choose two different ones.")
        end_page()
    notes = []
    if opened.base is None:
        notes.append("Scaling a layer's update needs a base, and this kitchen has none: add `base: FILE` to it.")
    if widgets.has_batchnorm(opened):
        notes.append("BatchNorm's running statistics belong to their layer: they move with its weights.")
    for end in (a, b):
        if end.batchnorm not in (None, batchnorm):
            notes.append(
                f"“{verbatim(end.name)}” was cooked with BatchNorm {end.batchnorm}: here it is taken as {batchnorm}."
            )
    if notes:
        st.caption(" ".join(notes))


def choose_view(opened: Kitchen) -> None:
    """What the bars show, and in which order."""
    row = st.container(horizontal=True)
    metrics = formats.offered(opened)
    row.segmented_control(
        "Change of", list(metrics), default=opened.objective.name, required=True, key="measure",
        format_func=lambda name: metrics[name].label, **BOUND,
    )  # fmt: skip
    row.segmented_control("Order", [BY_EFFECT, BY_DEPTH], default=BY_EFFECT, required=True, key="order", **BOUND)


def effects(opened: Kitchen, asked: Asked) -> list[Effect] | None:
    """What each group does alone: a button with its cost, the bars as they come, then all of them."""
    probe = asked.probe
    key = f"layers {probe.key(opened)}"

    def compare(job: Job) -> tuple[list[Group], list[Wanted]]:
        job.progress(0, 1, "comparing weights")
        groups = sensitivity.groups(opened, probe.a, probe.b, probe.by)
        return groups, sensitivity.wanted(opened, probe, groups)

    compared = asking.result(opened, f"groups {key}", "Compare the layers", lambda: FREE, compare, ahead=True)
    if compared is None:
        return None
    found, wanted = compared.result
    same = sum(not group.differs for group in found)
    if same == len(found):
        st.info("Every layer of A and B is identical.")
        return None
    st.caption(
        f"{len(found)} layer groups of “{verbatim(asked.a.name)}”, each alone {verbatim(asked.what)}"
        + (f"; {same} are identical in both and cost nothing." if same else ".")
    )

    def do(job: Job) -> list[Effect]:
        job.events.clear()
        return sensitivity.sensitivity(opened, probe, on_effect=job.events.append, progress=job.progress)

    def live(job: Job) -> None:
        if job.events:
            _bars(opened, list(job.events), found, None, f"live {key}")

    title = f"Score {len(found) - same} mixes"
    job = asking.result(opened, key, title, lambda: cost(opened, wanted), do, draw=live, ahead=True)
    return job.result if job else None


def _bars(
    opened: Kitchen, known: list[Effect], found: list[Group], chosen: str | None, key: str, **more: Any
) -> list[dict[str, Any]]:
    """The bars, in the order and of the metric that are asked for."""
    table = layers.rows(known, opened.task, opened.objective)
    metric = formats.offered(opened).get(str(st.session_state.get("measure")), opened.objective)
    names = [group.name for group in found]
    if st.session_state.get("order") != BY_DEPTH:
        names = layers.ordered(table, metric, names)
    best = layers.ordered(table, metric, names)[0]
    alt = f"The change of {metric.label} by layer group, {len(known)} of {len(found)} known; best is {best}"
    picture = layers.bars(
        table, metric, names, [chosen] if chosen else [], gains=opened.task.gains,
        has_interval=metric.name == opened.objective.name, of=opened.splits.num_examples(HELD_OUT),
    )  # fmt: skip
    return charts.show(picture, key=key, alt=alt, **more)


def draw(opened: Kitchen, asked: Asked, known: list[Effect], chosen: str | None) -> str | None:
    """The bars and their table; what is selected in one stands out in both.

    Returns:
        The group that was newly clicked.
    """
    key = tables.digest([asked.probe.key(opened), str(st.session_state.get("order"))])
    bars = _bars(opened, known, [effect.group for effect in known], chosen, f"bars {key}", clicked=layers.LAYER)
    metrics = drawn_metrics(opened)
    table = _table(layers.rows(known, opened.task, opened.objective), metrics)
    names = table["group"].tolist()
    state = st.dataframe(
        table,
        hide_index=True,
        on_select="rerun",
        selection_mode="single-row",
        selection_default={
            "selection": {"rows": [names.index(chosen)] if chosen in names else [], "columns": [], "cells": []}
        },
        key=f"layers {key} {chosen}",
        height="content" if len(names) <= widgets.SHOWN_WHOLE else "auto",
        column_config=_columns(opened, metrics),
        placeholder="–",
        alt="Every layer group with what it changes on held_out",
    )
    small = sum(effect.change.p_value < 0.05 for effect in known)
    st.caption(
        f"Changes on held_out, {known[0].change.num_units:,} {opened.task.unit}s, the split that selects. p is below "
        f"0.05 for {small} of {len(known)}; of twenty groups that change nothing it is so for one, by chance. "
        "Click a bar or a row to put the group into the weights below."
    )
    rows = widgets.of_rows(state, names)
    clicked = widgets.newly_clicked(layers=rows, bars=[str(one["group"]) for one in bars])
    return clicked[0] if clicked and clicked[0] != chosen else None


def _table(table: pd.DataFrame, metrics: Sequence[Metric]) -> pd.DataFrame:
    table = table.sort_values(metrics[0].name, ascending=not metrics[0].higher_is_better, kind="stable")
    remarks = ["identical in A and B" if same else "" for same in table["identical"]]
    changes = [metric.name for metric in metrics]
    counts = ["better", "worse"] if table["better"].notna().any() else []
    shown = ["group", *changes, *counts, "p", "value", "parameters", "apart"]
    return table[shown].assign(remark=remarks) if any(remarks) else table[shown]


def change_columns(opened: Kitchen, metrics: Sequence[Metric], new: str, old: str) -> dict[str, Any]:
    """How a table shows what changed on held_out between two models: each metric, and the units better and worse."""
    number, task, of = st.column_config.NumberColumn, opened.task, opened.splits.num_examples(HELD_OUT)
    changes = {
        metric.name: number(
            metric.label, format=formats.gap_format(metric, of=of), help=formats.gap_help(metric, HELD_OUT)
        )
        for metric in metrics
    }
    better, worse = task.gains
    return changes | {"better": number(better, help=task.only(new)), "worse": number(worse, help=task.only(old))}


def _columns(opened: Kitchen, metrics: Sequence[Metric]) -> dict[str, Any]:
    number, of = st.column_config.NumberColumn, opened.splits.num_examples(HELD_OUT)
    return change_columns(opened, metrics, "the changed model", "A") | {
        "group": st.column_config.TextColumn("layer group", pinned=True),
        "p": number("p", format=formats.CHANCE, width=95, help=f"paired test on the same {opened.task.unit}s"),
        "value": number(
            "held_out", format=formats.value_format(metrics[0], of=of), help=f"{metrics[0].label} of the changed model"
        ),
        "parameters": number("parameters", format="localized"),
        "apart": number("weights apart", format="%.1f %%", help="|B − A| / |A| over the group's weights"),
    }


def names_of(opened: Kitchen, asked: Asked) -> list[str]:
    """The layer groups, front to back."""
    return list(keys_of(groups_of(opened, asked.by)))
