"""Curves between several pairs: a metric against alpha, with intervals and barriers."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from soupviz.analysis.curve_sets import Curve, Reading
from soupviz.pictures.basics import Chart, clickable, digits, nominal, quantity, rule
from soupviz.soups.curves import Peak
from soupviz.tasks.metric import Metric
from soupviz.tasks.wording import PERCENT, factor, height, on_split

POINT = "point"
"""The selection of a picture; its fields are pair, statistics and alpha."""

PAIRS = ("#D55E00", "#2A9D9D", "#8F6BD6", "#8A8A1F", "#C2457B", "#6E7F8D")
"""Colours that say which pair, and nothing else: none is in the palette, all have 3 to 1 against both themes."""

DASHES = ([1, 0], [6, 4], [2, 3])
"""Of the aggregations of running statistics, in the order in which they are given."""

TOLD = 5e-4
"""Nats, or a share of the units, or of another metric's value: a lower barrier would be written as 0.000."""


def curves(
    lines: Mapping[tuple[str, str, str], Curve],
    *,
    pairs: Sequence[str],
    statistics: Sequence[str],
    metric: Metric,
    split: str,
    span: tuple[float, float] = (0.0, 1.0),
    chosen: str | None = None,
    unit: str = "example",
    of: int | None = None,
) -> Chart:
    """Dots where it was measured, a line between them, a band of 95 %, and each barrier as a rule from the chord.

    Args:
        lines: by pair, statistics and split. pairs, statistics: the order of colours and dashes.
        metric: what is drawn, in its unit. span: the first alpha and the last.
        chosen: the pair that stands out, and whose barrier is written; default: the pair whose barrier is highest.
        unit: what the task judges one by one, of: how many of these the split has.
    """
    of_split = {key[:2]: line for key, line in lines.items() if key[2] == split}
    rows = [_row(key, each, metric) for key, line in of_split.items() for each in line.readings]
    rows += _barriers(of_split, metric, chosen)
    fields = ["pair", "statistics", "alpha", "value", "low", "high", "curve", "chord", "text", "units"]
    data = pd.DataFrame(rows, columns=fields).assign(faint=[bool(chosen) and row["pair"] != chosen for row in rows])
    return data, _spec(pairs, statistics, on_split(metric, split), span, unit, digits(metric, of))


def _row(key: tuple[str, str], reading: Reading, metric: Metric) -> dict[str, Any]:
    row: dict[str, Any] = dict(zip(("pair", "statistics"), key, strict=True))
    row |= {"alpha": reading.place.alpha, "units": reading.num_units}
    value, (low, high) = reading.values[metric.name], reading.intervals[metric.name] or (None, None)
    figures = {"value": value, "low": low, "high": high}
    return row | {name: None if one is None else factor(metric) * one for name, one in figures.items()}


def _barriers(of_split: Mapping[tuple[str, str], Curve], metric: Metric, chosen: str | None) -> list[dict[str, Any]]:
    peaks = {key: line.barriers[metric.name] for key, line in of_split.items()}
    there = {key: found for key, found in peaks.items() if found is not None and is_told(found, metric)}
    highest = sorted(there, key=lambda key: there[key].height)[-1:]
    told = [key for key in there if key[0] == chosen] if chosen else highest
    rows = []
    worse = -1 if metric.higher_is_better else 1
    for key, found in there.items():
        chord, curve = (factor(metric) * value for value in (found.chord, found.chord + worse * found.height))
        row = dict(zip(("pair", "statistics"), key, strict=True)) | {"alpha": found.alpha, "curve": curve}
        text = f"barrier {height(metric, found.height)}"
        rows.append(row | {"chord": chord, "text": text if key in told else ""})
    return rows


def is_told(found: Peak, metric: Metric) -> bool:
    """Whether a barrier is high enough not to be written as 0."""
    return found.height >= (TOLD if metric.unit in (PERCENT, "nats") else TOLD * abs(found.chord))


def _spec(
    pairs: Sequence[str], statistics: Sequence[str], y_title: str, span: tuple[float, float], unit: str, form: str
) -> dict[str, Any]:
    legend = {"orient": "top", "title": None, "columns": 1, "symbolOpacity": 1, "labelLimit": 260}
    colors = {"domain": list(pairs), "range": list(PAIRS[: len(pairs)])}
    dashes = {"domain": list(statistics), "range": list(DASHES[: len(statistics)])}
    x = quantity("alpha", "alpha", scale={"domain": list(span), "nice": False})
    scale = {"zero": False, "padding": 8, "nice": False}
    color = nominal("pair", scale=colors, legend=legend)
    detail = [nominal("statistics")]
    by_dash = nominal("statistics", scale=dashes, legend=legend if len(statistics) > 1 else None)

    def unless_faint(value: float, faint: float) -> dict[str, Any]:
        return {"condition": {"test": "datum.faint", "value": faint}, "value": value}

    band = {
        "transform": [{"filter": "isValid(datum.low)"}],
        "mark": {"type": "area"},
        "encoding": {"x": x, "y": quantity("low", y_title, scale=scale), "y2": {"field": "high"}}
        | {"color": color, "detail": detail, "opacity": unless_faint(0.16, 0.03)},
    }
    line = {
        "transform": [{"filter": "isValid(datum.value)"}],
        "mark": {"type": "line", "strokeWidth": 2},
        "encoding": {"x": x, "y": quantity("value", y_title, scale=scale), "color": color}
        | {"strokeDash": by_dash, "opacity": unless_faint(1, 0.25)},
    }
    tooltip = [nominal("pair"), nominal("statistics", "BatchNorm"), quantity("alpha", format=".3~f")]
    tooltip += [quantity("value", y_title, format=form), quantity("low", "95 % from", format=form)]
    tooltip += [quantity("high", "to", format=form), quantity("units", f"{unit}s", format=",")]
    points = {
        "params": clickable(POINT, ["pair", "statistics", "alpha"]),
        "transform": [{"filter": "isValid(datum.value)"}],
        "mark": {"type": "point", "filled": True, "size": 55, "cursor": "pointer"},
        "encoding": {"x": x, "y": quantity("value", y_title, scale=scale), "color": color, "tooltip": tooltip}
        | {"opacity": unless_faint(1, 0.3)},
    }
    barred = {"transform": [{"filter": "isValid(datum.chord)"}]}
    bar = barred | {
        "mark": {"type": "rule", "strokeWidth": 3, "strokeCap": "round"},
        "encoding": {"x": x, "y": quantity("chord", y_title, scale=scale), "y2": {"field": "curve"}, "color": color}
        | {"opacity": unless_faint(0.9, 0.2)},
    }
    text = barred | {
        "mark": {"type": "text", "align": "left", "dx": 7, "fontSize": 12, "fontWeight": "bold"},
        "encoding": {"x": x, "y": quantity("curve", y_title, scale=scale), "text": nominal("text"), "color": color},
    }
    ends = [rule("x", 0.0), rule("x", 1.0)] if tuple(span) != (0.0, 1.0) else []
    return {
        "height": 280 + 30 * (len(pairs) + (len(statistics) if len(statistics) > 1 else 0)),
        "layer": [*ends, band, line, bar, points, text],
    }
