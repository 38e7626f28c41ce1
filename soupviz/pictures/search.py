"""A search in pictures: its decisions, its coefficients, its losses, and the same search for other alphas."""

import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from soupviz.pictures import palette
from soupviz.pictures.basics import LEGEND, OUTLINE, Chart, clickable, quantity
from soupviz.recipes.trajectory import GIVEN_UP, Step

DECISION = "decision"
"""The selection of the trajectory; its one field is `step`."""

DECISIONS = {
    "start": (palette.BEST, "diamond"), "accepted": (palette.SOUP, "circle"),
    "rejected": (palette.REJECTED, "cross"), GIVEN_UP: (palette.REJECTED, "triangle-down"),
}  # fmt: skip
SPLITS = {"held_out": (palette.SOUP, [1, 0]), "test": ("transparent", [4, 3])}
"""Fill and dash: a soup has one colour; what reports is hollow and dashed, as on the Alpha page."""


def trajectory(steps: Sequence[Step], chosen: Collection[int] = ()) -> Chart:
    """A search's decisions: each candidate's accuracy, accepted or not, and the best so far; one can be clicked.

    A candidate that was given up is drawn at its bound, as an arrow pointing down. One far below the others is drawn
    at the floor, so that it does not flatten them; its tooltip is true.

    Args:
        chosen: numbers of steps that stand out.
    """
    highest = [100 * step.accuracy_at_most for step in steps]
    top = max(highest)
    floor = top - max(3.0, 4 * (top - statistics.median(highest)))
    rows = [
        {
            "step": step.step,
            "ingredient": step.ingredient,
            "accuracy": told(step),
            "drawn": max(floor, 100 * step.accuracy_at_most),
            "best": 100 * step.best_accuracy,
            "decision": step.outcome,
            "chosen": step.step in chosen,
        }
        for step in steps
    ]
    x = quantity("step", "candidate", axis={"tickMinStep": 1, "format": "d"})
    domain = {"zero": False, "padding": 12, "nice": True}
    color = {"domain": list(DECISIONS), "range": [color for color, _ in DECISIONS.values()]}
    shape = {"domain": list(DECISIONS), "range": [shape for _, shape in DECISIONS.values()]}
    step_after = {"type": "line", "interpolate": "step-after"}
    encoding = {"x": x, "y": quantity("best", "accuracy on held_out (%)", scale=domain)}
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
                *({"field": name, "type": "nominal"} for name in ("ingredient", "accuracy", "decision")),
                quantity("best", format=".2f"),
            ],
        },
    }
    return pd.DataFrame(rows), {"height": 300, "layer": [*lines, points]}


def told(step: Step) -> str:
    """A candidate's accuracy, or the bound at which it was given up."""
    if step.accuracy is not None:
        return f"{100 * step.accuracy:.2f} %"
    return f"at most {100 * step.accuracy_at_most:.2f} %, given up after {step.num_examples_scored:,} examples"


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


def sweep(rows: Sequence[Mapping[str, float | None]], alpha: float | None) -> Chart:
    """Accuracy of the greedy soup against alpha, held-out and test; a rule at the slider's value."""
    values: list[dict[str, Any]] = [
        {"alpha": row["alpha"], "split": split, "accuracy": 100 * accuracy}
        for split in SPLITS
        for row in rows
        if (accuracy := row[split]) is not None
    ]
    values.append({"slider": alpha})
    fill = {"domain": list(SPLITS), "range": [fill for fill, _ in SPLITS.values()]}
    dash = {"domain": list(SPLITS), "range": [dash for _, dash in SPLITS.values()]}
    encoding = {
        "x": quantity("alpha", "alpha", scale={"domain": [0, 1]}),
        "y": quantity("accuracy", "accuracy (%)", scale={"zero": False, "padding": 12}),
        "tooltip": [
            {"field": "split", "type": "nominal"}, quantity("alpha"), quantity("accuracy", format=".2f"),
        ],
    }  # fmt: skip
    by_split = {"field": "split", "type": "nominal"}
    dashes = encoding | {"strokeDash": by_split | {"scale": dash, "legend": LEGEND}}
    fills = encoding | {"fill": by_split | {"scale": fill, "legend": None}}
    measured = {"transform": [{"filter": "isValid(datum.accuracy)"}]}
    at_slider = {"transform": [{"filter": "isValid(datum.slider)"}], "encoding": {"x": quantity("slider")}}
    layers = [
        measured | {"mark": {"type": "line", "color": palette.SOUP, "opacity": 0.5}, "encoding": dashes},
        measured | {"mark": {"type": "point", "stroke": palette.SOUP, "size": 60, "opacity": 1}, "encoding": fills},
        at_slider | {"mark": {"type": "rule", "color": palette.NEUTRAL, "strokeDash": [4, 3]}},
    ]
    return pd.DataFrame(values), {"height": 240, "layer": layers}
