"""How pages write a metric's values: in its unit, with as many digits as matter."""

from soupviz.kitchen import Kitchen
from soupviz.soups.planning import ingredient_summaries
from soupviz.spec import HELD_OUT
from soupviz.tasks.metric import Metric, others_of
from soupviz.tasks.wording import PERCENT, factor, gap_unit, span


def offered(opened: Kitchen) -> dict[str, Metric]:
    """The metrics that a page can show, by name, the objective first, without those that say nothing of held_out."""
    known = ingredient_summaries(opened, HELD_OUT, opened.names).values()
    objective, others = opened.objective, others_of(opened.task.metrics, opened.objective)
    shown = [one for one in others if not known or any(score.values.get(one.name) is not None for score in known)]
    return {metric.name: metric for metric in (objective, *shown)}


def value_format(metric: Metric) -> str:
    """Of a column of values that `in_unit` gave."""
    if metric.unit == PERCENT:
        return "%.2f %%"
    return f"%.4g {metric.unit}".rstrip()


def gap_format(metric: Metric) -> str:
    """Of a column of differences."""
    return "%+.2f" if metric.unit == PERCENT else "%+.3g"


def gap_help(metric: Metric, split: str) -> str:
    """What a column of differences holds, and which direction is better where one may doubt it."""
    counted_in = f", in {gap_unit(metric)}" if gap_unit(metric) else ""
    return f"change on {split}{counted_in}" + ("" if metric.higher_is_better else ": below 0 is better")


def in_unit(metric: Metric, value: float | None) -> float | None:
    """A value as tables and charts show it."""
    return None if value is None else factor(metric) * value


def note(metric: Metric, between: tuple[float, float] | None) -> str:
    """Below a value: its interval, or where there is none what it is a value of."""
    return f"95 %: {span(metric, between)}" if between else metric.label
