"""What every Vega-Lite specification here is made of."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from soupviz.pictures import palette
from soupviz.tasks.metric import Metric
from soupviz.tasks.wording import PERCENT, places

if TYPE_CHECKING:
    import pandas as pd

Chart = tuple["pd.DataFrame", dict[str, Any]]
"""Data and a Vega-Lite specification that stays the same while the data change, so that the browser only moves marks.

As plain data it costs a page nothing, where Altair would check it against a schema each time. A specification that can
be clicked has a selection parameter that names its fields.
"""

LETTER = 6
"""Pixels that a letter of a label takes, about."""

MANY = 24
"""Rows and columns of a matrix beyond which names lie over each other, and frames hide the cells."""

FIGURE = 24
"""Pixels that a number in a cell takes; in narrower cells, as on a phone, there is none."""

MIDDLE = 0.179
"""The luminance on which black and white can be read equally well, by WCAG."""

CHANCE = ".3~g"
"""Of p-values: however small, none is told as 0."""

TICKS = {"labelExpr": "length(datum.label) > 6 && abs(datum.value) < 1e5 ? format(datum.value, '.5~g') : datum.label"}
"""Where there is one value Vega has one tick, at it, and writes six digits behind the point."""

LEGEND = {"orient": "top", "title": None, "columns": 2, "symbolOpacity": 1, "symbolStrokeWidth": 1}
OUTLINE = {"stroke": palette.NEUTRAL, "strokeWidth": 1}
"""Around filled marks: sky blue alone is too faint on white."""


def quantity(field: str, title: str | None = None, **more: Any) -> dict[str, Any]:
    """A channel that shows a number."""
    if (scale := more.get("scale")) and scale.get("zero") is False and "scheme" not in scale:
        more["axis"] = TICKS | more.get("axis", {})
    return {"field": field, "type": "quantitative"} | ({"title": title} if title else {}) | more


def digits(metric: Metric, of: int | None, sign: str = "") -> str:
    """The format of a metric's values over so many units, if known, or with a sign of their differences."""
    return f"{sign}.{places(of)}f" if metric.unit == PERCENT else f"{sign}.4~g"


def nominal(field: str, title: str | None = None, **more: Any) -> dict[str, Any]:
    """A channel that shows a name; its axis leaves the first label beside its row, where Streamlit's theme moves it.

    Names longer than the axis' `labelLimit` are cut in the middle: they are told apart by their ends as often.
    """
    if axis := more.get("axis"):
        cut = {"labelExpr": _cut(axis["labelLimit"] // LETTER)} if "labelLimit" in axis else {}
        more["axis"] = {"labelFlush": False} | cut | axis
    return {"field": field, "type": "nominal"} | ({"title": title} if title else {}) | more


def _cut(letters: int) -> str:
    """Vega's expression for a label of so many letters at most."""
    end = letters // 2
    short = f"slice(datum.label, 0, {letters - end - 1}) + '…' + slice(datum.label, -{end})"
    return f"length(datum.label) > {letters} ? {short} : datum.label"


def labels_of(number: int) -> dict[str, Any]:
    """Of an axis with so many names: all of them, or, where these would lie over each other, as many as there is room
    for."""
    return {"labelOverlap": "greedy", "labelFontSize": 9} if number > MANY else {"labelOverlap": False}


def room_for(names: Iterable[str], limit: int) -> int:
    """Pixels that the longest of some names takes along its line, at most `limit`."""
    return min(limit, LETTER * max(map(len, names), default=0))


def of_kind(kinds: Iterable[str] = palette.COLORS, field: str = "kind") -> dict[str, Any]:
    """Colour and shape channels by what a thing is: ingredient, soup, best, base, rejected, ensemble."""
    kinds = list(kinds)
    colors = {"domain": kinds, "range": [palette.COLORS[kind] for kind in kinds]}
    shapes = {"domain": kinds, "range": [palette.SHAPES[kind] for kind in kinds]}
    legend = LEGEND | {"columns": 0}
    return {
        "fill": nominal(field, scale=colors, legend=legend),
        "shape": nominal(field, scale=shapes, legend=legend),
    }


def clickable(name: str, fields: Sequence[str]) -> list[dict[str, Any]]:
    """Parameters of a mark that can be clicked; the click is told by the values of the fields."""
    return [{"name": name, "select": {"type": "point", "fields": list(fields)}}]


def rule(axis: str, value: float) -> dict[str, Any]:
    """A dashed line across the picture, at a value of `x` or `y`."""
    mark = {"type": "rule", "color": palette.NEUTRAL, "strokeDash": [4, 3]}
    return {"mark": mark, "encoding": {axis: {"datum": value, "type": "quantitative"}}}


def letters_on(value: str) -> dict[str, Any]:
    """Black or white, whichever is farther from the colour that a cell has by its value: at least 4.5 to 1."""
    is_light = f"luminance(scale('color', datum['{value}'])) > {MIDDLE}"
    return {"condition": {"test": is_light, "value": "black"}, "value": "white"}


def matrix(
    names: Sequence[str],
    *,
    row: str = "row",
    column: str = "column",
    value: str = "value",
    title: str,
    format: str = ".2f",
    scheme: str | Sequence[str] = "blues",
    domain: Sequence[float] | None = None,
    middle: float | None = None,
    clicked: str = "cell",
    legend_above: bool = False,
) -> dict[str, Any]:
    """A heat map of named rows against named columns, each cell with its value; a cell can be clicked.

    Args:
        names: the order of rows and columns. row, column, value: the data's fields; a missing value stays empty.
        title: of the colour's legend. scheme: Vega's, or colours. domain: of the colours; default: of the data.
        middle: the value of the middle colour, for a scheme that diverges.
        clicked: the name of the selection, whose fields are row and column.
        legend_above: rather than at the right, where two stand side by side and their figures need the room.
    """
    limit = 140
    side = max(120, min(570, 24 * len(names))) + room_for(names, limit) + (100 if legend_above else 30)
    legend = (
        {"orient": "top", "gradientLength": 160, "titleLimit": 240} if legend_above else {"gradientLength": side - 80}
    )
    scale: dict[str, Any] = {"scheme": scheme} if isinstance(scheme, str) else {"range": list(scheme)}
    scale |= {"domain": list(domain)} if domain else {}
    scale |= {"domainMid": middle} if middle is not None else {}
    axis = {"labelLimit": limit, "ticks": False, "domain": False} | labels_of(len(names))
    place = {
        "x": nominal(column, scale={"domain": list(names)}, axis=axis | {"labelAngle": -60, "title": None}),
        "y": nominal(row, scale={"domain": list(names)}, axis=axis | {"title": None}),
    }
    tooltip = [nominal(row), nominal(column), quantity(value, title, format=".4f")]
    cells = {
        "params": clickable(clicked, [row, column]),
        "mark": {"type": "rect", "stroke": palette.NEUTRAL, "cursor": "pointer"},
        "encoding": {
            "color": quantity(value, title, scale=scale, legend=legend),
            "strokeWidth": {
                "condition": {"param": clicked, "empty": False, "value": 3},
                "value": 0.3 if len(names) <= MANY else 0,
            },
            "tooltip": tooltip,
        },
    }
    layers: list[dict[str, Any]] = [cells]
    if len(names) <= 16:
        mark = {"type": "text", "fontSize": 10, "tooltip": None}
        has_room = [{"filter": f"width >= {FIGURE} * {len(names)}"}]
        shown = {"text": quantity(value, format=format), "color": letters_on(value)}
        layers.append({"transform": has_room, "mark": mark, "encoding": shown})
    valid = [{"filter": f"isValid(datum['{value}'])"}]
    return {"height": side, "transform": valid, "encoding": place, "layer": layers}
