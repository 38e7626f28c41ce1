"""Two searches in one picture."""

from collections.abc import Sequence

import pandas as pd

from soupviz.pictures import palette
from soupviz.pictures.basics import LEGEND, OUTLINE, Chart, digits, nominal, quantity
from soupviz.recipes.trajectory import Step
from soupviz.tasks.metric import Metric
from soupviz.tasks.wording import factor


def searches(
    a: Sequence[Step], b: Sequence[Step], names: tuple[str, str], metric: Metric, *, of: int | None = None
) -> Chart:
    """The best value so far of two searches, candidate by candidate; a mark where one was accepted.

    Both are soups and have their colour: line and shape tell them apart.

    Args:
        of: how many units held_out has.
    """
    rows = [
        {
            "search": name, "step": step.step, "best": _best(step, metric), "candidate": step.ingredient,
            "accepted": step.accepted, "decision": "accepted" if step.accepted else "rejected",
        }
        for name, steps in zip(names, (a, b), strict=True)
        for step in steps
    ]  # fmt: skip
    x = quantity("step", "candidate", axis={"tickMinStep": 1, "format": "d"})
    unit = f" ({metric.unit})" if metric.unit else f" ({metric.label})"
    title = f"best so far on held_out{unit}" if metric.higher_is_better else f"best so far{unit}, lower is better"
    y = quantity("best", title, scale={"zero": False, "padding": 12, "nice": True})
    legend = LEGEND | {"symbolFillColor": palette.SOUP, "symbolStrokeColor": palette.NEUTRAL, "labelLimit": 320}
    dash = nominal("search", scale={"domain": list(names), "range": [[1, 0], [5, 4]]}, legend=legend)
    shape = nominal("search", scale={"domain": list(names), "range": ["circle", "square"]}, legend=legend)
    step = {"type": "line", "interpolate": "step-after"}
    lines = [
        # Orange alone is too faint on white: a grey line under it is its outline.
        {"mark": step | {"color": color, "strokeWidth": width}, "encoding": {"x": x, "y": y, "strokeDash": dash}}
        for color, width in ((palette.NEUTRAL, 4), (palette.SOUP, 2.5))
    ]
    points = {
        "transform": [{"filter": "datum.accepted"}],
        "mark": {"type": "point", "filled": True, "size": 90, "opacity": 1, "color": palette.SOUP} | OUTLINE,
        "encoding": {
            "x": x,
            "y": y,
            "shape": shape,
            "tooltip": [
                nominal("search"),
                nominal("candidate"),
                nominal("decision"),
                quantity("best", "best so far", format=digits(metric, of)),
            ],
        },
    }
    columns = ["search", "step", "best", "candidate", "accepted", "decision"]
    return pd.DataFrame(rows, columns=columns), {"height": 300, "layer": [*lines, points]}


def _best(step: Step, metric: Metric) -> float | None:
    """What stood after a decision, in the unit; the searches may have raised different things."""
    value = step.best_metrics.get(metric.name)
    return None if value is None else factor(metric) * value
