"""Which picture shows a kitchen, a soup or a curve, of what is known by now: nothing is scored for it."""

import math
from dataclasses import dataclass

from soupviz.analysis import curve_sets
from soupviz.analysis.curve_sets import Place, Reading
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import combine
from soupviz.pictures import curves, models, search
from soupviz.pictures.basics import Chart
from soupviz.soups.comparing import intervals
from soupviz.soups.frames import Curve
from soupviz.soups.planning import known, summaries
from soupviz.soups.soup import Soup
from soupviz.spec import HELD_OUT
from soupviz.types import Wanted

SEARCHED = 3
"""Decisions from which on a search is drawn: of fewer there is nothing to see."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart, and what it shows in a sentence."""

    chart: Chart
    title: str


def picture_of(thing: Kitchen | Soup | Curve) -> Picture | None:
    """Its picture; None where nothing is known that could be drawn."""
    if isinstance(thing, Curve):
        return _curve(thing)
    return _soup(thing) if isinstance(thing, Soup) else _models(thing, None)


def _soup(soup: Soup) -> Picture | None:
    """The search, where there was one; else the soup among the ingredients that are scored."""
    if len(soup.trajectory) < SEARCHED:
        return _models(soup.kitchen, soup)
    kept, tried = sum(step.accepted for step in soup.trajectory) - 1, len(soup.trajectory) - 1
    kitchen, of = soup.kitchen, soup.kitchen.splits.num_examples(HELD_OUT)
    chart = search.trajectory(soup.trajectory, kitchen.objective, unit=kitchen.task.unit, of=of)
    return Picture(chart, f"{soup.title}: the search accepted {kept} of {tried} candidates")


def _models(kitchen: Kitchen, soup: Soup | None) -> Picture | None:
    if not kitchen.splits.is_loaded(HELD_OUT):
        return None
    asked: dict[Wanted, tuple[str, str]] = {
        (((name, 1.0),), HELD_OUT, "average"): (name, "ingredient") for name in kitchen.names
    }
    if soup is not None:
        asked[soup.mix, HELD_OUT, soup.recipe.aggregation] = (soup.title, "soup")
    scores = summaries(kitchen, [*asked])
    around = intervals(kitchen, scores)
    rows = [
        {"id": name, "name": name, "kind": kind, "value": scores[one].shown(kitchen.objective.name)}
        | dict(zip(("low", "high"), around.get(one, (math.nan, math.nan)), strict=True))
        for one, (name, kind) in asked.items()
        if one in scores and scores[one].shown(kitchen.objective.name) is not None
    ]
    if not rows:
        return None
    chosen = {soup.title} if soup else set()
    splits = kitchen.splits
    by, of = splits.grouped(HELD_OUT), splits.num_examples(HELD_OUT)
    chart = models.intervals(rows, HELD_OUT, kitchen.objective, chosen, by, of=of)
    what = f"{soup.title} among" if soup else kitchen.name + ":"
    return Picture(chart, f"{what} {len(rows) - len(chosen)} ingredients on {HELD_OUT}")


def _curve(curve: Curve) -> Picture:
    traced = curve.traced
    kitchen, pair = traced.kitchen, f"{traced.a} → {traced.b}"
    scores = {
        alpha: known(kitchen, combine(traced.mix_a, traced.mix_b, alpha), traced.split, traced.batchnorm)
        for alpha in curve["alpha"].tolist()
    }
    readings = [
        Reading.of(Place(pair, traced.batchnorm, traced.split, alpha), score, kitchen)
        for alpha, score in scores.items()
        if score
    ]
    first, *_ = drawn = curve_sets.drawn_metrics(kitchen)
    chart = curves.curves(
        curve_sets.lines(readings, drawn), pairs=[pair], statistics=[traced.batchnorm], metric=first,
        split=traced.split, span=(min(scores), max(scores)), unit=kitchen.task.unit,
        of=kitchen.splits.num_examples(traced.split),
    )  # fmt: skip
    return Picture(chart, f"{pair}: {first.label} on {traced.split}")
