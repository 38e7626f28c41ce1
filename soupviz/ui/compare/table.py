"""Models in a table, each judged against the best ingredient."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from soupviz.analysis import wording
from soupviz.kitchen import Kitchen
from soupviz.spec import HELD_OUT, TEST
from soupviz.tasks.metric import Metric
from soupviz.tasks.paired import Compared, compare_pairs
from soupviz.tasks.task import Task
from soupviz.types import Grouped
from soupviz.ui.compare.entries import Entry, best_ingredient
from soupviz.ui.formats import CHANCE, gap_format, in_unit, value_format

NOT_SCORED = "not scored yet"
NOT_COMPARED = "not compared yet"
CALIBRATION = "ece"
"""The metric that says how far confidence can be believed, where the task has it."""

MADE = ("soup", "ensemble")
"""Kinds of rows that are no checkpoint."""


def table(rows: Sequence[Entry], split: str, task: Task, metric: Metric) -> pd.DataFrame:
    """One row per entry, in the objective's unit."""
    best = best_ingredient(rows, metric)
    found = compared(rows, task, metric)
    has_calibration = any(one.name == CALIBRATION for one in task.metrics)
    shown = []
    for row in rows:
        line: dict[str, object] = {"model": row.name}
        line["held_out"] = row.held_out and in_unit(metric, row.held_out.shown(metric.name))
        if split != HELD_OUT:
            line[split] = row.judged and in_unit(metric, row.judged.shown(metric.name))
        line |= _against(row, best, found.get(row.id), metric)
        line["95 % interval"] = wording.between(metric, *row.interval) if row.interval else None
        if has_calibration:
            line["ECE"] = row.judged and row.judged.shown(CALIBRATION)
        line |= {"passes": len(row.mix) if row.kind == "ensemble" else 1}
        line |= {"saw": row.saw or None, "scores": row.evaluations, "seconds": row.seconds, "kind": row.kind}
        shown.append(line)
    return pd.DataFrame(shown)


def columns(opened: Kitchen, metric: Metric, by: Grouped | None = None) -> dict[str, Any]:
    """How the table is shown; held_out says that it selected."""
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    on_held_out, on_test = (opened.splits.num_examples(split) for split in (HELD_OUT, TEST))
    test = f"{wording.test_of(metric, by)} on the same units, Holm-corrected over what is shown"
    return {
        "model": text("model", pinned=True, width=225),
        "held_out": number("held_out (selects)", format=value_format(metric, of=on_held_out)),
        "test": number("test", format=value_format(metric, of=on_test), width=90),
        "difference": number(
            "difference", format=gap_format(metric, of=on_test),
            help=f"{wording.measure(metric)}, to the best ingredient on held_out. {wording.direction(metric)}",
        ),
        "p": number("p", format=CHANCE, width=95, help=test),
        "verdict": text("verdict", width=215),
        "ECE": number("ECE", format="%.3f", help="expected calibration error in 15 bins: confidence against truth"),
        "passes": number("passes", help="forward passes for one answer: an ensemble needs one for each member"),
        "saw": text("saw", help="the data that had a part in making it"),
        "scores": number("scores", help="that it took to find the soup; shared ones among them"),
        "seconds": number("seconds", format="%.1f"),
    }  # fmt: skip


def compared(rows: Sequence[Entry], task: Task, metric: Metric) -> dict[str, Compared]:
    """By id, what each model is against the best ingredient on the split that reports.

    p-values are corrected over the soups and ensembles that are shown, and apart from them over the checkpoints: that
    there are many checkpoints makes no soup less certain.
    """
    best = best_ingredient(rows, metric)
    if best is None or best.judged is None:
        return {}
    found: dict[str, Compared] = {}
    for is_made in (True, False):
        family = [row for row in rows if (row.kind in MADE) is is_made]
        pairs = {row.id: (row.judged, row.pair) for row in family if row.judged and row.pair}
        found |= compare_pairs(task, metric, best.judged, pairs)
    return found


def correction(rows: Sequence[Entry], split: str, task: Task, metric: Metric, by: Grouped | None = None) -> str:
    """Over how many tests p-values are corrected, in a sentence; empty where there are none.

    Args:
        by: by what the split's units are resampled together.
    """
    found = compared(rows, task, metric)
    numbers = {row.kind in MADE: found[row.id].number for row in rows if row.id in found}
    names = {True: "soup or ensemble", False: "other checkpoint"}
    plural = {True: "soups and ensembles", False: "other checkpoints"}
    told = [
        f"{numbers[made]} {(names if numbers[made] == 1 else plural)[made]}"
        for made in (True, False)
        if made in numbers
    ]
    if not told:
        return ""
    test = wording.test_of(metric, by)
    sentences = (
        "Ordered by held_out.",
        f"p: {test} on {split} against the best ingredient, corrected by Holm over {', and apart over '.join(told)} "
        "shown.",
        wording.direction(metric),
        "The verdict below judges one alone, as if nothing else had been tried: its p may be smaller.",
    )
    return " ".join(filter(None, sentences))


def _against(row: Entry, best: Entry | None, found: Compared | None, metric: Metric) -> dict[str, object]:
    if row is best and row.judged is not None:
        return {"difference": 0.0, "p": None, "verdict": "best on held_out"}
    if found is None:
        return {"difference": None, "p": None, "verdict": NOT_COMPARED if row.judged else NOT_SCORED}
    return {"difference": in_unit(metric, found.difference), "p": found.p_value, "verdict": found.judgement}
