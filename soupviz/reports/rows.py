"""The lines of a report's tables, as text."""

from collections.abc import Iterable, Sequence
from typing import Any

from soupviz.analysis import wording
from soupviz.analysis.decisions import Decision
from soupviz.analysis.examples import ClassChange
from soupviz.analysis.verdicts import Verdict, Yardstick
from soupviz.analysis.wording import MINUS
from soupviz.reports.contents import Company
from soupviz.soups.soup import Soup
from soupviz.tasks.metrics import chance, mcnemar
from soupviz.tasks.score import Score

NONE = "–"
Rows = list[dict[str, Any]]


def percent(fraction: float | None) -> str:
    """To a hundredth, without the sign: the column's head has it."""
    return NONE if fraction is None else f"{100 * fraction:.2f}"


def nats(loss: float | None) -> str:
    return NONE if loss is None else f"{loss:.4f}"


def p(value: float | None) -> str:
    return NONE if value is None else chance(value).removeprefix("p ").removeprefix("= ")


def differences(verdict: Verdict) -> Rows:
    """The soup against each yardstick, split by split, the split that reports first."""
    found: Rows = []
    for yardstick in (verdict.best, verdict.ceiling, verdict.floor):
        if yardstick is not None:
            found += _against(yardstick, verdict.reports_on)
    return found


def _against(yardstick: Yardstick, first: str) -> Rows:
    rows = []
    for split, one in sorted(yardstick.differences.items(), key=lambda pair: pair[0] != first):
        rows.append(
            {
                "against": yardstick.name, "split": split, "points": wording.points(one.difference),
                "interval": f"{wording.points(one.low)} to {wording.points(one.high)}",
                "fixed": f"{one.fixed:,}", "broken": f"{one.broken:,}", "p": p(one.p_value),
                "smallest": NONE if one.smallest is None else wording.points(one.smallest, signed=False),
            }
        )  # fmt: skip
    return rows


def scores(verdict: Verdict, company: Company) -> Rows:
    """The soup on every split, beside the best ingredient."""
    rows = []
    for split, one in verdict.accuracies.items():
        score, best = company.soup.scores[split], company.best.scores.get(split)
        rows.append(
            {
                "split": split, "role": "selects" if one.selects else "reports", "accuracy": percent(one.accuracy),
                "interval": f"{percent(one.low)} to {percent(one.high)}", "correct": f"{one.correct:,}",
                "count": f"{one.num_examples:,}", "loss": nats(score.loss),
                "ece": NONE if score.ece is None else f"{score.ece:.3f}",
                "best": percent(_accuracy(best)),
            }
        )  # fmt: skip
    return rows


def ingredients(soup: Soup, company: Company, splits: Sequence[str]) -> Rows:
    """Every ingredient: the largest coefficient first, then by held_out."""
    weights = dict(soup.coefficients or {})
    largest = max([abs(weight) for weight in weights.values()], default=0.0) or 1.0
    models = sorted(
        company.ingredients, key=lambda model: (-weights.get(model.id, 0.0), -model.scores["held_out"].correct)
    )
    return [
        {
            "name": model.name, "best": model is company.best, "used": bool(weights.get(model.id)),
            "weight": f"{weights[model.id]:.4g}" if model.id in weights else NONE,
            "share": f"{45 * max(0.0, weights.get(model.id, 0.0)) / largest:.1f}",
            "accuracies": [percent(_accuracy(model.scores.get(split))) for split in splits],
            "loss": nats(model.scores["held_out"].loss),
            "fingerprint": soup.kitchen.weights.resolve(model.id).fingerprint[:12],
        }
        for model in models
    ]  # fmt: skip


def _accuracy(score: Score | None) -> float | None:
    return score.accuracy if score else None


def decisions(log: Iterable[Decision]) -> Rows:
    """Every decision of a search."""
    return [
        {
            "step": one.step, "candidate": one.candidate.removeprefix("start: "), "outcome": one.outcome,
            "accepted": one.outcome in ("start", "accepted"),
            "accuracy": f"≤ {percent(one.bound)}" if one.value is None else percent(one.value),
            "margin": NONE if one.margin is None else "≤ " * one.is_bound + f"{one.margin:+,}".replace("-", MINUS),
            "fixed": _count(one.better), "broken": _count(one.worse), "p": p(one.p_value), "sentence": one.sentence,
        }
        for one in log
    ]  # fmt: skip


def _count(number: int | None) -> str:
    return NONE if number is None else f"{number:,}"


def classes(company: Company, changes: Sequence[ClassChange], names: Sequence[str], split: str) -> Rows:
    """The best ingredient and the soup class by class, the largest change first."""
    best, soup = company.best.scores[split], company.soup.scores[split]
    return [
        {
            "name": names[one.index], "count": f"{one.num_examples:,}",
            "before": percent(best.class_correct[one.index] / one.num_examples),
            "after": percent(soup.class_correct[one.index] / one.num_examples),
            "points": wording.points(one.points / 100), "fixed": one.fixed, "broken": one.broken,
            "p": p(mcnemar(one.fixed, one.broken)),
        }
        for one in sorted(changes, key=lambda one: -abs(one.points))
    ]  # fmt: skip
