"""What statistics say, in words: sentences in which every number names its split."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from soupviz.recipes.judge import HELD_OUT
from soupviz.tasks.metrics import SAME, UNPROVEN
from soupviz.tasks.metrics import chance as chance

if TYPE_CHECKING:
    from soupviz.analysis.crossfit import CrossFit
    from soupviz.analysis.significance import Difference

MINUS = "\N{MINUS SIGN}"


def points(fraction: float, *, signed: bool = True) -> str:
    """A difference of accuracies in points, without the word: to a tenth, or to a hundredth where it is small."""
    value = 100 * fraction
    digits = 2 if 0 < abs(round(value, 2)) < 0.1 else 1
    rounded = round(value, digits) + 0.0  # no negative zero
    shown = f"{abs(rounded):.{digits}f}"
    if not signed:
        return shown
    return f"±{shown}" if rounded == 0 else f"{'+' if rounded > 0 else MINUS}{shown}"


def percent(fraction: float) -> str:
    """An accuracy on the screen."""
    return f"{100 * fraction:.1f} %"


def headline(
    best: str | None,
    difference: "Difference | None",
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
            whether examples of that split selected the soup.
    """
    if best is None:
        return "Not judged yet: no ingredient is scored on held_out."
    if is_itself:
        return f"This is {best} alone, the best ingredient on held_out: there is no difference to judge."
    if difference is None:
        what = f"{best}, the best ingredient on held_out," if is_scored else "it"
        return f"Not judged yet: {what} is not scored on {split}."
    told = (
        f"{points(difference.difference)} points on {split} against {best}, the best ingredient on held_out, "
        f"between {points(difference.low)} and {points(difference.high)}"
    )
    if difference.judgement == SAME:
        return f"No difference at all: it and {best}, the best ingredient on held_out, are {SAME} of {split}."
    if difference.judgement == UNPROVEN:
        return f"No evidence that it is better: {told}; {shows(difference)}."
    caveat = ""
    if split == HELD_OUT:
        caveat = " held_out selected it, so this is optimistic: there is no test split to report."
    elif selects:
        caveat = f" Examples of {split} selected it, so this is optimistic: {split} does not report on it."
    return f"{difference.judgement.capitalize()}: {told} ({chance(difference.p_value)}).{caveat}"


def shows(difference: "Difference") -> str:
    """From which difference on a split of so many examples tells."""
    number = f"{difference.num_examples:,} examples"
    if difference.smallest is None:
        apart = difference.fixed + difference.broken
        return f"the two differ on {apart} of {number} only, too few for any difference to show"
    return f"at {number} only differences above {points(difference.smallest, signed=False)} points show"


def size(difference: "Difference") -> str:
    """Whether a split is large enough for the difference that was seen on it."""
    seen = f"{points(difference.difference)} points seen"
    where = difference.split
    if difference.smallest is None:
        return f"{where} is too small to tell: {shows(difference)} ({seen})."
    number = f"at {difference.num_examples:,} examples"
    needed = f"{points(difference.smallest, signed=False)} points and more show"
    is_seen = difference.judgement not in (SAME, UNPROVEN)
    if abs(difference.difference) >= difference.smallest:
        return f"{where} is large enough for this: {seen}, and {number} {needed}."
    if is_seen:
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
    return (
        f"{spent}; {models} been looked at on {split} so far, soups and ensembles among them: {soups:,}. To take the "
        "best of them by what they have there would be one more selection."
    )


def optimism(found: "CrossFit | None") -> str:
    """What selecting on held_out makes of the numbers there."""
    if found is None:
        return "How optimistic held_out is about it was not estimated yet."
    halves = (
        f"cross-fitted, soups have {percent(found.selecting / found.num_examples)} on the half of held_out that "
        f"selected them and {percent(found.judging / found.num_examples)} on the other"
    )
    if 100 * found.optimism < 0.1:
        return f"Selecting on held_out buys no optimism that shows: {halves}."
    return f"Selecting on held_out flatters this recipe by {points(found.optimism, signed=False)} points: {halves}."
