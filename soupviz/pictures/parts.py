"""Two models on parts of units: on a detector's classes, on objects of a size."""

from collections.abc import Sequence

import pandas as pd

from soupviz.pictures import palette
from soupviz.pictures.basics import LEGEND, OUTLINE, Chart, digits, nominal, quantity
from soupviz.tasks.metric import Metric
from soupviz.tasks.score import PartScore
from soupviz.tasks.wording import axis_title, factor, gap_unit

SHOWN = 30
"""Parts at most: those that differ most."""

MODELS = {"soup": (palette.SOUP, palette.SHAPES["soup"]), "rival": (palette.INGREDIENT, palette.SHAPES["ingredient"])}
"""Colour and shape of each."""


def parts(soup: Sequence[PartScore], rival: Sequence[PartScore], metric: Metric) -> Chart:
    """What both models do on each part, and how far they are apart; parts without a value are left out.

    Args:
        soup, rival: of one kind, and of the same parts, in the order in which they are drawn.
    """
    pairs = [pair for pair in zip(soup, rival, strict=True) if None not in (pair[0].value, pair[1].value)]
    apart = sorted(pairs, key=lambda pair: -abs(float(pair[0].value or 0) - float(pair[1].value or 0)))[:SHOWN]
    pairs = [pair for pair in pairs if pair in apart]
    times = factor(metric)
    rows = [
        {
            "part": f"{new.name} ({new.number:,})",
            "model": model,
            "value": times * float(one.value or 0),
            "low": times * min(float(new.value or 0), float(old.value or 0)),
            "high": times * max(float(new.value or 0), float(old.value or 0)),
            "gained": times * (float(new.value or 0) - float(old.value or 0)),
        }
        for new, old in pairs
        for model, one in (("soup", new), ("rival", old))
    ]
    names = [f"{new.name} ({new.number:,})" for new, _ in pairs]
    y = nominal("part", scale={"domain": names}, axis={"labelLimit": 160, "title": None})
    colors, shapes = ([of[place] for of in MODELS.values()] for place in (0, 1))
    legend = LEGEND | {"columns": 0}
    unit, most = gap_unit(metric), max((new.number for new, _ in pairs), default=None)
    tooltip = [
        nominal("part", "part (objects)"),
        nominal("model"),
        quantity("value", axis_title(metric), format=digits(metric, most)),
        quantity(
            "gained", f"soup less rival ({unit})" if unit else "soup less rival", format=digits(metric, most, "+")
        ),
    ]
    line = {
        "mark": {"type": "rule", "color": palette.NEUTRAL, "strokeWidth": 2, "tooltip": None},
        "encoding": {
            "x": quantity("low", axis_title(metric), scale={"zero": False, "padding": 14}),
            "x2": {"field": "high"},
            "y": y,
        },
    }
    points = {
        "mark": {"type": "point", "size": 110, "filled": True, "opacity": 1} | OUTLINE,
        "encoding": {
            "x": quantity("value"),
            "y": y,
            "fill": nominal("model", scale={"domain": list(MODELS), "range": colors}, legend=legend),
            "shape": nominal("model", scale={"domain": list(MODELS), "range": shapes}, legend=legend),
            "tooltip": tooltip,
        },
    }
    return pd.DataFrame(rows), {"height": {"step": 28}, "layer": [line, points]}
