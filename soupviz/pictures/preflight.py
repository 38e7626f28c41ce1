"""The pre-flight report in pictures: barriers, angles, their tree, a map of the weights, and one pair's curve."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from soupviz.analysis.geometry import Clustering, Map
from soupviz.pictures import palette
from soupviz.pictures.basics import OUTLINE, Chart, clickable, digits, labels_of, matrix, nominal, quantity
from soupviz.tasks.metric import Metric
from soupviz.tasks.wording import factor, gap_unit

CELL, PLACE = "cell", "place"
"""The selections: of a cell, by `row` and `column`; of a place on the map, by `id`."""

COSINE: dict[str, Any] = {"title": "cosine", "scheme": "purpleorange", "domain": (-1.0, 1.0), "middle": 0.0}

SOLID = OUTLINE | {"opacity": 1}

LOWEST_TOP = 0.1
"""Where the colours of barriers end at least, nats or a share, so that a kitchen without barriers looks like one."""


def barriers(names: Sequence[str], heights: NDArray[np.float64], metric: Metric, chosen: Collection[str] = ()) -> Chart:
    """The barriers of every two, in what the metric's differences are counted in."""
    values = factor(metric) * heights
    highest = float(values[np.isfinite(values)].max(initial=0.0))
    return pairs(names, values, chosen, domain=(0.0, max(factor(metric) * LOWEST_TOP, highest)), **_look(metric))


def _look(metric: Metric) -> dict[str, Any]:
    return {"title": f"barrier ({gap_unit(metric) or metric.label})", "scheme": "oranges"}


def pairs(names: Sequence[str], values: NDArray[np.float64], chosen: Collection[str] = (), **look: Any) -> Chart:
    """Every ingredient against every other; those that are chosen are outlined, and a cell can be clicked.

    Args:
        names: the order of rows and columns. values: shape (n, n), in this order; nan stays empty.
        look: of `matrix`, such as COSINE.
    """
    spec = matrix(names, clicked=CELL, format=".1f" if len(names) > 12 else ".2f", legend_above=True, **look)
    outline = {
        "transform": [{"filter": "datum.chosen"}],
        "mark": {"type": "rect", "filled": False, "stroke": palette.ENSEMBLE, "strokeWidth": 1.5, "tooltip": None},
    }
    return _cells(names, values, chosen), spec | {"layer": [*spec["layer"], outline]}


def growing(names: Sequence[str], values: NDArray[np.float64], metric: Metric) -> Chart:
    """The barriers as they come: cells only, and the same specification throughout, so that a browser keeps up."""
    spec = matrix(names, clicked=CELL, legend_above=True, **_look(metric))
    return _cells(names, factor(metric) * values, ()), spec | {"layer": spec["layer"][:1]}


def _cells(names: Sequence[str], values: NDArray[np.float64], chosen: Collection[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {"row": row, "column": column, "value": values[i, j], "chosen": row in chosen or column in chosen}
        for i, row in enumerate(names)
        for j, column in enumerate(names)
    )


def tree(clustering: Clustering, names: Sequence[str], chosen: Collection[str] = (), *, x_title: str) -> Chart:
    """Who joins whom, and at what distance; the leaves in the order of the matrices.

    Args:
        names: in the order of the clustering's indices.
    """
    n = len(names)
    places: dict[int, tuple[float, float]] = {leaf: (0.0, row) for row, leaf in enumerate(clustering.order)}
    lines: list[dict[str, Any]] = []
    for step, (first, second, distance, _size) in enumerate(clustering.linkage):
        ends = [places[int(first)], places[int(second)]]
        lines += [{"x": start, "x2": float(distance), "y": row, "y2": row} for start, row in ends]
        lines.append({"x": float(distance), "x2": float(distance), "y": ends[0][1], "y2": ends[1][1]})
        places[n + step] = (float(distance), (ends[0][1] + ends[1][1]) / 2)
    leaves = [{"x": 0.0, "y": row, "id": names[leaf]} for row, leaf in enumerate(clustering.order)]
    data = pd.DataFrame([*lines, *leaves], columns=["x", "x2", "y", "y2", "id"])
    data["chosen"] = data["id"].isin(list(chosen))
    labels = str([names[leaf] for leaf in clustering.order])
    axis = {"values": list(range(n)), "labelExpr": f"{labels}[datum.value]", "grid": False, "domain": False}
    axis |= {"ticks": False, "title": None, "labelLimit": 140} | labels_of(n)
    y = quantity("y", axis=axis, scale={"domain": [-0.5, n - 0.5], "reverse": True, "nice": False})
    x = quantity("x", x_title, scale={"domainMin": 0, "nice": True})
    line = {
        "transform": [{"filter": "isValid(datum.x2)"}],
        "mark": {"type": "rule", "color": palette.NEUTRAL, "strokeWidth": 1.5},
        "encoding": {"x": x, "x2": {"field": "x2"}, "y": y, "y2": {"field": "y2"}},
    }
    leaf = {
        "transform": [{"filter": "isValid(datum.id)"}],
        "params": clickable(PLACE, ["id"]),
        "mark": {"type": "point", "filled": True, "fill": palette.INGREDIENT, "cursor": "pointer"} | SOLID,
        "encoding": {
            "x": x, "y": y, "tooltip": [nominal("id", "ingredient")],
            "size": {"condition": {"test": "datum.chosen", "value": 200}, "value": 60},
            "strokeWidth": {"condition": {"test": "datum.chosen", "value": 3}, "value": 1},
        },
    }  # fmt: skip
    return data, {"height": max(160, 22 * n), "layer": [line, leaf]}


def weights_map(
    found: Map,
    names: Sequence[str],
    values: Mapping[str, float | None],
    chosen: Collection[str] = (),
    *,
    metric: Metric,
    of: int | None = None,
) -> Chart:
    """Ingredients by the distances between their weights, coloured by a metric, the better the lighter; the base is a
    square.

    Args:
        names: of the places, `base` among them where there is one. values: on held_out, as they are shown.
        of: over how many units.
    """
    x, y = found.places[:, 0], found.places[:, 1]
    data = pd.DataFrame({"id": list(names), "x": x, "y": y, "value": [values.get(name) for name in names]})
    data["value"] = data["value"].astype(float)
    data["kind"] = ["base" if name == "base" else "ingredient" for name in names]
    data["chosen"] = data["id"].isin(list(chosen))
    reach = 0.6 * max(float(np.ptp(x)), float(np.ptp(y)), 1e-9)
    data["label"] = _apart(data, reach)
    scales = [
        {"domain": [float(middle) - reach, float(middle) + reach], "nice": False}
        for middle in ((x.min() + x.max()) / 2, (y.min() + y.max()) / 2)
    ]
    place = {
        "x": quantity("x", "distance between weights →", scale=scales[0]),
        "y": quantity("y", "distance between weights →", scale=scales[1]),
    }
    shapes = {"domain": ["ingredient", "base"], "range": [palette.SHAPES["ingredient"], palette.SHAPES["base"]]}
    unit = f" ({metric.unit})" if metric.unit else ""
    gradient = {"title": f"{metric.label} on held_out{unit}", "orient": "top", "gradientLength": 160, "titleLimit": 220}
    point = {
        "params": clickable(PLACE, ["id"]),
        "mark": {"type": "point", "filled": True, "cursor": "pointer"} | SOLID,
        "encoding": {
            "fill": quantity(
                "value", scale={"scheme": "viridis", "reverse": not metric.higher_is_better}, legend=gradient
            )
            | {"condition": {"test": "!isValid(datum.value)", "value": palette.REJECTED}},
            "shape": nominal("kind", scale=shapes, legend=None),
            "size": {"condition": {"test": "datum.chosen", "value": 300}, "value": 130},
            "strokeWidth": {"condition": {"test": "datum.chosen", "value": 3}, "value": 1},
            "tooltip": [nominal("id", "checkpoint"), quantity("value", f"held_out{unit}", format=digits(metric, of))],
        },
    }
    text = {
        "mark": {"type": "text", "dy": -13, "fontSize": 11, "color": palette.NEUTRAL, "tooltip": None},
        "encoding": {"text": nominal("label")},
    }
    return data, {"height": 380, "encoding": place, "layer": [point, text]}


def _apart(data: pd.DataFrame, reach: float) -> list[str]:
    """Names for the places whose label covers no other: the base's and the chosen ones' first."""
    order = sorted(data.index, key=lambda row: (data["kind"][row] != "base", not data["chosen"][row], row))
    kept: list[int] = []
    for row in order:
        near = (
            other
            for other in kept
            if abs(data["x"][row] - data["x"][other]) < 0.35 * reach
            and abs(data["y"][row] - data["y"][other]) < 0.11 * reach
        )
        if next(near, None) is None:
            kept.append(row)
    return [str(data["id"][row]) if row in kept else "" for row in data.index]


def curve(
    alphas: Sequence[float],
    values: Sequence[float],
    ends: tuple[str, str],
    *,
    title: str,
    metric: Metric,
    of: int | None = None,
) -> Chart:
    """What lies between two ingredients: the points, the chord, and the barrier where it is highest.

    A barrier stands above the chord, or hangs below where higher is better.

    Args:
        alphas: ascending, 0 and 1 among them. values: as they are shown; of: over how many units.
    """
    above = not metric.higher_is_better
    x, y = np.asarray(alphas), np.asarray(values, dtype=float)
    chord = (1 - x) * y[0] + x * y[-1]
    heights = (y - chord) if above else (chord - y)
    top = int(np.nanargmax(heights))
    top = top if heights[top] > 0 else len(x) // 2
    data = pd.DataFrame({"alpha": x, "value": y, "chord": chord})
    data["kind"] = np.where((x == 0) | (x == 1), "ingredient", "soup")
    marked = pd.DataFrame({"alpha": [x[top]], "from": [chord[top]], "to": [y[top] if heights[top] > 0 else chord[top]]})
    marked["label"] = f"barrier {heights[top]:.3g} {gap_unit(metric)}".rstrip() if heights[top] > 0 else "no barrier"
    across = quantity(
        "alpha", f"alpha: 0 is {ends[0]}, 1 is {ends[1]}", scale={"domain": [0, 1]}, axis={"titleLimit": 400}
    )
    scale = {"zero": False, "padding": 18}
    shapes = {"domain": ["ingredient", "soup"], "range": [palette.SHAPES["ingredient"], palette.SHAPES["soup"]]}
    fills = {"domain": ["ingredient", "soup"], "range": [palette.INGREDIENT, palette.SOUP]}
    measured = {"transform": [{"filter": "isValid(datum.value)"}]}
    upright = {"transform": [{"filter": "isValid(datum.label)"}]}
    straight = {
        "mark": {"type": "line", "color": palette.NEUTRAL, "strokeDash": [4, 3], "tooltip": None},
        "encoding": {"y": quantity("chord", title, scale=scale)},
    }
    line = {
        "mark": {"type": "line", "color": palette.SOUP, "strokeWidth": 2, "tooltip": None},
        "encoding": {"y": quantity("value", title, scale=scale)},
    }
    points = {
        "mark": {"type": "point", "filled": True, "size": 110} | SOLID,
        "encoding": {
            "y": quantity("value", title, scale=scale),
            "fill": nominal("kind", scale=fills, legend=None),
            "shape": nominal("kind", scale=shapes, legend=None),
            "tooltip": [quantity("alpha"), quantity("value", title, format=digits(metric, of))],
        },
    }
    height = {
        "mark": {"type": "rule", "color": palette.NEUTRAL, "strokeWidth": 3, "tooltip": None},
        "encoding": {"y": quantity("from", scale=scale), "y2": {"field": "to"}},
    }
    told = {
        "mark": {"type": "text", "dy": -14 if above else 14, "fontSize": 12, "fontWeight": "bold", "tooltip": None}
        | {"color": palette.NEUTRAL},
        "encoding": {"y": quantity("to", scale=scale), "text": nominal("label")},
    }
    layers = [measured | straight, measured | line, upright | height, measured | points, upright | told]
    return pd.concat([data, marked]), {"height": 240, "encoding": {"x": across}, "layer": layers}


def layers(rows: Sequence[Mapping[str, Any]]) -> Chart:
    """How much each layer group changed, in the model's order.

    Args:
        rows: name, relative (a fraction, or None), share and cosine.
    """
    data = pd.DataFrame(
        [{**row, "percent": None if row["relative"] is None else 100 * row["relative"]} for row in rows]
    )
    axis = {"labelLimit": 180, "labelOverlap": False, "title": None}
    return data, {
        "height": {"step": 20},
        "mark": {"type": "bar", "color": palette.INGREDIENT, "cornerRadiusEnd": 3} | OUTLINE,
        "encoding": {
            "y": nominal("name", scale={"domain": [row["name"] for row in rows]}, axis=axis),
            "x": quantity("percent", "relative change ‖b − a‖ / ‖a‖ (%)"),
            "tooltip": [
                nominal("name", "layer group"), quantity("percent", "relative change (%)", format=".3f"),
                quantity("cosine", format=".5f"),
            ],
        },
    }  # fmt: skip
