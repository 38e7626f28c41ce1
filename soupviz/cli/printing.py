"""What the commands print: a table for people, or one JSON object; remarks go to stderr."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from soupviz.analysis.choices import Choice, told
from soupviz.analysis.readings import notes_of
from soupviz.analysis.requirements import Checked
from soupviz.cli.answering import answer, stream
from soupviz.kitchen import Kitchen
from soupviz.recipes import Recipe
from soupviz.soups.forms import AdapterForm
from soupviz.soups.planning import CookingCost
from soupviz.soups.scaling import Scaled
from soupviz.soups.soup import Soup, resolved
from soupviz.spec import HELD_OUT
from soupviz.tasks.figures import counts
from soupviz.tasks.score import Score
from soupviz.tasks.task import Task
from soupviz.tasks.wording import cell, cell_of, places
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


def show_scores(as_json: bool, opened: "Kitchen", title: str, scores: Mapping[str, Score]) -> None:
    values = {name: found.summary() for name, found in scores.items()}
    cells = {name: opened.task.in_words(score) for name, score in scores.items()}
    rows = [[name, *row.values()] for name, row in cells.items()]
    show(
        as_json,
        {"ingredients": values} | opened.scores.made_by,
        title,
        ("ingredient", *next(iter(cells.values()))),
        rows,
    )


def tell_disagreements(opened: "Kitchen", scores: Mapping[str, Score]) -> None:
    """On stderr, whose logged share of right answers differs from ours by more than chance."""
    found = ((opened.weights.resolve(name), counts(opened.task.metrics[0], one)) for name, one in scores.items())
    for sentence in disagreements((item, *counted) for item, counted in found if counted):
        typer.echo(sentence, err=True)


def show_soup(
    as_json: bool,
    cooked: Soup,
    sentence: str,
    written: Sequence[Path | str],
    scaled: Scaled | None = None,
    found: Sequence[Choice] = (),
    adapter: AdapterForm | None = None,
    held: Checked | None = None,
    logged: Sequence[str] = (),
) -> None:
    known = [one for one in found if one.run]
    values = cooked.told() | ({"files": [str(path) for path in written]} if written else {})
    values |= {"calibration": scaled.as_dict()} if scaled else {}
    values |= {"adapter": adapter.model_dump(mode="json")} if adapter else {}
    values |= {"best_by": [one.as_dict() for one in known]} if known else {}
    values |= {"verdict": held.as_dict()} if held else {}
    values |= {"logged": list(logged)} if logged else {}
    rows = [
        [split, "selects" if split in cooked.selected_on else "reports", *cooked.kitchen.task.in_words(score).values()]
        for split, score in cooked.scores.items()
    ]
    columns = ("split", "role", *cooked.kitchen.task.in_words(cooked.scores[HELD_OUT]))
    asked = f"{cooked.recipe.label}: " if cooked.recipe.is_mean else ""  # all other titles say which recipe it is
    show(as_json, values, asked + cooked.title, columns, rows)
    if not as_json:
        answer(cooked.made_of)
        for line in told(cooked.kitchen, known):
            answer(line)
        answer(sentence)
        if scaled:
            _show_calibration(scaled, cooked.kitchen.task)
    for path in written:
        typer.echo(f"wrote {path}", err=True)
    for place in logged:
        typer.echo(f"logged to {place}", err=True)
    if adapter:
        typer.echo(f"an adapter {adapter.in_words()}", err=True)


def _show_calibration(scaled: Scaled, task: Task) -> None:
    rows = []
    for split, before in scaled.before.items():
        pairs = [
            (getattr(before, name), getattr(scaled.after[split], name))
            for name in ("ece", "adaptive_ece", "nll", "brier")
        ]
        rows.append([split, *(f"{old:.4f} → {new:.4f}" for old, new in pairs)])
    columns = ("split", "ECE", "ECE, equal counts", "NLL (nats)", "Brier")
    title = f"temperature {scaled.temperature:.4f}, fitted on every {task.decides} of held_out"
    show(False, {}, title, columns, rows)


def show_plan(as_json: bool, opened: "Kitchen", recipe: Recipe, cost: CookingCost) -> None:
    values = cost.as_dict()
    told = {name: _amount(name, value) for name, value in values.items() if name != "to_start"}
    told["utilisation"] = f"at best {cost.utilisation:.0%}"
    if cost.to_start:
        told["seconds"] += f", and starting {cost.to_start} worker{'s' if cost.to_start > 1 else ''}"
    rows = [[name.replace("_", " "), amount] for name, amount in told.items()]
    show(
        as_json,
        {"recipe": resolved(opened, recipe.model_dump(mode="json")), "plan": values},
        recipe.title,
        ("at most", ""),
        rows,
    )


def show_sweep(as_json: bool, alphas: Sequence[Alpha], soups: Sequence[Soup]) -> None:
    values = [{"alpha": alpha, **soup.told()} for alpha, soup in zip(alphas, soups, strict=True)]
    rows = [
        [str(alpha), str(len(soup.mix)), *(value_on(soup, split) for split in soup.scores)]
        for alpha, soup in zip(alphas, soups, strict=True)
    ]
    title = f"alpha sweep: {soups[0].kitchen.objective.label}"
    show(as_json, {"soups": values} | soups[0].kitchen.scores.made_by, title, ("alpha", "used", *soups[0].scores), rows)


def show_curve(as_json: bool, opened: "Kitchen", a: str, b: str, split: str, curve: "pd.DataFrame") -> None:
    # A point with an answer that is not finite lacks values; pandas makes them NaN, which JSON lacks.
    rows_of = zip(*(curve[column].tolist() for column in curve), strict=True)
    points = [
        {name: None if value != value else value for name, value in zip(curve, row, strict=True)} for row in rows_of
    ]
    objective = opened.objective
    metrics = [objective, *(one for one in opened.task.metrics if one.name in curve and one.name != objective.name)]
    digits = places(opened.splits.num_examples(split))
    rows = [
        [f"{point['alpha']:g}"]
        + [cell(one, point["value" if one.name == objective.name else one.name], digits) for one in metrics]
        for point in points
    ]
    columns = ("alpha", *(one.label for one in metrics))
    values = {"a": a, "b": b, "points": points} | opened.scores.made_by
    show(as_json, values, f"{a} → {b}: {split}", columns, rows)


def value_on(soup: Soup, split: str) -> str:
    """Of the kitchen's metric."""
    return cell_of(soup.kitchen.objective, soup.scores[split])


def _amount(name: str, value: Any) -> str:
    if name == "notes":
        return " ".join(value) or "–"
    if "bytes" in name:
        return f"{(value or 0) / 1e6:,.1f} MB"
    return "–" if value is None else f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
