"""A grid of soups as a heat map: it fills coarse to fine, and each cell can be clicked."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from soupviz.pictures import palette
from soupviz.pictures.basics import Chart, clickable, digits, letters_on, nominal, quantity
from soupviz.tasks.metric import Metric

CELL = "cell"
"""The selection; its fields are column and row, the values on the axes as text."""

DONE, WAITING, EMPTY = "cooked", "waiting", "not possible"
MOST_WRITTEN = 12
"""Columns up to which each cell has its number written in it."""

WIDTH = 46
"""Of a cell with a number in it, at least."""

HEIGHT, HIGHEST, LOWEST = 480, 44, 20
"""Of all rows of a map, if one row is not to be higher, or lower, than that."""


def heat(
    rows: Sequence[Mapping[str, Any]],
    axes: tuple[str, str],
    values: tuple[Sequence[str], Sequence[str]],
    metric: Metric,
    split: str,
    *,
    of: int | None = None,
) -> Chart:
    """The cells by colour; the best on held_out has a green frame, the one that is open an orange one.

    Args:
        rows: column, row, value as it is shown or None, state, reason, frame (`best`, `open` or nothing); and where
        scoring stopped early bound, the best that the value could be, as text.
        axes: what varies across and upwards. values: on each, rising, as text. metric: of the colour, the darker the
        better; split: where it was measured, of: over how many units.
    """
    lines = [metric.label, f"on {split}" + (f" ({metric.unit})" if metric.unit else "")]
    form = digits(metric, of)
    columns = ["column", "row", "value", "state", "reason", "frame", "bound"]
    data = pd.DataFrame([{"bound": ""} | dict(row) for row in rows], columns=columns)
    step = min(HIGHEST, max(LOWEST, HEIGHT // max(1, len(values[1]))))
    axis = {"labelAngle": 0, "ticks": False, "domain": False, "labelOverlap": True, "titlePadding": 8}
    channels = {
        "x": nominal("column", axes[0], scale={"domain": list(values[0])}, axis=axis),
        "y": nominal("row", axes[1], scale={"domain": list(reversed(values[1]))}, axis=axis),
    }
    layers = [
        _places(axes),
        _cells(axes, lines, form, is_reversed=not metric.higher_is_better),
        _frame("best", palette.BEST, 3),
        _frame("open", palette.SOUP, 4),
    ]
    if len(values[0]) <= MOST_WRITTEN:
        layers += [_numbers(form, len(values[0])), _bounds(len(values[0]))]
    layers.append(_crosses())
    return data, {"height": {"step": step}, "encoding": channels, "layer": layers}


def _place(axes: tuple[str, str]) -> list[dict[str, Any]]:
    """What is told of a cell that has no value yet."""
    return [nominal("column", axes[0]), nominal("row", axes[1]), nominal("state"), nominal("reason")]


def _tooltip(axes: tuple[str, str], title: str, form: str) -> list[dict[str, Any]]:
    return [quantity("value", title, format=form), *_place(axes)]


def _places(axes: tuple[str, str]) -> dict[str, Any]:
    """Every cell's outline, so that one sees what is still to come."""
    mark = {"type": "rect", "fill": "transparent", "stroke": palette.NEUTRAL, "strokeWidth": 0.5, "strokeDash": [3, 3]}
    return {"mark": mark, "encoding": {"tooltip": _place(axes)}}


def _cells(axes: tuple[str, str], lines: Sequence[str], form: str, *, is_reversed: bool) -> dict[str, Any]:
    # Before the first cell is cooked there is no range that a number could be written to.
    shown = ".1f" if form.endswith("f") else form
    legend: dict[str, Any] = {"title": list(lines), "tickCount": 5}
    legend["labelExpr"] = f"isFinite(datum.value) ? format(datum.value, '{shown}') : ''"
    scale = {"scheme": "blues", "zero": False, "reverse": is_reversed}
    # Of what was given up there is a bound and no value, and so no colour.
    color = {"condition": {"test": "isValid(datum.value)"} | quantity("value", scale=scale, legend=legend)}
    return {
        "transform": [{"filter": "isValid(datum.value) || datum.bound !== ''"}],
        "params": clickable(CELL, ["column", "row"]),
        "mark": {"type": "rect", "stroke": palette.NEUTRAL, "strokeWidth": 0.5, "cursor": "pointer"},
        "encoding": {"color": color | {"value": "transparent"}, "tooltip": _tooltip(axes, " ".join(lines), form)},
    }


def _frame(name: str, color: str, width: int) -> dict[str, Any]:
    mark = {"type": "rect", "fill": None, "stroke": color, "strokeWidth": width, "tooltip": None}
    return {"transform": [{"filter": f"indexof(datum.frame, '{name}') >= 0"}], "mark": mark}


def _is_wide(num_columns: int) -> str:
    """Whether cells have room for a number in them, as wide as the page is now."""
    return f"width >= {WIDTH} * {num_columns}"


def _numbers(form: str, num_columns: int) -> dict[str, Any]:
    mark = {"type": "text", "fontSize": 12, "tooltip": None}
    shown = {"text": quantity("value", format=form), "color": letters_on("value")}
    only = [{"filter": f"isValid(datum.value) && {_is_wide(num_columns)}"}]
    return {"transform": only, "mark": mark, "encoding": shown}


def _bounds(num_columns: int) -> dict[str, Any]:
    mark = {"type": "text", "fontSize": 11, "color": palette.NEUTRAL, "tooltip": None}
    shown = {"text": nominal("bound")}
    only = [{"filter": f"datum.bound !== '' && {_is_wide(num_columns)}"}]
    return {"transform": only, "mark": mark, "encoding": shown}


def _crosses() -> dict[str, Any]:
    mark = {"type": "point", "shape": "cross", "size": 60, "color": palette.REJECTED, "angle": 45, "tooltip": None}
    return {"transform": [{"filter": f"datum.state === '{EMPTY}'"}], "mark": mark | {"filled": True}}
