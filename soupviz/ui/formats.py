"""How pages write a metric's values: in its unit, with as many digits as matter."""

import math
from collections.abc import Iterable

from soupviz.kitchen import Kitchen
from soupviz.soups.planning import ingredient_summaries
from soupviz.spec import HELD_OUT
from soupviz.tasks.metric import Metric, others_of
from soupviz.tasks.wording import EXACT, NATS, PERCENT, factor, gap_unit, places, span

CHANCE = "%.3g"
"""Of a column of p-values: however small, none is told as 0."""


def offered(opened: Kitchen) -> dict[str, Metric]:
    """The metrics that a page can show, by name, the objective first, without those that say nothing of held_out."""
    known = ingredient_summaries(opened, HELD_OUT, opened.names).values()
    objective, others = opened.objective, others_of(opened.task.metrics, opened.objective)
    shown = [one for one in others if not known or any(score.values.get(one.name) is not None for score in known)]
    return {metric.name: metric for metric in (objective, *shown)}


def value_format(metric: Metric, values: Iterable[float] = (), *, of: int | None = None) -> str:
    """Of a column of values that `in_unit` gave.

    Args:
        values: what stands in it: it has as many places in each row. of: over how many units they are, if known.
    """
    if metric.unit == PERCENT:
        return f"%.{places(of)}f %%"
    return f"{'%.4f' if metric.unit == NATS else _places(values)} {metric.unit}".rstrip()


def _places(values: Iterable[float]) -> str:
    """Four digits of the largest: of a format with g, Streamlit would drop the zeros at the end."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return f"%.{max(0, 3 - math.floor(math.log10(largest)))}f" if largest else "%.4g"


def gap_format(metric: Metric, *, of: int | None = None) -> str:
    """Of a column of differences. of: over how many units they are, if known."""
    return f"%+.{places(of)}f" if metric.unit == PERCENT else "%+.4f" if metric.unit == NATS else "%+.3g"


def gap_help(metric: Metric, split: str) -> str:
    """What a column of differences holds, and which direction is better where one may doubt it."""
    counted_in = f", in {gap_unit(metric)}" if gap_unit(metric) else ""
    return f"change on {split}{counted_in}" + ("" if metric.higher_is_better else ": below 0 is better")


def in_unit(metric: Metric, value: float | None) -> float | None:
    """A value as tables and charts show it."""
    return None if value is None else round(factor(metric) * value, EXACT)


def note(metric: Metric, between: tuple[float, float] | None) -> str:
    """Below a value: its interval, or where there is none what it is a value of."""
    return f"95 %: {span(metric, between)}" if between else metric.label
