"""The tables that pages show: what was measured so far, never anything computed anew."""

import hashlib
from collections.abc import Iterable
from typing import Any

import pandas as pd

from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.soups.planning import ingredient_summaries, summaries
from soupviz.soups.scaling import Scaled
from soupviz.spec import HELD_OUT, SHIFTS, TEST
from soupviz.tasks.figures import counts
from soupviz.tasks.metric import Metric, others_of
from soupviz.tasks.objective import Objective
from soupviz.tasks.score import Score
from soupviz.tasks.slicing import SliceRow
from soupviz.tasks.task import Task
from soupviz.tasks.wording import factor, of_score
from soupviz.types import Coefficients
from soupviz.weights import logged
from soupviz.weights.metadata import as_number

FIRST = ("step", "global_step", "epoch", "lr", "learning_rate", "lr0", "base_lr")
"""The facts that are looked for first."""

LAST = ("seed", "random_seed")
"""What explains nothing."""

FORMULA = ("=", "+", "-", "@", "\t", "\n")
"""How a text begins that a spreadsheet would compute."""
OF_FILES = ("ingredient", "held_out", "test", "weights", "MB", "fingerprint")
"""Columns of every table of ingredients, beside those of metrics."""


def metrics_beside(opened: Kitchen) -> list[Metric]:
    """What a table of ingredients shows of held_out beside the objective."""
    task, objective = opened.task, opened.objective
    return [one for one in others_of(task.metrics, objective) if one.name in (task.in_tables or {one.name})]


def ingredients(opened: Kitchen) -> pd.DataFrame:
    """One row per ingredient in kitchen order; shares are fractions, missing where not measured yet."""
    rows = []
    fits = [item.fitted for item in opened.ingredients if item.fitted]
    shows_weights = any(fitted.has_twin or fitted.weights == "ema" for fitted in fits)
    scores = {split: ingredient_summaries(opened, split, opened.names) for split in (HELD_OUT, TEST)}
    objective, others = opened.objective, metrics_beside(opened)
    for item in opened.ingredients:
        held_out, test = (found.get(item.name) for found in scores.values())
        row: dict[str, object] = {"ingredient": item.name}
        row |= {"held_out": _value(objective, held_out), "test": _value(objective, test)}
        row |= {metric.label: _value(metric, held_out) for metric in others}
        if shows_weights and item.fitted:
            row["weights"] = "EMA" if item.fitted.weights == "ema" else "raw"
        row["MB"] = item.num_bytes / 1e6
        row |= {key: as_number(value) for key, value in item.metadata.items() if key not in row}
        rows.append(row | {"fingerprint": item.fingerprint[:12]})
    table = pd.DataFrame(rows)
    labels = [metric.label for metric in others]
    known = _by_interest(metadata_columns(opened, table))
    order = ["ingredient", "held_out", "test", *known, *labels, "weights", "MB", "fingerprint"]
    table = table[[name for name in order if name in table]]
    is_scored = table["held_out"].notna().any()
    empty = [name for name in labels if is_scored and table[name].isna().all()]  # a metric that says nothing here
    return table.drop(columns=[*empty, *(["test"] if table["test"].isna().all() else [])])


def _value(metric: Metric, score: Score | None) -> float | None:
    return None if score is None else score.shown(metric.name)


def without_shared(opened: Kitchen, table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, object]]:
    """A table without the columns that came with the checkpoints and are the same in all rows, and what these say."""
    columns = metadata_columns(opened, table)
    same = [name for name in columns if len(table) > 1 and table[name].nunique(dropna=False) == 1]
    return table.drop(columns=same), {name: table[name].iloc[0] for name in same}


def _by_interest(columns: Iterable[str]) -> list[str]:
    """When a checkpoint was taken, at which learning rate, what was logged of it; then the rest as it came."""
    names = list(columns)
    first = [name for name in FIRST if name in names]
    first += [name for name in names if logged.logged_accuracy({name: 0.5}) and name not in first]
    last = [name for name in names if name in LAST]
    return [*first, *(name for name in names if name not in (*first, *last)), *last]


def disagreements(opened: Kitchen) -> list[str]:
    """Ingredients whose logged share of right answers differs from ours by more than chance, as far as scored."""
    scores = ingredient_summaries(opened, HELD_OUT, opened.names)
    first = opened.task.metrics[0]
    scored = ((item, counts(first, scores[item.name])) for item in opened.ingredients if item.name in scores)
    return logged.disagreements((item, *counted) for item, counted in scored if counted)


def metadata_columns(opened: Kitchen, table: pd.DataFrame) -> list[str]:
    """The columns that came with the checkpoints."""
    ours = {*OF_FILES, *(metric.label for metric in metrics_beside(opened))}
    return [name for name in table.columns if name not in ours]


def numeric(table: pd.DataFrame, columns: Iterable[str]) -> list[str]:
    return [name for name in columns if pd.api.types.is_numeric_dtype(table[name])]


def digest(names: Iterable[str]) -> str:
    """Of ordered names, for widget keys: selections are positions, and must not survive another order."""
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:12]


def headline(opened: Kitchen) -> dict[str, tuple[str, Score | None, Score | None]]:
    """Best ingredient, uniform soup and base: what it is, with its held-out and test scores where known."""
    measured = ingredient_summaries(opened, HELD_OUT, opened.names)
    mixes: dict[str, tuple[str, Coefficients]] = {}
    if measured:
        merit = Objective(opened.objective).merit
        best = max(measured, key=lambda name: merit(measured[name]))
        mixes["Best on held_out"] = (best, ((best, 1.0),))
    mixes["Uniform soup"] = (f"average of {len(opened.pool)}", mean_of(opened.pool))
    if opened.base:
        mixes["Base"] = (opened.base.path.stem, (("base", 1.0),))
    wanted = [(mixture, split, "average") for _, mixture in mixes.values() for split in (HELD_OUT, TEST)]
    found = summaries(opened, wanted)
    return {
        title: (name, found.get((mixture, HELD_OUT, "average")), found.get((mixture, TEST, "average")))
        for title, (name, mixture) in mixes.items()
    }


def calibrations(scaled: Scaled) -> pd.DataFrame:
    """Expected calibration error, likelihood and Brier score by split, before and after a temperature."""
    rows = []
    for split, before in scaled.before.items():
        after = scaled.after[split]
        pairs = {"ECE": (before.ece, after.ece), "NLL": (before.nll, after.nll), "Brier": (before.brier, after.brier)}
        shown = {name: f"{old:.3f} → {new:.3f}" for name, (old, new) in pairs.items()}
        rows.append({"split": split.removeprefix(SHIFTS)} | shown)
    return pd.DataFrame(rows)


def aggregations(opened: Kitchen, mixture: Coefficients, names: Iterable[str]) -> pd.DataFrame | None:
    """What a mix has with each aggregation of running statistics; None before anything is known."""
    rows: list[dict[str, object]] = []
    names = list(names)
    found = summaries(opened, [(mixture, split, name) for name in names for split in opened.splits.reporting])
    for name in names:
        row: dict[str, object] = {"statistics": name}
        for split in opened.splits.reporting:
            score = found.get((mixture, split, name))
            row[split.removeprefix(SHIFTS)] = of_score(opened.objective, score) if score else None
        rows.append(row)
    return pd.DataFrame(rows) if any(len(set(row.values())) > 2 for row in rows) else None


def slices(task: Task, metric: Metric, rows: Iterable[SliceRow]) -> pd.DataFrame:
    """One row per slice, in the metric's unit, what changed most first."""
    better, worse = task.gains
    scale = factor(metric)
    table = pd.DataFrame(
        {
            "slice": row.name, f"{task.unit}s": row.num_units, "before": _scaled(scale, row.old_value),
            "after": _scaled(scale, row.value), "difference": _scaled(scale, row.difference), better: row.better,
            worse: row.worse, "p": row.p_value,
        }
        for row in rows
    )  # fmt: skip
    counted = table if task.judges_units else table.drop(columns=[better, worse])
    return counted.sort_values("difference", key=abs, ascending=False)


def _scaled(scale: float, value: float | None) -> float | None:
    return None if value is None else scale * value


def as_csv(table: pd.DataFrame) -> str:
    """A table as CSV, of which no name is a formula to the program that opens it."""
    names = {name: _no_formula(name) for name in table.columns}
    return str(table.rename(columns=names).map(_no_formula).to_csv(index=False))


def _no_formula(cell: Any) -> Any:
    """Text as text: what begins as a formula does is marked, as spreadsheets mark it."""
    if not isinstance(cell, str):
        return cell
    text = cell.replace("\r", "\n")  # which is put in quotes, so that no row begins there
    return f"'{text}" if text.startswith(FORMULA) else text
