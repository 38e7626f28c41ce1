"""A record's picture as a chart of Altair, to be changed, saved and laid beside others."""

import json
from typing import Any

from soupviz.errors import SoupError
from soupviz.extras import needed
from soupviz.kitchen import Kitchen
from soupviz.notebooks.charts import picture_of
from soupviz.soups.frames import Curve
from soupviz.soups.soup import Soup

WIDTH = 560
"""Pixels, of what has no width of its own."""


def plot(thing: Kitchen | Soup | Curve) -> Any:
    """The chart.

    Raises:
        SoupError: altair is not installed, or nothing is known that could be drawn.
    """
    with needed("plot"):
        import altair
    picture = picture_of(thing)
    if picture is None:
        raise SoupError("plot: no ingredient is scored on held_out yet; score them first, as kitchen.score() does.")
    data, spec = picture.chart
    values = json.loads(data.to_json(orient="records", double_precision=12))
    return altair.Chart.from_dict({"width": WIDTH, "title": picture.title} | spec | {"data": {"values": values}})
