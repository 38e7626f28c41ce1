"""The scatter of the model-soups paper: what models have under shift against what they have in distribution."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from soupviz.analysis.robustness import Line, Scale, expit, logit
from soupviz.pictures import palette
from soupviz.pictures.basics import OUTLINE, Chart, clickable, digits, nominal, of_kind, quantity
from soupviz.tasks.metric import Metric
from soupviz.tasks.wording import PERCENT, factor

MODEL = "model"
"""The selection; its one field is `id`."""

LINE_POINTS = 41
MOST_NAMED = 6
"""Soups, base and best are named in the picture where they are no more than this."""

DRAWN_LAST = ("ingredient", "rejected", "base", "ensemble", "best", "soup")
SIZES = {"ingredient": 70, "base": 130, "best": 150, "ensemble": 150, "soup": 260}


def scatter(
    points: pd.DataFrame, line: Line | None, titles: tuple[str, str], metric: Metric,
    chosen: Collection[str] = (), *, scale: Scale = "linear", of: tuple[int | None, int | None] = (None, None),
) -> Chart:  # fmt: skip
    """Every model as a point, soups as stars above the rest, the line of the individual models behind them.

    Args:
        points: id, name, kind, x, y as `Scores.points` gives them; on the logit scale none of 0 or 1.
        titles: what x and y are, without unit. metric: of x and y. chosen: ids that stand out.
        of: over how many units x and y are, where that is one number.
    """
    order = {kind: place for place, kind in enumerate(DRAWN_LAST)}
    shown = points.sort_values("kind", key=lambda kinds: kinds.map(order), kind="stable")
    values = _drawn(shown[["x", "y"]].to_numpy(float), metric, scale)
    special = shown["kind"] != "ingredient"
    is_chosen = shown["id"].isin(list(chosen))
    is_named = (is_chosen & (is_chosen.sum() <= MOST_NAMED)) | (special & (special.sum() <= MOST_NAMED))
    data = pd.DataFrame(
        {
            "id": shown["id"], "name": shown["name"], "kind": shown["kind"],
            "x": values[:, 0], "y": values[:, 1], "across": factor(metric) * shown["x"],
            "under": factor(metric) * shown["y"],
            "label": shown["name"].where(is_named, ""), "chosen": is_chosen,
            "align": np.where(values[:, 0] > values[:, 0].mean() if len(values) else [], "right", "left"),
            "size": [SIZES[kind] for kind in shown["kind"]],
        }
    )  # fmt: skip
    channels = {
        axis: quantity(
            axis,
            _with_unit(title, metric),
            scale={"zero": False, "nice": False, "padding": 14},
            axis=_axis(values[:, column], scale),
        )
        for column, (axis, title) in enumerate(zip("xy", titles, strict=True))
    }
    layers = [
        *_of_line(),
        _of_points(titles, metric, of, sorted(set(shown["kind"]), key=order.__getitem__)),
        *_of_names("left"),
        *_of_names("right"),
    ]
    spec = {
        "height": 440,
        "encoding": channels,
        "layer": layers,
        "resolve": {"scale": {"size": "independent"}},
    }
    return pd.concat([data, _line(line, values[:, 0], metric, scale)], ignore_index=True), spec


def _with_unit(title: str, metric: Metric) -> str:
    return f"{title} ({metric.unit})" if metric.unit else title


def _drawn(values: Any, metric: Metric, scale: Scale) -> Any:
    """Where a value is drawn: in its unit, or at its logit."""
    return factor(metric) * values if scale == "linear" else np.vectorize(logit, otypes=[float])(values)


def _line(line: Line | None, across: Any, metric: Metric, scale: Scale) -> pd.DataFrame:
    """The line and where another individual model is expected, from the lowest x to the highest."""
    if line is None or not len(across):
        return pd.DataFrame()
    places = np.linspace(across.min(), across.max(), LINE_POINTS)
    rows = []
    for place in places:
        x = place / factor(metric) if scale == "linear" else expit(place)
        low, high = line.around(x)
        told = np.array([low, line.at(x), high])
        bounds = _drawn(np.clip(told, 1e-6, 1 - 1e-6) if metric.unit == PERCENT else told, metric, scale)
        rows.append({"x": place, "low": bounds[0], "line": bounds[1], "high": bounds[2]})
    return pd.DataFrame(rows)


def _of_line() -> list[dict[str, Any]]:
    only = [{"filter": "isValid(datum.line)"}]
    band = {
        "transform": only,
        "mark": {"type": "area", "color": palette.NEUTRAL, "opacity": 0.13, "clip": True},
        "encoding": {"y": quantity("low"), "y2": {"field": "high"}},
    }
    line = {
        "transform": only,
        "mark": {"type": "line", "color": palette.NEUTRAL, "strokeWidth": 2, "strokeDash": [6, 4], "clip": True},
        "encoding": {"y": quantity("line")},
    }
    return [band, line]


def _of_points(
    titles: tuple[str, str], metric: Metric, of: tuple[int | None, int | None], kinds: Sequence[str]
) -> dict[str, Any]:
    return {
        "transform": [{"filter": "isValid(datum.id)"}],
        "params": clickable(MODEL, ["id"]),
        "mark": {"type": "point", "filled": True, "opacity": 1, "cursor": "pointer"} | OUTLINE,
        "encoding": of_kind(kinds)
        | {
            "size": {
                "condition": {"test": "datum.chosen", "value": 420},
                "field": "size", "type": "quantitative", "scale": None, "legend": None,
            },
            "strokeWidth": {"condition": {"test": "datum.chosen", "value": 2.5}, "value": 1},
            "tooltip": [
                nominal("name", "model"), nominal("kind"),
                *(
                    quantity(field, _with_unit(title, metric), format=digits(metric, number))
                    for field, title, number in zip(("across", "under"), titles, of, strict=True)
                ),
            ],
        },
    }  # fmt: skip


def _of_names(align: str) -> list[dict[str, Any]]:
    """Names stand on the side where there is room for them; those of soups above their stars, the others below."""
    mark = {"type": "text", "align": align, "dx": 9 if align == "left" else -9, "fontSize": 12, "tooltip": None}
    mark |= {"color": palette.NEUTRAL}
    there = f"isValid(datum.id) && datum.label && datum.align == '{align}'"
    return [
        {
            "transform": [{"filter": f"{there} && datum.kind {sign} 'soup'"}],
            "mark": mark | {"dy": away},
            "encoding": {"text": nominal("label")},
        }
        for sign, away in (("==", -11), ("!=", 17))
    ]


def _axis(values: Any, scale: Scale) -> dict[str, Any]:
    """Ticks at round percents; on the logit scale they stand where their logits are."""
    if scale == "linear" or not len(values):
        return {"tickCount": 8}
    low, high = 100 * expit(values.min()), 100 * expit(values.max())
    step = next(step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if (high - low) / step <= 8)
    percents = np.arange(np.floor(low / step) * step, high + step, step)
    ticks = [logit(percent / 100) for percent in percents if 0 < percent < 100]
    # Two decimals less than the step needs would print the same number twice.
    digits = 1 if step < 1 else 0
    return {"values": ticks, "labelExpr": f"format(100 / (1 + exp(-datum.value)), '.{digits}f')"}
