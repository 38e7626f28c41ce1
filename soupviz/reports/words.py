"""What a report's tables call things: the task's words, the objective's unit."""

from typing import Any

from soupviz.analysis import wording
from soupviz.reports import rows
from soupviz.reports.contents import Compared
from soupviz.soups.soup import Soup
from soupviz.tasks.figures import interval_of
from soupviz.tasks.metric import is_share
from soupviz.tasks.wording import axis_title


def words_of(soup: Soup, compared: Compared) -> dict[str, Any]:
    """By what the template asks for."""
    task, metric = soup.kitchen.task, soup.kitchen.objective
    other = rows.beside(task, metric)
    unit = {"%": "percent", "": ""}.get(metric.unit, metric.unit)
    beside = "" if other is None else f"{other.label} on held_out{f' ({other.unit})' if other.unit else ''}"
    return {
        "units": f"{task.unit}s",
        "gains": task.gains if task.judges_units else (),
        "only": (task.only("the soup"), task.only("the other")),
        "test": wording.test_of(metric),
        "interval": interval_of(metric),
        "value": axis_title(metric),
        "is_share": is_share(metric),
        "measure": wording.measure(metric),
        "heads": rows.score_heads(task, metric, compared.best.name),
        "columns": f"{metric.label[:1].upper()}{metric.label[1:]}{f' in {unit}' if unit else ''}",
        "direction": wording.direction(metric),
        "calibration": any(one.name == "ece" for one in task.metrics),
        "beside": beside,
    }
