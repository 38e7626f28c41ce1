"""Decisions of a search in words: a sentence for each, in the task's words and the metric's unit."""

from typing import TYPE_CHECKING

from soupviz.analysis.wording import apart_in_unit
from soupviz.tasks.metric import Metric, is_share
from soupviz.tasks.significance import chance
from soupviz.tasks.task import Task
from soupviz.tasks.wording import figure, places, shown

if TYPE_CHECKING:
    from soupviz.analysis.decisions import Decision


def goal(task: Task, metric: Metric, name: str) -> str:
    """What a search raises or lowers, by the name that a recipe has for it. metric: the kitchen's."""
    parts = {
        "mean_class": f"mean {metric.label} of the classes",
        "worst_class": f"{metric.label} of the worst class",
        "mean_slice": f"mean {metric.label} of the slices",
        "worst_slice": f"{metric.label} of the worst slice",
        "with_shifts": f"{metric.label} on held_out and the shifts",
    }
    labels = {one.name: one.label for one in task.metrics}
    return (labels | parts).get(name, metric.label)


def verb(metric: Metric) -> str:
    """What a search does to a metric."""
    return "raise" if metric.higher_is_better else "lower"


def against(metric: Metric, new: float, old: float, num_units: int) -> str:
    """Two values over so many units, with the unit once."""
    digits = places(num_units)
    return f"{figure(metric, new, digits)} against {figure(metric, old, digits)} {metric.unit}".rstrip()


def start(metric: Metric, name: str, value: float | None, number: int) -> str:
    if is_share(metric):
        counted = f"{round((value or 0.0) * number):,} of {number:,} right on held_out, "
        return f"start: {name} has {counted}{shown(metric, value, places(number))}"
    return f"start: {name} has {metric.label} {shown(metric, value, places(number))} on held_out"


def epoch(metric: Metric, made: "Decision") -> str:
    """What an epoch of a training has; an epoch is no candidate."""
    value = shown(metric, made.value, places(made.num_units))
    value = value if is_share(metric) else f"{metric.label} {value}"
    if made.margin is not None:
        apart = f"{abs(made.margin):,} {'more' if made.margin > 0 else 'fewer'} right than"
        told = apart if made.margin else "as many right as"
    else:
        told = f"{apart_in_unit(metric, made.difference or 0.0)} to"
    return (
        f"{value} on held_out, {told} the best before it; an epoch is no candidate: the last is kept, whatever it has"
    )


def decided(task: Task, metric: Metric, made: "Decision", reason: str, rival: str) -> str:
    """What became of a candidate, what it changes, and what chance explains of that."""
    of = f"of {made.num_units:,}"
    does, undoes = task.verbs
    changed = "" if made.better is None else f"{does} {made.better:,}"
    if made.is_bound:
        seen = f" it {changed} and {undoes} {made.worse:,};" if changed else ""
        scored = f"of the {made.num_scored:,} {task.unit}s scored ({of})"
        return f"{made.outcome}: {scored}{seen} with all others {_at_best(metric, made, rival)}"
    counted = f"{changed}, {undoes} {made.worse:,} {of}: " if changed else ""
    p_value = f"; {chance(made.p_value)}" if made.p_value is not None else ""
    return f"{made.outcome}: {reason}{counted}{_apart(metric, made)} {rival}{p_value}"


def _at_best(metric: Metric, made: "Decision", rival: str) -> str:
    if made.margin is not None:
        short = f"end {-made.margin:,} short of" if made.margin else "be as good as"
        return f"right it could at best {short} {rival}"
    if made.difference is None:
        return f"perfect it could not be better than {rival}"
    bound = shown(metric, made.bound, places(made.num_units))
    return f"perfect its {metric.label} could at best be {bound}, {_short(metric, made)} {rival}"


def _short(metric: Metric, made: "Decision") -> str:
    difference = made.difference or 0.0
    return f"{apart_in_unit(metric, difference)} to" if difference else "as good as"


def _apart(metric: Metric, made: "Decision") -> str:
    if made.margin is not None:
        more = f"{made.margin:,} more right than" if made.margin > 0 else f"{-made.margin:,} short of"
        return more if made.margin else "as many right as"
    if made.difference is None:
        return f"not to be compared by {metric.label} with"
    value = f"{metric.label} {shown(metric, made.value, places(made.num_units))}"
    return f"{value}, {_short(metric, made)}"
