"""Records to figures: plotly where one clicks, Vega-Lite where a picture grows while a job runs."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from soupviz.calibration import Bin
from soupviz.records import Step
from soupviz.ui import theme

Chart = tuple[pd.DataFrame, dict[str, Any]]
"""Data and a Vega-Lite specification that stays the same while the data change, so that the browser only moves marks.

As plain data it costs a page nothing, where Altair would check it against a schema each time.
"""

GIVEN_UP = "rejected early"
DECISIONS = {
    "start": (theme.BEST, "diamond"), "accepted": (theme.SOUP, "circle"),
    "rejected": (theme.REJECTED, "cross"), GIVEN_UP: (theme.REJECTED, "triangle-down"),
}  # fmt: skip
SPLITS = {"held_out": (theme.SOUP, [1, 0]), "test": ("transparent", [4, 3])}
"""Fill and dash: a soup has one colour; what reports is hollow and dashed, as on the Alpha page."""
LEGEND = {"orient": "top", "title": None, "columns": 2, "symbolOpacity": 1}


def layout(figure: go.Figure, *, x: str, y: str, height: int = 340) -> go.Figure:
    """Quiet grids, the theme's ink, room for the axis titles."""
    figure.update_layout(
        height=height, margin={"l": 10, "r": 10, "t": 20, "b": 10}, font_color=theme.ink(),
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
    )  # fmt: skip
    figure.update_xaxes(title=x, gridcolor=theme.faint(), zeroline=False)
    figure.update_yaxes(title=y, gridcolor=theme.faint(), zeroline=False)
    return figure


def scatter(table: pd.DataFrame, x: str, chosen: Iterable[str]) -> go.Figure:
    """Held-out accuracy of each ingredient against one of its columns; the best and the chosen stand out."""
    shown = table.dropna(subset=["held_out", x])
    best = shown["held_out"].idxmax() if len(shown) else None
    kinds = ["best" if index == best else "ingredient" for index in shown.index]
    ring = [theme.ink() if name in set(chosen) else "rgba(0,0,0,0)" for name in shown["ingredient"]]
    figure = go.Figure(
        go.Scatter(
            x=shown[x], y=100 * shown["held_out"].astype(float), mode="markers", customdata=shown["ingredient"],
            hovertemplate="%{customdata}<br>" + x + " %{x}<br>%{y:.2f} % on held_out<extra></extra>",
            marker={
                "size": 12, "color": [theme.COLORS[kind] for kind in kinds],
                "symbol": [theme.MARKERS[kind] for kind in kinds], "line": {"width": 2, "color": ring},
            },
        )
    )  # fmt: skip
    spread = pd.api.types.is_numeric_dtype(shown[x]) and len(shown) and shown[x].min() > 0
    if spread and shown[x].max() / shown[x].min() >= 20:
        figure.update_xaxes(type="log")
    return layout(figure, x=x, y="accuracy on held_out (%)")


def trajectory(steps: Sequence[Step]) -> Chart:
    """A search's decisions: each candidate's accuracy, accepted or not, and the best so far.

    A candidate that was given up is drawn at its bound, as an arrow pointing down. One far below the others is drawn
    at the floor, so that it does not flatten them; its tooltip is true.
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
            "decision": decision(step),
        }
        for step in steps
    ]
    x = _quantity("step", "candidate", axis={"tickMinStep": 1, "format": "d"})
    domain = {"zero": False, "padding": 12, "nice": True}
    color = {"domain": list(DECISIONS), "range": [color for color, _ in DECISIONS.values()]}
    shape = {"domain": list(DECISIONS), "range": [shape for _, shape in DECISIONS.values()]}
    best = {
        "mark": {"type": "line", "interpolate": "step-after", "color": theme.SOUP, "strokeWidth": 2},
        "encoding": {"x": x, "y": _quantity("best", "accuracy on held_out (%)", scale=domain)},
    }
    points = {
        "mark": {"type": "point", "size": 90, "filled": True, "opacity": 1},
        "encoding": {
            "x": x,
            "y": _quantity("drawn", scale=domain),
            "color": {"field": "decision", "type": "nominal", "scale": color, "legend": LEGEND},
            "shape": {"field": "decision", "type": "nominal", "scale": shape, "legend": LEGEND},
            "tooltip": [
                *({"field": name, "type": "nominal"} for name in ("ingredient", "accuracy", "decision")),
                _quantity("best", format=".2f"),
            ],
        },
    }
    return pd.DataFrame(rows), {"height": 300, "layer": [best, points]}


def _quantity(field: str, title: str | None = None, **more: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative"} | ({"title": title} if title else {}) | more


def decision(step: Step) -> str:
    """What became of a candidate, in the legend's words."""
    if step.step == 0:
        return "start"
    return "accepted" if step.accepted else "rejected" if step.accuracy is not None else GIVEN_UP


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
        "mark": {"type": "bar", "color": theme.SOUP, "cornerRadiusEnd": 3},
        "encoding": {
            "x": _quantity("coefficient", "coefficient"),
            "y": y | {"axis": {"labelLimit": 160, "labelOverlap": False}},
            "tooltip": [{"field": "ingredient", "type": "nominal"}, _quantity("coefficient", format=".4f")],
        },
    }


def losses(values: Sequence[float]) -> Chart:
    """The mean loss of each epoch."""
    data = pd.DataFrame({"epoch": range(1, len(values) + 1), "loss": values})
    return data, {
        "height": 160,
        "mark": {"type": "line", "color": theme.SOUP, "point": {"color": theme.SOUP, "size": 50}},
        "encoding": {
            "x": _quantity("epoch", "epoch", axis={"tickMinStep": 1, "format": "d"}),
            "y": _quantity("loss", "loss (nats)", scale={"zero": False, "padding": 8}),
            "tooltip": [_quantity("epoch"), _quantity("loss", format=".4f")],
        },
    }


def reliability(before: Sequence[Bin], after: Sequence[Bin]) -> Chart:
    """Accuracy against confidence, before and after a temperature; on the diagonal confidence is right."""
    named = (("before", theme.REJECTED, before), ("after", theme.SOUP, after))
    data = pd.DataFrame(
        [
            {
                "temperature": name, "confidence": one.confidence, "accuracy": one.accuracy, "examples": one.count,
                "range": f"{one.low:.2f} to {one.high:.2f}",
            }
            for name, _, bins in named
            for one in bins
            if one.count
        ]
    )  # fmt: skip
    scale = {"domain": [name for name, _, _ in named], "range": [color for _, color, _ in named]}
    unit = {"domain": [0, 1]}
    diagonal = {
        "data": {"values": [{"x": 0, "y": 0}, {"x": 1, "y": 1}]},
        "mark": {"type": "line", "color": theme.ink(), "strokeDash": [4, 3], "opacity": 0.5},
        "encoding": {"x": _quantity("x"), "y": _quantity("y")},
    }
    points = {
        "mark": {"type": "line", "point": {"size": 60}, "strokeWidth": 1.5},
        "encoding": {
            "x": _quantity("confidence", "mean confidence in a bin", scale=unit),
            "y": _quantity("accuracy", "accuracy in it", scale=unit),
            "color": {"field": "temperature", "type": "nominal", "scale": scale, "legend": LEGEND},
            "tooltip": [
                {"field": "range", "type": "nominal"},
                *(_quantity(name, format=".3f") for name in ("confidence", "accuracy")),
                _quantity("examples"),
            ],
        },
    }
    return data, {"height": 300, "layer": [diagonal, points]}


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
        "x": _quantity("alpha", "alpha", scale={"domain": [0, 1]}),
        "y": _quantity("accuracy", "accuracy (%)", scale={"zero": False, "padding": 12}),
        "tooltip": [
            {"field": "split", "type": "nominal"}, _quantity("alpha"), _quantity("accuracy", format=".2f"),
        ],
    }  # fmt: skip
    by_split = {"field": "split", "type": "nominal"}
    dashes = encoding | {"strokeDash": by_split | {"scale": dash, "legend": LEGEND}}
    fills = encoding | {"fill": by_split | {"scale": fill, "legend": None}}
    measured = {"transform": [{"filter": "isValid(datum.accuracy)"}]}
    at_slider = {"transform": [{"filter": "isValid(datum.slider)"}], "encoding": {"x": _quantity("slider")}}
    layers = [
        measured | {"mark": {"type": "line", "color": theme.SOUP, "opacity": 0.5}, "encoding": dashes},
        measured | {"mark": {"type": "point", "stroke": theme.SOUP, "size": 60, "opacity": 1}, "encoding": fills},
        at_slider | {"mark": {"type": "rule", "color": theme.ink(), "strokeDash": [4, 3]}},
    ]
    return pd.DataFrame(values), {"height": 240, "layer": layers}
