"""Models beside each other with their intervals, and what is known of one of them."""

from collections import Counter
from collections.abc import Sequence

import streamlit as st

from soupviz import addresses
from soupviz.analysis import verdicts
from soupviz.kitchen import Kitchen
from soupviz.pictures import models, sampling
from soupviz.pictures.basics import Chart
from soupviz.tasks.metric import Metric
from soupviz.types import Grouped
from soupviz.ui import widgets
from soupviz.ui.compare.entries import Entry
from soupviz.ui.verbatim import verbatim

LONGEST = 36
"""Letters of a name on the axis; the table has it whole."""


def picture(rows: Sequence[Entry], split: str, chosen: str, metric: Metric, by: Grouped | None = None) -> Chart:
    """Values with their intervals, in the order of the table."""
    scored = [(row, row.judged.shown(metric.name), row.interval) for row in rows if row.judged and row.interval]
    of = max((row.judged.num_units for row in rows if row.judged), default=None)
    labels = _labels([row for row, *_ in scored])
    shown = [
        {"id": row.id, "name": labels[row.id], "kind": row.kind, "value": value, "low": low, "high": high}
        for row, value, (low, high) in scored
        if value is not None
    ]
    return models.intervals(shown, split, metric, {chosen}, by, of=of)


def drawn(rows: Sequence[Entry], chosen: str) -> list[Entry]:
    """What the picture shows of the table: its first rows, and what everything is compared with."""
    judged = [row for row in rows if row.judged and row.interval]
    return sampling.leading(
        judged, sampling.MOST_ROWS, keeps=lambda row: row.kind in ("best", "base") or row.id == chosen
    )


def _labels(rows: Sequence[Entry]) -> dict[str, str]:
    """What each row is called on the axis, by its id: runs may share a name, and then their keys tell them apart."""
    short = {row.id: row.name if len(row.name) <= LONGEST else f"{row.name[: LONGEST - 1]}…" for row in rows}
    names = Counter(short.values())
    return {key: name if names[name] == 1 else f"{name} · {key[:4]}" for key, name in short.items()}


def draw_checkpoint(opened: Kitchen, row: Entry) -> None:
    """What is known of an ingredient, the base or the ensemble: the verdict, its scores, its file and its metadata."""
    st.write(verbatim(verdicts.verdict_on(opened, row.name, row.mix, row.aggregation, selected_on=()).sentence))
    scores = {score.split: score for score in (row.held_out, row.judged) if score is not None}
    widgets.score_metrics(opened.objective, scores)
    if row.kind == "ensemble":
        return
    checkpoint = opened.weights.resolve(row.id)
    facts = {"file": addresses.shown(checkpoint.path), "fingerprint": checkpoint.fingerprint} | dict(
        checkpoint.metadata
    )
    st.table({verbatim(name): verbatim(str(value)) for name, value in facts.items()})
