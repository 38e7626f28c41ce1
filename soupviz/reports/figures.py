"""The pictures of a report: those of the pages, drawn from what is known of a soup."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from soupviz.analysis import barriers, curve_sets, geometry
from soupviz.analysis.curve_sets import Place, Reading
from soupviz.analysis.examples import ClassChange
from soupviz.analysis.verdicts import Verdict
from soupviz.analysis.wording import plain
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.mixing.averaging import combine
from soupviz.pictures import curves, examples, models, preflight, search
from soupviz.pictures.basics import Chart
from soupviz.reports.contents import Compared, Model
from soupviz.reports.drawing import inline_svg
from soupviz.soups.comparing import intervals
from soupviz.soups.curves import grid
from soupviz.soups.planning import known
from soupviz.soups.soup import Soup
from soupviz.spec import HELD_OUT
from soupviz.tasks import wording
from soupviz.tasks.figures import interval_of
from soupviz.tasks.objective import Objective
from soupviz.tasks.wording import PERCENT, factor, gap_unit, resampled, titled

LONGEST = 40
"""Models in the picture of all; the tables have the others."""

ALPHAS = grid(21)
"""Where points of a path are looked for: where pages and commands score it unless told otherwise."""

READ_AT_ONCE = 2**28
"""Bytes of weights that are compared without being asked, where the store has no comparison: about a second."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture as SVG, and what stands under it."""

    svg: str
    caption: str


def drawn(chart: Chart, name: str, title: str, alt: str, caption: str = "") -> Figure:
    return Figure(inline_svg(chart, name=name, title=title, alt=alt), caption or f"{title}.")


def all_models(soup: Soup, compared: Compared, verdict: Verdict) -> Figure:
    """Values with their intervals on the split that reports.

    Of many models the best are shown, and those that matter; what is far worse than all that matter would flatten the
    rest.
    """
    split, metric = verdict.reports_on, soup.kitchen.objective
    there = {model.id: model for model in compared.all if split in model.scores}
    ranked = Objective(metric).best_first({id: model.scores[split] for id, model in there.items()})
    matters = {compared.soup.id, compared.best.id, "base", "ensemble", "uniform"}
    sign = factor(metric) if metric.higher_is_better else -factor(metric)
    values = {id: there[id].scores[split].shown(metric.name) for id in ranked}
    heights = {id: sign * value for id, value in values.items() if value is not None}
    highest = max(heights.values(), default=0.0)
    least = 3.0 if metric.unit == PERCENT else 0.03 * abs(highest)
    floor = highest - max(least, 4 * (highest - statistics.median(heights.values() or [0.0])))
    floor = min([floor, *(heights[id] for id in heights if id in matters)])
    others = [id for id in heights if id not in matters and heights[id] >= floor]
    drawn_ids = [id for id in heights if id in matters | set(others[: LONGEST - len(matters)])]
    labels = _labels([there[id] for id in drawn_ids])
    scored = {id: (there[id].mix, split, there[id].aggregation) for id in drawn_ids}
    around = intervals(soup.kitchen, {one: there[id].scores[split] for id, one in scored.items()})
    rows = [
        {"id": id, "name": labels[id], "kind": there[id].kind, "value": values[id]}
        | dict(zip(("low", "high"), around.get(scored[id], (math.nan, math.nan)), strict=True))
        for id in drawn_ids
    ]
    title = f"The soup among {len(ranked)} models on {split}"
    by = soup.kitchen.splits.grouped(split)
    symbol = "hexagon" if compared.soup.kind == "ensemble" else "star"
    bars = f"95 % {interval_of(metric, by)} intervals{resampled(by)}"
    caption = f"{title}; the large {symbol} is the soup of this report. Bars are {bars}."
    if left := len(ranked) - len(rows):
        caption += (
            f" {left} {'lower' if metric.higher_is_better else 'worse'} model{'s are' if left > 1 else ' is'} left out."
        )
    own = verdict.values[split]
    unit = f" {metric.unit}" if metric.unit else ""
    alt = f"{compared.soup.name} has {plain(metric, own.value)}{unit}, between {plain(metric, own.low)} and "
    alt += f"{plain(metric, own.high)}."
    return drawn(
        models.intervals(rows, split, metric, {compared.soup.id}, by, of=own.num_units), "models", title, alt, caption
    )


def _labels(shown: Sequence[Model]) -> Mapping[str, str]:
    """What each model is called on the axis, by its id: where two share a name, their keys tell them apart."""
    short = {model.id: model.name if len(model.name) <= 36 else f"{model.name[:35]}…" for model in shown}
    names = list(short.values())
    return {key: name if names.count(name) == 1 else f"{name} · {key[:4]}" for key, name in short.items()}


def trajectory(soup: Soup) -> Figure | None:
    """The search, where it has more than one decision."""
    if len(soup.trajectory) < 3:
        return None
    accepted = sum(step.accepted for step in soup.trajectory) - 1
    tried = len(soup.trajectory) - 1
    title = f"The search accepted {accepted} of {tried} candidates"
    metric = soup.kitchen.objective
    end = soup.trajectory[-1]
    last = wording.shown(metric, end.best_metrics.get(metric.name), wording.places(end.num_units))
    alt = f"{wording.titled(metric)} on held_out of each candidate in order; the best so far ends at {last}."
    caption = f"{title}. The line is the best so far; an arrow is a bound at which scoring stopped."
    return drawn(search.trajectory(soup.trajectory, metric, of=end.num_units), "trajectory", title, alt, caption)


def curve(soup: Soup, best: Model) -> Figure | None:
    """The straight line from the best ingredient to the soup, where at least one point between them is known."""
    readings = known_readings(soup, best)
    if len(readings) < 3:
        return None
    pair, statistics = readings[0].place.pair, readings[0].place.statistics
    first, *others = metrics = curve_sets.drawn_metrics(soup.kitchen)
    found = curve_sets.lines(readings, metrics)
    line = found[pair, statistics, HELD_OUT]
    chart = curves.curves(found, pairs=[pair], statistics=[statistics], metric=first, split=HELD_OUT)
    title = f"The straight line from {best.name} (alpha 0) to the soup (alpha 1)"
    caption = f"{title}: {first.label} at the {len(readings)} points that are known, with 95 % intervals."
    of_loss = others[0] if others and first.higher_is_better else first
    if (barrier := line.barriers[of_loss.name]) is not None:
        caption += f" The {of_loss.label} barrier on it is {wording.height(of_loss, barrier.height)} on held_out."
    told = ", ".join(
        f"{wording.shown(first, each.values[first.name], 1)} at {each.place.alpha:g}" for each in line.readings
    )
    return drawn(chart, "curve", title, f"{wording.titled(first)} on held_out: {told}.", caption)


def known_readings(soup: Soup, best: Model) -> list[Reading]:
    """What is in the store of the line from the best ingredient to the soup, on held_out, ends included."""
    aggregation = soup.recipe.aggregation
    if aggregation in OUTPUTS or soup.mix == best.mix:
        return []
    pair = f"{best.name} → soup"
    scores = {a: known(soup.kitchen, combine(best.mix, soup.mix, a), HELD_OUT, aggregation) for a in ALPHAS}
    return [
        Reading.of(Place(pair, aggregation, HELD_OUT, a), score, soup.kitchen) for a, score in scores.items() if score
    ]


def barrier_matrix(kitchen: Kitchen, aggregation: str) -> Figure | None:
    """The barriers between ingredients, where at least half of them are known."""
    pairs, total = known_pairs(kitchen, aggregation), len(barriers.pairs_of(kitchen))
    if not pairs or 2 * len(pairs) < total:
        return None
    found = barriers.gather(kitchen, aggregation, pairs)
    metric, heights = found.metric, found.heights
    title = f"{titled(metric)} barriers half-way between ingredients"
    counted_in = f", in {gap_unit(metric)}" if metric.unit else ""
    caption = f"{title}{counted_in} on held_out: {len(pairs)} of {total} pairs are measured."
    chart = preflight.barriers(kitchen.names, heights, metric)
    alt = f"The highest is {factor(metric) * np.nanmax(heights):.3f} {gap_unit(metric)}".rstrip()
    return drawn(chart, "barriers", title, f"{alt}.", caption)


def known_pairs(kitchen: Kitchen, aggregation: str) -> list[barriers.Pair]:
    """The pairs of ingredients whose midpoint was scored before."""
    ends = [known(kitchen, ((name, 1.0),), HELD_OUT) for name in kitchen.names]
    found = []
    metric = barriers.metric_of(kitchen)
    for first, second in barriers.pairs_of(kitchen):
        a, b = ends[first], ends[second]
        middle = known(kitchen, barriers.midpoint(kitchen, first, second), HELD_OUT, aggregation)
        if a and b and middle:
            found.append(barriers.compare(first, second, (a, b), middle, metric=metric, objective=kitchen.objective))
    return found


def cosine_matrix(kitchen: Kitchen) -> Figure | None:
    """The angles between the ingredients' updates; None where comparing the weights takes long."""
    if len(kitchen.names) < 2 or geometry.bytes_to_read(kitchen) > READ_AT_ONCE:
        return None
    space = geometry.gram(kitchen)
    apart = space.cosines[np.triu_indices(len(kitchen.names), 1)]
    title = f"Cosines between the ingredients' updates from the {space.reference_name}"
    caption = f"{title}: 1 is the same direction, 0 unrelated, below 0 opposed."
    look: Mapping[str, Any] = preflight.COSINE
    chart = preflight.pairs(kitchen.names, space.cosines, **look)
    return drawn(chart, "cosines", title, f"They lie between {apart.min():.2f} and {apart.max():.2f}.", caption)


def changes(
    found: Sequence[ClassChange], most: Sequence[ClassChange], classes: Sequence[str], split: str, best: str
) -> Figure:
    """Bars of what the soup gains and loses by class, the largest gain first. most: those that are drawn."""
    gained, lost = (sum(sign * one.points > 0 for one in found) for sign in (1, -1))
    title = f"By class on {split}: better than {best} on {gained}, worse on {lost}"
    first, last = found[0], found[-1]
    alt = f"From {first.points:+.1f} points on {classes[first.index]} to {last.points:+.1f} on {classes[last.index]}."
    caption = f"{title}. In brackets the examples of a class; the rival is {best}."
    return drawn(examples.changes(most, classes), "classes", title, alt, caption)
