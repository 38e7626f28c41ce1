"""Every ingredient and every soup in one table and one picture, with a plain verdict on each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
import streamlit as st

from soupviz.analysis import verdicts
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.mixing.treatments import OUTPUTS
from soupviz.pictures import models
from soupviz.pictures.basics import Chart
from soupviz.recipes import parse
from soupviz.soups.planning import paired, summaries
from soupviz.soups.soup import ELSEWHERE, mix_in, treatment_in
from soupviz.store.runs import Run
from soupviz.tasks.metrics import Compared, compared_by, wilson
from soupviz.tasks.score import Score
from soupviz.types import Coefficients
from soupviz.ui import tables, widgets
from soupviz.ui.verbatim import verbatim

NOT_SCORED = "not scored yet"
LONGEST = 36
"""Letters of a name on the axis; the table has it whole."""

MADE = ("soup", "ensemble")
"""Kinds of rows that are no checkpoint."""

ENSEMBLE = "ensemble of all"
"""The id of the yardstick that is always there: what the ingredients say together, at the cost of all their passes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row: `id` is an ingredient's name, or a run's key. counts: what it has fixed and broken on the split that
    reports, against the best ingredient."""

    id: str
    name: str
    kind: str
    mix: Coefficients
    treatment: str
    held_out: Score | None
    judged: Score | None
    saw: str = ""
    evaluations: int | None = None
    seconds: float | None = None
    counts: tuple[int, int] | None = None


def entries(opened: Kitchen, runs: Sequence[Run], split: str) -> list[Entry]:
    """The base, the ingredients and the finished soups, with what was measured of them on held_out and on a split."""
    found: list[tuple[str, str, str, Coefficients, str]] = []
    if opened.base:
        found.append(("base", "base", "base", (("base", 1.0),), "average"))
    found += [(name, name, "ingredient", ((name, 1.0),), "average") for name in opened.names]
    if len(opened.pool) > 1:
        found.append(
            (ENSEMBLE, f"ensemble of all {len(opened.pool)}", "ensemble", mean_of(opened.pool), "probabilities")
        )
    for run in runs:
        mixture = mix_in(run)
        treatment = treatment_in(run)
        found.append((run.key, run.name, "ensemble" if treatment in OUTPUTS else "soup", mixture, treatment))
    known = summaries(opened, [(mix, on, how) for *_, mix, how in found for on in ("held_out", split)])
    rows = [
        Entry(id, name, kind, mix, how, known.get((mix, "held_out", how)), known.get((mix, split, how)))
        for id, name, kind, mix, how in found
    ]
    best = best_ingredient(rows)
    counts = _paired(opened, rows, best, split) if best and best.judged else {}
    costs = {run.key: run.result or {} for run in runs}
    seen = {run.key: saw(run) for run in runs}
    return [
        replace(
            row,
            kind="best" if row is best else row.kind,
            saw=seen.get(row.id, ""),
            counts=counts.get(row.id),
            evaluations=costs.get(row.id, {}).get("evaluations"),
            seconds=costs.get(row.id, {}).get("seconds"),
        )
        for row in rows
    ]


def _paired(opened: Kitchen, rows: Sequence[Entry], best: Entry, split: str) -> dict[str, tuple[int, int]]:
    """By id, what each row that is scored has fixed and broken."""
    wanted = {row.id: (row.mix, split, row.treatment) for row in rows if row.judged and row is not best}
    counts = paired(opened, wanted.values(), (best.mix, split, best.treatment))
    return {id: counts[one] for id, one in wanted.items() if one in counts}


def saw(run: Run) -> str:
    """The data that had a part in a soup: what it was selected on, and train where it learned from that."""
    selected_on = (run.result or {}).get("selected_on", ["held_out"])
    elsewhere = ["other data"] if ELSEWHERE in (run.result or {}).get("notes", {}) else []
    return ", ".join([*selected_on, *elsewhere, *(["train"] if "train" in parse(run.recipe).needs else [])])


def ranked(rows: Sequence[Entry]) -> list[Entry]:
    """The best on held_out first, what is not scored there last.

    Never by the split that reports: whoever takes the first row would choose by it.
    """
    return sorted(rows, key=lambda row: -row.held_out.correct if row.held_out else 1)


def best_ingredient(rows: Sequence[Entry]) -> Entry | None:
    """The best on held_out among the ingredients: what a soup is compared with."""
    scored = [(row.held_out.correct, row) for row in rows if row.kind in ("ingredient", "best") and row.held_out]
    return max(scored, key=lambda pair: pair[0])[1] if scored else None


def table(rows: Sequence[Entry], split: str) -> pd.DataFrame:
    """One row per entry; accuracies in percent, differences in points."""
    best = best_ingredient(rows)
    found = compared(rows)
    shown = []
    for row in rows:
        line: dict[str, object] = {"model": row.name}
        line["held_out"] = row.held_out and 100 * row.held_out.accuracy
        if split != "held_out":
            line[split] = row.judged and 100 * row.judged.accuracy
        line |= _against(row, best, found.get(row.id))
        line["95 % interval"] = tables.interval(row.judged) if row.judged else None
        line["ECE"] = row.judged and row.judged.ece
        line |= {"passes": len(row.mix) if row.kind == "ensemble" else 1}
        line |= {"saw": row.saw or None, "scores": row.evaluations, "seconds": row.seconds, "kind": row.kind}
        shown.append(line)
    return pd.DataFrame(shown)


def compared(rows: Sequence[Entry]) -> dict[str, Compared]:
    """By id, what each model is against the best ingredient on the split that reports.

    p-values are corrected over the soups and ensembles that are shown, and apart from them over the checkpoints: that
    there are many checkpoints makes no soup less certain.
    """
    best = best_ingredient(rows)
    if best is None or best.judged is None:
        return {}
    found: dict[str, Compared] = {}
    for is_made in (True, False):
        family = {row.id: row.counts for row in rows if row.counts and (row.kind in MADE) is is_made}
        found |= compared_by(family, best.judged.num_examples)
    return found


def correction(rows: Sequence[Entry], split: str) -> str:
    """Over how many tests p-values are corrected, in a sentence; empty where there are none."""
    found = compared(rows)
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
    return (
        f"Ordered by held_out. p: McNemar's exact test on {split} against the best ingredient, corrected by Holm over "
        f"{', and apart over '.join(told)} shown."
    )


def _against(row: Entry, best: Entry | None, found: Compared | None) -> dict[str, object]:
    if row is best and row.judged is not None:
        return {"difference": 0.0, "p": None, "verdict": "best on held_out, the yardstick"}
    if found is None:
        return {"difference": None, "p": None, "verdict": NOT_SCORED}
    return {"difference": 100 * found.difference, "p": found.p_value, "verdict": found.judgement}


def picture(rows: Sequence[Entry], split: str, chosen: str) -> Chart:
    """Accuracy with its Wilson interval, in the order of the table."""
    scored = [(row, row.judged) for row in rows if row.judged]
    labels = _labels([row for row, _ in scored])
    shown = []
    for row, score in scored:
        low, high = wilson(score.correct, score.num_examples)
        percent = {"accuracy": 100 * score.accuracy, "low": 100 * low, "high": 100 * high}
        shown.append({"id": row.id, "name": labels[row.id], "kind": row.kind} | percent)
    return models.intervals(shown, split, {chosen})


def draw_checkpoint(opened: Kitchen, row: Entry) -> None:
    """What is known of an ingredient, the base or the ensemble: the verdict, its scores, its file and its metadata."""
    st.write(verdicts.judge(opened, row.name, row.mix, row.treatment, selected_on=()).sentence)
    scores = {score.split: score for score in (row.held_out, row.judged) if score is not None}
    widgets.score_metrics({split: score.summary() for split, score in scores.items()})
    if row.kind == "ensemble":
        return
    checkpoint = opened.weights.resolve(row.id)
    facts = {"file": checkpoint.path, "fingerprint": checkpoint.fingerprint} | dict(checkpoint.metadata)
    st.table({name: verbatim(str(value)) for name, value in facts.items()})


def _labels(rows: Sequence[Entry]) -> dict[str, str]:
    """What each row is called on the axis, by its id: runs may share a name, and then their keys tell them apart."""
    short = {row.id: row.name if len(row.name) <= LONGEST else f"{row.name[: LONGEST - 1]}…" for row in rows}
    names = Counter(short.values())
    return {key: name if names[name] == 1 else f"{name} · {key[:4]}" for key, name in short.items()}
