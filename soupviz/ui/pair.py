"""The Diversity page's one pair: its errors, and where its average and its ensemble stand."""

from collections.abc import Sequence

import streamlit as st

from soupviz.analysis.diversity import Pair, midpoints, score_ensembles, without_logits
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.pictures import models
from soupviz.pictures.diversity import ENSEMBLE, MIDPOINT, errors_of
from soupviz.soups import planning
from soupviz.tasks.metrics import verdict, wilson
from soupviz.ui import charts, widgets, work
from soupviz.ui.diversity import Asked, label_of
from soupviz.ui.verbatim import verbatim

QUICK = 10**7
"""Logits up to which a page averages those of two models at once, without a job."""


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
    share = 100 / pair.num_examples
    widgets.metric_row(
        [
            ("Both right", f"{pair.both_right:,}", f"{share * pair.both_right:.1f} % of {pair.num_examples:,}"),
            (f"Only {verbatim(pair.a)}", f"{pair.only_a:,}", f"{share * pair.only_a:.1f} %"),
            (f"Only {verbatim(pair.b)}", f"{pair.only_b:,}", f"{share * pair.only_b:.1f} %"),
            ("Both wrong", f"{pair.both_wrong:,}", f"{pair.same_wrong:,} the same way"),
        ]
    )
    charts.show(errors_of(pair), key="errors of the pair", alt="Errors of the first, of both, of the second")
    st.caption(
        f"Their errors on {asked.split}: those that only {verbatim(pair.a)} makes, both (grey), "
        f"only {verbatim(pair.b)}."
    )
    draw_standing(opened, asked, pair)


def ensemble_of(opened: Kitchen, asked: Asked, pair: Pair) -> int | None:
    """How many examples the two together get right, if that is known, or quick to tell from their logits."""
    done = work.jobs().find(f"{asked.key(opened, ENSEMBLE)} {opened.file}")
    if done is not None and done.state == "finished":
        return int(done.result[pair.names])
    split = opened.splits.load(asked.split)
    if len(split) * opened.scores.width(split) > QUICK or without_logits(opened, pair.names, asked.split):
        known = planning.summaries(opened, [(mean_of(pair.names), asked.split, "probabilities")])
        return next((score.correct for score in known.values()), None)
    return score_ensembles(opened, pair.names, asked.split)[pair.names]


def draw_standing(opened: Kitchen, asked: Asked, pair: Pair) -> None:
    """The two, their average and their ensemble, with intervals, as far as they are known."""
    mixture = midpoints(opened, pair.names)[pair.names]
    average = planning.known(opened, mixture, asked.split, asked.batchnorm)
    ensemble = ensemble_of(opened, asked, pair)
    rows = [
        (pair.a, "ingredient", pair.both_right + pair.only_a),
        (pair.b, "ingredient", pair.both_right + pair.only_b),
        *([(MIDPOINT, "soup", average.correct)] if average else []),
        *([(ENSEMBLE, "ensemble", ensemble)] if ensemble is not None else []),
    ]
    shown = []
    for name, kind, count in sorted(rows, key=lambda row: -row[2]):
        low, high = wilson(count, pair.num_examples)
        shown.append(
            {"id": name, "name": name, "kind": kind, "accuracy": 100 * count / pair.num_examples}
            | {"low": 100 * low, "high": 100 * high}
        )
    charts.show(
        models.intervals(shown, asked.split),
        key="standing of the pair",
        alt=f"Accuracy on {asked.split} of {len(rows)}",
    )
    if average is None:
        st.caption("Their average is not scored yet: the button above scores it with the others.")
        return
    better = pair.a if pair.accuracy_a >= pair.accuracy_b else pair.b
    best = planning.known(opened, ((better, 1.0),), asked.split)
    if best:
        st.write(f"Their average against {verbatim(better)}, the better of the two: **{verdict(average, best)}**.")
