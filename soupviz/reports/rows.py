"""The lines of a report's tables, as text."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from soupviz.analysis import wording
from soupviz.analysis.decisions import Decision
from soupviz.analysis.examples import ClassChange
from soupviz.analysis.verdicts import Verdict, Yardstick
from soupviz.analysis.wording import MINUS
from soupviz.reports.contents import Compared
from soupviz.soups.soup import Soup
from soupviz.spec import HELD_OUT
from soupviz.tasks.metric import Metric, is_share, others_of
from soupviz.tasks.objective import Objective
from soupviz.tasks.score import Score
from soupviz.tasks.significance import chance
from soupviz.tasks.task import Task
from soupviz.tasks.wording import axis_title, figure

NONE = "–"
Rows = list[dict[str, Any]]


def cell(metric: Metric, value: float | None) -> str:
    """Without the unit: the column's head has it."""
    return NONE if value is None or math.isnan(value) else figure(metric, value)


def p(value: float | None, is_least: bool = False) -> str:
    return NONE if value is None else chance(value, is_least).removeprefix("p ").removeprefix("= ")


def differences(metric: Metric, verdict: Verdict) -> Rows:
    """The soup against each yardstick, split by split, the split that reports first."""
    found: Rows = []
    for yardstick in (verdict.best, verdict.ceiling, verdict.floor):
        if yardstick is not None:
            found += _against(metric, yardstick, verdict.reports_on)
    return found


def _against(metric: Metric, yardstick: Yardstick, first: str) -> Rows:
    rows = []
    for split, one in sorted(yardstick.differences.items(), key=lambda pair: pair[0] != first):
        smallest = NONE if one.smallest is None else wording.apart(metric, one.smallest, signed=False)
        rows.append(
            {
                "against": yardstick.name, "split": split, "difference": wording.apart(metric, one.difference),
                "interval": f"{wording.apart(metric, one.low)} to {wording.apart(metric, one.high)}",
                "better": _count(one.better), "worse": _count(one.worse),
                "p": p(one.p_value, one.is_least), "smallest": smallest,
            }
        )  # fmt: skip
    return rows


def score_heads(task: Task, metric: Metric, best: str) -> list[str]:
    """What `scores` has beside the split and its role."""
    unit = f" ({metric.unit})" if metric.unit else ""
    right = ["right", "of"] if is_share(metric) else [f"{task.unit}s"]
    others = [axis_title(one) for one in others_of(task.metrics, metric)]
    return [axis_title(metric), "95 % interval", *right, *others, f"{best}{unit}"]


def scores(task: Task, metric: Metric, verdict: Verdict, compared: Compared) -> Rows:
    """The soup on every split, beside the best ingredient."""
    rows = []
    others = others_of(task.metrics, metric)
    for split, one in verdict.values.items():
        score, best = compared.soup.scores[split], compared.best.scores.get(split)
        cells = [cell(metric, one.value), f"{cell(metric, one.low)} to {cell(metric, one.high)}"]
        cells += [] if one.right is None else [f"{one.right:,}"]
        cells += [f"{one.num_units:,}", *(cell(other, score.shown(other.name)) for other in others)]
        cells.append(cell(metric, _value(metric, best)))
        rows.append({"split": split, "role": "selects" if one.selects else "reports", "cells": cells})
    return rows


def beside(task: Task, metric: Metric) -> Metric | None:
    """What the table of ingredients has beside the objective: the task's next metric."""
    return next(iter(others_of(task.metrics, metric)), None)


def ingredients(soup: Soup, compared: Compared, splits: Sequence[str]) -> Rows:
    """Every ingredient: the largest coefficient first, then by held_out."""
    metric = soup.kitchen.objective
    other = beside(soup.kitchen.task, metric)
    weights = dict(soup.coefficients or {})
    largest = max([abs(weight) for weight in weights.values()], default=0.0) or 1.0
    order = Objective(metric).best_first({model.id: model.scores[HELD_OUT] for model in compared.ingredients})
    models = sorted(compared.ingredients, key=lambda model: (-weights.get(model.id, 0.0), order.index(model.id)))
    return [
        {
            "name": model.name, "best": model is compared.best, "used": bool(weights.get(model.id)),
            "weight": f"{weights[model.id]:.4g}" if model.id in weights else NONE,
            "share": f"{45 * max(0.0, weights.get(model.id, 0.0)) / largest:.1f}",
            "values": [cell(metric, _value(metric, model.scores.get(split))) for split in splits],
            "beside": None if other is None else cell(other, _value(other, model.scores[HELD_OUT])),
            "fingerprint": soup.kitchen.weights.resolve(model.id).fingerprint[:12],
        }
        for model in models
    ]  # fmt: skip


def _value(metric: Metric, score: Score | None) -> float | None:
    return score.shown(metric.name) if score else None


def at_best(metric: Metric, bound: float | None) -> str:
    """The best value that a candidate could have had where scoring stopped early."""
    return f"{'≤' if metric.higher_is_better else '≥'} {cell(metric, bound)}"


def decisions(log: Iterable[Decision], metric: Metric) -> Rows:
    """Every decision of a search."""
    return [
        {
            "step": one.step, "candidate": one.candidate.removeprefix("start: "), "outcome": one.outcome,
            "accepted": one.outcome in ("start", "accepted"),
            "value": cell(metric, one.value) if one.value is not None else at_best(metric, one.bound),
            "margin": NONE if one.margin is None else "≤ " * one.is_bound + f"{one.margin:+,}".replace("-", MINUS),
            "better": _count(one.better), "worse": _count(one.worse), "p": p(one.p_value), "sentence": one.sentence,
        }
        for one in log
    ]  # fmt: skip


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f}"


def _count(number: int | None) -> str:
    return NONE if number is None else f"{number:,}"


def classes(changes: Sequence[ClassChange], names: Sequence[str]) -> Rows:
    """The best ingredient and the soup class by class, the largest change first."""
    return [
        {
            "name": names[one.index], "count": f"{one.num_examples:,}",
            "before": _percent(one.right_before / one.num_examples),
            "after": _percent(one.right_after / one.num_examples),
            "points": wording.points(one.points / 100), "fixed": one.fixed, "broken": one.broken,
            "p": p(one.p_value),
        }
        for one in sorted(changes, key=lambda one: -abs(one.points))
    ]  # fmt: skip
