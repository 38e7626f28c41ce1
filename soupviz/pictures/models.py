"""Models side by side: values with their intervals, and values against what is known of the checkpoints."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from soupviz.pictures import palette
from soupviz.pictures.basics import OUTLINE, Chart, clickable, digits, nominal, of_kind, quantity
from soupviz.spec import HELD_OUT
from soupviz.tasks.figures import interval_of
from soupviz.tasks.metric import Metric
from soupviz.tasks.wording import factor, hint, on_split, resampled
from soupviz.types import Grouped

MODEL = "model"
"""The selection of both pictures; its one field is `id`."""


def intervals(
    rows: Sequence[Mapping[str, Any]],
    split: str,
    metric: Metric,
    chosen: Collection[str] = (),
    by: Grouped | None = None,
    *,
    of: int | None = None,
) -> Chart:
    """A value with its interval, in the order of the rows; shape and colour say what kind of thing it is.

    Args:
        rows: id, name, kind, value, low, high, these three as fractions where the metric is shown in percent.
        chosen: ids that stand out. by: by what units are resampled together. of: how many there are.
    """
    shown = [{**row, **{name: factor(metric) * row[name] for name in ("value", "low", "high")}} for row in rows]
    data = pd.DataFrame(shown).assign(chosen=[row["id"] in chosen for row in rows])
    names = [row["name"] for row in rows]
    kinds = of_kind([kind for kind in palette.COLORS if kind in {row["kind"] for row in rows}])
    axis = {"labelLimit": 260, "labelOverlap": False, "title": None}
    y = nominal("name", scale={"domain": names}, axis=axis)
    scale = {"zero": False, "padding": 12}
    unit = f" ({metric.unit})" if metric.unit else ""
    interval = f"95 % {interval_of(metric, by)} interval{resampled(by)}"
    # In two lines, as there is little room beside the names on a narrow page.
    across = {"title": [f"{metric.label} on {split}{unit}{hint(metric)}", interval]}
    form = digits(metric, of)
    tooltip = [nominal("name"), nominal("kind")]
    tooltip += [quantity("value", metric.label, format=form)]
    tooltip += [quantity("low", "95 % from", format=form), quantity("high", "to", format=form)]
    bar = {
        "mark": {"type": "rule", "strokeWidth": 2},
        "encoding": {
            "x": quantity("low", scale=scale, axis=across),
            "x2": {"field": "high"},
            "stroke": nominal("kind", scale=kinds["fill"]["scale"], legend=None),
        },
    }
    point = {
        "params": clickable(MODEL, ["id"]),
        "mark": {"type": "point", "filled": True, "opacity": 1, "cursor": "pointer"} | OUTLINE,
        "encoding": kinds
        | {
            "x": quantity("value", scale=scale, axis=across),
            "size": {"condition": {"test": "datum.chosen", "value": 260}, "value": 110},
            "strokeWidth": {"condition": {"test": "datum.chosen", "value": 2}, "value": 1},
            "tooltip": tooltip,
        },
    }
    # The bars have no legend, and would take the points' with them if these shared it.
    apart = {"legend": {"fill": "independent", "shape": "independent"}}
    return data, {"height": {"step": 26}, "encoding": {"y": y}, "layer": [bar, point], "resolve": apart}


def against(
    table: pd.DataFrame, x: str, y: str, chosen: Collection[str] = (), *, metric: Metric, of: int | None = None
) -> Chart:
    """One figure of each model against another; the best in `y` and the chosen stand out.

    Args:
        table: id, x and y. What lacks either is left out. metric: of y, which is a value on held_out as it is shown.
        of: over how many units.
    """
    shown = table.dropna(subset=[x, y])
    best = (shown[y].idxmax() if metric.higher_is_better else shown[y].idxmin()) if len(shown) else None
    data = pd.DataFrame({"id": shown["id"], "x": shown[x], "y": shown[y]})
    data["kind"] = ["best" if index == best else "ingredient" for index in shown.index]
    data["chosen"] = shown["id"].isin(list(chosen))
    spread = len(shown) and shown[x].min() > 0 and shown[x].max() / shown[x].min() >= 20
    scale = {"type": "log"} if spread else {"zero": False, "padding": 12}
    y_title = on_split(metric, HELD_OUT)
    is_whole = bool(len(shown)) and (shown[x] % 1 == 0).all()
    ticks = {"axis": {"tickMinStep": 1}} if is_whole else {}
    return data, {
        "height": 320,
        "params": clickable(MODEL, ["id"]),
        "mark": {"type": "point", "filled": True, "opacity": 1, "cursor": "pointer"} | OUTLINE,
        "encoding": of_kind(["ingredient", "best"])
        | {
            "x": quantity("x", x, scale=scale, **ticks),
            "y": quantity("y", y_title, scale={"zero": False, "padding": 12}),
            "size": {"condition": {"test": "datum.chosen", "value": 260}, "value": 120},
            "strokeWidth": {"condition": {"test": "datum.chosen", "value": 2}, "value": 1},
            "tooltip": [nominal("id", "model"), quantity("x", x), quantity("y", y_title, format=digits(metric, of))],
        },
    }
