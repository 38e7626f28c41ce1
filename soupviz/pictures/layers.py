"""What each layer does, as bars; and how a mix's weights run from the first layer to the last."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import pandas as pd

from soupviz.analysis.sensitivity import Effect
from soupviz.pictures import palette
from soupviz.pictures.basics import LEGEND, OUTLINE, Chart, clickable, nominal, quantity

LAYER = "layer"
"""The selection of the bars; its one field is `group`."""

Measure = Literal["accuracy", "loss"]
KINDS = {"better": palette.SOUP, "worse": palette.REJECTED}
TITLES = {
    "accuracy": "change of accuracy on held_out (points), 95 % interval",
    "loss": "change of loss on held_out (nats); below 0 is better",
}
STEP, LOWEST = 24, 14
"""Pixels of a row: usually, and where there are many."""


def rows(effects: Sequence[Effect]) -> pd.DataFrame:
    """The effects as a table, front to back.

    Returns:
        group, points, low, high (a 95 % bootstrap interval, in points), loss (nats), fixed, broken, p, accuracy (%),
        parameters, apart (percent of a's size), identical.
    """
    from soupviz.analysis.significance import bootstrap_interval

    found = []
    for effect in effects:
        change = effect.change
        low, high = bootstrap_interval(change.fixed, change.broken, effect.num_examples)
        found.append(
            {
                "group": effect.group.name, "points": change.points, "low": 100 * low, "high": 100 * high,
                "loss": change.loss, "fixed": change.fixed, "broken": change.broken, "p": change.p_value,
                "accuracy": 100 * effect.accuracy, "parameters": effect.group.parameters,
                "apart": None if effect.distance is None else 100 * effect.distance,
                "identical": not effect.group.differs,
            }
        )  # fmt: skip
    return pd.DataFrame(found)


def bars(table: pd.DataFrame, measure: Measure, names: Sequence[str], chosen: Collection[str] = ()) -> Chart:
    """A bar for each layer group, and for accuracy its interval; a row can be clicked anywhere.

    Args:
        table: of `rows`, as far as it is known. names: every group, in the order of the rows, top to bottom.
        chosen: groups that stand out.
    """
    field = "points" if measure == "accuracy" else "loss"
    is_better = table[field] >= 0 if measure == "accuracy" else table[field] <= 0
    effect = ["better" if better else "worse" for better in is_better]
    data = table.assign(value=table[field], effect=effect, chosen=table["group"].isin(list(chosen)))
    axis = {"labelLimit": 220, "labelOverlap": False, "title": None, "ticks": False}
    scale = {"domain": list(KINDS), "range": list(KINDS.values())}
    tooltip = [
        nominal("group"),
        *(quantity(name, title, format="+.2f") for name, title in (("points", "points"), ("low", "at least"))),
        quantity("high", "at most", format="+.2f"), quantity("loss", "loss (nats)", format="+.4f"),
        quantity("fixed"), quantity("broken"), quantity("p", format=".3f"),
        quantity("apart", "weights apart (%)", format=".1f"),
    ]  # fmt: skip
    x = quantity("value", TITLES[measure], axis={"tickCount": 8})
    bar = {
        "mark": {"type": "bar", "cornerRadiusEnd": 2},
        "encoding": {
            "x": x,
            "fill": nominal("effect", scale=scale, legend=LEGEND),
            "stroke": {"condition": {"test": "datum.chosen", "value": palette.NEUTRAL}, "value": None},
            "strokeWidth": {"condition": {"test": "datum.chosen", "value": 3}, "value": 0},
        },
    }
    interval = {
        "mark": {"type": "rule", "strokeWidth": 1.5, "color": palette.NEUTRAL},
        "encoding": {"x": quantity("low"), "x2": {"field": "high"}},
    }
    dot = {
        "mark": {"type": "point", "filled": True, "opacity": 1} | OUTLINE,
        "encoding": {
            "x": x,
            "fill": nominal("effect", scale=scale, legend=None),
            "size": {"condition": {"test": "datum.chosen", "value": 130}, "value": 40},
        },
    }
    whole_row = {
        # Of a bar near zero there is nothing to hit: the row is what is clicked. Vega takes no click on what is
        # wholly transparent.
        "params": clickable(LAYER, ["group"]),
        "mark": {"type": "rect", "color": palette.NEUTRAL, "opacity": 0.01, "cursor": "pointer"},
        "encoding": {"x": {"value": 0}, "x2": {"value": "width"}, "tooltip": tooltip},
    }
    layers: list[dict[str, Any]] = [bar, *([interval] if measure == "accuracy" else []), dot, whole_row]
    step = STEP if len(names) <= 30 else LOWEST
    y = nominal("group", scale={"domain": list(names)}, axis=axis | {"labelFontSize": min(12, step - 3)})
    apart = {"legend": {"fill": "independent"}}
    return data, {"height": {"step": step}, "encoding": {"y": y}, "layer": layers, "resolve": apart}


def ordered(table: pd.DataFrame, measure: Measure, names: Sequence[str]) -> list[str]:
    """The groups, what helps most first; those that are not known yet last, front to back."""
    sign = -1 if measure == "accuracy" else 1
    values = dict(zip(table["group"], table["points" if measure == "accuracy" else "loss"], strict=True))
    known = sorted((name for name in names if name in values), key=lambda name: sign * values[name])
    return known + [name for name in names if name not in values]


def profile(weights: Mapping[str, float], chosen: Collection[str] = ()) -> Chart:
    """The weight of each layer group between a and b, front to back."""
    names = list(weights)
    data = pd.DataFrame({"group": names, "weight": list(weights.values())})
    data["chosen"] = data["group"].isin(list(chosen))
    labels = {"labelAngle": -45, "labelLimit": 90, "labelOverlap": len(names) > 40, "title": None, "ticks": False}
    low, high = min(0.0, *weights.values()), max(1.0, *weights.values())
    return data, {
        "height": 160,
        "mark": {"type": "bar", "color": palette.SOUP, "cornerRadiusEnd": 2},
        "encoding": {
            "x": nominal("group", scale={"domain": names}, axis=labels),
            "y": quantity("weight", "weight of B", scale={"domain": [low, high]}, axis={"tickCount": 3}),
            "stroke": {"condition": {"test": "datum.chosen", "value": palette.NEUTRAL}, "value": None},
            "strokeWidth": {"condition": {"test": "datum.chosen", "value": 3}, "value": 0},
            "tooltip": [nominal("group"), quantity("weight", format=".2f")],
        },
    }
