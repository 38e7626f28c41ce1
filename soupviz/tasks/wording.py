"""Values of metrics as people read them: in the metric's unit, with as many digits as matter."""

import math
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np

from soupviz.spec import SHIFTS
from soupviz.tasks.by_name import NamedScore
from soupviz.tasks.metric import Metric
from soupviz.types import Grouped

PERCENT, NATS = "%", "nats"

NUMBERS_SHOWN = 16

EXACT = 9
"""Places to which differences of shares are what they are; beyond them a half may fall to either side."""


def factor(metric: Metric) -> float:
    """What a value is multiplied by to be shown in the metric's unit."""
    return 100.0 if metric.unit == PERCENT else 1.0


def in_percent(fraction: float, digits: int, sign: str = "") -> str:
    """A share in percent, without the unit. Halves are rounded as the browser rounds them in tables: 86.25 is 86.3."""
    value = round(100 * float(fraction), EXACT)
    if not math.isfinite(value):
        return f"{value:{sign}}"
    return f"{Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):{sign}}"


def figure(metric: Metric, value: float, digits: int = 2, sign: str = "") -> str:
    """A value, or a difference, without its unit: as many places in all of them, so that they compare in a column."""
    if metric.unit == PERCENT:
        return in_percent(value, digits, sign)
    return f"{value:{sign}.4f}" if metric.unit == NATS else significant(value, 4, sign)


def places(num_units: int | None) -> int:
    """Places after a percentage's point that show one unit more of so many: one up to a thousand, else two."""
    return 1 if num_units is not None and num_units <= 1000 else 2


def significant(value: float, digits: int, sign: str = "") -> str:
    """A number in so many digits, zeros at its end among them: "56.80" beside "56.21"."""
    return f"{value:{sign}#.{digits}g}".rstrip(".")


def shown(metric: Metric, value: float | None, digits: int = 2) -> str:
    """A value in the metric's unit: "92.67 %", "0.4545 nats"; "none" where there is none."""
    return "none" if value is None else f"{figure(metric, value, digits)} {metric.unit}".rstrip()


def of_score(metric: Metric, score: NamedScore) -> str:
    """A score's value in the metric's unit, in as many digits as its units can tell apart."""
    return shown(metric, score.shown(metric.name), places(score.num_units))


def cell(metric: Metric, value: float | None, digits: int = 2) -> str:
    """A value in a table."""
    return "–" if value is None else shown(metric, value, digits)


def cell_of(metric: Metric, score: NamedScore) -> str:
    """A score's value in a table, in as many digits as its units can tell apart."""
    return cell(metric, score.shown(metric.name), places(score.num_units))


def gap(metric: Metric, difference: float, digits: int = 2) -> str:
    """A difference of two values with its sign: "+1.17 points", "-0.0123 nats"."""
    return f"{figure(metric, difference, digits, '+')} {gap_unit(metric)}".rstrip()


def span(metric: Metric, between: tuple[float, float] | None, digits: int = 1) -> str:
    """An interval without its unit, which stands beside it: "91.2 to 94.0"; empty where there is none."""
    return " to ".join(figure(metric, value, digits) for value in between or ())


def resampled(by: Grouped | None) -> str:
    """After an interval: by what it was resampled, and over how many of these; empty where units are drawn alone."""
    if by is None:
        return ""
    return f", resampled by {by.column}" + (f", {by.number:,} group{'s' * (by.number != 1)}" if by.number else "")


def gap_unit(metric: Metric) -> str:
    """What differences are counted in."""
    return "points" if metric.unit == PERCENT else metric.unit


def axis_title(metric: Metric) -> str:
    """Of a chart's axis: "accuracy (%)"."""
    return f"{metric.label} ({metric.unit})" if metric.unit else metric.label


def titled(metric: Metric) -> str:
    """The label at the beginning of a sentence; what has capitals of its own, as mAP, stays."""
    first = metric.label.split(" ")[0]
    return metric.label[:1].upper() + metric.label[1:] if first.islower() else metric.label


def is_improvement(metric: Metric, difference: float) -> bool:
    """Whether a difference of values is for the better: of an error, where it falls."""
    return difference > 0 if metric.higher_is_better else difference < 0


def height(metric: Metric, difference: float) -> str:
    """The size of a difference, without a sign: "1.2 points", "0.123 nats"."""
    if metric.unit == PERCENT:
        return f"{figure(metric, abs(difference), 1)} points"
    return (
        f"{abs(difference):.3f} nats"
        if metric.unit == NATS
        else f"{significant(abs(difference), 3)} {metric.unit}".rstrip()
    )


def on_split(metric: Metric, split: str) -> str:
    """Of a chart's axis: "accuracy on test (%)", "RMSE on test, lower is better"."""
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{metric.label} on {split.removeprefix(SHIFTS)}{unit}{hint(metric)}"


def panel_title(metric: Metric) -> str:
    """Of a picture whose axis has the unit of a share at its ticks: "Accuracy", "Loss (nats)"."""
    unit = f" ({metric.unit})" if metric.unit not in ("", PERCENT) else ""
    return titled(metric) + unit + hint(metric)


def hint(metric: Metric) -> str:
    """Which values are better, where the word loss does not say so."""
    return "" if metric.higher_is_better or metric.name == "loss" else ", lower is better"


def numbers(values: Any) -> str:
    """What lies in an array: few numbers one by one, of many their shape."""
    array = np.asarray(values)
    if not array.size:
        return "none"
    if array.size > NUMBERS_SHOWN:
        return f"of shape {array.shape}"
    return ", ".join(f"{value:.4g}" for value in array.ravel().tolist())
