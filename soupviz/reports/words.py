"""What a report's tables call things: the task's words, the objective's unit."""

from typing import Any

from soupviz.analysis import wording
from soupviz.reports import rows
from soupviz.reports.contents import Compared
from soupviz.soups.soup import Soup


def words_of(soup: Soup, compared: Compared, split: str) -> dict[str, Any]:
    """By what the template asks for. split: the one that reports."""
    task, metric = soup.kitchen.task, soup.kitchen.objective
    other, by = rows.beside(task, metric), soup.kitchen.splits.grouped(split)
    unit = {"%": "percent", "": ""}.get(metric.unit, metric.unit)
    beside = "" if other is None else f"{other.label} on held_out{f' ({other.unit})' if other.unit else ''}"
    return {
        "units": f"{task.unit}s",
        "gains": task.gains,
        "only": (task.only("the soup"), task.only("the other")),
        "test": wording.test_of(metric, by),
        "log_test": wording.test_of(metric, soup.kitchen.splits.grouped("held_out")),
        "intervals": f"{wording.interval_of(metric, by)} intervals{wording.resampled(by)}",
        "measure": wording.measure(metric),
        "heads": rows.score_heads(task, metric, compared.best.name),
        "columns": f"{metric.label[:1].upper()}{metric.label[1:]}{f' in {unit}' if unit else ''}",
        "direction": wording.direction(metric),
        "calibration": any(one.name == "ece" for one in task.metrics),
        "beside": beside,
    }
