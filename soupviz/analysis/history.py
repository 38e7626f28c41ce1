"""A kitchen's history: which of its runs still stand, how one is found again, and two of them side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from soupviz.errors import SoupError
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.recipes import parse
from soupviz.recipes.trajectory import Step, steps_from
from soupviz.soups.comparing import compared
from soupviz.soups.soup import aggregation_in, made_in, mix_in, pool_in
from soupviz.soups.standing import current, on_held_out
from soupviz.store.parts import SCORES
from soupviz.store.runs import Run
from soupviz.tasks.objective import Objective
from soupviz.tasks.paired import Comparison
from soupviz.tasks.score import Score
from soupviz.types import Coefficients

OUTDATED = "of other data"
STATES = ("finished", "running", "interrupted", "cancelled", "failed", OUTDATED)
"""How a run stands: as the store has it, or finished, but of ingredients, data or a model that are no longer these."""

UNDONE = ("interrupted", "cancelled", "failed", OUTDATED)
"""States of runs that are no soups of this kitchen."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A run as it stands in the kitchen as it is: `state` is one of STATES, `reason` why it is no soup of it."""

    run: Run
    state: str
    reason: str = ""

    @property
    def is_soup(self) -> bool:
        return self.state == "finished"


def entries(kitchen: Kitchen) -> list[Entry]:
    """Every run of a kitchen whose held_out was read: the pinned first, then the newest."""
    runs = kitchen.store.runs()
    soups = {run.key for run in current(kitchen, runs)}
    found = [Entry(run, run.status) if run.key in soups else _no_soup(kitchen, run) for run in runs]
    return sorted(found, key=lambda entry: (not entry.run.pinned, -entry.run.id))


def entry_of(kitchen: Kitchen, run: Run) -> Entry:
    """How one run stands."""
    return Entry(run, run.status) if current(kitchen, [run]) else _no_soup(kitchen, run)


def _no_soup(kitchen: Kitchen, run: Run) -> Entry:
    if run.status != "finished":
        return Entry(run, run.status, run.error or "")
    return Entry(run, OUTDATED, _why_outdated(kitchen, run))


def whole(kitchen: Kitchen, entry: Entry) -> Entry:
    """An entry of a list with all that is kept of its run."""
    return replace(entry, run=kitchen.store.whole(entry.run))


def _why_outdated(kitchen: Kitchen, run: Run) -> str:
    """Why a finished run is no soup of the kitchen as it is, in a sentence."""
    assert run.result is not None
    here, gone, changed = set(kitchen.names) | set(kitchen.other_models.items), [], []
    then: Mapping[str, Any] = run.result.get("made_in") or {}
    for name in pool_in(run):
        try:
            fingerprint = kitchen.weights.resolve(name).fingerprint
        except SoupError:
            gone.append(name)
            continue
        if name in here and then.get("ingredients", {}).get(name, fingerprint[:12]) != fingerprint[:12]:
            changed.append(name)
    if gone:
        return f"{_listed(gone)} {_are(gone)} no longer in this kitchen."
    if changed:
        return f"{_listed(changed)} changed since."
    try:
        parse(run.recipe)
    except SoupError as error:
        return f"Its recipe is of another version of soupviz: {error}"
    if told := _other_context(then, made_in(kitchen, ())):
        return told
    return "It was selected on other data, or by another model, than this kitchen has now."


def _other_context(then: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    if then.get("precision", now["precision"]) != now["precision"]:
        return f"It was evaluated in {then['precision']}; this kitchen now says {now['precision']}."
    kinds = [str(where["device"]).partition(":")[0] for where in (then, now) if "device" in where]
    if len(set(kinds)) > 1:
        return f"It was evaluated on {kinds[0]}; this kitchen now computes on {kinds[1]}."
    if then.get("held_out", now["held_out"]) != now["held_out"]:
        return "It was selected on another held_out: some of those examples may be in test now."
    if then.get("model", now["model"]) != now["model"]:
        return "The model, or its code, changed since."
    return ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def _are(names: Sequence[str]) -> str:
    return "are" if len(names) > 1 else "is"


def found(entry: Entry, text: str) -> bool:
    """Whether a run has all the words of a text: in its name, recipe, ingredients, state or error, in any case.

    `#12` is a run's number, and `name=value` a recipe's field: both count only whole.
    """
    run = entry.run
    fields = [f"{name}={plain(value)}".lower() for name, value in fields_of(run).items()]
    names = [str(name) for name, _ in (run.result or {}).get("mix", [])]
    everything = " ".join([run.name, run.title, entry.state, entry.reason, *fields, *names]).lower()

    def has(word: str) -> bool:
        if word.startswith("#"):
            return word == f"#{run.id}"
        return word in fields if "=" in word else word in everything

    return all(has(word) for word in text.lower().split())


def fields_of(run: Run) -> dict[str, Any]:
    """A recipe's fields, those at their default among them."""
    try:
        recipe = parse(run.recipe)
    except SoupError:  # of another version of soupviz
        return dict(run.recipe)
    return {"method": run.recipe["method"]} | {name: getattr(recipe, name) for name in type(recipe).model_fields}


def plain(value: Any) -> str:
    """A recipe's value as a reader wants it."""
    if value is None:
        return "all"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, dict):
        value = list(value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(" ".join(map(plain, item)) if isinstance(item, (list, tuple)) else str(item) for item in value)
    return str(value)


@dataclass(frozen=True, slots=True)
class Field:
    """A recipe's field in two runs; None in one that has no such field."""

    name: str
    a: str | None
    b: str | None

    @property
    def differs(self) -> bool:
        return self.a != self.b


def recipe_fields(a: Run, b: Run) -> list[Field]:
    """Two recipes field by field: what differs first, else in the order of the recipes."""
    of_a, of_b = ({name: plain(value) for name, value in fields_of(run).items()} for run in (a, b))
    fields = [Field(name, of_a.get(name), of_b.get(name)) for name in dict.fromkeys([*of_a, *of_b])]
    return sorted(fields, key=lambda field: not field.differs)


def wanted(kitchen: Kitchen, runs: Sequence[Run]) -> list[tuple[Coefficients, str, str]]:
    """The scores that a comparison of soups needs: mix, split and aggregation of each."""
    return [(mix_in(run), split, aggregation_in(run)) for split in kitchen.splits.reporting for run in runs]


def pairs(kitchen: Kitchen, a: Run, b: Run) -> list[Comparison]:
    """Two soups of the kitchen as it is compared on the same units, b with a, on each split where both were scored."""
    (mix_a, how_a), (mix_b, how_b) = ((mix_in(run), aggregation_in(run)) for run in (a, b))
    found = [compared(kitchen, (mix_b, split, how_b), (mix_a, split, how_a)) for split in kitchen.splits.reporting]
    return [one for one in found if one is not None]


def scores_in(kitchen: Kitchen, run: Run) -> dict[str, Score]:
    """The scores that were kept with a run, each of the data of its time."""
    kept = (run.result or {}).get(SCORES, {})
    return {split: kitchen.scores.recalled(summary, split) for split, summary in kept.items()}


def best_of(kitchen: Kitchen, runs: Sequence[Run]) -> Run | None:
    """The run that is best on held_out, of equals the first; an ensemble, which is no soup, only where that is all."""
    merit = Objective(kitchen.objective).merit

    def worth(run: Run) -> tuple[bool, Any]:
        return aggregation_in(run) not in OUTPUTS, merit(on_held_out(kitchen, run))

    return max(runs, key=worth, default=None)


def ranked(kitchen: Kitchen, runs: Sequence[Run]) -> list[Run]:
    """Finished runs, the best soup on held_out first, equally good ones as they stand."""
    merit = Objective(kitchen.objective).merit
    return sorted(runs, key=lambda run: merit(on_held_out(kitchen, run)), reverse=True)


def steps_of(run: Run) -> list[Step]:
    """A run's decisions, as far as it came; empty for what is no search."""
    return list(steps_from((run.result or {}).get("trajectory", [])))


@dataclass(frozen=True, slots=True)
class Part:
    """An ingredient in two soups: its coefficients (None: not a weighted sum, or not of the pool) and decisions."""

    name: str
    weight_a: float | None
    decision_a: str
    weight_b: float | None
    decision_b: str


def parts(a: Run, b: Run) -> list[Part]:
    """The ingredients of two soups, the largest coefficient first."""
    weights_a, weights_b = (dict((run.result or {}).get("coefficients") or {}) for run in (a, b))
    decided_a, decided_b = (_decisions(run) for run in (a, b))
    names = dict.fromkeys([*weights_a, *weights_b])
    found = [
        Part(name, weights_a.get(name), decided_a.get(name, ""), weights_b.get(name), decided_b.get(name, ""))
        for name in names
    ]
    return sorted(found, key=lambda part: -max(part.weight_a or 0.0, part.weight_b or 0.0))


def _decisions(run: Run) -> dict[str, str]:
    """What became of each candidate; its last decision where it was tried more than once."""
    told = {}
    for step in steps_of(run):
        what = "start" if step.step == 0 else "accepted" if step.accepted else "rejected"
        told[step.ingredient] = what if step.step == 0 else f"{what} at {step.step}"
    return told
