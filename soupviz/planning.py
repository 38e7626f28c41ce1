"""What cooking a recipe, or a picture, will cost, told before it starts."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from soupviz.evaluation import Task
from soupviz.kitchen import Kitchen
from soupviz.mixing import mix_tensors
from soupviz.recipes import Recipe
from soupviz.records import Coefficients, PerExample, Progress, quiet
from soupviz.soups import pool_of, run_key
from soupviz.treatments import num_examples

TENSORS_HELD = 4
"""Mixed tensors that are in memory at once: being mixed, waiting, being written."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Upper bounds: early rejection and what the store holds make it less.

    evaluations: passes over a split. known: how many more there would be, were they not in the store. examples: to be
    scored. bytes_read: of checkpoints. bytes_written: of the exported soup. peak_bytes: of memory, beside mapped
    files. seconds: None where the speed was not measured yet.
    """

    evaluations: int
    known: int
    examples: int
    bytes_read: int
    bytes_written: int
    peak_bytes: int
    seconds: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def plan(kitchen: Kitchen, recipe: Recipe, *, writes: bool = False) -> Plan:
    """The cost of a recipe in a kitchen whose held_out was read; nothing is evaluated.

    Raises:
        KitchenError: a member that the kitchen lacks.
    """
    pool = pool_of(kitchen, recipe)
    run = kitchen.store.run(run_key(kitchen, recipe))
    is_done = run is not None and run.status == "finished"
    sizes = {name: sum(tensor.nbytes for tensor in kitchen.resolve(name).tensors.values()) for name in pool}
    selecting = recipe.selects_on(kitchen.split_names)
    singles = [(name, split) for split in selecting for name in pool] if recipe.is_search else []
    unknown = [(name, split) for name, split in singles if not _is_scored(kitchen, name, split, recipe.treatment)]
    candidates = recipe.candidates(len(pool)) * len(selecting)
    # The soup is scored on each split; of a search those that select are known by then.
    finals = [split for split in kitchen.report_splits() if not (singles and split in selecting)]
    total = len(singles) + candidates + len(finals)
    evaluations = 0 if is_done else len(unknown) + candidates + len(finals)
    # A split that was not read yet is taken to be as long as held_out.
    lengths = {
        split: len(kitchen.split(split if kitchen.has_split(split) else "held_out")) for split in kitchen.split_names
    }
    tried = recipe.candidates(len(pool)) * sum(lengths[split] for split in selecting)
    rest = sum(lengths[split] for split in [*finals, *(split for _, split in unknown)])
    examples = 0 if is_done else tried + rest
    # The k-th candidate of a search is made of at most k + 1 ingredients; of further searches, of all.
    ordered = sorted(sizes.values(), reverse=True)
    growing = min(recipe.candidates(len(pool)), len(pool))
    mixed = sum(sum(ordered[: number + 2]) for number in range(growing)) * len(selecting)
    mixed += (candidates - growing * len(selecting) + len(finals)) * sum(ordered)
    rate = kitchen.evaluator.rate
    return Plan(
        evaluations=evaluations,
        known=total - evaluations,
        examples=examples,
        bytes_read=(0 if is_done else sum(sizes[name] for name, _ in unknown) + mixed) + writes * sum(ordered),
        bytes_written=writes * max(sizes.values()),
        peak_bytes=_peak(kitchen, pool),
        seconds=examples / rate if rate else None,
    )


@dataclass(frozen=True, slots=True)
class Cost:
    """What a picture takes. evaluations: passes over a split. known: how many more there would be, were they not in
    the store. examples: to be scored. seconds: None where the speed was not measured yet."""

    evaluations: int
    known: int
    examples: int
    seconds: float | None


def cost(kitchen: Kitchen, wanted: Iterable[tuple[Coefficients, str, str]]) -> Cost:
    """What it takes to score mixes; nothing is read or evaluated.

    Args:
        wanted: mix, split and treatment of each score; what is asked for twice counts once.
    """
    unknown, known = [], 0
    for mixture, split, treatment in dict.fromkeys(wanted):
        is_known = is_readable(kitchen, split, treatment) and kitchen.store.is_scored(
            kitchen.score_key(mixture, split, treatment)
        )
        known += is_known
        unknown += [] if is_known else [split]
    lengths = {name: len(kitchen.split(name if kitchen.has_split(name) else "held_out")) for name in set(unknown)}
    examples = sum(lengths[split] for split in unknown)
    rate = kitchen.evaluator.rate
    return Cost(len(unknown), known, examples, examples / rate if rate else None)


def is_readable(kitchen: Kitchen, split: str, treatment: str) -> bool:
    """Whether the store can be asked for a score without a split being read first."""
    return kitchen.has_split(split) and (not num_examples(treatment) or kitchen.has_split("train"))


def _is_scored(kitchen: Kitchen, name: str, split: str, treatment: str) -> bool:
    """Whether an ingredient's score is known; a split that was not read yet is not read for that."""
    return is_readable(kitchen, split, treatment) and kitchen.store.is_scored(
        kitchen.score_key(((name, 1.0),), split, treatment)
    )


def _peak(kitchen: Kitchen, pool: list[str]) -> int:
    """The model, what its graph folds, the split as the model takes it, and a few tensors of a mix."""
    tensors = kitchen.resolve(pool[0]).tensors.values()
    model = sum(4 * tensor.numel() for tensor in tensors)
    largest = max(4 * tensor.numel() for tensor in tensors)
    return 2 * model + kitchen.evaluator.ready_bytes(kitchen.split("held_out")) + TENSORS_HELD * largest


def measure_rate(kitchen: Kitchen, progress: Progress = quiet) -> None:
    """Score a few batches of held_out, so that a plan can tell seconds."""
    split = kitchen.split("held_out", progress)
    found = PerExample.blank(len(split))
    found.scored[3 * kitchen.evaluator.batch_size :] = True
    items = kitchen.resolved(((kitchen.names[0], 1.0),))
    kitchen.evaluator.evaluate(split, Task(lambda: mix_tensors(items), found))
