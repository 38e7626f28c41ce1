"""The pre-flight report on its page: what is measured, what all have in common, the verdicts."""

from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from soupviz.analysis import barriers, geometry, preflight
from soupviz.analysis.differences import Sameness, sameness
from soupviz.analysis.preflight import Report
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import RECALIBRATE
from soupviz.pictures import preflight as pictures
from soupviz.soups import planning
from soupviz.soups.planning import FREE, Cost
from soupviz.spec import HELD_OUT
from soupviz.tasks.metric import Metric
from soupviz.tasks.wording import factor, gap_unit
from soupviz.ui import asking, charts, tables, widgets
from soupviz.ui.formats import in_unit, value_format
from soupviz.ui.jobs import Job
from soupviz.ui.preflight.matrices import Weights, listed
from soupviz.ui.verbatim import verbatim
from soupviz.weights.selection import BASE

AT_ONCE = 2e9
"""Bytes of weights that are read without asking."""

WORDS = {"in_basin": "in the basin", "far": "far", "duplicate": "duplicate", "incompatible": "incompatible"}

NAMED = 6
"""Files whose verdict is written out above the table."""


def content(opened: Kitchen) -> str:
    """Of all that the report depends on, beside the aggregation."""
    prints = [item.fingerprint for item in opened.ingredients] + ([opened.base.fingerprint] if opened.base else [])
    refused = [one.reason for one in opened.refused]
    return digest(
        [prints, opened.names, refused, opened.splits.load(HELD_OUT).fingerprint, *opened.evaluator.numerics]
    )[:16]


def weights(opened: Kitchen) -> Weights | None:
    """Compare the weights, at once where that is quick; None until it is done."""
    size = geometry.bytes_to_read(opened)

    def compare(job: Job) -> Weights:
        return Weights(geometry.gram(opened, progress=job.progress), sameness(opened, progress=job.progress))

    title = f"Compare the weights (reads {_size(size)})"
    job = asking.result(opened, f"weights {content(opened)}", title, lambda: FREE, compare, ahead=size < AT_ONCE)
    return job.result if job else None


def report(opened: Kitchen, aggregation: str) -> Report | None:
    """The verdicts; until they are there a button that says what they cost, then the matrix as it fills."""

    pairs = len(barriers.pairs_of(opened))

    def inspect(job: Job) -> Report:
        return preflight.inspect(opened, aggregation, progress=job.progress, on_pair=job.events.append)

    def draw(job: Job) -> None:
        # In a dozen steps: what a browser is given faster than it can draw, it shows late.
        step = max(1, pairs // 12)
        found = barriers.gather(opened, aggregation, job.events[: len(job.events) // step * step])
        charts.show(
            pictures.growing(opened.names, found.heights, found.metric), key="barriers so far", alt="Barriers so far"
        )

    key = f"preflight {content(opened)} {aggregation}"

    def cost() -> Cost:
        return planning.cost(opened, barriers.wanted(opened, aggregation))

    title = f"Measure {pairs} barrier{'s' if pairs != 1 else ''} and judge" if pairs else "Judge"
    job = asking.result(opened, key, title, cost, inspect, draw=draw, ahead=True)
    return job.result if job else None


def aggregation(opened: Kitchen) -> str:
    """What becomes of running statistics half-way; asked only where the model has some."""
    if not widgets.has_batchnorm(opened):
        return "average"
    offered = [name for name in widgets.aggregations(opened) if name in ("average", RECALIBRATE)]
    chosen = st.segmented_control(
        "BatchNorm statistics half-way", offered, default="average", required=True, key="batchnorm", bind="query-params"
    )
    st.caption(
        "Averaged running statistics can make a barrier where re-estimated ones show none"
        + ("." if RECALIBRATE in offered else "; re-estimating them needs `train:` under `data:` in kitchen.yaml.")
    )
    return str(chosen)


def facts(opened: Kitchen, found: Weights | None) -> None:
    """What all ingredients have in common, what was refused, and what is frozen."""
    first = opened.ingredients[0].shapes
    dtypes = sorted(
        {str(tensor.dtype).removeprefix("torch.") for tensor in first.values() if tensor.is_floating_point()}
    )
    numbers = sum(tensor.numel() for key, tensor in first.items() if key not in opened.architecture.ties)
    split = opened.splits.load(HELD_OUT)
    copies = len(opened.names) - len(set(barriers.twins(opened)))
    refused = len([one for one in opened.refused if one.name != BASE])
    told = f"{refused} refused, {copies} cop{'y' if copies == 1 else 'ies'}"
    widgets.metric_row(
        [
            ("Checkpoints that fit", str(len(opened.names)), told),
            ("Tensors", f"{len(first):,}", "the same in all"),
            ("Numbers", _count(numbers), f"{', '.join(dtypes)}"),
            opened.task.head(opened.scores.width(split)),
        ]
    )
    widgets.refused(opened)
    if found is not None:
        st.caption(verbatim(_sameness(opened, found.sameness)))


def _sameness(opened: Kitchen, same: Sameness) -> str:
    among = same.frozen(opened.names) if len(set(barriers.twins(opened))) > 1 else []
    to_base = same.frozen([*opened.names, BASE]) if opened.base else []
    told = "No layer group is frozen: each differs somewhere among the ingredients."
    if among:
        rest = "" if not opened.base else " and in the base" if among == to_base else ", though not all in the base"
        told = f"Frozen, the same bit for bit in all ingredients{rest}: {verbatim(listed(among))}."
    size = _size(geometry.bytes_to_read(opened))
    return f"{told} Distances and angles come from the weights alone: {size} are read, nothing is evaluated."


def summary(opened: Kitchen, found: Report) -> None:
    """The verdicts in a sentence or two, before anything else."""
    inside = [one for one in found.verdicts if one.verdict == "in_basin"]
    outside = [one for one in found.verdicts if one.verdict != "in_basin"]
    lines = [f"- **{verbatim(one.name)}**: {verbatim(one.sentence)}" for one in outside[:NAMED]]
    if len(outside) > NAMED:
        lines.append(f"- and {len(outside) - NAMED} more, in the table below")
    head = f"**{len(inside)} of {len(found.verdicts)} checkpoints belong together** and can be averaged."
    if len(found.verdicts) == 1 == len(inside):
        head = "There is one checkpoint: nothing to mix it with."
    elif not inside:
        head = "**No two of these can be averaged.**"
    if opened.task.has_classes and not found.reordered:
        lines.append("\nTheir classes are in the order of held_out's, by what they answer.")
    (st.warning if outside else st.success)("\n".join([head, "", *lines]))
    if found.regime:
        st.info(verbatim(found.regime.sentence))


def table(opened: Kitchen, found: Weights | None, judged: Report | None) -> list[str]:
    """One row per file; the rows that are selected, which every picture of the page outlines."""
    verdicts = {one.name: one for one in judged.verdicts} if judged else {}
    names = [*opened.names, *(name for name in verdicts if name not in opened.names)]
    rows = []
    for name in names:
        one = verdicts.get(name)
        row: dict[str, Any] = {"ingredient": name, "verdict": WORDS[one.verdict] if one else None}
        row |= {"held_out": None, "barrier": in_unit(barriers.metric_of(opened), one.barrier_max if one else None)}
        row |= _measured(opened, name, found) if name in opened.names else {}
        rows.append(row | {"why": one.sentence if one else None})
    shown = pd.DataFrame(rows).dropna(axis="columns", how="all")
    if "as base" in shown and not shown["as base"].any():
        shown = shown.drop(columns="as base")
    wanted = [names.index(name) for name in st.session_state.get("members") or [] if name in names]
    nonce = st.session_state.get("selection", 0)
    state = st.dataframe(
        shown,
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        selection_default={"selection": {"rows": wanted, "columns": [], "cells": []}},
        height="content" if len(names) <= widgets.SHOWN_WHOLE else "auto",
        key=f"preflight {tables.digest(names)} {nonce}",
        column_config=_columns(opened, found.geometry.reference_name if found else BASE),
        placeholder="–",
        alt="Every checkpoint with its verdict",
    )
    chosen = widgets.of_rows(state, names)
    members = [name for name in chosen if name in opened.names]
    st.session_state["members"] = members
    return members


def _measured(opened: Kitchen, name: str, found: Weights | None) -> dict[str, Any]:
    score = planning.ingredient_summaries(opened, HELD_OUT, [name]).get(name)
    value = score.shown(opened.objective.name) if score else None
    row: dict[str, Any] = {"held_out": None if value is None else factor(opened.objective) * value}
    if found is not None:
        index = opened.names.index(name)
        others = np.delete(found.geometry.cosines[index], index)
        row["distance"] = float(found.geometry.norms[index])
        row["cosine"] = float(others.mean()) if len(others) else None
        if BASE in found.sameness.names:
            row["as base"] = 100 * float(found.sameness.shares(of_numbers=True)[index, -1])
    return row


def _columns(opened: Kitchen, reference: str) -> dict[str, Any]:
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    metric, objective = barriers.metric_of(opened), opened.objective
    return {
        "ingredient": text("ingredient", pinned=True),
        "verdict": text("verdict", width=105),
        "why": text("why", width="large"),
        "barrier": number("highest barrier", format="%.3f", help=_barrier_help(metric)),
        "held_out": number(
            "held_out",
            format=value_format(objective, of=opened.splits.num_examples(HELD_OUT)),
            help=f"{objective.label} on held_out",
        ),
        "distance": number(
            f"from {reference}", format="%.2f", help=f"length of the update: distance to the {reference}"
        ),
        "cosine": number(
            "cosine", format="%.2f", help="of its update with the others', on average: 1 is one direction"
        ),
        "as base": number("as base", format="%.1f %%", help="share of its numbers that are the base's, bit for bit"),
    }


def _barrier_help(metric: Metric) -> str:
    return f"{gap_unit(metric) or metric.label} on held_out, half-way to any other ingredient"


def take_basin(found: Report) -> None:
    """A way to the Soup page with what belongs together."""
    inside = [one.name for one in found.verdicts if one.verdict == "in_basin"]
    outside = [one.name for one in found.verdicts if one.verdict != "in_basin"]
    if len(inside) > 1 and outside:
        # A link, not a button: Streamlit lets no script leave a page whose choices stand in the URL.
        st.page_link(
            "pages/soup.py",
            label=f"Cook with the {len(inside)} in the basin",
            icon=":material/soup_kitchen:",
            query_params={"kitchen": str(st.session_state["kitchen"]), "members": ",".join(inside)},
        )


def _count(number: int) -> str:
    return f"{number / 1e6:.1f} M" if number >= 1e6 else f"{number:,}"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"
