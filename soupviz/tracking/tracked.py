"""What a tracker is told of a soup: the recipe as parameters, scores as metrics, decisions and curve as steps."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soupviz.analysis.verdicts import verdict_of
from soupviz.files import made_folder
from soupviz.recipes.trajectory import Step
from soupviz.reports import contents, page
from soupviz.reports.figures import known_readings
from soupviz.reports.rebuilding import instructions
from soupviz.soups.soup import Soup, resolved
from soupviz.types import Progress, quiet

if TYPE_CHECKING:
    import pandas as pd

Parameter = str | int | float | bool
Point = Mapping[str, float]

SEARCH, CURVE = "search", "curve"
"""What comes before the slash in the names of steps; in those of metrics a split does."""

REPORT, RECIPE = "report.html", "recipe.yaml"


@dataclass(frozen=True, slots=True)
class Tracked:
    """One soup as a run of a tracker.

    project: the kitchen's name. parameters: the recipe's, and under `coefficient/` one for each ingredient of the pool.
    metrics: by split and metric, such as `test/accuracy`. steps: numbers of each decision of the search. curve: the
    same of each point of a line that ends at the soup, alpha among them. files: to be kept as artifacts. sentence: the
    verdict.
    """

    project: str
    name: str
    key: str
    parameters: Mapping[str, Parameter]
    metrics: Mapping[str, float]
    steps: Sequence[Point] = ()
    curve: Sequence[Point] = ()
    files: Sequence[Path] = field(default=())
    sentence: str = ""


def tracked(
    soup: Soup,
    folder: Path,
    *,
    curve: "pd.DataFrame | None" = None,
    report: bool = True,
    project: str | None = None,
    name: str | None = None,
    progress: Progress = quiet,
) -> Tracked:
    """What there is to tell of a soup.

    Args:
        folder: where its report and its recipe are written. curve: of `interpolate`; default: the line from the best
            ingredient to the soup, as far as it is known. report: whether there is one, which takes the scores of
            the ingredients.
    """
    files = []
    with made_folder(folder):
        if report:
            files.append(page.report(soup, folder / REPORT, progress=progress))
        recipe = folder / RECIPE
        recipe.write_text(instructions(soup, folder)["text"], encoding="utf-8")
        files.append(recipe)
    verdict = verdict_of(soup.kitchen, soup)
    points = _known_curve(soup, progress) if curve is None and report else _points(curve) if curve is not None else []
    return Tracked(
        project=project or soup.kitchen.name,
        name=name or soup.title,
        key=soup.key,
        parameters=dict(_parameters(soup)),
        metrics=_numbers(
            {
                f"{split}/{metric}": score.shown(metric)
                for split, score in soup.scores.items()
                for metric in score.values
            }
            | _verdict_numbers(verdict)
        ),
        steps=[_step(step) for step in soup.trajectory],
        curve=points,
        files=files,
        sentence=verdict.sentence,
    )


def _parameters(soup: Soup) -> Iterator[tuple[str, Parameter]]:
    for name, value in resolved(soup.kitchen, soup.recipe.model_dump(mode="json")).items():
        if value is not None:
            yield f"recipe/{name}", value if isinstance(value, (str, int, float, bool)) else str(value)
    for name, weight in (soup.coefficients or {}).items():
        yield f"coefficient/{name}", float(weight)
    yield "selected_on", ", ".join(soup.selected_on)
    yield "key", soup.key


def _step(step: Step) -> Point:
    """The numbers of a decision; what is not known has none."""
    told = {
        "step": step.step, "value": step.value, "best_value": step.best_value, "bound": step.bound,
        "accepted": float(step.accepted), "num_scored": step.num_scored,
    }  # fmt: skip
    return {f"{SEARCH}/{name}": value for name, value in _numbers(told).items()}


def _verdict_numbers(verdict: Any) -> dict[str, float]:
    """Of the soup against the best ingredient, on the split that reports."""
    split = verdict.reports_on
    found = verdict.best.differences.get(split) if verdict.best else None
    names = ("difference", "low", "high", "p_value")
    return {f"{split}/verdict_{name}": getattr(found, name) for name in names} if found else {}


def _known_curve(soup: Soup, progress: Progress) -> list[Point]:
    best = contents.gather(soup, progress).best
    return [
        {f"{CURVE}/alpha": one.place.alpha} | {f"{CURVE}/{name}": value for name, value in _numbers(one.values).items()}
        for one in known_readings(soup, best)
    ]


def _points(curve: "pd.DataFrame") -> list[Point]:
    rows = curve.to_dict(orient="records")
    return [{f"{CURVE}/{name}": value for name, value in _numbers(row).items()} for row in rows]


def _numbers(values: Mapping[Any, Any]) -> dict[str, float]:
    """What is a finite number among values; trackers have no other."""
    return {
        str(name): float(value)
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }
