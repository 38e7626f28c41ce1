"""The decision log of a search: what every candidate would have changed, by how much it lost, and a sentence."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from soupviz.analysis import decision_words as words
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.recipes import Recipe, recipe_digest
from soupviz.recipes.greedy import with_newcomer
from soupviz.recipes.trajectory import GIVEN_UP, Step
from soupviz.soups.goals import goal_of
from soupviz.soups.planning import is_readable, summaries
from soupviz.spec import HELD_OUT
from soupviz.tasks.metric import Metric, is_share, others_of
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.paired import LIST_DRAWS, is_counted, p_value
from soupviz.tasks.score import Score
from soupviz.tasks.task import Task
from soupviz.tasks.wording import PERCENT, factor
from soupviz.types import Coefficients

if TYPE_CHECKING:
    import pandas as pd

EPOCH = "epoch"
OUTCOMES = ("start", "accepted", "rejected", GIVEN_UP, EPOCH)


REMEMBERED = 4096
"""P-values of decisions."""

LOGS_KEPT = 32
"""Logs of a kitchen: each takes the units of all its candidates to make, and little to keep."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What became of a candidate on held_out, against the soup before it: the last that was accepted.

    outcome: start, accepted, rejected, rejected early, or epoch (of a training, which is no candidate).
    value: of the kitchen's metric; None where scoring stopped early, and then bound, the best that it could be, is all
    that is known. better, worse: units that the candidate answers better than the soup before it, and worse; for right
    and wrong answers those that only it, and only the soup before it has right. Both of the num_scored units that were
    evaluated, of num_units in all; None where that was not kept. p_value: of McNemar's exact test, or of a permutation
    test; None where scoring stopped early, on units that are no random ones. difference: of the values, new - old;
    is_bound: at best. margin: how many more units are right, negative where fewer; None where none are right or wrong.
    mix: what was tried, where that is known.
    """

    step: int
    candidate: str
    outcome: str
    value: float | None
    bound: float | None
    better: int | None
    worse: int | None
    p_value: float | None
    margin: int | None
    is_bound: bool
    difference: float | None
    num_scored: int
    num_units: int
    mix: Coefficients | None
    sentence: str


@dataclass(frozen=True, slots=True)
class _Tried:
    """A step with what is known of its mix: what became of units, perhaps of some only, and the whole score.

    pinned: what its mix is, by content.
    """

    step: Step
    score: Score | None
    units: Outcomes | None
    pinned: str = ""


_logs: "WeakKeyDictionary[Kitchen, dict[Any, tuple[Decision, ...]]]" = WeakKeyDictionary()
"""Of open kitchens, by what is told in them."""


def log(kitchen: Kitchen, recipe: Recipe, steps: Sequence[Step]) -> list[Decision]:
    """Every decision of a search, in its order, from scores that are known; nothing is computed.

    Args:
        kitchen: whose held_out was read. steps: of a finished run, or as far as it has come.
    """
    every = with_mixes(recipe, steps)
    can_be_asked = is_readable(kitchen, HELD_OUT, recipe.aggregation)
    asked = [(step.mix, HELD_OUT, recipe.aggregation) for step in every if step.mix]
    whole = summaries(kitchen, asked) if can_be_asked else {}
    scored = frozenset(mix for mix, _, _ in whole)
    # What was decided stays; more is told of it once more candidates are scored whole.
    seen = (
        recipe_digest(recipe),
        tuple((step.step, step.mix, step.outcome, step.num_scored) for step in every),
        scored,
    )
    kept = _logs.setdefault(kitchen, {})
    if seen not in kept:
        while len(kept) >= LOGS_KEPT:
            kept.pop(next(iter(kept)), None)
        kept[seen] = _log(kitchen, recipe, every, scored)
    return list(kept[seen])


def _log(
    kitchen: Kitchen, recipe: Recipe, steps: Sequence[Step], scored: Collection[Coefficients]
) -> tuple[Decision, ...]:
    number = len(kitchen.splits.load(HELD_OUT))
    found: list[Decision] = []
    before: _Tried | None = None
    is_training = of_training(steps)
    for step in steps:
        tried = _tried(kitchen, recipe, step, is_whole=step.mix in scored)
        if before is None:
            found.append(_start(kitchen, step, number))
        elif is_training:
            found.append(_epoch(kitchen, step, before.step, number))
        else:
            found.append(_decision(kitchen, recipe, tried, before, number))
        if step.accepted:
            before = tried
    return tuple(found)


def of_training(steps: Sequence[Step]) -> bool:
    """Whether the steps are the epochs of a training, which are no candidates."""
    return bool(steps) and steps[0].ingredient.startswith("start: ")


def with_mixes(recipe: Recipe, steps: Sequence[Step]) -> list[Step]:
    """The steps of a greedy search with what they tried: runs of earlier versions did not keep it."""
    alpha = recipe.newcomer_weight
    if alpha is None or all(step.mix for step in steps):
        return list(steps)
    found: list[Step] = []
    soup: Coefficients = ()
    for step in steps:
        mix = with_newcomer(soup, step.ingredient, alpha) if soup else ((step.ingredient, 1.0),)
        found.append(replace(step, mix=mix))
        soup = mix if step.accepted else soup
    return found


def _tried(kitchen: Kitchen, recipe: Recipe, step: Step, *, is_whole: bool) -> _Tried:
    if not step.mix or not is_readable(kitchen, HELD_OUT, recipe.aggregation):
        return _Tried(step, None, None)
    if not is_whole:
        return _Tried(step, None, kitchen.scores.partial(step.mix, HELD_OUT, recipe.aggregation))
    score = kitchen.scores.known(step.mix, HELD_OUT, recipe.aggregation)
    assert score is not None  # the store has it
    pinned = [[kitchen.weights.resolve(name).fingerprint, weight.hex()] for name, weight in step.mix]
    return _Tried(step, score, score.outcomes, digest([pinned, recipe.aggregation, kitchen.model_fingerprint]))


def _start(kitchen: Kitchen, step: Step, number: int) -> Decision:
    made = _of(kitchen, step, "start", number)
    name = step.ingredient.removeprefix("start: ")
    return replace(made, sentence=words.start(kitchen.objective, name, made.value, number))


def _epoch(kitchen: Kitchen, step: Step, before: Step, number: int) -> Decision:
    made = _against(kitchen.objective, _of(kitchen, step, EPOCH, number), _value(kitchen.objective, before))
    return replace(made, sentence=words.epoch(kitchen.objective, made))


def _decision(kitchen: Kitchen, recipe: Recipe, tried: _Tried, before: _Tried, number: int) -> Decision:
    metric, step = kitchen.objective, tried.step
    value = tried.score.shown(metric.name) if tried.score else _value(metric, step)
    made = replace(
        _of(kitchen, step, step.outcome, number),
        value=value,
        bound=value if tried.score or step.value is not None else step.metrics.get(metric.name),
        is_bound=tried.score is None and step.value is None,
        num_scored=number if tried.score or step.value is not None else step.num_scored,
    )
    made = _against(metric, made, _value(metric, before.step))
    if tried.units is not None and before.units is not None:
        seen = tried.units.scored & before.units.scored
        both = (tried.units, before.units)
        better, worse = kitchen.task.better(*(both if seen.all() else (units.take(seen) for units in both)))
        made = replace(made, better=better, worse=worse, num_scored=int(seen.sum()))
        if not made.is_bound:
            made = replace(made, p_value=_p_value(kitchen, tried, before))
    rival = "the soup before it" if recipe.grows_one_soup else "the best before it"
    reason = _reason(kitchen, recipe, tried, before)
    return replace(made, sentence=words.decided(kitchen.task, metric, made, reason, rival))


def _of(kitchen: Kitchen, step: Step, outcome: str, number: int) -> Decision:
    """A decision of which nothing is counted yet."""
    value = _value(kitchen.objective, step)
    return Decision(
        step=step.step, candidate=step.ingredient, outcome=outcome, value=value,
        bound=step.metrics.get(kitchen.objective.name), better=None, worse=None, p_value=None, margin=None,
        is_bound=False, difference=None, num_scored=step.num_scored, num_units=number, mix=step.mix, sentence="",
    )  # fmt: skip


def _value(metric: Metric, step: Step) -> float | None:
    """Of a candidate that was scored whole."""
    return None if step.value is None else step.metrics.get(metric.name)


def _against(metric: Metric, made: Decision, before: float | None) -> Decision:
    """With the difference to the value before it."""
    if made.bound is None or before is None:
        return made
    margin = round(made.bound * made.num_units) - round(before * made.num_units) if is_share(metric) else None
    return replace(made, margin=margin, difference=made.bound - before if margin is None else margin / made.num_units)


_p_values: dict[tuple[str, str, str, str], float] = {}
"""Permutation tests that are not made again at every look, by the metric and what both sides are."""


def _p_value(kitchen: Kitchen, tried: _Tried, before: _Tried) -> float:
    metric = kitchen.objective
    assert tried.units is not None and before.units is not None
    if is_counted(metric, tried.units, before.units):
        return p_value(metric, tried.units, before.units)
    held_out = kitchen.splits.load(HELD_OUT)
    data = held_out.fingerprint + held_out.group_key
    task = digest([*kitchen.task.key, *kitchen.task.source])
    key = (metric.name, data, task, digest([tried.pinned, before.pinned]))
    if key not in _p_values:
        if len(_p_values) >= REMEMBERED:
            _p_values.clear()
        _p_values[key] = p_value(metric, tried.units, before.units, LIST_DRAWS)
    return _p_values[key]


def _reason(kitchen: Kitchen, recipe: Recipe, tried: _Tried, before: _Tried) -> str:
    """What decided, where it was not the kitchen's metric over all units: both values."""
    goal = recipe.goal or kitchen.objective.name
    accepted, scores = tried.step.accepted, [one.score for one in (tried, before) if one.score]
    if recipe.has_rounds and accepted and len(scores) == 2:
        first, last = (score.values[kitchen.objective.name] for score in scores)
        second = next(iter(others_of(kitchen.task.metrics, kitchen.objective)), None)
        return f"{words.verb(second)}s the {second.label}; " if second and first == last else ""
    if goal == kitchen.objective.name:
        return ""
    objective = goal_of(kitchen, goal)
    metric, verb = objective.metric, words.verb(objective.metric)
    did = f"{verb}s" if accepted else f"does not {verb}"
    told = f"{did} the {words.goal(kitchen.task, kitchen.objective, goal)}"
    if objective.part == "with_shifts" or len(scores) < 2:
        return f"{told}; "
    if not metric.judges_nonfinite and any(score.num_nonfinite for score in scores):
        new, old = (f"{score.num_nonfinite:,}" for score in scores)
        return f"{told} ({new} answers that are not finite against {old}); "
    now, earlier = (float(objective.value(score) or 0.0) for score in scores)
    return f"{told} ({words.against(metric, now, earlier, scores[0].num_units)}); "


def frame(task: Task, metric: Metric, decisions: Sequence[Decision]) -> "pd.DataFrame":
    """The log as a table, one row a decision; shares are fractions, their differences points."""
    import pandas as pd

    better, worse = task.gains
    apart = "points" if metric.unit == PERCENT else "difference"
    columns = ["step", "candidate", "outcome", "held_out", better, worse, "p", "margin", apart]
    columns += ["at most", "scored", f"{task.unit}s", "sentence"]
    rows = [
        [
            one.step, one.candidate, one.outcome, one.value, one.better, one.worse, one.p_value, one.margin,
            None if one.difference is None else factor(metric) * one.difference, one.is_bound, one.num_scored,
            one.num_units, one.sentence,
        ]
        for one in decisions
    ]  # fmt: skip
    counts = dict.fromkeys([better, worse, "margin"], "Int64")
    return pd.DataFrame(rows, columns=columns).astype(counts | {"held_out": float, "p": float, apart: float})
