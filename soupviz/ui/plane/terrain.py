"""The map of a plane, in Plotly: contours, the spots that can be clicked, and the models that lie beside it."""

import math
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from soupviz.analysis import planes
from soupviz.analysis.planes import FINENESS, Frame, Spot, Value
from soupviz.pictures import palette
from soupviz.spec import SHIFTS
from soupviz.tasks import wording
from soupviz.tasks.metric import Metric
from soupviz.tasks.wording import PERCENT
from soupviz.ui import theme
from soupviz.ui.plane import overview
from soupviz.ui.plane.overview import Chosen, Item

SCALE = ["#2B3A55", "#4A6286", "#7D93B2", "#B3C1D3", "#E9EEF4"]
"""From bad, dark, to good, light: without a hue that means a kind of model."""

DARK = "#1B2430"
"""Letters and rims on the map, which looks the same in both themes."""

SYMBOLS = {"ingredient": "circle", "soup": "star", "base": "square"}
STEPS = 12
"""How often the map is drawn anew while it is computed: Plotly blinks each time."""


def draw(shown: Chosen, frame: Frame, values: Sequence[Value], items: Sequence[Item], *, key: str) -> tuple[str, str]:
    """The map as far as it is known.

    Returns:
        What was clicked: (`spot`, "beta,gamma") or (`model`, name); two empty texts for nothing.
    """
    figure = picture(shown, frame, values, items, spot=overview.chosen_spot(), model=st.query_params.get("model"))
    name = f"plane {' '.join(corner.name for corner in shown.corners)} {shown.metric.name} {shown.split}"
    event = st.plotly_chart(
        figure,
        key=key,
        on_select="rerun",
        selection_mode="points",
        config={"displaylogo": False, "toImageButtonOptions": {"format": "svg", "filename": name}},
        alt=f"{shown.metric.label} on {shown.split} in the plane through {name}",
    )
    for point in event["selection"]["points"]:
        kind, value = point.get("customdata") or ("", "")
        return str(kind), str(value)
    return "", ""


def picture(
    shown: Chosen,
    frame: Frame,
    values: Sequence[Value],
    items: Sequence[Item],
    *,
    spot: Spot | None = None,
    model: str | None = None,
) -> go.Figure:
    """Contours, the triangle, the spots and the models; a ring around what is chosen."""
    known = overview.figures(values, shown.metric)
    # One level finer than what is computed: any place can be clicked, not only those that were.
    size = min(2 * shown.fineness - 1, FINENESS[-1])
    of = values[0].counts["num_units"] if values else None
    rings = [frame.place(spot)] if spot else [(i.place.x, i.place.y) for i in items if i.choice.name == model]
    corners = [frame.corners[index] for index in (0, 1, 2, 0)]
    ink = theme.ink()
    traces = [
        _contour(shown, frame, known, size),
        go.Scatter(
            x=[x for x, _ in corners], y=[y for _, y in corners], mode="lines", hoverinfo="skip", showlegend=False,
            line={"color": palette.NEUTRAL, "dash": "dot", "width": 1.5},
        ),
        _spots(shown, frame, known, size, of),
        *_models(shown, frame, items, letters=_letters(known)),
        go.Scatter(
            x=[x for x, _ in rings], y=[y for _, y in rings], mode="markers", hoverinfo="skip", showlegend=False,
            marker={"symbol": "circle-open", "size": 24, "color": "#D55E00", "line": {"width": 3}},
        ),
    ]  # fmt: skip
    layout = {
        "height": 680,
        "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
        "legend": {"orientation": "h", "itemsizing": "constant", "y": 1.02, "yanchor": "bottom", "x": 0},
        "clickmode": "event+select",
        "dragmode": "pan",
        "uirevision": "plane",
        "xaxis": {"title": f"along {shown.corners[0].name} → {shown.corners[1].name}, distance in weights"},
        "yaxis": {"title": f"towards {shown.corners[2].name}, at right angles", "scaleanchor": "x", "scaleratio": 1},
    }
    figure = go.Figure(traces, layout)
    figure.update_xaxes(zeroline=False, showgrid=False, color=ink, constrain="domain")
    figure.update_yaxes(zeroline=False, showgrid=False, color=ink, constrain="domain")
    return figure


def _has_ground(known: dict[Spot, float]) -> bool:
    """Whether contours are drawn: three corners alone say nothing of what lies between them."""
    return len(known) > len(planes.CORNERS)


def _letters(known: dict[Spot, float]) -> dict[str, Any]:
    """Of the corners: the page's colour on the page, dark on the map, with a pale rim where the map is dark too."""
    if not _has_ground(known):
        return {"size": 16, "color": theme.ink()}
    return {"size": 16, "color": DARK, "shadow": f"0 0 3px {SCALE[-1]}, 0 0 3px {SCALE[-1]}, 0 0 6px {SCALE[-1]}"}


def _contour(shown: Chosen, frame: Frame, known: dict[Spot, float], size: int) -> go.Contour:
    grid = planes.rows(frame, size)
    drawn = known if _has_ground(known) else {}
    flat = planes.between(frame, drawn, [spot for row in grid for spot in row])
    metric = shown.metric
    title = f"{metric.label} on {shown.split.removeprefix(SHIFTS)}" + (f" ({metric.unit})" if metric.unit else "")
    bar: dict[str, Any] = {"title": {"text": title, "side": "top"}, "thickness": 14, "outlinewidth": 0}
    bar |= {"orientation": "h", "y": -0.13, "yanchor": "top", "x": 0.5, "len": 0.8}
    if not metric.higher_is_better and metric.unit != PERCENT:
        # A loss or an error grows by powers of ten away from a basin: equal steps would show the walls alone.
        flat = [None if number is None else math.log10(max(number, 1e-6)) for number in flat]
        there = [number for number in flat if number is not None]
        low, high = (min(there), max(there)) if there else (-1.0, 0.0)
        ticks = [low + step * (high - low) / 5 for step in range(6)]
        bar |= {
            "tickvals": ticks,
            "ticktext": [f"{10**t:.3g}" for t in ticks],
        }
    scale = SCALE if metric.higher_is_better else SCALE[::-1]
    return go.Contour(
        x=[frame.place(spot)[0] for spot in grid[0]],
        y=[frame.place(row[0])[1] for row in grid],
        z=[flat[row * size : (row + 1) * size] for row in range(size)],
        colorscale=[[index / (len(scale) - 1), color] for index, color in enumerate(scale)],
        ncontours=16,
        line={"width": 0.7, "color": "#F4F6F9"},
        hoverinfo="skip",
        colorbar=bar,
        connectgaps=False,
    )


def _spots(shown: Chosen, frame: Frame, known: dict[Spot, float], size: int, of: int | None) -> go.Scatter:
    spots = list(dict.fromkeys([*known, *(spot for row in planes.rows(frame, size) for spot in row)]))
    numbers = planes.between(frame, known, spots)
    a, b, c = (corner.name for corner in shown.corners)
    texts = []
    for (beta, gamma), number in zip(spots, numbers, strict=True):
        told = "not computed yet" if number is None else _told(number, shown.metric, of)
        source = "computed" if (beta, gamma) in known else "interpolated"
        mix = f"{1 - beta - gamma:.2f} {a}<br>{beta:.2f} {b}<br>{gamma:.2f} {c}"
        texts.append(f"<b>{told}</b>" + ("" if number is None else f" ({source})") + f"<br>{mix}<br>click to keep it")
    return go.Scatter(
        x=[frame.place(spot)[0] for spot in spots],
        y=[frame.place(spot)[1] for spot in spots],
        mode="markers",
        name="computed spot",
        marker={
            "size": [5 if spot in known else 9 for spot in spots],
            "color": palette.NEUTRAL,
            "opacity": [0.8 if spot in known else 0.0 for spot in spots],
        },
        selected={"marker": {}},
        unselected={"marker": {}},
        customdata=[["spot", f"{beta},{gamma}"] for beta, gamma in spots],
        text=texts,
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )


def _told(number: float, metric: Metric, of: int | None) -> str:
    return wording.shown(metric, number / wording.factor(metric), wording.places(of))


def _models(shown: Chosen, frame: Frame, items: Sequence[Item], *, letters: dict[str, Any]) -> list[go.Scatter]:
    """A trace for each kind, filled where a model lies in the plane, hollow where it lies beside it."""
    groups: dict[tuple[bool, str], list[Item]] = {}
    for item in items:
        is_in = item.place.distance < overview.IN_PLANE * frame.side
        groups.setdefault((is_in, item.choice.kind), []).append(item)
    ordered = sorted(groups.items())  # what lies in the plane on top
    return [
        trace for (is_in, kind), some in ordered for trace in _group(shown, frame, kind, some, letters, is_in=is_in)
    ]


def _group(
    shown: Chosen, frame: Frame, kind: str, members: Sequence[Item], letters: dict[str, Any], *, is_in: bool
) -> list[go.Scatter]:
    texts = []
    for item in members:
        own, of = overview.own(item.score, shown.metric), item.score.num_units if item.score else None
        told = "not scored yet" if own is None else f"its own {shown.metric.label}: {_told(own, shown.metric, of)}"
        far = "in the plane" if is_in else f"{100 * item.place.distance / frame.side:.1f} % of a side beside the plane"
        texts.append(f"<b>{item.choice.name}</b><br>{told} on {shown.split}<br>{far}")
    color, size = palette.COLORS[kind], 17 if kind == "soup" else 13
    sizes = [size + 4 if item.letter else size for item in members]
    place = {"x": [item.place.x for item in members], "y": [item.place.y for item in members]}
    # A dark rim around each: sky blue alone is too faint on a pale map.
    rim = {"symbol": SYMBOLS[kind], "size": [each + 6 for each in sizes], "color": DARK, "opacity": 1.0}
    marker = {"symbol": SYMBOLS[kind], "size": sizes, "color": color if is_in else "white", "opacity": 1.0}
    opaque = {"selected": {"marker": {"opacity": 1.0}}, "unselected": {"marker": {"opacity": 1.0}}}
    return [
        go.Scatter(**place, **opaque, mode="markers", marker=rim, hoverinfo="skip", showlegend=False),
        go.Scatter(
            **place,
            **opaque,
            mode="markers+text",
            name=kind if is_in else f"{kind}, beside the plane",
            text=[f"<b>{item.letter}</b>" for item in members],
            textposition="top center",
            textfont=letters,
            marker=marker | {"line": {"width": 3, "color": color}},
            customdata=[["model", item.choice.name] for item in members],
            hovertext=texts,
            hovertemplate="%{hovertext}<extra></extra>",
        ),
    ]
