"""How tables of pages write numbers in a metric's unit."""

from soupviz.tasks.metric import Metric
from soupviz.tasks.wording import PERCENT, factor


def value_format(metric: Metric) -> str:
    """Of a column of values that `in_unit` gave."""
    if metric.unit == PERCENT:
        return "%.2f %%"
    return f"%.4g {metric.unit}".rstrip()


def gap_format(metric: Metric) -> str:
    """Of a column of differences."""
    return "%+.2f" if metric.unit == PERCENT else "%+.3g"


def in_unit(metric: Metric, value: float | None) -> float | None:
    """A value as a column shows it."""
    return None if value is None else factor(metric) * value
