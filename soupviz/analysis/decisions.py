"""The decision log of a search: what every candidate would have changed, by how much it lost, and a sentence."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from soupviz.analysis.wording import percent
from soupviz.kitchen import Kitchen
from soupviz.recipes import Ensemble, Greedy, Recipe
from soupviz.recipes.greedy import LineSearch
from soupviz.recipes.judge import HELD_OUT
from soupviz.recipes.search import with_newcomer
from soupviz.recipes.subsets import Beam, Exhaustive, Pruned, Restarts
from soupviz.recipes.trajectory import GIVEN_UP, Step
from soupviz.soups.cooking import goal_of
from soupviz.soups.planning import is_readable
from soupviz.tasks.metrics import chance, mcnemar
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.score import Score
from soupviz.types import Coefficients

if TYPE_CHECKING:
    import pandas as pd

EPOCH = "epoch"
OUTCOMES = ("start", "accepted", "rejected", GIVEN_UP, EPOCH)
CHANCE = 0.05
"""A p-value above it: chance alone explains the difference."""

GROWING = (Greedy, LineSearch, Ensemble, Pruned)
"""Searches that change one soup step by step; the others name the mix that leads."""

LEADERS = (Exhaustive, Beam, Restarts)
"""Searches that tell only of what took the lead."""

GOALS = {
    "loss": "loss", "mean_class": "mean accuracy of the classes", "worst_class": "accuracy of the worst class",
    "mean_slice": "mean accuracy of the slices", "worst_slice": "accuracy of the worst slice",
    "with_shifts": "accuracy on held_out and the shifts",
}  # fmt: skip
"""What a search raises, or lowers, in words."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a candidate on held_out, against the soup before it: the last that was accepted.

    outcome: start, accepted, rejected, rejected early, or epoch (of a training, which is no candidate).
    accuracy: a fraction; None where scoring stopped early, and then accuracy_at_most is all that is known.
    fixed: examples that only the candidate has right. broken: that only the soup before it has. Both of the num_scored
    examples that were evaluated, of num_examples in all; None where that was not kept. p_value: of McNemar's exact
    test; None where scoring stopped early, on examples that are no random ones. margin: how many more examples it has
    right, negative where fewer; is_bound: at most. difference: the margin as a fraction of the examples.
    mix: what was tried, where that is known.
    """

    step: int
    candidate: str
    outcome: str
    accuracy: float | None
    accuracy_at_most: float
    fixed: int | None
    broken: int | None
    p_value: float | None
    margin: int | None
    is_bound: bool
    difference: float | None
    num_scored: int
    num_examples: int
    mix: Coefficients | None
    sentence: str


@dataclass(frozen=True, slots=True)
class _Tried:
    """A step with what is known of its mix: results by example, perhaps of some only, and the whole score."""

    step: Step
    score: Score | None
    examples: Outcomes | None


def log(kitchen: Kitchen, recipe: Recipe, steps: Sequence[Step]) -> list[Decision]:
    """Every decision of a search, in its order, from scores that are known; nothing is computed.

    Args:
        kitchen: whose held_out was read. steps: of a finished run, or as far as it has come.
    """
    number = len(kitchen.split(HELD_OUT))
    found: list[Decision] = []
    before: _Tried | None = None
    is_training = of_training(steps)
    for step in with_mixes(recipe, steps):
        tried = _tried(kitchen, recipe, step)
        if before is None:
            found.append(_start(step, number))
        elif is_training:
            found.append(_epoch(step, before.step, number))
        else:
            found.append(_decision(kitchen, recipe, tried, before, number))
        if step.accepted:
            before = tried
    return found


def of_training(steps: Sequence[Step]) -> bool:
    """Whether the steps are the epochs of a training, which are no candidates."""
    return bool(steps) and steps[0].ingredient.startswith("start: ")


def with_mixes(recipe: Recipe, steps: Sequence[Step]) -> list[Step]:
    """The steps of a greedy search with what they tried: runs of earlier versions did not keep it."""
    is_greedy = isinstance(recipe, Greedy) or (isinstance(recipe, Ensemble) and recipe.choice == "greedy")
    if not is_greedy or all(step.mix for step in steps):
        return list(steps)
    alpha = recipe.alpha if isinstance(recipe, Greedy) else "mean"
    found: list[Step] = []
    soup: Coefficients = ()
    for step in steps:
        mix = with_newcomer(soup, step.ingredient, alpha) if soup else ((step.ingredient, 1.0),)
        found.append(replace(step, mix=mix))
        soup = mix if step.accepted else soup
    return found


def _tried(kitchen: Kitchen, recipe: Recipe, step: Step) -> _Tried:
    if not step.mix or not is_readable(kitchen, HELD_OUT, recipe.treatment):
        return _Tried(step, None, None)
    score = kitchen.known_score(step.mix, HELD_OUT, recipe.treatment)
    if score is not None:
        return _Tried(step, score, score.outcomes)
    mix, split = kitchen.resolved(step.mix), kitchen.split(HELD_OUT)
    return _Tried(step, None, kitchen.scorer.partial(mix, split, kitchen.treatment(recipe.treatment)))


def _start(step: Step, number: int) -> Decision:
    right = round((step.accuracy or 0.0) * number)
    told = f"start: {step.ingredient.removeprefix('start: ')} has {right:,} of {number:,} right on held_out"
    return _of(step, "start", number, sentence=f"{told}, {percent(step.accuracy or 0.0)}")


def _epoch(step: Step, before: Step, number: int) -> Decision:
    margin = _count(step.accuracy or 0.0, number) - _count(before.accuracy or 0.0, number)
    told = f"{abs(margin):,} {'more' if margin > 0 else 'fewer'} right than" if margin else "as many right as"
    sentence = (
        f"{percent(step.accuracy or 0.0)} on held_out, {told} the best before it; an epoch is no candidate: the last "
        "is kept, whatever it has"
    )
    return replace(_of(step, EPOCH, number, sentence=sentence), margin=margin, difference=margin / number)


def _decision(kitchen: Kitchen, recipe: Recipe, tried: _Tried, before: _Tried, number: int) -> Decision:
    step = tried.step
    accuracy = tried.score.accuracy if tried.score else step.accuracy
    is_bound = accuracy is None
    margin = _count(step.accuracy_at_most if accuracy is None else accuracy, number)
    margin -= _count(before.step.accuracy or 0.0, number)
    fixed = broken = None
    num_scored = number if accuracy is not None else step.num_examples_scored
    if tried.examples is not None and before.examples is not None:
        seen = tried.examples.scored & before.examples.scored
        fixed = int((tried.examples["right"] & ~before.examples["right"] & seen).sum())
        broken = int((~tried.examples["right"] & before.examples["right"] & seen).sum())
        num_scored = int(seen.sum())
    p_value = mcnemar(fixed, broken) if fixed is not None and broken is not None and not is_bound else None
    made = replace(
        _of(step, step.outcome, number, sentence=""),
        accuracy=accuracy,
        accuracy_at_most=step.accuracy_at_most if accuracy is None else accuracy,
        fixed=fixed,
        broken=broken,
        p_value=p_value,
        margin=margin,
        is_bound=is_bound,
        difference=margin / number,
        num_scored=num_scored,
    )
    rival = "the soup before it" if isinstance(recipe, GROWING) else "the best before it"
    return replace(made, sentence=_sentence(made, _reason(kitchen, recipe, tried, before), rival))


def _of(step: Step, outcome: str, number: int, *, sentence: str) -> Decision:
    """A decision of which nothing is counted yet."""
    return Decision(
        step=step.step, candidate=step.ingredient, outcome=outcome, accuracy=step.accuracy,
        accuracy_at_most=step.accuracy_at_most, fixed=None, broken=None, p_value=None, margin=None, is_bound=False,
        difference=None, num_scored=step.num_examples_scored, num_examples=number, mix=step.mix, sentence=sentence,
    )  # fmt: skip


def _count(accuracy: float, number: int) -> int:
    return round(accuracy * number)


def _sentence(made: Decision, reason: str, rival: str) -> str:
    of = f"of {made.num_examples:,}"
    if made.is_bound:
        seen = "" if made.fixed is None else f" it fixes {made.fixed:,} and breaks {made.broken:,};"
        short = f"end {-(made.margin or 0):,} short of" if made.margin else "be as good as"
        scored = f"of the {made.num_scored:,} examples scored ({of})"
        return f"{made.outcome}: {scored}{seen} with all others right it could at best {short} {rival}"
    assert made.margin is not None
    counted = f"fixes {made.fixed:,}, breaks {made.broken:,} {of}: " if made.fixed is not None else ""
    more = f"{made.margin:,} more right than" if made.margin > 0 else f"{-made.margin:,} short of"
    told = f"{more if made.margin else 'as many right as'} {rival}"
    p_value = f"; {chance(made.p_value)}" if made.p_value is not None else ""
    return f"{made.outcome}: {reason}{counted}{told}{p_value}"


def _reason(kitchen: Kitchen, recipe: Recipe, tried: _Tried, before: _Tried) -> str:
    """What decided, where it was not the count of examples right: both values."""
    goal: str = getattr(recipe, "objective", "") or kitchen.objective.name
    accepted = tried.step.accepted
    if isinstance(recipe, LineSearch) and accepted and tried.score and before.score:
        return "lowers the loss; " if tried.score.correct == before.score.correct else ""
    if goal == kitchen.objective.name:
        return ""
    what = GOALS[goal]
    verb = "lowers" if goal == "loss" else "raises"
    plain = f"{verb} the {what}; " if accepted else f"does not {verb.removesuffix('s')} the {what}; "
    if goal == "with_shifts" or tried.score is None or before.score is None:
        return plain
    scores = (tried.score, before.score)
    if goal == "loss" and any(score.num_nonfinite for score in scores):
        new, old = (f"{score.num_nonfinite:,}" for score in scores)
        return f"{plain.removesuffix('; ')} ({new} answers that are not finite against {old}); "
    objective = goal_of(kitchen, goal)
    values = [float(objective.value(score) or 0.0) for score in scores]
    new, old = (f"{value:.4f}" if goal == "loss" else f"{100 * value:.2f}" for value in values)
    unit = "nats" if goal == "loss" else "%"
    return f"{plain.removesuffix('; ')} ({new} against {old} {unit}); "


def summary(decisions: Sequence[Decision], recipe: Recipe) -> str:
    """The log in a sentence or two: what was kept, how near the others came, and what chance explains of that."""
    start, *others = decisions
    if any(one.outcome == EPOCH for one in others):
        return (
            f"From the {start.candidate.removeprefix('start: ')} mix, {len(others)} epochs. The last is kept, whatever "
            "it has on held_out: to choose among them would be one more choice made there."
        )
    who = "Greedy" if isinstance(recipe, Greedy) else "The search"
    kept = [one for one in others if one.outcome == "accepted"]
    lost = [one for one in others if one.outcome in ("rejected", GIVEN_UP)]
    if isinstance(recipe, LEADERS):
        last = kept[-1].candidate if kept else start.candidate
        changes = f"{len(kept)} change{'s' * (len(kept) != 1)}"
        return f"{last} is kept, after {changes} of the lead; what never led is not in the log."
    rest = _rest(lost, recipe) if lost else ""
    if not isinstance(recipe, GROWING):
        last = kept[-1].candidate if kept else start.candidate
        return f"{last} is kept, the best of {len(decisions)} tried.{rest}"
    number = f"{len(others)} candidate{'s' * (len(others) != 1)}"
    if not others:
        return f"{who} kept {start.candidate}: there was no other candidate."
    if not kept:
        return f"{who} kept only {start.candidate}: none of {number} was accepted.{rest}"
    names = ", ".join(one.candidate for one in kept)
    return f"{who} started from {start.candidate} and kept {len(kept)} of {number}: {names}.{rest}"


def _rest(lost: Sequence[Decision], recipe: Recipe) -> str:
    """How near the rejected came to the soup before them, and what chance explains of that."""
    told = _nearest(lost) if getattr(recipe, "objective", "") in ("", "accuracy") else ""
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


def _nearest(lost: Sequence[Decision]) -> str:
    near = max(lost, key=lambda one: one.margin if one.margin is not None else -one.num_examples)
    margin = -(near.margin or 0)
    if not margin:
        how = "could at best have become as good" if near.is_bound else "was as good, and only better would do"
    else:
        how = f"was {'at least ' * near.is_bound}{margin:,} example{'s' * (margin != 1)} short"
    return f" The nearest of the rejected, {near.candidate}, {how}."


def frame(decisions: Sequence[Decision]) -> "pd.DataFrame":
    """The log as a table, one row a decision; accuracies are fractions, differences points."""
    import pandas as pd

    columns = ["step", "candidate", "outcome", "held_out", "fixed", "broken", "p", "margin", "points"]
    columns += ["at most", "scored", "examples", "sentence"]
    rows = [
        [
            one.step, one.candidate, one.outcome, one.accuracy, one.fixed, one.broken, one.p_value, one.margin,
            None if one.difference is None else 100 * one.difference, one.is_bound, one.num_scored, one.num_examples,
            one.sentence,
        ]
        for one in decisions
    ]  # fmt: skip
    counts = dict.fromkeys(["fixed", "broken", "margin"], "Int64")
    return pd.DataFrame(rows, columns=columns).astype(counts | {"held_out": float, "p": float, "points": float})
