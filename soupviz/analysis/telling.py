"""Two models on one split in a sentence, by the paired test of their task."""

from soupviz.analysis import wording
from soupviz.kitchen import Kitchen
from soupviz.tasks import paired
from soupviz.tasks.score import Score
from soupviz.tasks.significance import UNPROVEN, chance

SAME = "the same"


def verdict(kitchen: Kitchen, new: Score, old: Score) -> str:
    """Whether `new` is better than `old` by the objective, on the same units."""
    metric = kitchen.objective
    found = paired.compare_many(kitchen.task, metric, old, {"new": new})["new"]
    if found.judgement.startswith(SAME):
        return f"{found.judgement} of {new.split}"
    unproven, shown = found.judgement == UNPROVEN, chance(found.p_value, found.is_least)
    told = f"{wording.apart(metric, found.difference, signed=unproven)} {wording.measure(metric)}"
    if unproven:
        return f"{found.judgement} on {new.split} ({told}, {shown})"
    return f"{found.judgement} by {told} on {new.split}, {shown}"
