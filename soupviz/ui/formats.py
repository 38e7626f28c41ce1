"""How a metric's values are written in tables: in its unit, with as many digits as matter."""

from soupviz.kitchen import Kitchen
from soupviz.soups.planning import ingredient_summaries
from soupviz.tasks.metric import Metric, is_share
from soupviz.tasks.score import Score
from soupviz.tasks.significance import wilson
from soupviz.tasks.wording import PERCENT, factor, gap_unit


def offered(opened: Kitchen) -> dict[str, Metric]:
    """The metrics that a page can show, by name, the objective first, without those that say nothing of held_out."""
    known = ingredient_summaries(opened, "held_out", opened.names).values()
    objective = opened.objective
    others = [metric for metric in opened.task.metrics if metric.name != objective.name]
    shown = [one for one in others if not known or any(score.values.get(one.name) is not None for score in known)]
    return {metric.name: metric for metric in (objective, *shown)}


def first_two(opened: Kitchen) -> list[Metric]:
    """The objective, and what is told beside it: what barriers are of, or else the task's next metric."""
    others = [metric for metric in opened.task.metrics if metric.name != opened.objective.name]
    beside = [metric for metric in others if metric.name == opened.task.barrier]
    return [opened.objective, *(beside or others)[:1]]


def number_format(metric: Metric) -> str:
    """Of a column of values."""
    return "%.2f %%" if metric.unit == PERCENT else "%.4f"


def gap_format(metric: Metric) -> str:
    """Of a column of differences."""
    return "%+.2f" if metric.unit == PERCENT else "%+.4f"


def gap_help(metric: Metric, split: str) -> str:
    """What a column of differences holds, and which direction is better where one may doubt it."""
    counted_in = f", in {gap_unit(metric)}" if gap_unit(metric) else ""
    return f"change on {split}{counted_in}" + ("" if metric.higher_is_better else ": below 0 is better")


def figure(metric: Metric, value: float | None) -> float | None:
    """A value as tables and charts show it."""
    return None if value is None else factor(metric) * value


def interval(metric: Metric, score: Score) -> str:
    """The 95 % interval of a share of units that are drawn alone, which needs no unit; else empty."""
    value = score.values[metric.name]
    if value is None or not is_share(metric) or score.grouped:
        return ""
    low, high = wilson(round(value * score.num_units), score.num_units)
    return f"95 %: {100 * low:.1f} to {100 * high:.1f}"
