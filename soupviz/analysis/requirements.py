"""What a soup has to be for a script to go on: better than the best single ingredient, or on one side of a number."""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from soupviz.analysis.verdicts import Verdict, best_on_held_out, verdict_of
from soupviz.errors import RecipeError
from soupviz.kitchen import Kitchen
from soupviz.soups.soup import Soup
from soupviz.spec import HELD_OUT, TEST
from soupviz.tasks.metric import Metric
from soupviz.types import Progress, quiet

BETTER = "better"
"""By the test that a verdict tells of: more than chance would make."""

SIDES: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Requirement:
    """As it was written. metric: None where the soup has to be better; else its value lies on this side of a number."""

    text: str
    metric: str | None = None
    side: str = ""
    number: float = 0.0


@dataclass(frozen=True, slots=True)
class Finding:
    """Whether a requirement is met, and what was seen, in a sentence."""

    requirement: Requirement
    is_met: bool
    sentence: str


@dataclass(frozen=True, slots=True)
class Checked:
    """A soup held against what is required of it, and the verdict that this is read from."""

    verdict: Verdict
    findings: tuple[Finding, ...]

    @property
    def missed(self) -> str:
        """What is not met, in one line; empty where all is."""
        return " ".join(f"{one.requirement.text}: {one.sentence}" for one in self.findings if not one.is_met)

    def as_dict(self) -> dict[str, Any]:
        """As plain data that JSON has too."""
        verdict, best = self.verdict, self.verdict.best
        found = best.differences.get(verdict.reports_on) if best else None
        names = ("difference", "low", "high", "p_value", "judgement")
        told = {name: _plain(getattr(found, name)) for name in names} if found else dict.fromkeys(names)
        return {
            "sentence": verdict.sentence,
            "metric": verdict.metric,
            "reports_on": verdict.reports_on,
            "selected_on": list(verdict.selected_on),
            "best": best.name if best else None,
            **told,
            "is_met": not self.missed,
            "required": [
                {"requirement": one.requirement.text, "is_met": one.is_met, "sentence": one.sentence}
                for one in self.findings
            ],
        }


def parse_requirement(text: str) -> Requirement:
    """`better`, or a metric, a side and a number, such as `accuracy>=0.9`.

    Raises:
        RecipeError: it is neither.
    """
    if text.strip() == BETTER:
        return Requirement(BETTER)
    matched = re.fullmatch(r"\s*([\w.-]+)\s*(>=|<=|>|<)\s*(\S+)\s*", text)
    try:
        number = float(matched[3]) if matched else float("nan")
    except ValueError:
        number = float("nan")
    if matched is None or number != number:
        raise RecipeError(
            f"require is {text!r}; expected {BETTER!r}, or a metric with >=, <=, > or < and a number: 'accuracy>=0.9'."
        )
    return Requirement(text.strip(), matched[1], matched[2], number)


def check_requirements(kitchen: Kitchen, required: Sequence[Requirement]) -> None:
    """See that a kitchen can answer, before anything is cooked.

    Raises:
        RecipeError: it has no test split, so that nothing reports; or its task has no such metric.
    """
    if required and TEST not in kitchen.splits.names:
        raise RecipeError(
            f"require {required[0].text!r}: {kitchen.file} has no test split, and held_out, which selects, cannot "
            "report; add `test:` under `data:` to it."
        )
    for one in required:
        if one.metric is not None:
            _metric(kitchen, one)


def checked(soup: Soup, required: Sequence[Requirement], progress: Progress = quiet) -> Checked:
    """Hold a soup against requirements; scores of ingredients that this takes are made, if they are not known."""
    kitchen = soup.kitchen
    kitchen.scores.of_ingredients(HELD_OUT, None, progress)  # all of them: who is best is looked for among these
    best = best_on_held_out(kitchen)
    assert best is not None
    kitchen.scores.score(((best, 1.0),), TEST, "average", progress)
    verdict = verdict_of(kitchen, soup)
    return Checked(verdict, tuple(_found(soup, verdict, one) for one in required))


def _found(soup: Soup, verdict: Verdict, one: Requirement) -> Finding:
    split = verdict.reports_on
    if split in verdict.selected_on:
        return Finding(
            one, False, f"it cannot be told: {split} had a part in choosing the soup, so it does not report."
        )
    if one.metric is None:
        seen = verdict.best.differences.get(split) if verdict.best else None
        return Finding(one, seen is not None and seen.judgement == BETTER, verdict.sentence)
    metric = _metric(soup.kitchen, one)
    value = soup.scores[split].whole(metric)
    if value is None:
        return Finding(one, False, f"{metric.label} says nothing of it on {split}, or its answers are not finite.")
    return Finding(one, SIDES[one.side](value, one.number), f"{metric.name} is {value:.6g} on {split}.")


def _metric(kitchen: Kitchen, one: Requirement) -> Metric:
    known = {metric.name: metric for metric in (kitchen.objective, *kitchen.task.metrics)}
    if one.metric not in known:
        raise RecipeError(
            f"require {one.text!r}: the task {kitchen.task.name} has no metric {one.metric!r}; it has "
            f"{', '.join(known)}."
        )
    return known[one.metric]


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value
