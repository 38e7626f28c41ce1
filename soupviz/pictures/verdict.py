"""A soup held against its yardsticks: differences with their intervals around zero."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from soupviz.pictures.basics import OUTLINE, Chart, digits, nominal, of_kind, quantity, rule
from soupviz.tasks.metric import Metric
from soupviz.tasks.wording import gap_unit

KINDS = ("best", "ensemble", "soup")
"""What a soup is held against: the best ingredient, the ensemble, the uniform soup."""


def differences(rows: Sequence[Mapping[str, Any]], split: str, metric: Metric, *, of: int | None = None) -> Chart:
    """How far the soup is from each yardstick on a split, with a 95 % bootstrap interval; zero is no difference.

    Args:
        rows: name, kind (best, ensemble or soup), difference, low and high; these three as the metric
            shows differences. of: over how many units.
    """
    names = [row["name"] for row in rows]
    y = nominal("name", scale={"domain": names}, axis={"labelLimit": 260, "labelOverlap": False, "title": None})
    title = f"{gap_unit(metric) or metric.label} on {split}: this soup"
    interval = "less the other, with a 95 % interval" + ("" if metric.higher_is_better else "; left of zero is better")
    tooltip = [nominal("name", "against")]
    titles = {"difference": "difference", "low": "95 % from", "high": "to"}
    tooltip += [quantity(name, title, format=digits(metric, of, "+")) for name, title in titles.items()]
    colors = of_kind(KINDS)
    bar = {
        "mark": {"type": "rule", "strokeWidth": 2},
        "encoding": {
            "x": quantity("low", title, scale={"zero": False, "padding": 12}, axis={"title": [title, interval]}),
            "x2": {"field": "high"},
            "y": y,
            "color": nominal("kind", scale=colors["fill"]["scale"], legend=None),
        },
    }
    point = {
        "mark": {"type": "point", "filled": True, "opacity": 1, "size": 130} | OUTLINE,
        "encoding": {
            # Layers with titles of their own would have both of them below the axis.
            "x": quantity("difference", title, axis={"title": [title, interval]}),
            "y": y,
            "fill": colors["fill"] | {"legend": None},
            "shape": colors["shape"] | {"legend": None},
            "tooltip": tooltip,
        },
    }
    return pd.DataFrame([*rows]), {"height": {"step": 30}, "layer": [rule("x", 0.0), bar, point]}
