"""Values of metrics as people read them: in the metric's unit, with as many digits as matter."""

from soupviz.tasks.metric import Metric

PERCENT = "%"


def factor(metric: Metric) -> float:
    """What a value is multiplied by to be shown in the metric's unit."""
    return 100.0 if metric.unit == PERCENT else 1.0


def shown(metric: Metric, value: float | None, digits: int = 2) -> str:
    """A value in the metric's unit: "92.67 %", "0.4545 nats"; "none" where there is none."""
    if value is None:
        return "none"
    if metric.unit == PERCENT:
        return f"{100 * value:.{digits}f} %"
    return f"{value:.4g} {metric.unit}".rstrip()


def gap(metric: Metric, difference: float, digits: int = 2) -> str:
    """A difference of two values with its sign: "+1.17 points", "-0.0123 nats"."""
    if metric.unit == PERCENT:
        return f"{100 * difference:+.{digits}f} points"
    return f"{difference:+.4g} {metric.unit}".rstrip()


def gap_unit(metric: Metric) -> str:
    """What differences are counted in."""
    return "points" if metric.unit == PERCENT else metric.unit


def axis_title(metric: Metric) -> str:
    """Of a chart's axis: "accuracy (%)"."""
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def is_improvement(metric: Metric, difference: float) -> bool:
    """Whether a difference of values is for the better: of an error, where it falls."""
    return difference > 0 if metric.higher_is_better else difference < 0
