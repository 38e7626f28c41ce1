"""Every ingredient and every soup in one table and one picture, with a plain verdict on each."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from soupviz import addresses
from soupviz.analysis import verdicts, wording
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.pictures import models, sampling
from soupviz.pictures.basics import Chart
from soupviz.recipes import parse
from soupviz.soups.comparing import intervals, paired
from soupviz.soups.planning import summaries
from soupviz.soups.soup import ELSEWHERE, aggregation_in, mix_in
from soupviz.soups.yardsticks import ensemble_of_all
from soupviz.spec import HELD_OUT, TRAIN
from soupviz.store.runs import Run
from soupviz.tasks.metric import Metric
from soupviz.tasks.objective import Objective
from soupviz.tasks.paired import Compared, Pair, compare_pairs
from soupviz.tasks.score import Score
from soupviz.tasks.task import Task
from soupviz.types import Coefficients, Grouped, Wanted
from soupviz.ui import tables, widgets, work
from soupviz.ui.formats import CHANCE, gap_format, in_unit, value_format
from soupviz.ui.jobs import Job
from soupviz.ui.verbatim import verbatim

NOT_SCORED = "not scored yet"
NOT_COMPARED = "not compared yet"
CALIBRATION = "ece"
"""The metric that says how far confidence can be believed, where the task has it."""

AT_ONCE = 20
"""Models whose units a page looks at itself; more are compared in the background."""

LONGEST = 36
"""Letters of a name on the axis; the table has it whole."""

MADE = ("soup", "ensemble")
"""Kinds of rows that are no checkpoint."""

ENSEMBLE = "ensemble of all"
"""The id of the yardstick that is always there: what the ingredients say together, at the cost of all their passes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row: `id` is an ingredient's name, or a run's key. pair: what it is on the split that reports against the best
    ingredient. interval: of its value there."""

    id: str
    name: str
    kind: str
    mix: Coefficients
    aggregation: str
    held_out: Score | None
    judged: Score | None
    saw: str = ""
    evaluations: int | None = None
    seconds: float | None = None
    pair: Pair | None = None
    interval: tuple[float, float] | None = None


def entries(opened: Kitchen, runs: Sequence[Run], split: str) -> list[Entry]:
    """The base, the ingredients and the finished soups, with what was measured of them on held_out and on a split."""
    found: list[tuple[str, str, str, Coefficients, str]] = []
    if opened.base:
        found.append(("base", "base", "base", (("base", 1.0),), "average"))
    found += [(name, name, "ingredient", ((name, 1.0),), "average") for name in opened.names]
    cooked = {(mix_in(run), aggregation_in(run)) for run in runs}
    if (ceiling := ensemble_of_all(opened)) and (ceiling.mix, ceiling.aggregation) not in cooked:
        found.append((ENSEMBLE, ceiling.name, "ensemble", ceiling.mix, ceiling.aggregation))
    for run in runs:
        mixture = mix_in(run)
        aggregation = aggregation_in(run)
        found.append((run.key, run.name, "ensemble" if aggregation in OUTPUTS else "soup", mixture, aggregation))
    known = summaries(opened, [(mix, on, how) for *_, mix, how in found for on in (HELD_OUT, split)])
    rows = [
        Entry(id, name, kind, mix, how, known.get((mix, HELD_OUT, how)), known.get((mix, split, how)))
        for id, name, kind, mix, how in found
    ]
    best = best_ingredient(rows, opened.objective)
    wanted = _against_best(rows, best, split)
    pairs = paired(opened, wanted.values(), _asked(best, split), most=AT_ONCE) if wanted and best else {}
    if len(pairs) < len(set(wanted.values())):  # corrected over some of them only, p would seem smaller than it is
        pairs = {}
    around = intervals(opened, {(row.mix, split, row.aggregation): row.judged for row in rows if row.judged})
    costs = {run.key: run.result or {} for run in runs}
    seen = {run.key: saw(run) for run in runs}
    return [
        replace(
            row,
            kind="best" if row is best else row.kind,
            saw=seen.get(row.id, ""),
            pair=pairs.get(wanted[row.id]) if row.id in wanted else None,
            interval=around.get((row.mix, split, row.aggregation)),
            evaluations=costs.get(row.id, {}).get("evaluations"),
            seconds=costs.get(row.id, {}).get("seconds"),
        )
        for row in rows
    ]


def _against_best(rows: Sequence[Entry], best: Entry | None, split: str) -> dict[str, Wanted]:
    """By id, what of the rows can be compared with the best ingredient."""
    if best is None or best.judged is None:
        return {}
    return {row.id: _asked(row, split) for row in rows if row.judged and row is not best}


def _asked(row: Entry, split: str) -> Wanted:
    return row.mix, split, row.aggregation


def compare_job(opened: Kitchen, rows: Sequence[Entry], split: str) -> Job | None:
    """What compares the rows that are too many to be compared at once; None where all are."""
    best = best_ingredient(rows, opened.objective)
    wanted = _against_best(rows, best, split)
    waiting = {row.id for row in rows if row.id in wanted and row.pair is None}
    key = f"compare {split} {tables.digest(sorted(waiting))} {opened.file}"
    if not waiting or best is None:
        return None
    rival = _asked(best, split)

    def do(job: Job) -> None:
        paired(opened, [wanted[one] for one in waiting], rival, progress=job.progress)

    return work.jobs().find(key) or work.jobs().submit(
        key, f"Comparing {len(waiting)} models on {split}", do, kitchen=str(opened.file)
    )


def saw(run: Run) -> str:
    """The data that had a part in a soup: what it was selected on, and train where it learned from that."""
    selected_on = (run.result or {}).get("selected_on", [HELD_OUT])
    elsewhere = ["other data"] if ELSEWHERE in (run.result or {}).get("notes", {}) else []
    return ", ".join([*selected_on, *elsewhere, *([TRAIN] if "train" in parse(run.recipe).needs else [])])


def ranked(rows: Sequence[Entry], metric: Metric) -> list[Entry]:
    """The best on held_out first, what is not scored there last.

    Never by the split that reports: whoever takes the first row would choose by it.
    """
    scored = {row.id: row.held_out for row in rows if row.held_out}
    order = {id: place for place, id in enumerate(Objective(metric).best_first(scored))}
    return sorted(rows, key=lambda row: order.get(row.id, len(order)))


def best_ingredient(rows: Sequence[Entry], metric: Metric) -> Entry | None:
    """The best on held_out among the ingredients: what a soup is compared with."""
    singles = [row for row in rows if row.kind in ("ingredient", "best") and row.held_out]
    return ranked(singles, metric)[0] if singles else None


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


def columns(metric: Metric, by: Grouped | None = None) -> dict[str, Any]:
    """How the table is shown; held_out says that it selected."""
    number, text = st.column_config.NumberColumn, st.column_config.TextColumn
    value = value_format(metric)
    test = f"{wording.test_of(metric, by)} on the same units, Holm-corrected over what is shown"
    return {
        "model": text("model", pinned=True, width=225),
        "held_out": number("held_out (selects)", format=value),
        "test": number("test", format=value, width=90),
        "difference": number(
            "difference", format=gap_format(metric),
            help=f"{wording.measure(metric)}, to the best ingredient on held_out. {wording.direction(metric)}",
        ),
        "p": number("p", format=CHANCE, help=test),
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
        return {"difference": 0.0, "p": None, "verdict": "best on held_out, the yardstick"}
    if found is None:
        return {"difference": None, "p": None, "verdict": NOT_COMPARED if row.judged else NOT_SCORED}
    return {"difference": in_unit(metric, found.difference), "p": found.p_value, "verdict": found.judgement}


def picture(rows: Sequence[Entry], split: str, chosen: str, metric: Metric, by: Grouped | None = None) -> Chart:
    """Values with their intervals, in the order of the table."""
    scored = [(row, row.judged.shown(metric.name), row.interval) for row in rows if row.judged and row.interval]
    labels = _labels([row for row, *_ in scored])
    shown = [
        {"id": row.id, "name": labels[row.id], "kind": row.kind, "value": value, "low": low, "high": high}
        for row, value, (low, high) in scored
        if value is not None
    ]
    return models.intervals(shown, split, metric, {chosen}, by)


def drawn(rows: Sequence[Entry], chosen: str) -> list[Entry]:
    """What the picture shows of the table: its first rows, and what everything is compared with."""
    judged = [row for row in rows if row.judged and row.interval]
    return sampling.leading(
        judged, sampling.MOST_ROWS, keeps=lambda row: row.kind in ("best", "base") or row.id == chosen
    )


def draw_checkpoint(opened: Kitchen, row: Entry) -> None:
    """What is known of an ingredient, the base or the ensemble: the verdict, its scores, its file and its metadata."""
    st.write(verdicts.verdict_on(opened, row.name, row.mix, row.aggregation, selected_on=()).sentence)
    scores = {score.split: score for score in (row.held_out, row.judged) if score is not None}
    widgets.score_metrics(opened.objective, scores)
    if row.kind == "ensemble":
        return
    checkpoint = opened.weights.resolve(row.id)
    facts = {"file": addresses.shown(checkpoint.path), "fingerprint": checkpoint.fingerprint} | dict(
        checkpoint.metadata
    )
    st.table({name: verbatim(str(value)) for name, value in facts.items()})


def _labels(rows: Sequence[Entry]) -> dict[str, str]:
    """What each row is called on the axis, by its id: runs may share a name, and then their keys tell them apart."""
    short = {row.id: row.name if len(row.name) <= LONGEST else f"{row.name[: LONGEST - 1]}…" for row in rows}
    names = Counter(short.values())
    return {key: name if names[name] == 1 else f"{name} · {key[:4]}" for key, name in short.items()}
