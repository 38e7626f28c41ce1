"""The tables that pages show: what was measured so far, never anything computed anew."""

import hashlib
from collections.abc import Iterable

import pandas as pd

from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.soups.planning import ingredient_summaries, summaries
from soupviz.soups.scaling import Scaled
from soupviz.tasks.metrics import wilson
from soupviz.tasks.score import Score
from soupviz.tasks.slicing import SliceRow
from soupviz.types import Coefficients
from soupviz.weights import logged
from soupviz.weights.metadata import as_number

FIRST = ("step", "global_step", "epoch", "lr", "learning_rate")
"""The facts that are looked for first."""
FIGURES = ("held_out", "test", "loss", "top-5", "macro-F1", "weights", "MB", "fingerprint")


def ingredients(opened: Kitchen) -> pd.DataFrame:
    """One row per ingredient in kitchen order; accuracies are fractions, missing where not measured yet."""
    rows = []
    fits = [item.fitted for item in opened.ingredients if item.fitted]
    shows_weights = any(fitted.has_twin or fitted.weights == "ema" for fitted in fits)
    scores = {split: ingredient_summaries(opened, split, opened.names) for split in ("held_out", "test")}
    for item in opened.ingredients:
        held_out, test = (found.get(item.name) for found in scores.values())
        row: dict[str, object] = {"ingredient": item.name, "held_out": held_out and held_out.accuracy}
        row["test"] = test and test.accuracy
        row["loss"] = held_out and held_out.loss
        if held_out is None or held_out.top5_correct is not None:
            row["top-5"] = held_out and held_out.top5_correct and held_out.top5_correct / held_out.num_examples
        row["macro-F1"] = held_out and held_out.macro_f1
        if shows_weights and item.fitted:
            row["weights"] = "EMA" if item.fitted.weights == "ema" else "raw"
        row["MB"] = item.num_bytes / 1e6
        row |= {key: as_number(value) for key, value in item.metadata.items() if key not in row}
        rows.append(row | {"fingerprint": item.fingerprint[:12]})
    table = pd.DataFrame(rows)
    known_first = [name for name in ("ingredient", *FIGURES[:-1]) if name in table]
    table = table[[*known_first, *_by_interest(metadata_columns(table)), "fingerprint"]]
    return table.drop(columns=[name for name in ("test", "top-5") if name in table and table[name].isna().all()])


def without_shared(table: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, object]]:
    """A table without the columns that came with the checkpoints and are the same in all rows, and what these say."""
    same = [name for name in metadata_columns(table) if len(table) > 1 and table[name].nunique(dropna=False) == 1]
    return table.drop(columns=same), {name: table[name].iloc[0] for name in same}


def _by_interest(columns: Iterable[str]) -> list[str]:
    """When a checkpoint was taken, at which learning rate, what was logged of it; then the rest as it came."""
    names = list(columns)
    first = [name for name in FIRST if name in names]
    first += [name for name in names if logged.logged_accuracy({name: 0.5}) and name not in first]
    return [*first, *(name for name in names if name not in first)]


def disagreements(opened: Kitchen) -> list[str]:
    """Ingredients whose logged accuracy differs from ours by more than chance, of those that are scored."""
    scores = ingredient_summaries(opened, "held_out", opened.names)
    scored = ((item, scores[item.name]) for item in opened.ingredients if item.name in scores)
    return logged.disagreements((item, score.correct, score.num_examples) for item, score in scored)


def metadata_columns(table: pd.DataFrame) -> list[str]:
    """The columns that came with the checkpoints."""
    return [name for name in table.columns if name not in (*FIGURES, "ingredient")]


def numeric(table: pd.DataFrame, columns: Iterable[str]) -> list[str]:
    return [name for name in columns if pd.api.types.is_numeric_dtype(table[name])]


def digest(names: Iterable[str]) -> str:
    """Of ordered names, for widget keys: selections are positions, and must not survive another order."""
    return hashlib.sha256("\0".join(names).encode()).hexdigest()[:12]


def headline(opened: Kitchen) -> dict[str, tuple[str, Score | None, Score | None]]:
    """Best ingredient, uniform soup and base: what it is, with its held-out and test scores where known."""
    measured = ingredient_summaries(opened, "held_out", opened.names)
    mixes: dict[str, tuple[str, Coefficients]] = {}
    if measured:
        best = max(measured, key=lambda name: measured[name].correct)
        mixes["Best on held_out"] = (best, ((best, 1.0),))
    mixes["Uniform soup"] = (f"average of {len(opened.pool)}", mean_of(opened.pool))
    if opened.base:
        mixes["Base"] = (opened.base.path.name, (("base", 1.0),))
    wanted = [(mixture, split, "average") for _, mixture in mixes.values() for split in ("held_out", "test")]
    found = summaries(opened, wanted)
    return {
        title: (name, found.get((mixture, "held_out", "average")), found.get((mixture, "test", "average")))
        for title, (name, mixture) in mixes.items()
    }


def interval(score: Score) -> str:
    """A Wilson 95% interval in percent."""
    low, high = wilson(score.correct, score.num_examples)
    return f"{100 * low:.1f} to {100 * high:.1f}"


def calibrations(scaled: Scaled) -> pd.DataFrame:
    """Expected calibration error, likelihood and Brier score by split, before and after a temperature."""
    rows = []
    for split, before in scaled.before.items():
        after = scaled.after[split]
        pairs = {"ECE": (before.ece, after.ece), "NLL": (before.nll, after.nll), "Brier": (before.brier, after.brier)}
        shown = {name: f"{old:.3f} → {new:.3f}" for name, (old, new) in pairs.items()}
        rows.append({"split": split.removeprefix("shifts.")} | shown)
    return pd.DataFrame(rows)


def treatments(opened: Kitchen, mixture: Coefficients, names: Iterable[str]) -> pd.DataFrame | None:
    """A mix's accuracy with each treatment of running statistics, in percent; None before anything is known."""
    rows: list[dict[str, object]] = []
    names = list(names)
    found = summaries(opened, [(mixture, split, name) for name in names for split in opened.report_splits()])
    for name in names:
        row: dict[str, object] = {"statistics": name}
        for split in opened.report_splits():
            score = found.get((mixture, split, name))
            row[split.removeprefix("shifts.")] = f"{100 * score.accuracy:.2f} %" if score else None
        rows.append(row)
    return pd.DataFrame(rows) if any(len(set(row.values())) > 2 for row in rows) else None


def slices(rows: Iterable[SliceRow]) -> pd.DataFrame:
    """One row per slice, in percent and points, what changed most first."""
    table = pd.DataFrame(
        {
            "slice": row.name, "examples": row.num_examples, "before": 100 * (row.old_accuracy or 0.0),
            "after": 100 * row.accuracy, "points": row.points, "fixed": row.fixed, "broken": row.broken,
            "p": row.p_value,
        }
        for row in rows
    )  # fmt: skip
    return table.sort_values("points", key=abs, ascending=False)
