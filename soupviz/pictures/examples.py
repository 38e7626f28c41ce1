"""Two models class by class: what changed, and what is taken for what."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from soupviz.analysis.examples import ClassChange, by_label
from soupviz.pictures import palette
from soupviz.pictures.basics import CHANCE, OUTLINE, Chart, clickable, matrix, nominal, quantity
from soupviz.tasks.wording import places

CLASS = "class"
"""The selection of the bars; its field is index."""

CELL = "confusion"
"""The selection of the matrix; its fields are row (label) and column (prediction)."""

COUNTS, SHARES, DIFFERENCE = "counts", "share of each class", "difference to the rival"

FEW = 16
"""Classes up to which a cell has its number in it, and the matrix stands beside the bars."""

SHOWN = 30
"""Classes at most: those that changed, or are confused, most."""


def changes(found: Sequence[ClassChange], classes: Sequence[str], chosen: int | None = None) -> Chart:
    """The share that is right of each class, soup less rival, in points; the largest gain on top.

    Args:
        classes: names by index. chosen: the class that stands out.
    """
    rows = [
        {
            "index": one.index,
            "class": f"{classes[one.index]} ({one.num_examples})",
            "points": one.points,
            "fixed": one.fixed,
            "broken": one.broken,
            "examples": one.num_examples,
            "p": one.p_value,
            "better": "soup" if one.points > 0 else "rival",
            "chosen": one.index == chosen,
        }
        for one in found
    ]
    names, most = [row["class"] for row in rows], max((one.num_examples for one in found), default=None)
    colors = {"domain": ["soup", "rival"], "range": [palette.SOUP, palette.INGREDIENT]}
    return pd.DataFrame(rows), {
        "height": {"step": 20},
        "params": clickable(CLASS, ["index"]),
        "mark": {"type": "bar", "cursor": "pointer", "minBandSize": 2} | OUTLINE,
        "encoding": {
            "x": quantity("points", "soup less rival (points)"),
            "y": nominal("class", None, scale={"domain": names}, axis={"labelLimit": 150, "title": None}),
            "fill": nominal("better", scale=colors, legend=None),
            "strokeWidth": {"condition": {"test": "datum.chosen", "value": 3}, "value": 0.5},
            "tooltip": [
                nominal("class", "class (examples)"),
                quantity("points", "change (points)", format=f"+.{places(most)}f"),
                quantity("fixed", "only the soup is right"),
                quantity("broken", "only the rival is right"),
                quantity("p", "p (exact paired test)", format=CHANCE),
            ],
        },
    }


def confusions(
    soup: NDArray[np.int64],
    rival: NDArray[np.int64],
    classes: Sequence[str],
    shown: Sequence[int],
    what: str,
    chosen: tuple[int, int] | None = None,
) -> Chart:
    """What labels (rows) are taken for (columns): of the soup, or how it differs from the rival.

    Args:
        soup, rival: counts, shape (num_classes, num_classes). shown: indices of the classes that are drawn.
        what: COUNTS, SHARES (of each label, in percent), or DIFFERENCE (counts, soup less rival).
        chosen: label and prediction of the cell that stands out.
    """
    values = {COUNTS: soup, SHARES: 100 * by_label(soup), DIFFERENCE: soup - rival}[what]
    rows = [
        {
            "row": classes[label],
            "column": classes[prediction],
            "value": None if np.isnan(values[label, prediction]) else float(values[label, prediction]),
            "soup": int(soup[label, prediction]),
            "rival": int(rival[label, prediction]),
            "chosen": (label, prediction) == chosen,
        }
        for label in shown
        for prediction in shown
    ]
    names = [classes[index] for index in shown]
    titles = {COUNTS: "examples", SHARES: "% of the class", DIFFERENCE: "examples, soup less rival"}
    if what == DIFFERENCE:
        most = max(1.0, float(np.abs(values[np.ix_(shown, shown)]).max()))
        spec = matrix(
            names, title=titles[what], format="+d", scheme=[palette.INGREDIENT, "#ffffff", palette.SOUP],
            domain=[-most, 0, most], clicked=CELL,
        )  # fmt: skip
    else:
        numbers = "d" if what == COUNTS else ".1f"
        spec = matrix(names, title=titles[what], format=numbers, scheme=["#ffffff", "#9ecae1", "#08519c"], clicked=CELL)
    color = spec["layer"][0]["encoding"]["color"]
    # One cell may be a hundred times another. And the way from white to a colour must not go through a third.
    color["scale"] |= {"type": "symlog", "interpolate": "rgb"}
    if len(names) > FEW:
        spec["encoding"]["x"]["axis"] |= {"labelLimit": 90}
        spec["encoding"]["y"]["axis"] |= {"labelLimit": 110}
    else:  # each cell tells its value
        color["legend"] = None
    for text in spec["layer"][1:]:
        text["transform"] = [{"filter": "datum.value != 0"}]
    spec["layer"][0]["encoding"]["tooltip"] = [
        nominal("row", "label"),
        nominal("column", "predicted as"),
        quantity("soup", "soup, examples"),
        quantity("rival", "rival, examples"),
    ]
    spec["encoding"]["x"]["axis"]["title"] = "predicted"
    spec["encoding"]["y"]["axis"]["title"] = "label"
    outline = {"type": "rect", "fill": None, "stroke": palette.SOUP, "strokeWidth": 4, "tooltip": None}
    spec["layer"].append({"transform": [{"filter": "datum.chosen"}], "mark": outline})
    return pd.DataFrame(rows), spec
