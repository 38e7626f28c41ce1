"""A search in pictures: its decisions, its coefficients, its losses, and the same search for other alphas."""

import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from soupviz.pictures import palette
from soupviz.pictures.basics import LEGEND, OUTLINE, Chart, clickable, digits, quantity
from soupviz.recipes.trajectory import GIVEN_UP, Step
from soupviz.spec import HELD_OUT, TEST
from soupviz.tasks.metric import Metric
from soupviz.tasks.wording import PERCENT, axis_title, factor, on_split, places, shown

DECISION = "decision"
"""The selection of the trajectory; its one field is `step`."""

DECISIONS = {
    "start": (palette.BEST, "diamond"), "accepted": (palette.SOUP, "circle"),
    "rejected": (palette.REJECTED, "cross"), GIVEN_UP: (palette.REJECTED, "triangle-down"),
}  # fmt: skip
FALLING = DECISIONS | {GIVEN_UP: (palette.REJECTED, "triangle-up")}
"""Of a metric that is better where it is lower: what was given up can only be higher than its bound."""

SPLITS = {HELD_OUT: (palette.SOUP, [1, 0]), TEST: ("transparent", [4, 3])}
"""Fill and dash: a soup has one colour; what reports is hollow and dashed, as on the Alpha page."""


def trajectory(
    steps: Sequence[Step], metric: Metric, chosen: Collection[int] = (), *, unit: str = "example", of: int | None = None
) -> Chart:
    """A search's decisions: each candidate's value, accepted or not, and the best so far; one can be clicked.

    A candidate that was given up is drawn at its bound, as an arrow to where it is worse. One far worse than the others
    is drawn at the edge, so that it does not flatten them; its tooltip is true.

    Args:
        metric: the kitchen's. chosen: numbers of steps that stand out. unit: what is scored one by one, of: how many
            of these held_out has.
    """
    values = [step.metrics.get(metric.name) for step in steps]
    bests = [step.best_metrics.get(metric.name) for step in steps]
    known, stood = ([value for value in found if value is not None] for found in (values, bests))
    worse, better = (max, min) if metric.higher_is_better else (min, max)
    edge = better([_edge(known, metric), *stood])  # what stood once is drawn where it is
    rows = [
        {
            "step": step.step,
            "ingredient": step.ingredient,
            "value": told(step, metric, unit),
            "drawn": None if value is None else factor(metric) * worse(edge, value),
            "best": _in_unit(metric, step.best_metrics.get(metric.name)),
            "decision": step.outcome,
            "chosen": step.step in chosen,
        }
        for step, value in zip(steps, values, strict=True)
    ]
    looks = DECISIONS if metric.higher_is_better else FALLING
    x = quantity("step", "candidate", axis={"tickMinStep": 1, "format": "d"})
    domain = {"zero": False, "padding": 12, "nice": True}
    color = {"domain": list(looks), "range": [color for color, _ in looks.values()]}
    shape = {"domain": list(looks), "range": [shape for _, shape in looks.values()]}
    step_after = {"type": "line", "interpolate": "step-after"}
    encoding = {"x": x, "y": quantity("best", on_split(metric, HELD_OUT), scale=domain)}
    lines = [
        # Orange alone is too faint on white: a grey line under it is its outline.
        {"mark": step_after | {"color": color, "strokeWidth": width}, "encoding": encoding}
        for color, width in ((palette.NEUTRAL, 4), (palette.SOUP, 2.5))
    ]
    points = {
        "params": clickable(DECISION, ["step"]),
        "mark": {"type": "point", "filled": True, "opacity": 1, "cursor": "pointer", "stroke": palette.NEUTRAL},
        "encoding": {
            "x": x,
            "y": quantity("drawn", scale=domain),
            "size": {"condition": {"test": "datum.chosen", "value": 280}, "value": 90},
            "strokeWidth": {"condition": {"test": "datum.chosen", "value": 3}, "value": 1},
            "color": {"field": "decision", "type": "nominal", "scale": color, "legend": LEGEND},
            "shape": {"field": "decision", "type": "nominal", "scale": shape, "legend": LEGEND},
            "tooltip": [
                *({"field": name, "type": "nominal"} for name in ("ingredient", "value", "decision")),
                quantity("best", "best so far", format=digits(metric, of)),
            ],
        },
    }
    return pd.DataFrame(rows), {"height": 300, "layer": [*lines, points]}


def _in_unit(metric: Metric, value: float | None) -> float | None:
    return None if value is None else factor(metric) * value


def _edge(values: Sequence[float], metric: Metric) -> float:
    """The worst value that is drawn where it is."""
    if not values:
        return 0.0
    best, middle = (max if metric.higher_is_better else min)(values), statistics.median(values)
    least = 0.03 if metric.unit == PERCENT else 0.03 * abs(best)
    reach = max(least, 4 * abs(best - middle))
    return best - reach if metric.higher_is_better else best + reach


def told(step: Step, metric: Metric, unit: str = "example") -> str:
    """A candidate's value, or the bound at which it was given up."""
    value = step.metrics.get(metric.name)
    figure = shown(metric, value, places(step.num_units))
    if step.value is not None:
        return figure
    bound = f"at {'most' if metric.higher_is_better else 'least'} {figure}, " if value is not None else ""
    return f"{bound}given up after {step.num_scored:,} {unit}s"


def coefficients(values: Mapping[str, float]) -> Chart:
    """Coefficients as bars, the largest first; what was rejected is left out."""
    y = {"field": "ingredient", "type": "nominal", "sort": "-x", "title": None}
    used = {name: weight for name, weight in values.items() if weight}
    data = pd.DataFrame({"ingredient": list(used), "coefficient": list(used.values())})
    return data, {
        "height": {"step": 24},
        "mark": {"type": "bar", "color": palette.SOUP, "cornerRadiusEnd": 3} | OUTLINE,
        "encoding": {
            "x": quantity("coefficient", "coefficient"),
            "y": y | {"axis": {"labelLimit": 160, "labelOverlap": False}},
            "tooltip": [{"field": "ingredient", "type": "nominal"}, quantity("coefficient", format=".4f")],
        },
    }


def losses(values: Sequence[float]) -> Chart:
    """The mean loss of each epoch."""
    data = pd.DataFrame({"epoch": range(1, len(values) + 1), "loss": values})
    return data, {
        "height": 160,
        "mark": {"type": "line", "color": palette.SOUP, "point": {"color": palette.SOUP, "size": 50}},
        "encoding": {
            "x": quantity("epoch", "epoch", axis={"tickMinStep": 1, "format": "d"}),
            "y": quantity("loss", "loss (nats)", scale={"zero": False, "padding": 8}),
            "tooltip": [quantity("epoch"), quantity("loss", format=".4f")],
        },
    }


def sweep(
    rows: Sequence[Mapping[str, float | None]], alpha: float | None, metric: Metric, *, of: int | None = None
) -> Chart:
    """The greedy soup's value against alpha, held-out and test; a rule at the slider's value.

    Args:
        of: how many units held_out has.
    """
    values: list[dict[str, Any]] = [
        {"alpha": row["alpha"], "split": split, "value": factor(metric) * value}
        for split in SPLITS
        for row in rows
        if (value := row[split]) is not None
    ]
    values.append({"slider": alpha})
    fill = {"domain": list(SPLITS), "range": [fill for fill, _ in SPLITS.values()]}
    dash = {"domain": list(SPLITS), "range": [dash for _, dash in SPLITS.values()]}
    encoding = {
        "x": quantity("alpha", "alpha", scale={"domain": [0, 1]}),
        "y": quantity("value", axis_title(metric), scale={"zero": False, "padding": 12}),
        "tooltip": [
            {"field": "split", "type": "nominal"},
            quantity("alpha"),
            quantity("value", metric.label, format=digits(metric, of)),
        ],
    }
    by_split = {"field": "split", "type": "nominal"}
    dashes = encoding | {"strokeDash": by_split | {"scale": dash, "legend": LEGEND}}
    fills = encoding | {"fill": by_split | {"scale": fill, "legend": None}}
    measured = {"transform": [{"filter": "isValid(datum.value)"}]}
    at_slider = {"transform": [{"filter": "isValid(datum.slider)"}], "encoding": {"x": quantity("slider")}}
    layers = [
        measured | {"mark": {"type": "line", "color": palette.SOUP, "opacity": 0.5}, "encoding": dashes},
        measured | {"mark": {"type": "point", "stroke": palette.SOUP, "size": 60, "opacity": 1}, "encoding": fills},
        at_slider | {"mark": {"type": "rule", "color": palette.NEUTRAL, "strokeDash": [4, 3]}},
    ]
    return pd.DataFrame(values), {"height": 240, "layer": layers}
