"""What a report's tables call things: the task's words, the objective's unit."""

from typing import Any

from soupviz.analysis import wording
from soupviz.reports import rows
from soupviz.reports.contents import Compared
from soupviz.soups.soup import Soup
from soupviz.spec import HELD_OUT
from soupviz.tasks.figures import interval_of
from soupviz.tasks.metric import is_share
from soupviz.tasks.wording import axis_title, resampled


def words_of(soup: Soup, compared: Compared, split: str) -> dict[str, Any]:
    """By what the template asks for. split: the one that reports."""
    task, metric = soup.kitchen.task, soup.kitchen.objective
    other, by = rows.beside(task, metric), soup.kitchen.splits.grouped_over(soup.kitchen.splits.reporting)
    unit = {"%": "percent", "": ""}.get(metric.unit, metric.unit)
    beside = "" if other is None else f"{other.label} on held_out{f' ({other.unit})' if other.unit else ''}"
    return {
        "units": f"{task.unit}s",
        "gains": task.gains if task.judges_units else (),
        "only": (task.only("the soup"), task.only("the other")),
        "test": wording.test_of(metric, by),
        "log_test": wording.test_of(metric, soup.kitchen.splits.grouped(HELD_OUT)),
        "intervals": f"{interval_of(metric, by)} intervals{resampled(by)}",
        "value": axis_title(metric),
        "is_share": is_share(metric),
        "measure": wording.measure(metric),
        "heads": rows.score_heads(task, metric, compared.best.name),
        "columns": f"{metric.label[:1].upper()}{metric.label[1:]}{f' in {unit}' if unit else ''}",
        "direction": wording.direction(metric),
        "calibration": any(one.name == "ece" for one in task.metrics),
        "beside": beside,
    }
