"""Every ingredient and every soup in one table and one picture, with a plain verdict on each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.recipes import parse
from soupviz.soups.comparing import intervals, paired
from soupviz.soups.planning import summaries
from soupviz.soups.soup import ELSEWHERE, aggregation_in, mix_in
from soupviz.soups.yardsticks import ensemble_of_all
from soupviz.spec import HELD_OUT, TRAIN
from soupviz.store.runs import Run
from soupviz.tasks.metric import Metric
from soupviz.tasks.objective import Objective
from soupviz.tasks.paired import Pair
from soupviz.tasks.score import Score
from soupviz.types import Coefficients, Wanted
from soupviz.ui import tables, work
from soupviz.ui.jobs import Job

AT_ONCE = 20
"""Models whose units a page looks at itself; more are compared in the background."""

ENSEMBLE = "ensemble of all"
"""The id of the yardstick that is always there: what the ingredients say together, at the cost of all their passes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A row: `id` is an ingredient's name, or a run's key. pair: what it is on the split that reports against the best
    ingredient. interval: of its value there."""

    id: str
    name: str
    kind: str
    mix: Coefficients
    aggregation: str
    held_out: Score | None
    judged: Score | None
    saw: str = ""
    evaluations: int | None = None
    seconds: float | None = None
    pair: Pair | None = None
    interval: tuple[float, float] | None = None


def entries(opened: Kitchen, runs: Sequence[Run], split: str) -> list[Entry]:
    """The base, the ingredients and the finished soups, with what was measured of them on held_out and on a split."""
    found: list[tuple[str, str, str, Coefficients, str]] = []
    if opened.base:
        found.append(("base", "base", "base", (("base", 1.0),), "average"))
    found += [(name, name, "ingredient", ((name, 1.0),), "average") for name in opened.names]
    cooked = {(mix_in(run), aggregation_in(run)) for run in runs}
    if (of_all := ensemble_of_all(opened)) and (of_all.mix, of_all.aggregation) not in cooked:
        found.append((ENSEMBLE, of_all.name, "ensemble", of_all.mix, of_all.aggregation))
    for run in runs:
        mixture = mix_in(run)
        aggregation = aggregation_in(run)
        found.append((run.key, run.name, "ensemble" if aggregation in OUTPUTS else "soup", mixture, aggregation))
    known = summaries(opened, [(mix, on, how) for *_, mix, how in found for on in (HELD_OUT, split)])
    rows = [
        Entry(id, name, kind, mix, how, known.get((mix, HELD_OUT, how)), known.get((mix, split, how)))
        for id, name, kind, mix, how in found
    ]
    best = best_ingredient(rows, opened.objective)
    wanted = _against_best(rows, best, split)
    pairs = paired(opened, wanted.values(), _asked(best, split), most=AT_ONCE) if wanted and best else {}
    if len(pairs) < len(set(wanted.values())):  # corrected over some of them only, p would seem smaller than it is
        pairs = {}
    around = intervals(opened, {(row.mix, split, row.aggregation): row.judged for row in rows if row.judged})
    costs = {run.key: run.result or {} for run in runs}
    seen = {run.key: saw(run) for run in runs}
    return [
        replace(
            row,
            kind="best" if row is best else row.kind,
            saw=seen.get(row.id, ""),
            pair=pairs.get(wanted[row.id]) if row.id in wanted else None,
            interval=around.get((row.mix, split, row.aggregation)),
            evaluations=costs.get(row.id, {}).get("evaluations"),
            seconds=costs.get(row.id, {}).get("seconds"),
        )
        for row in rows
    ]


def _against_best(rows: Sequence[Entry], best: Entry | None, split: str) -> dict[str, Wanted]:
    """By id, what of the rows can be compared with the best ingredient."""
    if best is None or best.judged is None:
        return {}
    return {row.id: _asked(row, split) for row in rows if row.judged and row is not best}


def _asked(row: Entry, split: str) -> Wanted:
    return row.mix, split, row.aggregation


def compare_job(opened: Kitchen, rows: Sequence[Entry], split: str) -> Job | None:
    """What compares the rows that are too many to be compared at once; None where all are."""
    best = best_ingredient(rows, opened.objective)
    wanted = _against_best(rows, best, split)
    waiting = {row.id for row in rows if row.id in wanted and row.pair is None}
    key = f"compare {split} {tables.digest(sorted(waiting))} {opened.file}"
    if not waiting or best is None:
        return None
    rival = _asked(best, split)

    def do(job: Job) -> None:
        paired(opened, [wanted[one] for one in waiting], rival, progress=job.progress)

    return work.jobs().find(key) or work.jobs().submit(
        key, f"Comparing {len(waiting)} models on {split}", do, kitchen=str(opened.file)
    )


def saw(run: Run) -> str:
    """The data that had a part in a soup: what it was selected on, and train where it learned from that."""
    selected_on = (run.result or {}).get("selected_on", [HELD_OUT])
    elsewhere = ["other data"] if ELSEWHERE in (run.result or {}).get("notes", {}) else []
    return ", ".join([*selected_on, *elsewhere, *([TRAIN] if "train" in parse(run.recipe).needs else [])])


def ranked(rows: Sequence[Entry], metric: Metric) -> list[Entry]:
    """The best on held_out first, what is not scored there last.

    Never by the split that reports: whoever takes the first row would choose by it.
    """
    scored = {row.id: row.held_out for row in rows if row.held_out}
    order = {id: place for place, id in enumerate(Objective(metric).best_first(scored))}
    return sorted(rows, key=lambda row: order.get(row.id, len(order)))


def best_ingredient(rows: Sequence[Entry], metric: Metric) -> Entry | None:
    """The best on held_out among the ingredients: what a soup is compared with."""
    singles = [row for row in rows if row.kind in ("ingredient", "best") and row.held_out]
    return ranked(singles, metric)[0] if singles else None
