"""In which of two regimes a kitchen lies: whether averaging with the best makes good what the others lack to it.

Half-way between two of a basin a mix is better than its ends are on average: its gain. It is better than the better end
only where that is more than half of what the other lacks to it: after a narrow sweep, whose runs are nearly as good as
each other, and not after a wide one, however well its runs could be averaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from soupviz.analysis import barriers as between
from soupviz.analysis.barriers import Barriers
from soupviz.analysis.decision_summary import summary
from soupviz.analysis.decisions import Decision
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.recipes import Recipe
from soupviz.spec import HELD_OUT
from soupviz.tasks.metric import Metric
from soupviz.tasks.objective import Objective
from soupviz.tasks.score import Score
from soupviz.tasks.wording import height
from soupviz.types import Progress, Wanted, quiet

Kind = Literal["pays", "pays with some", "does not pay"]

ROUNDING = 1e-9
"""What adding and halving exact counts as floats may leave."""


@dataclass(frozen=True, slots=True)
class Half:
    """A mix half-way from the best to another. lacks: by how much the other is worse than the best. gains: by how much
    the mix is better than its ends are on average; where `is_bound`, at most. is_better: than the best."""

    name: str
    lacks: float
    gains: float
    is_better: bool
    is_bound: bool = False


@dataclass(frozen=True, slots=True)
class Regime:
    """What the best on held_out has of each of the others, under the objective."""

    metric: Metric
    best: str
    halves: tuple[Half, ...]

    @property
    def kind(self) -> Kind:
        """Averaging pays where more than half of the mixes are better than the best alone."""
        better = sum(one.is_better for one in self.halves)
        return "pays" if 2 * better > len(self.halves) else "pays with some" if better else "does not pay"

    @property
    def lacks(self) -> float:
        return median(one.lacks for one in self.halves)

    @property
    def gains(self) -> float:
        return median(one.gains for one in self.halves)

    @property
    def sentence(self) -> str:
        """In words, with the reason and what follows from it."""
        better = [one.name for one in self.halves if one.is_better]
        number, total = len(better), len(self.halves)
        count = f"{number or 'none'} of {total} mix{'es' * (total != 1)} {'is' if number < 2 else 'are'}"
        told = f"half-way from {self.best}, the best alone, to the others {count} better than it"
        if self.kind == "pays":
            return f"Averaging pays here, as after a narrow sweep: {told}. {self.balance} Greedy has something to keep."
        if better:
            few = f"{', '.join(better[:3])}{', …' * (number > 3)}"
            lack = max(one.lacks for one in self.halves if one.is_better)
            near = f"to {few}, which alone lack{'s' * (number == 1)} at most {height(self.metric, lack)}"
            return (
                f"Averaging pays with some here, as within the narrow part of a sweep: {told}, {near}. {self.balance} "
                "Greedy will keep some."
            )
        wide = ", as after a wide sweep" if self.gains > ROUNDING else ""
        return f"Averaging does not pay here{wide}: {told}. {self.balance} {self.advice}"

    @property
    def balance(self) -> str:
        """What the others lack, and what a mean makes good of it."""
        of = "" if self.metric.unit else f" of {self.metric.label}"
        most = "at most " if any(one.is_bound for one in self.halves) else ""
        made = f"{most}{height(self.metric, self.gains)}" if self.gains > ROUNDING else "nothing"
        return (
            f"The others lack {height(self.metric, self.lacks)}{of} to {self.best}, of which a mean of two has to make "
            f"good half, {height(self.metric, self.lacks / 2)}; it makes good {made} (medians on held_out)."
        )

    @property
    def advice(self) -> str:
        """What would help where averaging does not pay."""
        if self.gains <= ROUNDING:
            return "Runs that gain nothing by each other are too alike, or too far apart to be averaged."
        return f"More runs trained nearly as {self.best} was would help, more runs as different as these would not."

    def as_dict(self) -> dict[str, Any]:
        halfway = {
            one.name: {"lacks": one.lacks, "gains": one.gains, "is_better": one.is_better} for one in self.halves
        }
        return {"kind": self.kind, "best": self.best, "halfway": halfway, "sentence": self.sentence}


def wanted(kitchen: Kitchen) -> list[Wanted]:
    """The scores that it takes; while the best is not known, as if it were the first."""
    singles: list[Wanted] = [(((name, 1.0),), HELD_OUT, "average") for name in kitchen.names]
    members = list(dict.fromkeys(between.twins(kitchen)))
    known = kitchen.scores.summaries([(mix, how) for mix, _, how in singles], HELD_OUT)
    scores = {kitchen.names[index]: score for index in members if (score := known[index]) is not None}
    best = kitchen.names.index(Objective(kitchen.objective).best_first(scores)[0]) if scores else members[0]
    return singles + [
        (between.midpoint(kitchen, best, other), HELD_OUT, "average") for other in members if other != best
    ]


def measure(kitchen: Kitchen, progress: Progress = quiet) -> Regime | None:
    """Whether averaging pays, by the mixes half-way from the best to each other; greedy tries most of them too."""
    kitchen.scores.of_ingredients(HELD_OUT, progress=progress)
    scores = {name: kitchen.scores.score(((name, 1.0),), HELD_OUT) for name in kitchen.names}
    members = [kitchen.names[index] for index in dict.fromkeys(between.twins(kitchen))]
    best = kitchen.names.index(Objective(kitchen.objective).best_first({name: scores[name] for name in members})[0])
    others = [place for place in map(kitchen.names.index, members) if place != best]
    middles = kitchen.scores.each(
        [(between.midpoint(kitchen, best, other), HELD_OUT, "average") for other in others], progress
    )
    pairs = []
    for other, middle in zip(others, middles, strict=True):
        ends = scores[kitchen.names[best]], scores[kitchen.names[other]]
        metric = between.metric_of(kitchen)
        pairs.append(between.compare(best, other, ends, middle, metric=metric, objective=kitchen.objective))
    return before(kitchen.objective, between.gather(kitchen, "average", pairs), scores, members)


def before(metric: Metric, measured: Barriers, scores: Mapping[str, Score], members: Sequence[str]) -> Regime | None:
    """The regime by the midpoints that Preflight measured; None where there are no two to average.

    Args:
        metric: the objective. scores: of the ingredients on held_out. members: those of the basin that are no copies.
    """
    values = {name: value for name in members if (value := scores[name].shown(metric.name)) is not None}
    if len(values) < 2:
        return None
    best = Objective(metric).best_first({name: scores[name] for name in values})[0]
    place = measured.names.index(best)
    halves = []
    for name, value in values.items():
        lacks, gains = _worse(metric, value, values[best]), -float(measured.drops[place, measured.names.index(name)])
        if name != best and gains == gains:  # of a midpoint with nothing finite nothing is known
            halves.append(Half(name, lacks, gains, gains - lacks / 2 > max(metric.ties(), ROUNDING)))
    return Regime(metric, best, tuple(halves)) if halves else None


def explained(kitchen: Kitchen, recipe: Recipe, decisions: Sequence[Decision]) -> str:
    """A search's log in words, with what it says of the regime."""
    told = summary(kitchen.task, kitchen.objective, decisions, recipe)
    return f"{told} {after(kitchen, recipe, decisions)}".rstrip()


def after(kitchen: Kitchen, recipe: Recipe, decisions: Sequence[Decision]) -> str:
    """What a greedy search's own log says of it, in a sentence or two; empty where it says nothing.

    Up to the first that is accepted its candidates are mixes half-way from the best. Nothing is computed.
    """
    metric = kitchen.objective
    is_plain = recipe.newcomer_weight == "mean" and recipe.aggregation not in OUTPUTS
    if not is_plain or recipe.goal not in ("", metric.name) or len(decisions) < 2:
        return ""
    start, *others = decisions
    lacks = _lacking(kitchen, recipe, start.candidate, [one.candidate for one in others])
    accepted = {one.candidate for one in others if one.outcome == "accepted"}
    kept = [lack for name, lack in lacks.items() if name in accepted]
    left = [lack for name, lack in lacks.items() if name not in accepted]
    if kept:
        rest = f" Those left out are worse by {_span(metric, left)}." if left else ""
        worse = f"Alone, those that were kept are worse than {start.candidate} by {_span(metric, kept)}"
        return f"{worse}; averaged with it they made that good, and more.{rest}"
    halves = [
        Half(one.candidate, lack, _signed(metric, one.difference) + lack / 2, False, one.is_bound)
        for one in others
        if one.difference is not None and (lack := lacks.get(one.candidate)) is not None
    ]
    if not halves:
        return ""
    found = Regime(metric, start.candidate, tuple(halves))
    return f"{found.balance} {'It is so after a wide sweep. ' if found.gains > ROUNDING else ''}{found.advice}"


def _lacking(kitchen: Kitchen, recipe: Recipe, best: str, names: Sequence[str]) -> dict[str, float]:
    """By how much each is worse than the best alone, of those whose scores are known."""
    found = {}
    for name in (best, *names):
        score = kitchen.scores.known(((name, 1.0),), HELD_OUT, recipe.aggregation) if name in kitchen.names else None
        if score is not None and (value := score.shown(kitchen.objective.name)) is not None:
            found[name] = value
    return {name: _worse(kitchen.objective, found[name], found[best]) for name in names if {name, best} <= found.keys()}


def _worse(metric: Metric, value: float, best: float) -> float:
    return _signed(metric, best - value)


def _signed(metric: Metric, difference: float) -> float:
    """Above 0 where it is for the better."""
    return difference if metric.higher_is_better else -difference


def _span(metric: Metric, values: Sequence[float]) -> str:
    low, high = height(metric, min(values)), height(metric, max(values))
    return low if low == high else f"{low} to {high}"
