"""What each layer does, as bars; and how a mix's weights run from the first layer to the last."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from soupviz.analysis.sensitivity import Effect
from soupviz.pictures import palette
from soupviz.pictures.basics import CHANCE, LEGEND, OUTLINE, Chart, clickable, digits, nominal, quantity, room_for
from soupviz.tasks.metric import Metric
from soupviz.tasks.task import Task
from soupviz.tasks.wording import EXACT, factor, gap_unit

LAYER = "layer"
"""The selection of the bars; its one field is `group`."""

KINDS = {"better": palette.SOUP, "worse": palette.REJECTED}
STEP, LOWEST = 24, 14
"""Pixels of a row: usually, and where there are many."""


def rows(effects: Sequence[Effect], task: Task, objective: Metric) -> pd.DataFrame:
    """The effects as a table, front to back.

    Returns:
        group, the change of each metric by its name, low, high (a 95 % interval of the objective's change), better,
        worse, p, value (by the objective), parameters, apart (percent of a's size), identical. Values and changes are
        as they are shown.
    """
    found = []
    scale = factor(objective)
    for effect in effects:
        change = effect.change
        changes = {
            metric.name: None if (one := effect.changes[metric.name]) is None else round(factor(metric) * one, EXACT)
            for metric in task.metrics
        }
        found.append(
            {"group": effect.group.name}
            | changes
            | {
                "low": scale * change.low, "high": scale * change.high, "better": change.better, "worse": change.worse,
                "p": change.p_value, "value": None if effect.value is None else scale * effect.value,
                "parameters": effect.group.parameters,
                "apart": None if effect.distance is None else 100 * effect.distance,
                "identical": not effect.group.differs,
            }
        )  # fmt: skip
    return pd.DataFrame(found)


def _title(metric: Metric, *, has_interval: bool) -> list[str]:
    """Of the axis of changes, in lines that a narrow page has room for."""
    counted_in = f" ({gap_unit(metric)})" if gap_unit(metric) else ""
    told = ["95 % interval"] * has_interval + ["below 0 is better"] * (not metric.higher_is_better)
    return [f"change of {metric.label} on held_out{counted_in}", *filter(None, ["; ".join(told)])]


def bars(
    table: pd.DataFrame,
    metric: Metric,
    names: Sequence[str],
    chosen: Collection[str] = (),
    *,
    gains: tuple[str, str] = ("better", "worse"),
    has_interval: bool = False,
    of: int | None = None,
) -> Chart:
    """A bar for each layer group, for the objective with its interval; a row can be clicked anywhere.

    Args:
        table: of `rows`, as far as it is known. names: every group, in the order of the rows, top to bottom.
        chosen: groups that stand out. gains: what units are called that get better, and worse.
        of: how many units there are.
    """
    field = metric.name
    values = table[field].astype(float)
    is_better = values >= 0 if metric.higher_is_better else values <= 0
    effect = ["better" if better else "worse" for better in is_better]
    data = table.assign(change=values, effect=effect, chosen=table["group"].isin(list(chosen)))
    axis = {"labelLimit": 220, "labelOverlap": False, "title": None, "ticks": False}
    scale = {"domain": list(KINDS), "range": list(KINDS.values())}
    form = digits(metric, of, "+")
    tooltip = [
        nominal("group"),
        quantity("change", metric.label, format=form),
        *((quantity("low", "at least", format=form), quantity("high", "at most", format=form)) if has_interval else ()),
        quantity("better", gains[0]), quantity("worse", gains[1]), quantity("p", format=CHANCE),
        quantity("apart", "weights apart (%)", format=".1f"),
    ]  # fmt: skip
    x = quantity("change", axis={"tickCount": 8, "title": _title(metric, has_interval=has_interval)})
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
    layers: list[dict[str, Any]] = [bar, *([interval] if has_interval else []), dot, whole_row]
    step = STEP if len(names) <= 30 else LOWEST
    y = nominal("group", scale={"domain": list(names)}, axis=axis | {"labelFontSize": min(12, step - 3)})
    apart = {"legend": {"fill": "independent"}}
    return data, {"height": {"step": step}, "encoding": {"y": y}, "layer": layers, "resolve": apart}


def ordered(table: pd.DataFrame, metric: Metric, names: Sequence[str]) -> list[str]:
    """The groups, what helps most first; those that are not known yet last, front to back."""
    sign = -1 if metric.higher_is_better else 1
    values = dict(zip(table["group"], table[metric.name], strict=True))
    known = sorted((name for name in names if name in values), key=lambda name: sign * values[name])
    return known + [name for name in names if name not in values]


def profile(weights: Mapping[str, float], chosen: Collection[str] = ()) -> Chart:
    """The weight of each layer group between a and b, front to back."""
    names = list(weights)
    data = pd.DataFrame({"group": names, "weight": list(weights.values())})
    data["chosen"] = data["group"].isin(list(chosen))
    limit = 120
    labels = {"labelAngle": -45, "labelLimit": limit, "labelOverlap": len(names) > 40, "title": None, "ticks": False}
    low, high = min(0.0, *weights.values()), max(1.0, *weights.values())
    return data, {
        "height": 90 + room_for(names, limit),
        "mark": {"type": "bar", "color": palette.SOUP, "cornerRadiusEnd": 2},
        "encoding": {
            "x": nominal("group", scale={"domain": names}, axis=labels),
            "y": quantity("weight", "weight of B", scale={"domain": [low, high]}, axis={"tickCount": 3}),
            "stroke": {"condition": {"test": "datum.chosen", "value": palette.NEUTRAL}, "value": None},
            "strokeWidth": {"condition": {"test": "datum.chosen", "value": 3}, "value": 0},
            "tooltip": [nominal("group"), quantity("weight", format=".2f")],
        },
    }
