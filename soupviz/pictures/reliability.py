"""Confidence against the share that is right."""

from collections.abc import Sequence

import pandas as pd

from soupviz.pictures import palette
from soupviz.pictures.basics import LEGEND, Chart, quantity
from soupviz.tasks.calibration import Bin


def reliability(before: Sequence[Bin], after: Sequence[Bin]) -> Chart:
    """The share that is right against confidence, before and after a temperature; both are equal on the diagonal."""
    named = (("before", palette.REJECTED, before), ("after", palette.SOUP, after))
    data = pd.DataFrame(
        [
            {
                "temperature": name, "confidence": one.confidence, "right": one.right, "examples": one.count,
                "range": f"{one.low:.2f} to {one.high:.2f}",
            }
            for name, _, bins in named
            for one in bins
            if one.count
        ]
    )  # fmt: skip
    scale = {"domain": [name for name, _, _ in named], "range": [color for _, color, _ in named]}
    unit = {"domain": [0, 1]}
    diagonal = {
        "data": {"values": [{"x": 0, "y": 0}, {"x": 1, "y": 1}]},
        "mark": {"type": "line", "color": palette.NEUTRAL, "strokeDash": [4, 3]},
        "encoding": {"x": quantity("x"), "y": quantity("y")},
    }
    points = {
        "mark": {"type": "line", "point": {"size": 60}, "strokeWidth": 1.5},
        "encoding": {
            "x": quantity("confidence", "mean confidence in a bin", scale=unit),
            "y": quantity("right", "share right in it", scale=unit),
            "color": {"field": "temperature", "type": "nominal", "scale": scale, "legend": LEGEND},
            "tooltip": [
                {"field": "range", "type": "nominal"},
                *(quantity(name, format=".3f") for name in ("confidence", "right")),
                quantity("examples"),
            ],
        },
    }
    return data, {"height": 300, "layer": [diagonal, points]}
