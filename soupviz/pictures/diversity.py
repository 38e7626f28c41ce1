"""Pairs in pictures: the errors they have in common, and what averaging two gains where they disagree."""

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from soupviz.analysis.diversity import Names, Pair
from soupviz.analysis.gains import Gain
from soupviz.analysis.trend import Trend
from soupviz.pictures import palette
from soupviz.pictures.basics import OUTLINE, Chart, clickable, digits, matrix, nominal, quantity
from soupviz.tasks.metric import Metric
from soupviz.tasks.wording import factor, gap_unit

CELL = "cell"
"""The selection of the matrix; its fields are row and column."""

PAIR = "pair"
"""The selection of the scatter; its fields are a and b."""

DISAGREEMENT, RATIO, CORRELATION = "disagreement", "ratio error", "correlation of errors"
AGAINST = {
    DISAGREEMENT: "disagreement: different predictions (%)",
    RATIO: "ratio error: errors that one makes, for each that both make",
}
"""What the gain is drawn against, where answers are choices among classes."""

BY_DISTANCE = {
    CORRELATION: "correlation of their errors, Pearson's",
    DISAGREEMENT: "disagreement: what only one of them answers badly (%)",
    RATIO: AGAINST[RATIO],
}
"""The same where answers are numbers, nearer or farther."""

MIDPOINT, ENSEMBLE = "average of the weights", "ensemble of the two"
MADE = {MIDPOINT: "soup", ENSEMBLE: "ensemble"}
"""What is made of two, and what kind of thing that is."""


def overlaps(
    pairs: Sequence[Pair],
    names: Sequence[str],
    chosen: Collection[str],
    selected: Names | None,
    unit: str = "example",
) -> Chart:
    """The share of errors that two ingredients have in common, for all pairs.

    Args:
        names: the order of rows and columns. chosen: ingredients whose cells are outlined. selected: the pair that is
            looked at, whose outline is heavier.
    """
    rows = []
    for pair in pairs:
        told = {
            "overlap": pair.overlap,
            "expected": pair.expected_overlap,
            "ratio": pair.ratio_error,
            "q": pair.q_statistic,
            "disagreement": 100 * pair.disagreement,
            "correlation": pair.correlation,
            "both": pair.both_wrong,
            "chosen": pair.a in chosen or pair.b in chosen,
            "selected": pair.names == selected,
        }
        rows += [{"row": pair.a, "column": pair.b} | told, {"row": pair.b, "column": pair.a} | told]
    spec = matrix(names, value="overlap", title="errors in common", scheme="blues", clicked=CELL)
    spec["layer"][0]["encoding"]["tooltip"] += [
        quantity("expected", "if errors were independent", format=".4f"),
        quantity("both", f"{unit}s both get wrong"),
        quantity("ratio", "ratio error (Aksela; DiWA)", format=".3f"),
        quantity("q", "Q statistic (Kuncheva)", format=".3f"),
        quantity("disagreement", "disagreement (%)", format=".2f"),
        *([quantity("correlation", format=".3f")] if any(pair.correlation is not None for pair in pairs) else []),
    ]
    spec["layer"] += [_outline("chosen", palette.SOUP, 1.5), _outline("selected", palette.SOUP, 4)]
    return pd.DataFrame(rows), spec


def _outline(field: str, color: str, width: float) -> dict[str, Any]:
    mark = {"type": "rect", "fill": None, "stroke": color, "strokeWidth": width, "tooltip": None}
    return {"transform": [{"filter": f"datum.{field}"}], "mark": mark}


def against_disagreement(
    found: Sequence[Gain],
    line: Trend | None,
    made: str,
    metric: Metric,
    against: str = DISAGREEMENT,
    chosen: Collection[str] = (),
    selected: Names | None = None,
    axis: str = "",
    of: int | None = None,
) -> Chart:
    """What is made of two, less the mean of the two, against how much they disagree; with a least-squares line.

    Args:
        line: through the points, x and the gain as drawn. made: MIDPOINT or ENSEMBLE. metric: what is gained in.
        against: a key of AGAINST or BY_DISTANCE. chosen: ingredients whose pairs stand out. selected: the pair that is
            looked at. axis: the title of what it is drawn against. of: how many units there are.
    Source:
        Wortsman et al. 2022 (arXiv 2203.05482), section 4 and its figure of pairs; Rame et al. 2022, figure 1.
    """
    rows: list[dict[str, Any]] = [
        {
            "a": one.pair.a,
            "b": one.pair.b,
            "x": across(one.pair, against),
            "gain": factor(metric) * one.gain,
            "value": factor(metric) * one.value,
            "mean": factor(metric) * (one.pair.mean_value or 0.0),
            "size": 320 if one.pair.names == selected else 150 if {one.pair.a, one.pair.b} & {*chosen} else 70,
            "selected": one.pair.names == selected,
        }
        for one in found
    ]
    ends = [row["x"] for row in rows if row["x"] is not None]
    if line:
        rows += [{"line_x": x, "line": line.at(x)} for x in (min(ends), max(ends))]
    kind = MADE[made]
    scale = {"zero": False, "padding": 14}
    unit = f" ({gap_unit(metric) or metric.label})"
    x, y = axis or AGAINST.get(against, against), f"gain over the mean of the two{unit}"
    shown_in = f" ({metric.unit})" if metric.unit else ""
    points = {
        "params": clickable(PAIR, ["a", "b"]),
        "transform": [{"filter": "isValid(datum.gain) && isValid(datum.x)"}],
        "mark": {"type": "point", "filled": True, "opacity": 0.9, "cursor": "pointer", "fill": palette.COLORS[kind]}
        | {"shape": palette.SHAPES[kind]}
        | OUTLINE,
        "encoding": {
            "x": quantity("x", x, scale=scale, axis={"tickCount": 10}),
            "y": quantity("gain", y, scale=scale),
            "size": quantity("size", scale=None, legend=None),
            "strokeWidth": {"condition": {"test": "datum.selected", "value": 3}, "value": 1},
            "tooltip": [
                nominal("a"),
                nominal("b"),
                quantity("x", against, format=".2f"),
                quantity("gain", f"gain{unit}", format=digits(metric, of, "+")),
                quantity("value", f"{made}{shown_in}", format=digits(metric, of)),
                quantity("mean", f"mean of the two{shown_in}", format=digits(metric, of)),
            ],
        },
    }
    through = {
        "transform": [{"filter": "isValid(datum.line)"}],
        "mark": {"type": "line", "color": palette.NEUTRAL, "strokeWidth": 2},
        "encoding": {"x": quantity("line_x", x, scale=scale), "y": quantity("line", y, scale=scale)},
    }
    no_gain = {
        "mark": {"type": "rule", "color": palette.NEUTRAL, "strokeDash": [4, 3]},
        "encoding": {"y": {"datum": 0, "type": "quantitative", "title": y}},
    }
    columns = ["a", "b", "x", "gain", "value", "mean", "size", "selected", "line_x", "line"]
    return pd.DataFrame(rows, columns=columns), {"height": 340, "layer": [no_gain, through, points]}


def across(pair: Pair, against: str) -> float | None:
    """A pair's place on the axis: percent of the units, a ratio, or a correlation."""
    if against == DISAGREEMENT:
        return 100 * pair.disagreement
    return pair.correlation if against == CORRELATION else pair.ratio_error


def errors_of(pair: Pair, unit: str = "example", badly: str = "wrong") -> Chart:
    """The errors of two as one bar: those of the first alone, of both, of the second alone; lengths are counts."""
    parts = [
        (f"only {pair.a} {badly}", pair.only_b, palette.INGREDIENT),
        (f"both {badly}", pair.both_wrong, palette.REJECTED),
        (f"only {pair.b} {badly}", pair.only_a, palette.INGREDIENT),
    ]
    rows, start = [], 0
    for name, count, color in parts:
        rows.append({"part": name, "from": start, "to": start + count, "count": count, "color": color})
        start += count
    place = {
        "x": quantity("from", f"{unit}s that at least one gets {badly}", scale={"nice": False}, axis={"tickCount": 8}),
        "x2": {"field": "to"},
    }
    number = quantity("count", f"{unit}s")
    bar = {
        "mark": {"type": "bar", "height": 34} | OUTLINE,
        "encoding": place | {"fill": nominal("color", scale=None), "tooltip": [nominal("part"), number]},
    }
    text = {
        "transform": [
            {"filter": "datum.count > 0"},
            {"calculate": "(datum.from + datum.to) / 2", "as": "middle"},
        ],
        "mark": {"type": "text", "color": "black", "fontSize": 13, "fontWeight": "bold"},
        "encoding": {"x": quantity("middle"), "text": number},
    }
    return pd.DataFrame(rows), {"height": 90, "layer": [bar, text]}
