"""What statistics say, in words: sentences in which every number names its split."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from soupviz.spec import HELD_OUT
from soupviz.tasks.metric import Metric, is_share
from soupviz.tasks.paired import NOT_FINITE, Comparison
from soupviz.tasks.significance import UNPROVEN, chance
from soupviz.tasks.task import Task
from soupviz.tasks.wording import PERCENT, figure, gap_unit, in_percent, resampled, shown, significant, titled
from soupviz.types import Grouped

if TYPE_CHECKING:
    from soupviz.analysis.crossfit import CrossFit

MINUS = "\N{MINUS SIGN}"
TIGHT = "\N{NO-BREAK SPACE}"

FEWEST = 6
"""Groups by which a difference can show: fewer can be swapped in so few ways that p stays above 0.05."""


def points(fraction: float, *, signed: bool = True) -> str:
    """A difference of shares in points, without the word: to a tenth, or to a hundredth where it is small."""
    value = 100 * fraction
    digits = 2 if 0 < abs(round(value, 2)) < 0.1 else 1
    rounded = float(in_percent(fraction, digits)) + 0.0  # no negative zero
    return _signed(rounded, f"{abs(rounded):.{digits}f}", signed)


def apart(metric: Metric, difference: float, *, signed: bool = True) -> str:
    """A difference of two values of a metric, without its unit."""
    if metric.unit == PERCENT:
        return points(difference, signed=signed)
    return _signed(difference, significant(abs(difference), 3), signed)


def apart_in_unit(metric: Metric, difference: float) -> str:
    """A difference with its unit: "+1.2 points"."""
    return f"{apart(metric, difference)} {gap_unit(metric)}".rstrip()


def _signed(value: float, told: str, signed: bool) -> str:
    if not signed:
        return told
    return f"±{told}" if value == 0 else f"{'+' if value > 0 else MINUS}{told}"


def measure(metric: Metric) -> str:
    """What differences of a metric are counted in: points, nats, or the metric itself where it has no unit."""
    return gap_unit(metric) or metric.label


def measured(metric: Metric, value: float) -> str:
    """A value with what it is of, where its unit does not say it: "92.5 %", "RMSE 0.137"."""
    told = shown(metric, value, 1)
    return told if metric.unit else f"{metric.label} {told}"


def plain(metric: Metric, value: float | None, digits: int = 1) -> str:
    """A value without its unit, which stands elsewhere."""
    if value is None or math.isnan(value):
        return "none"
    return figure(metric, value, digits)


def between(metric: Metric, low: float, high: float, digits: int = 1) -> str:
    """An interval, without its unit."""
    if math.isnan(low):
        return "no interval"
    return f"{plain(metric, low, digits)} to {plain(metric, high, digits)}"


def test_of(metric: Metric, by: Grouped | None = None) -> str:
    """How a difference is tested. by: by what units change sides together."""
    if by is not None:
        return f"{'exact ' if is_share(metric) else ''}permutation test by {by.column}"
    return "exact McNemar test" if is_share(metric) else "permutation test"


def direction(metric: Metric) -> str:
    """Where better is, in a sentence; empty where more is better, as everybody expects."""
    return "" if metric.higher_is_better else f"Of {metric.label}, lower is better."


def percent(fraction: float) -> str:
    """A share on the screen."""
    return f"{100 * fraction:.1f} %"


def units(task: Task, number: int) -> str:
    """So many units, by their name."""
    return f"{number:,} {task.unit}{'s' * (number != 1)}"


def headline(
    task: Task,
    metric: Metric,
    best: str | None,
    difference: Comparison | None,
    split: str,
    *,
    is_itself: bool,
    is_scored: bool = True,
    selects: bool = False,
) -> str:
    """The verdict in a sentence.

    Args:
        best: the best ingredient on held_out. difference: the soup's to it, on the split that reports.
        is_itself: whether the soup is that ingredient. is_scored: whether the soup is scored on that split. selects:
            whether units of that split selected the soup.
    """
    if best is None:
        return "Not judged yet: no ingredient is scored on held_out."
    if is_itself:
        return f"This is {best} alone, the best ingredient on held_out: there is no difference to judge."
    if difference is None:
        what = f"{best}, the best ingredient on held_out," if is_scored else "it"
        return f"Not judged yet: {what} is not scored on {split}."
    if difference.judgement == NOT_FINITE:
        return (
            f"Worse: on {split}, {units(task, difference.nonfinite)} more have no finite answer than of {best}, the "
            "best ingredient on held_out."
        )
    told = (
        f"{apart(metric, difference.difference)} {measure(metric)} on {split} against {best}, the best ingredient on "
        f"held_out, {_around(metric, difference)}{resampled(difference.grouped)}"
    )
    if difference.judgement == UNPROVEN:
        p = chance(difference.p_value, difference.is_least)
        return f"No evidence that it is better: {told} ({p}); {shows(task, metric, difference)}."
    if not difference.is_shown:
        same = difference.judgement
        return f"No difference at all: it and {best}, the best ingredient on held_out, are {same} of {split}."
    caveat = ""
    if split == HELD_OUT:
        caveat = " held_out selected it, so this is optimistic: there is no test split to report."
    elif selects:
        caveat = (
            f" {task.unit.capitalize()}s of {split} selected it, so this is optimistic: {split} does not report on it."
        )
    return f"{difference.judgement.capitalize()}: {told} ({chance(difference.p_value, difference.is_least)}).{caveat}"


def _around(metric: Metric, difference: Comparison) -> str:
    if math.isnan(difference.low):
        return "without an interval"
    return f"between {apart(metric, difference.low)} and {apart(metric, difference.high)}"


def shows(task: Task, metric: Metric, difference: Comparison) -> str:
    """From which difference on a split of so many units tells."""
    number = _sized(task, difference)
    if (by := _few(difference.grouped)) is not None:
        least = 2.0 / 2**by.number
        return f"{number} show no difference, however large: p is never below {least:g} with so few groups"
    if difference.smallest is None:
        if difference.better is None or difference.worse is None:
            return f"the two differ too little on {number} for any difference to show"
        differing = difference.better + difference.worse
        return f"the two differ on {differing} of {number} only, too few for any difference to show"
    return f"at {number} only differences above {_smallest(metric, difference)} show"


def _sized(task: Task, difference: Comparison) -> str:
    """How much there is to resample."""
    by = difference.grouped
    number = units(task, difference.num_units)
    return f"{number} in {by.number:,} group{'s' * (by.number != 1)} by {by.column}" if by else number


def _few(by: Grouped | None) -> Grouped | None:
    """The groups, where they are too few for any difference to show."""
    return by if by is not None and 0 < by.number < FEWEST else None


def _smallest(metric: Metric, difference: Comparison) -> str:
    assert difference.smallest is not None
    return f"{apart(metric, difference.smallest, signed=False)} {measure(metric)}"


def size(task: Task, metric: Metric, difference: Comparison) -> str:
    """Whether a split is large enough for the difference that was seen on it."""
    seen = f"{apart(metric, difference.difference)} {measure(metric)} seen"
    where = difference.split
    if difference.smallest is None or _few(difference.grouped) is not None:
        return f"{where} is too small to tell: {shows(task, metric, difference)} ({seen})."
    number = f"at {_sized(task, difference)}"
    needed = f"{_smallest(metric, difference)} and more show"
    if abs(difference.difference) >= difference.smallest:
        return f"{where} is large enough for this: {seen}, and {number} {needed}."
    if difference.is_shown:
        return f"{where} was just large enough: {seen}, and it showed, though {number} only {needed} reliably."
    return f"{where} is too small to tell: {seen}, but {number} only {needed}."


def looks(evaluations: int | None, selected_on: Sequence[str], seen: int, soups: int, split: str) -> str:
    """What was spent on the splits that select, and how often the split that reports was looked at."""
    splits = " and ".join(selected_on)
    if evaluations is None:
        spent = f"How many evaluations choosing it took on {splits} is not known"
    else:
        spent = f"Choosing it took {evaluations:,} evaluation{'s' * (evaluations != 1)} on {splits}"
    if split == HELD_OUT:
        return f"{spent}; there is no test split, so nothing that did not select it can report on it."
    models = "no model has" if not seen else "one model has" if seen == 1 else f"{seen:,} different models have"
    mixed = f", {soups:,} of them soups and ensembles" if soups else ""
    return (
        f"{spent}; {models} been scored on {split} so far{mixed}. To take the best of them by what they have there "
        "would be one more selection."
    )


def optimism(metric: Metric, found: "CrossFit | None") -> str:
    """What selecting on held_out makes of the numbers there."""
    if found is None:
        return "How optimistic held_out is about it was not estimated yet."
    halves = (
        f"cross-fitted, soups have {measured(metric, found.selecting)} on the half of held_out that selected them and "
        f"{measured(metric, found.judging)} on the other"
    )
    least = 0.001 if metric.unit == PERCENT else 1e-3 * abs(found.judging)
    if found.optimism < least:
        return f"Selecting on held_out buys no optimism that shows: {halves}."
    flattery = f"{apart(metric, found.optimism, signed=False)} {measure(metric)}"
    return f"Selecting on held_out flatters this recipe by {flattery}: {halves}."


def alone_tells_nothing(task: Task, metric: Metric) -> str:
    """Why no units are counted, of a task that judges them only together."""
    return (
        f"{titled(metric)} is of all {task.unit}s together: whether one alone is answered well, the task {task.name} "
        "does not say; it can, by `hardness`."
    )
