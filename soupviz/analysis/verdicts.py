"""Is a soup really better? What is known of it, as plain data and in words; nothing is computed anew."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from soupviz.analysis import crossfit, wording
from soupviz.analysis.crossfit import CrossFit
from soupviz.analysis.significance import Measured, measured
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.mixing.averaging import mean_of
from soupviz.soups.comparing import compared
from soupviz.soups.planning import ingredient_summaries
from soupviz.soups.selecting import Examples, from_plain, met_by
from soupviz.soups.soup import ELSEWHERE, Soup, aggregation_in, mix_in
from soupviz.soups.yardsticks import ensemble_of_all
from soupviz.spec import HELD_OUT, TEST
from soupviz.store.runs import Run
from soupviz.tasks.objective import Objective
from soupviz.tasks.paired import Comparison
from soupviz.types import Coefficients, Wanted


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What the soup is held against: by split its values, and the soup's differences to it, as far as known.

    passes: forward passes for one answer.
    """

    name: str
    mix: Coefficients
    aggregation: str
    passes: int
    values: Mapping[str, Measured]
    differences: Mapping[str, Comparison]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What can be said of a soup today.

    metric: the objective's name. reports_on: the split that judges: test, or held_out where there is no test.
    values: by split. best: the best ingredient on held_out. ensemble: of all ingredients. uniform: the soup of
    all. passes: forward passes for one answer. evaluations: scores that the choice took on the splits that
    selected. models_seen: different models that were scored on `reports_on` so far; soups_seen: those of them that are
    no single checkpoint. crossfit: what selecting on held_out makes of the numbers there, if that was estimated. The
    sentences say it in words; each names its split. sizes: for every split, whether it is large enough for the
    difference seen on it. elsewhere: that other data than this held_out selected it, or may have.
    """

    name: str
    metric: str
    reports_on: str
    selected_on: tuple[str, ...]
    values: Mapping[str, Measured]
    best: Yardstick | None
    ensemble: Yardstick | None
    uniform: Yardstick | None
    passes: int
    evaluations: int | None
    models_seen: int
    soups_seen: int
    crossfit: CrossFit | None
    sentence: str
    sizes: tuple[str, ...]
    looks: str
    optimism: str
    elsewhere: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain data."""
        return asdict(self)


def verdict_of(kitchen: Kitchen, soup: Run | Soup) -> Verdict:
    """The verdict on a finished run, or on a soup, from the scores that are known.

    Raises:
        KitchenError: it is made of what the kitchen lacks.
    """
    if isinstance(soup, Soup):
        evaluations = _spent(soup.evaluations, soup.scores, soup.selected_on)
        found = crossfit.known(kitchen, soup.recipe)
        return verdict_on(
            kitchen, soup.title, soup.mix, soup.recipe.aggregation,
            selected_on=_selecting(kitchen, soup.selected_on, soup.selecting_data), evaluations=evaluations,
            found=found, elsewhere=soup.notes.get(ELSEWHERE, ""),
        )  # fmt: skip
    assert soup.result is not None
    selecting = from_plain(soup.result.get("selecting_data", {}))
    selected_on = _selecting(kitchen, soup.result.get("selected_on", [HELD_OUT]), selecting)
    return verdict_on(
        kitchen, soup.name, mix_in(soup), aggregation_in(soup),
        selected_on=selected_on,
        evaluations=_spent(soup.result.get("evaluations"), soup.result["scores"], selected_on),
        found=crossfit.known(kitchen, crossfit.recipe_in(kitchen, soup)),
        elsewhere=soup.result.get("notes", {}).get(ELSEWHERE, ""),
    )  # fmt: skip


def verdict_on(
    kitchen: Kitchen,
    name: str,
    mix: Coefficients,
    aggregation: str = "average",
    *,
    selected_on: Iterable[str] = (HELD_OUT,),
    evaluations: int | None = None,
    found: CrossFit | None = None,
    elsewhere: str = "",
) -> Verdict:
    """The verdict on any mix.

    Args:
        name: what it is called. aggregation: what became of its ingredients. selected_on: the splits that chose it.
        evaluations: scores on these that the choice took. found: a cross-fit of its recipe. elsewhere: that other data
        selected it, or may have.
    """
    selects = tuple(selected_on)
    task, metric = kitchen.task, kitchen.objective
    reports_on = TEST if TEST in kitchen.splits.names else HELD_OUT
    values = measured(kitchen, _on_each_split(kitchen, mix, aggregation), selects)
    best = best_on_held_out(kitchen)

    def against(called: str, other: Coefficients, how: str) -> Yardstick:
        passes = len(other) if how in OUTPUTS else 1
        theirs = measured(kitchen, _on_each_split(kitchen, other, how), selects)
        found = {split: compared(kitchen, (mix, split, aggregation), (other, split, how)) for split in values}
        differences = {split: one for split, one in found.items() if one is not None}
        return Yardstick(called, other, how, passes, theirs, differences)

    yardsticks = [against(*row) for row in _yardsticks(kitchen, best, aggregation)]
    by_kind = {_kind(one): one for one in yardsticks}
    leader = by_kind.get("best")
    seen, soups = _seen(kitchen, reports_on)
    is_itself = best is not None and tuple(mix) == ((best, 1.0),)
    differences = leader.differences if leader else {}
    return Verdict(
        name=name,
        metric=metric.name,
        reports_on=reports_on,
        selected_on=selects,
        values=values,
        best=leader,
        ensemble=by_kind.get("ensemble"),
        uniform=by_kind.get("uniform"),
        passes=len(mix) if aggregation in OUTPUTS else 1,
        evaluations=evaluations,
        models_seen=seen,
        soups_seen=soups,
        crossfit=found,
        sentence=wording.headline(
            task,
            metric,
            best,
            differences.get(reports_on),
            reports_on,
            is_itself=is_itself,
            is_scored=reports_on in values,
            selects=reports_on in selects,
        ),
        sizes=tuple(wording.size(task, metric, one) for one in differences.values() if not is_itself),
        looks=wording.looks(evaluations, selects, seen, soups, reports_on),
        optimism=wording.optimism(metric, found),
        elsewhere=elsewhere,
    )


def _kind(yardstick: Yardstick) -> str:
    if len(yardstick.mix) == 1:
        return "best"
    return "ensemble" if yardstick.aggregation in OUTPUTS else "uniform"


def _selecting(kitchen: Kitchen, selected_on: Iterable[str], selecting: Mapping[str, Examples]) -> list[str]:
    """The splits that had a part in a choice, those among them that came into the kitchen since, as far as they were
    read."""
    read = [split for split in kitchen.splits.reporting if kitchen.splits.is_loaded(split)]
    return list(dict.fromkeys([*selected_on, *met_by(kitchen, selecting, read)]))


def by_merit(kitchen: Kitchen) -> list[str]:
    """The ingredients, the best on held_out first, ties in kitchen order; what is not scored yet comes last."""
    scores = ingredient_summaries(kitchen, HELD_OUT, kitchen.names)
    ordered = {name: scores[name] for name in kitchen.names if name in scores}
    first = Objective(kitchen.objective).best_first(ordered)
    return [*first, *(name for name in kitchen.names if name not in scores)]


def best_on_held_out(kitchen: Kitchen) -> str | None:
    """The ingredient that is best on held_out, ties by kitchen order; None while none is scored."""
    first = by_merit(kitchen)[0]
    return first if ingredient_summaries(kitchen, HELD_OUT, [first]) else None


def wanted(kitchen: Kitchen, mix: Coefficients, aggregation: str = "average") -> list[Wanted]:
    """The scores, on held_out and on the split that reports, that a whole verdict needs."""
    splits = [split for split in (HELD_OUT, TEST) if split in kitchen.splits.names]
    mixes: list[tuple[Coefficients, str]] = [(((name, 1.0),), "average") for name in kitchen.names]
    mixes += [(other, how) for _, other, how in _yardsticks(kitchen, kitchen.names[0], aggregation)]
    return [(other, split, how) for split in splits for other, how in [*mixes, (mix, aggregation)]]


def of_the_best(kitchen: Kitchen) -> list[Wanted]:
    """The scores without which no soup is judged: of the best ingredient on held_out, on every split."""
    best = best_on_held_out(kitchen)
    return _on_each_split(kitchen, ((best, 1.0),), "average") if best else []


def _on_each_split(kitchen: Kitchen, mix: Coefficients, aggregation: str) -> list[Wanted]:
    return [(mix, split, aggregation) for split in kitchen.splits.reporting]


def _yardsticks(kitchen: Kitchen, best: str | None, aggregation: str) -> list[tuple[str, Coefficients, str]]:
    """The best ingredient, the ensemble of all where the task has one, and the uniform soup with the soup's own
    aggregation of statistics."""
    if best is None:
        return []
    rows: list[tuple[str, Coefficients, str]] = [(best, ((best, 1.0),), "average")]
    if len(kitchen.pool) < 2:
        return rows
    everyone = mean_of(kitchen.pool)
    how = "average" if aggregation in OUTPUTS else aggregation
    if together := ensemble_of_all(kitchen):
        rows.append((together.name, together.mix, together.aggregation))
    rows.append((f"uniform soup of all {len(everyone)}", everyone, how))
    return rows


def _spent(evaluations: int | None, scores: Iterable[str], selected_on: Iterable[str]) -> int | None:
    """Scores on the splits that select: a run counts its last look at the others too."""
    if evaluations is None:
        return None
    return evaluations - len(set(scores) - set(selected_on))


def _seen(kitchen: Kitchen, split: str) -> tuple[int, int]:
    """Different models that were scored on a split so far, and how many of them are no single checkpoint."""
    if not kitchen.splits.is_loaded(split):
        return 0, 0
    data = kitchen.splits.load(split)
    seen = kitchen.store.count_scores(split, len(data), data.fingerprint, *kitchen.evaluator.numerics)
    names = [*kitchen.names, *(["base"] if kitchen.base else [])]
    singles = {kitchen.weights.resolve(name).fingerprint: name for name in names}
    keys = [kitchen.scores.key(((name, 1.0),), split, "average") for name in singles.values()]
    return seen, seen - len(kitchen.store.scored(keys))
