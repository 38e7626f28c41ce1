"""A search's log in a sentence or two: what was kept, how near the others came, and what chance explains of that."""

from collections.abc import Sequence

from soupviz.analysis.decisions import EPOCH, Decision
from soupviz.analysis.wording import apart
from soupviz.recipes import Recipe
from soupviz.recipes.trajectory import GIVEN_UP
from soupviz.tasks.metric import Metric
from soupviz.tasks.task import Task
from soupviz.tasks.wording import gap_unit

CHANCE = 0.05
"""A p-value above it: chance alone explains the difference."""


def summary(task: Task, metric: Metric, decisions: Sequence[Decision], recipe: Recipe) -> str:
    """The log in words. metric: the kitchen's."""
    start, *others = decisions
    if any(one.outcome == EPOCH for one in others):
        return (
            f"From the {start.candidate.removeprefix('start: ')} mix, {len(others)} epochs. The last is kept, whatever "
            "it has on held_out: to choose among them would be one more choice made there."
        )
    who = "Greedy" if recipe.newcomer_weight is not None else "The search"
    kept = [one for one in others if one.outcome == "accepted"]
    lost = [one for one in others if one.outcome in ("rejected", GIVEN_UP)]
    if recipe.tells_leads_only:
        last = kept[-1].candidate if kept else start.candidate
        changes = f"{len(kept)} change{'s' * (len(kept) != 1)}"
        return f"{last} is kept, after {changes} of the lead; what never led is not in the log."
    rest = _rest(task, metric, lost, recipe) if lost else ""
    if not recipe.grows_one_soup:
        last = kept[-1].candidate if kept else start.candidate
        return f"{last} is kept, the best of {len(decisions)} tried.{rest}"
    number = f"{len(others)} candidate{'s' * (len(others) != 1)}"
    if not others:
        return f"{who} kept {start.candidate}: there was no other candidate."
    if not kept:
        return f"{who} kept only {start.candidate}: none of {number} was accepted.{rest}"
    names = ", ".join(one.candidate for one in kept)
    return f"{who} started from {start.candidate} and kept {len(kept)} of {number}: {names}.{rest}"


def so_far(decisions: Sequence[Decision]) -> str:
    """A log that goes on, or was broken off, in words: what it comes to is not known."""
    start, *others = decisions
    if any(one.outcome == EPOCH for one in others):
        return f"So far: {len(others)} epochs from the {start.candidate.removeprefix('start: ')} mix."
    if not others:
        return f"So far: started from {start.candidate}; no other was decided on."
    number = f"{len(others)} candidate{'s' * (len(others) != 1)}"
    kept = sum(one.outcome == "accepted" for one in others)
    return (
        f"So far: started from {start.candidate}; of {number} tried, {kept} {'was' if kept == 1 else 'were'} accepted."
    )


def _rest(task: Task, metric: Metric, lost: Sequence[Decision], recipe: Recipe) -> str:
    """How near the rejected came to the soup before them, and what chance explains of that."""
    told = _nearest(task, metric, lost) if recipe.goal in ("", metric.name) else ""
    whole = [one for one in lost if one.p_value is not None]
    if whole:
        explained = sum(one.p_value is not None and one.p_value > CHANCE for one in whole)
        kind = "rejected" if len(whole) == len(lost) else "that were scored whole"
        of = f"{explained} of the {len(whole)} {kind}"
        verb = "lies" if explained == 1 else "lie"
        if len(whole) == 1:
            of = "It" if len(lost) == 1 else "The one that was scored whole"
            verb = "lies" if explained else "does not lie"
        return f"{told} {of} {verb} within what chance explains (p > {CHANCE})."
    if all(one.is_bound for one in lost):
        return f"{told} None of them was scored whole, so that it cannot be told what chance explains."
    return told


def _nearest(task: Task, metric: Metric, lost: Sequence[Decision]) -> str:
    """The first of those that lack least."""
    lacking = [(one, _lacks(metric, one)) for one in lost]
    known = [(one, lack) for one, lack in lacking if lack is not None]
    if not known:
        return ""
    near, lack = min(known, key=lambda pair: pair[1])
    if lack <= metric.ties():
        how = "could at best have become as good" if near.is_bound else "was as good, and only better would do"
    else:
        how = f"was {'at least ' * near.is_bound}{_amount(task, metric, near)}"
    return f" The nearest of the rejected, {near.candidate}, {how}."


def _lacks(metric: Metric, one: Decision) -> float | None:
    """By how much a candidate is worse; None where that is not known."""
    if one.difference is None:
        return None
    return -one.difference if metric.higher_is_better else one.difference


def _amount(task: Task, metric: Metric, one: Decision) -> str:
    if one.margin is not None:
        return f"{-one.margin:,} {task.unit}{'s' * (one.margin != -1)} short"
    unit = gap_unit(metric) or f"of {metric.label}"
    return f"{apart(metric, one.difference or 0.0, signed=False)} {unit} worse"
