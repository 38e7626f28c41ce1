"""What the commands print: a table for people, or one JSON object; remarks go to stderr."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmarks.figures import ESTIMATED, Comparison, Measures
from benchmarks.measuring import machine
from benchmarks.picture import picture
from benchmarks.run import Bench
from soupviz.analysis.readings import notes_of
from soupviz.cli.answering import answer, stream
from soupviz.files import replacing
from soupviz.kitchen import Kitchen
from soupviz.recipes import Recipe
from soupviz.soups.menu import Menu
from soupviz.soups.planning import Plan
from soupviz.soups.scaling import Scaled
from soupviz.soups.soup import Soup
from soupviz.tasks.metrics import Compared, wilson
from soupviz.tasks.score import Score
from soupviz.types import Alpha
from soupviz.weights.logged import disagreements

if TYPE_CHECKING:
    import pandas as pd

    from soupviz.kitchen import Kitchen


FILE_WIDTH = 160
"""Letters of a line that no terminal bounds: in a file, or a pipe."""


def show(
    as_json: bool,
    values: Mapping[str, Any],
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    are_words: bool = False,
) -> None:
    """Print the values as JSON, or the rows as a table whose first column holds names, the others figures or words."""
    if as_json:
        answer(json.dumps(values))
        return
    table = Table(title=escape(title), title_justify="left")
    for index, column in enumerate(columns):
        # Where a terminal is narrow a figure goes on in the next line: none is cut off.
        table.add_column(column, justify="left" if index == 0 or are_words else "right", overflow="fold")
    for row in rows:
        table.add_row(*map(escape, row))  # a name may hold what rich takes for markup
    Console(file=stream(), width=None if stream().isatty() else FILE_WIDTH).print(table)


def show_notes(kitchen: Kitchen) -> None:
    """What there is to tell of how the data was read."""
    for note in notes_of(kitchen):
        typer.echo(f"note: {note}", err=True)


def show_scores(as_json: bool, title: str, scores: Mapping[str, Score]) -> None:
    values = {name: found.summary() for name, found in scores.items()}
    rows = [[name, *_figures(figures)] for name, figures in values.items()]
    show(as_json, {"ingredients": values}, title, ("ingredient", "accuracy", "correct", "loss"), rows)


def tell_disagreements(opened: "Kitchen", scores: Mapping[str, Score]) -> None:
    """On stderr, whose logged accuracy differs from ours by more than chance."""
    found = ((opened.resolve(name), one.correct, one.num_examples) for name, one in scores.items())
    for sentence in disagreements(found):
        typer.echo(sentence, err=True)


def show_soup(as_json: bool, cooked: Soup, written: Sequence[Path], scaled: Scaled | None = None) -> None:
    values = cooked.as_dict() | ({"files": [str(path) for path in written]} if written else {})
    values |= {"calibration": scaled.as_dict()} if scaled else {}
    rows = [
        [split, "selects" if split in cooked.selected_on else "reports", *_figures(score)]
        for split, score in values["scores"].items()
    ]
    show(as_json, values, cooked.title, ("split", "role", "accuracy", "correct", "loss"), rows)
    if not as_json:
        answer(cooked.made_of)
        if scaled:
            _show_calibration(scaled)
    for path in written:
        typer.echo(f"wrote {path}", err=True)


def _show_calibration(scaled: Scaled) -> None:
    rows = []
    for split, before in scaled.before.items():
        pairs = [
            (getattr(before, name), getattr(scaled.after[split], name))
            for name in ("ece", "adaptive_ece", "nll", "brier")
        ]
        rows.append([split, *(f"{old:.4f} → {new:.4f}" for old, new in pairs)])
    columns = ("split", "ECE", "ECE, equal counts", "NLL (nats)", "Brier")
    show(False, {}, f"temperature {scaled.temperature:.4f}, fitted on held_out", columns, rows)


def show_plan(as_json: bool, recipe: Recipe, plan: Plan) -> None:
    values = plan.as_dict()
    rows = [[name.replace("_", " "), _amount(name, value)] for name, value in values.items()]
    show(as_json, {"recipe": recipe.model_dump(mode="json"), "plan": values}, recipe.title, ("at most", ""), rows)


def show_sweep(as_json: bool, alphas: Sequence[Alpha], soups: Sequence[Soup]) -> None:
    values = [{"alpha": alpha, **soup.as_dict()} for alpha, soup in zip(alphas, soups, strict=True)]
    rows = [
        [str(alpha), str(len(soup.mix)), *(f"{score.accuracy:.2%}" for score in soup.scores.values())]
        for alpha, soup in zip(alphas, soups, strict=True)
    ]
    show(as_json, {"soups": values}, "alpha sweep", ("alpha", "used", *soups[0].scores), rows)


def show_menu(as_json: bool, title: str, menu: Menu) -> None:
    splits = list(menu.soups[0].scores) if menu.soups else []
    reports = menu.reports_on
    values = [
        {"name": soup.title, "ece": soup.scores[reports].ece, "compared": asdict(menu.compared[soup.key])}
        | soup.as_dict()
        for soup in menu.soups
    ]
    rows = [_menu_row(soup, reports, menu.compared[soup.key]) for soup in menu.soups]
    columns = (
        "soup",
        "of",
        "passes",
        *(_percent_column(split, reports) for split in splits),
        f"to {menu.best}",
        "p",
        f"ECE ({reports})",
        "scores",
        "s",
    )
    everything = {"soups": values, "left_out": dict(menu.left_out), "best": menu.best}
    show(as_json, everything, f"{title}: by held_out", columns, rows)
    if menu.soups and not as_json:
        answer(
            f"p: McNemar's exact test on {reports} against {menu.best}, the best ingredient on held_out, corrected by "
            f"Holm over {len(menu.compared)} soups and ensembles"
        )
    for name, reason in menu.left_out.items():
        typer.echo(f"left out: {name}: {reason}", err=True)


def _percent_column(split: str, reports: str) -> str:
    return f"{split} (95 %)" if split == reports else split.removeprefix("shifts.")


def _menu_row(soup: Soup, reports: str, compared: Compared) -> list[str]:
    shown = []
    for split, score in soup.scores.items():
        low, high = wilson(score.correct, score.num_examples)
        shown.append(f"{score.accuracy:.2%}" + (f" ({low:.1%} to {high:.1%})" if split == reports else ""))
    ece = soup.scores[reports].ece
    cost = ["–" if value is None else f"{value:,.4g}" for value in (soup.evaluations, soup.seconds)]
    told = [f"{100 * compared.difference:+.2f}", f"{compared.p_value:.3f}", "–" if ece is None else f"{ece:.4f}"]
    return [soup.title, _made_of(soup), str(soup.passes), *shown, *told, *cost]


def _made_of(soup: Soup) -> str:
    return "not linear" if soup.coefficients is None else str(len(soup.mix))


def show_curve(as_json: bool, a: str, b: str, split: str, curve: "pd.DataFrame") -> None:
    columns = ("alpha", "accuracy", "loss")
    points_of = zip(*(curve[column].tolist() for column in columns), strict=True)
    # A point where no logit is finite has no loss; pandas makes that NaN, which JSON lacks.
    points = [
        {"alpha": alpha, "accuracy": accuracy, "loss": loss if loss == loss else None}
        for alpha, accuracy, loss in points_of
    ]
    rows = [[f"{point['alpha']:g}", f"{point['accuracy']:.2%}", _loss(point["loss"])] for point in points]
    show(as_json, {"a": a, "b": b, "points": points}, f"{a} → {b}: {split}", columns, rows)


def show_bench(as_json: bool, measured: Bench, rounds: int) -> None:
    agreement, measures = measured.agreement, measured.measures
    values = agreement.as_dict() | measures.flat()
    values |= {
        "estimated": [name for name in ESTIMATED if f"{name}_ratio" in values], "skipped": measures.skipped,
        "machine": machine(measured.kitchen), "rounds": measures.rounds,
    }  # fmt: skip
    rows = [
        [
            comparison.title,
            told + (" (estimated)" if measures.is_estimated(comparison) else ""),
            ours,
            f"{ratio:.3g}" if ratio < 100 else f"{ratio:,.0f}",
        ]
        for comparison, ratio, told, ours in compared(measures)
    ]
    columns = ("figure", "against", "soupviz", "ratio")
    show(as_json, values, f"{measured.kitchen.name}, medians of {rounds} rounds", columns, rows)
    for remark in [f"differs: {difference}" for difference in agreement.differences] + [
        f"left out: {name}: {why}" for name, why in measures.skipped.items()
    ]:
        typer.echo(remark, err=True)
    typer.echo(
        f"{agreement.decisions} decisions and {agreement.counts} counts compared, {len(agreement.differences)} differ; "
        f"{agreement.close} examples were too close to call and counted differently", err=True,
    )  # fmt: skip


def write_picture(file: Path, measured: Bench) -> None:
    """The table as a picture; written last, so that a wrong place costs no measurement."""
    rows = [(comparison.title, ratio, told, ours) for comparison, ratio, told, ours in compared(measured.measures)]
    with replacing(file) as temporary:
        temporary.write_text(picture(f"soupviz on {measured.kitchen.name}: times as fast", rows), encoding="utf-8")


def compared(measures: Measures) -> list[tuple[Comparison, float, str, str]]:
    """Each comparison with its ratio and both sides in words."""
    found = []
    for comparison, ratio in measures.comparisons():
        theirs, ours = (
            _quantity(measures.median(key), comparison.unit) for key in (comparison.theirs, comparison.ours)
        )
        found.append((comparison, ratio, theirs, ours))
    return found


def _quantity(value: float, unit: str) -> str:
    return f"{value / 1e6:,.0f} MB" if unit == "bytes" else f"{value:,.3g} {unit}"


def _figures(score: dict[str, Any]) -> list[str]:
    return [f"{score['accuracy']:.2%}", f"{score['correct']}/{score['num_examples']}", _loss(score["loss"])]


def _loss(loss: float | None) -> str:
    return "–" if loss is None else f"{loss:.4f}"


def _amount(name: str, value: float | None) -> str:
    if "bytes" in name:
        return f"{(value or 0) / 1e6:,.1f} MB"
    return "–" if value is None else f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
