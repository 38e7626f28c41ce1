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
from soupviz.tasks.wording import axis_title, figure, in_percent, places

NONE = "–"
Rows = list[dict[str, Any]]


def cell(metric: Metric, value: float | None, num_units: int) -> str:
    """A value over so many units, without its own: the column's head has it."""
    return NONE if value is None or math.isnan(value) else figure(metric, value, places(num_units))


def p(value: float | None, is_least: bool = False) -> str:
    return NONE if value is None else chance(value, is_least).removeprefix("p ").removeprefix("= ")


def differences(metric: Metric, verdict: Verdict) -> Rows:
    """The soup against each yardstick, split by split, the split that reports first."""
    found: Rows = []
    for yardstick in (verdict.best, verdict.ensemble, verdict.uniform):
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
        number = one.num_units
        cells = [cell(metric, one.value, number)]
        cells.append(" to ".join(cell(metric, end, number) for end in (one.low, one.high)))
        cells += [] if one.right is None else [f"{one.right:,}"]
        cells += [f"{number:,}", *(cell(other, score.shown(other.name), number) for other in others)]
        cells.append(_cell(metric, best))
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
            "values": [_cell(metric, model.scores.get(split)) for split in splits],
            "beside": None if other is None else _cell(other, model.scores[HELD_OUT]),
            "fingerprint": soup.kitchen.weights.resolve(model.id).fingerprint[:12],
        }
        for model in models
    ]  # fmt: skip


def _cell(metric: Metric, score: Score | None) -> str:
    return cell(metric, score.shown(metric.name), score.num_units) if score else NONE


def decided(metric: Metric, one: Decision) -> str:
    """A candidate's value, or the best that it could have had where scoring stopped early."""
    if one.value is not None:
        return cell(metric, one.value, one.num_units)
    return f"{'≤' if metric.higher_is_better else '≥'} {cell(metric, one.bound, one.num_units)}"


def decisions(log: Iterable[Decision], metric: Metric) -> Rows:
    """Every decision of a search."""
    return [
        {
            "step": one.step, "candidate": one.candidate.removeprefix("start: "), "outcome": one.outcome,
            "accepted": one.outcome in ("start", "accepted"),
            "value": decided(metric, one),
            "margin": NONE if one.margin is None else "≤ " * one.is_bound + f"{one.margin:+,}".replace("-", MINUS),
            "better": _count(one.better), "worse": _count(one.worse), "p": p(one.p_value), "sentence": one.sentence,
        }
        for one in log
    ]  # fmt: skip


def _share(number: int, of: int) -> str:
    return in_percent(number / of, places(of))


def _count(number: int | None) -> str:
    return NONE if number is None else f"{number:,}"


def classes(changes: Sequence[ClassChange], names: Sequence[str]) -> Rows:
    """The best ingredient and the soup class by class, the largest change first."""
    return [
        {
            "name": names[one.index], "count": f"{one.num_examples:,}",
            "before": _share(one.right_before, one.num_examples), "after": _share(one.right_after, one.num_examples),
            "points": wording.points(one.points / 100), "fixed": one.fixed, "broken": one.broken,
            "p": p(one.p_value),
        }
        for one in sorted(changes, key=lambda one: -abs(one.points))
    ]  # fmt: skip
