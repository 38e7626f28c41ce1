"""The Diversity page's one pair: its errors, and where its average and its ensemble stand."""

from collections.abc import Sequence
from typing import Any

import streamlit as st

from soupviz.analysis.diversity import Pair
from soupviz.analysis.gains import midpoints, score_ensembles, without_logits
from soupviz.analysis.telling import verdict
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.pictures import models
from soupviz.pictures.diversity import ENSEMBLE, MIDPOINT, errors_of
from soupviz.soups import planning
from soupviz.tasks.metric import Metric, is_share
from soupviz.tasks.significance import wilson
from soupviz.tasks.wording import places, shown, titled
from soupviz.types import Grouped
from soupviz.ui import charts, widgets, work
from soupviz.ui.diversity.overlaps import Asked, Values, label_of
from soupviz.ui.verbatim import verbatim

QUICK = 4 * 10**7
"""Bytes of logits up to which a page averages those of two models at once, without a job."""


def draw(opened: Kitchen, asked: Asked, pairs: Sequence[Pair]) -> None:
    """One pair: its errors as a bar, the counts, and where its average and its ensemble stand."""
    st.header("One pair")
    labels = {label_of(pair): pair for pair in pairs}
    label = st.selectbox(
        "Pair", list(labels), index=None, placeholder="choose one, or click it in a picture", key="pair",
        bind="query-params", width=420,
    )  # fmt: skip
    if label is None:
        return
    pair = labels[label]
    share, unit = 100 / pair.num_units, opened.task.unit
    well, badly = ("right", "wrong") if pair.same_wrong is not None else ("well", "badly")
    alike = f"{share * pair.both_wrong:.1f} %" if pair.same_wrong is None else f"{pair.same_wrong:,} the same way"
    widgets.metric_row(
        [
            (f"Both {well}", f"{pair.both_right:,}", f"{share * pair.both_right:.1f} % of {pair.num_units:,}"),
            (f"Only {pair.a}", f"{pair.only_a:,}", f"{share * pair.only_a:.1f} %"),
            (f"Only {pair.b}", f"{pair.only_b:,}", f"{share * pair.only_b:.1f} %"),
            (f"Both {badly}", f"{pair.both_wrong:,}", alike),
        ]
    )
    picture = errors_of(pair, unit, badly)
    charts.show(picture, key="errors of the pair", alt="Errors of the first, of both, of the second")
    related = "" if pair.correlation is None else f" Their errors' correlation is {pair.correlation:+.2f}."
    st.caption(
        f"Their errors on {verbatim(asked.split)}: those that only {verbatim(pair.a)} makes, both (grey), "
        f"only {verbatim(pair.b)}.{related}"
    )
    draw_standing(opened, asked, pair)


def ensemble_of(opened: Kitchen, asked: Asked, pair: Pair) -> float | None:
    """The objective of the two together, if that is known, or quick to tell from their logits."""
    if not opened.task.has_ensembles:
        return None
    done = work.jobs().find(f"{asked.key(opened, ENSEMBLE)} {opened.file}")
    if done is not None and done.state == "finished":
        values: Values = done.result
        return values[pair.names]
    split = opened.splits.load(asked.split)
    if opened.evaluator.answer_bytes(split) > QUICK or without_logits(opened, pair.names, asked.split):
        known = planning.summaries(opened, [(mean_of(pair.names), asked.split, opened.task.outputs[0])])
        return next((score.whole(opened.objective) for score in known.values()), None)
    return score_ensembles(opened, pair.names, asked.split)[pair.names]


def draw_standing(opened: Kitchen, asked: Asked, pair: Pair) -> None:
    """The two, their average and their ensemble, as far as they are known."""
    mixture, metric = midpoints(opened, pair.names)[pair.names], opened.objective
    average = planning.known(opened, mixture, asked.split, asked.batchnorm)
    made = {(MIDPOINT, "soup"): average.whole(metric) if average else None}
    made[ENSEMBLE, "ensemble"] = ensemble_of(opened, asked, pair)
    values = {(pair.a, "ingredient"): pair.value_a, (pair.b, "ingredient"): pair.value_b} | made
    known = {place: value for place, value in values.items() if value is not None}
    ordered = sorted(known.items(), key=lambda item: item[1], reverse=metric.higher_is_better)
    by = opened.splits.grouped(asked.split)
    draw_values(metric, [(*place, value) for place, value in ordered], pair.num_units, asked.split, by)
    if average is None:
        st.caption("Their average is not scored yet: the button above scores it with the others.")
        return
    alone = [(name, value) for (name, kind), value in ordered if kind == "ingredient"]
    best = planning.known(opened, ((alone[0][0], 1.0),), asked.split) if alone else None
    if best:
        better = verbatim(alone[0][0])
        st.write(f"Their average against {better}, the better of the two: **{verdict(opened, average, best)}**.")


def draw_values(
    metric: Metric, rows: Sequence[tuple[str, str, float]], num_units: int, split: str, by: Grouped | None = None
) -> None:
    """Values side by side, the best first; shares of the units with their intervals, where these are drawn alone."""
    if not is_share(metric) or by is not None:
        widgets.metric_row(
            [(name, shown(metric, value, places(num_units)), f"{metric.label} on {split}") for name, _, value in rows]
        )
        return
    drawn = []
    for name, kind, value in rows:
        low, high = wilson(round(value * num_units), num_units)
        row: dict[str, Any] = {"id": name, "name": name, "kind": kind, "value": value}
        drawn.append(row | {"low": low, "high": high})
    title = f"{titled(metric)} on {split} of {len(rows)}"
    charts.show(models.intervals(drawn, split, metric, of=num_units), key="standing of the pair", alt=title)
