"""The menu in print: every soup with what it has on each split, against the best ingredient."""

import math
from typing import Any

import typer

from soupviz.analysis.wording import apart_in_unit, test_of
from soupviz.cli.answering import answer
from soupviz.cli.printing import show, value_on
from soupviz.kitchen import Kitchen
from soupviz.soups.menu import Menu
from soupviz.soups.soup import Soup, summed
from soupviz.spec import SHIFTS
from soupviz.tasks.figures import interval
from soupviz.tasks.metric import Metric, is_share
from soupviz.tasks.paired import Compared
from soupviz.tasks.significance import chance
from soupviz.tasks.wording import span


def show_menu(as_json: bool, opened: Kitchen, menu: Menu) -> None:
    splits = list(menu.soups[0].scores) if menu.soups else []
    reports, metric = menu.reports_on, opened.objective
    values = [
        {"name": soup.title, "compared": _compared(opened, menu.compared[soup.key]), **_calibration(soup, reports)}
        | soup.told()
        for soup in menu.soups
    ]
    rows = [_menu_row(soup, reports, menu.compared[soup.key]) for soup in menu.soups]
    columns = (
        "soup",
        "of",
        "passes",
        *(f"{split} (95 %)" if split == reports else split.removeprefix(SHIFTS) for split in splits),
        f"to {menu.best}",
        "p",
        *(f"ECE ({reports})" for soup in menu.soups[:1] if _calibration(soup, reports)),
        "scores",
        "s",
    )
    everything = {"soups": values, "left_out": dict(menu.left_out), "best": menu.best} | opened.scores.made_by
    show(as_json, everything, f"{opened.name}: {metric.label}, by held_out", columns, rows)
    if menu.soups and not as_json:
        test = test_of(metric, opened.splits.grouped(reports))
        answer(
            f"p: {test} on {reports} against {menu.best}, the best ingredient on held_out, corrected by "
            f"Holm over {len(menu.compared)} soups and ensembles"
        )
        answer(_first(menu.soups[0], reports, menu))
    together: dict[str, list[str]] = {}
    for name, reason in menu.left_out.items():
        together.setdefault(reason, []).append(name)
    for reason, names in together.items():
        typer.echo(f"left out: {'; '.join(names)}: {reason}", err=True)


def _first(soup: Soup, reports: str, menu: Menu) -> str:
    """What the list comes to, in a sentence."""
    metric, found = soup.kitchen.objective, menu.compared[soup.key]
    told = f"{found.judgement}, {_apart(metric, found)} to {menu.best}, {chance(found.p_value, found.is_least)}"
    caveat = f" {reports} selected it, so this is optimistic." if reports in soup.selected_on else ""
    return f"First on held_out is {soup.title}: {value_on(soup, reports)} on {reports}; {told}.{caveat}"


def _apart(metric: Metric, found: Compared) -> str:
    """A difference with its unit; a metric may say nothing of one of the two."""
    if math.isnan(found.difference):
        return "–"
    return apart_in_unit(metric, found.difference)


def _compared(opened: Kitchen, found: Compared) -> dict[str, Any]:
    """Of one of several: without an interval, which is not computed for a list."""
    told = {name: getattr(found, name) for name in ("difference", "better", "worse", "p_value", "number", "judgement")}
    # Of units that are right or wrong, by the names that the contract has for them.
    return told | ({"fixed": found.better, "broken": found.worse} if is_share(opened.objective) else {})


def _calibration(soup: Soup, reports: str) -> dict[str, float | None]:
    """How far confidence is from what is right, where the task has such a metric."""
    score = soup.scores[reports]
    return {"ece": score.shown("ece")} if "ece" in score.values else {}


def _menu_row(soup: Soup, reports: str, compared: Compared) -> list[str]:
    metric, cells = soup.kitchen.objective, []
    for split, score in soup.scores.items():
        between = interval(metric, score) if split == reports else None
        told = f" ({span(metric, between)})" if between else ""
        cells.append(value_on(soup, split) + told)
    cost = ["–" if soup.evaluations is None else f"{soup.evaluations:,}"]
    cost += ["–" if soup.seconds is None else f"{soup.seconds:,.1f}"]
    cells += [
        _apart(metric, compared),
        chance(compared.p_value, compared.is_least).removeprefix("p ").removeprefix("= "),
    ]
    cells += ["–" if ece is None else f"{ece:.4f}" for ece in _calibration(soup, reports).values()]
    return [soup.title, _made_of(soup), str(soup.passes), *cells, *cost]


def _made_of(soup: Soup) -> str:
    return "not linear" if soup.coefficients is None else str(len(summed(soup.mix, soup.coefficients)))
