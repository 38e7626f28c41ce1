"""Records to figures: plotly where one clicks, Altair where a picture grows while a job runs."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd
import plotly.graph_objects as go

from soupviz.records import Step
from soupviz.ui import theme

GIVEN_UP = "rejected early: at most"
Chart = Any
"""An Altair chart; its layered and plain kinds share no type that Streamlit names."""


def layout(figure: go.Figure, *, x: str, y: str, height: int = 340) -> go.Figure:
    """Quiet grids, the theme's ink, room for the axis titles."""
    figure.update_layout(
        height=height, margin={"l": 10, "r": 10, "t": 20, "b": 10}, font_color=theme.ink(),
        legend={"orientation": "h", "y": 1.08, "x": 0}, paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
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
    data = pd.DataFrame(
        {
            "step": step.step,
            "ingredient": step.ingredient,
            "accuracy": told(step),
            "drawn": max(floor, 100 * step.accuracy_at_most),
            "best": 100 * step.best_accuracy,
            "decision": decision(step),
        }
        for step in steps
    )
    y = alt.Scale(zero=False, padding=12, nice=True)
    x = alt.X("step:Q", title="candidate", axis=alt.Axis(tickMinStep=1, format="d"))
    shapes = {"start": "diamond", "accepted": "circle", "rejected": "cross", GIVEN_UP: "triangle-down"}
    colors = [theme.BEST, theme.SOUP, theme.REJECTED, theme.REJECTED]
    decisions = [name for name in shapes if name in set(data["decision"])]
    best = alt.Chart(data).mark_line(interpolate="step-after", color=theme.SOUP, strokeWidth=2)
    points = alt.Chart(data).mark_point(size=90, filled=True, opacity=1)
    tips = ["ingredient", "accuracy:N", alt.Tooltip("best:Q", format=".2f"), "decision"]
    return alt.layer(
        best.encode(x, alt.Y("best:Q", scale=y, title="accuracy on held_out (%)")),
        points.encode(
            x,
            alt.Y("drawn:Q", scale=y),
            color=alt.Color(
                "decision:N",
                scale=alt.Scale(domain=decisions, range=[colors[list(shapes).index(name)] for name in decisions]),
                legend=alt.Legend(orient="top", title=None),
            ),
            shape=alt.Shape(
                "decision:N", scale=alt.Scale(domain=decisions, range=[shapes[name] for name in decisions])
            ),
            tooltip=tips,
        ),
    ).properties(height=300)  # fmt: skip


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
    used = [(name, weight) for name, weight in values.items() if weight]
    data = pd.DataFrame({"ingredient": [n for n, _ in used], "coefficient": [w for _, w in used]})
    bars = alt.Chart(data).mark_bar(color=theme.SOUP, cornerRadiusEnd=3)
    bars = bars.encode(
        alt.X("coefficient:Q", title="coefficient"),
        alt.Y("ingredient:N", sort="-x", title=None, axis=alt.Axis(labelLimit=160, labelOverlap=False)),
        tooltip=["ingredient", alt.Tooltip("coefficient:Q", format=".4f")],
    )
    return bars.properties(height=alt.Step(24))


def sweep(rows: Sequence[Mapping[str, float | None]], alpha: float | None) -> Chart:
    """Accuracy of the greedy soup against alpha, held-out and test; a rule at the slider's value."""
    data = pd.DataFrame(rows).melt("alpha", ["held_out", "test"], "split", "accuracy").dropna()
    data["accuracy"] *= 100
    color = alt.Color(
        "split:N",
        scale=alt.Scale(domain=["held_out", "test"], range=[theme.SOUP, theme.INGREDIENT]),
        legend=alt.Legend(orient="top", title=None),
    )
    base = alt.Chart(data).encode(
        alt.X("alpha:Q", scale=alt.Scale(domain=[0, 1]), title="alpha"),
        alt.Y("accuracy:Q", scale=alt.Scale(zero=False, padding=12), title="accuracy (%)"),
        color=color,
        tooltip=["split", "alpha", alt.Tooltip("accuracy:Q", format=".2f")],
    )
    layers: list[alt.Chart] = [base.mark_line(opacity=0.5), base.mark_point(filled=True, size=70, opacity=1)]
    if alpha is not None:
        rule = alt.Chart(pd.DataFrame({"alpha": [alpha]})).mark_rule(color=theme.ink(), strokeDash=[4, 3])
        layers.append(rule.encode(x="alpha:Q"))
    return alt.layer(*layers).properties(height=240)
