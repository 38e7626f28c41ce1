"""Two models on one split in a sentence, by the paired test of their task."""

from soupviz.kitchen import Kitchen
from soupviz.tasks import paired
from soupviz.tasks.score import Score
from soupviz.tasks.significance import UNPROVEN, chance
from soupviz.tasks.wording import gap

SAME = "the same"


def verdict(kitchen: Kitchen, new: Score, old: Score) -> str:
    """Whether `new` is better than `old` by the objective, on the same units."""
    metric = kitchen.objective
    found = paired.compare_many(kitchen.task, metric, old, {"new": new})["new"]
    if found.judgement.startswith(SAME):
        return f"{found.judgement} of {new.split}"
    told, shown = gap(metric, found.difference, 1), chance(found.p_value)
    if found.judgement == UNPROVEN:
        trend = told if found.difference else f"±{told[1:]}"
        return f"{found.judgement} on {new.split} ({trend}, {shown})"
    return f"{found.judgement} by {told[1:]} on {new.split}, {shown}"
