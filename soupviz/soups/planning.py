"""What cooking a recipe, or a picture, will cost, told before it starts."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS, num_examples
from soupviz.mixing.averaging import mix_tensors
from soupviz.recipes import Recipe
from soupviz.scoring.evaluator import Trial
from soupviz.soups.soup import pool_of, run_key
from soupviz.spec import HELD_OUT, TRAIN
from soupviz.tasks.metric import has_bound
from soupviz.tasks.score import Score
from soupviz.types import Coefficients, Progress, Wanted, quiet

TENSORS_HELD = 4
"""Mixed tensors that are in memory at once: being mixed, waiting, being written."""


@dataclass(frozen=True, slots=True)
class CookingCost:
    """Upper bounds: early rejection and what the store holds make it less.

    evaluations: passes over a split. known: how many more there would be, were they not in the store. examples: to be
    scored. bytes_read: of checkpoints. bytes_written: of the exported soup. peak_bytes: of memory, beside mapped
    files. seconds: by workers that are there and as busy as that; None where the speed was not measured yet.
    workers: how many share the evaluations, and utilisation: which part of the time they compute at best. to_start:
    how many of them are not there yet, which comes before the seconds. notes: what else there is to tell, in sentences.
    """

    evaluations: int
    known: int
    examples: int
    bytes_read: int
    bytes_written: int
    peak_bytes: int
    seconds: float | None
    workers: int = 1
    utilisation: float = 1.0
    to_start: int = 0
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def cooking_cost(kitchen: Kitchen, recipe: Recipe, *, writes: bool = False) -> CookingCost:
    """The cost of a recipe in a kitchen whose held_out was read; nothing is evaluated.

    Raises:
        KitchenError: a member that the kitchen lacks.
    """
    recipe = recipe.suited(kitchen.task)
    pool = pool_of(kitchen, recipe)
    run = kitchen.store.run(run_key(kitchen, recipe))
    is_done = run is not None and run.status == "finished"
    sizes = {name: sum(tensor.nbytes for tensor in kitchen.weights.resolve(name).shapes.values()) for name in pool}
    selecting = recipe.selects_on(kitchen.splits.names)
    singles = [(name, split) for split in selecting for name in pool] if recipe.is_search else []
    unknown = lacking(kitchen, [(((name, 1.0),), split, recipe.aggregation) for name, split in singles])
    candidates = recipe.candidates(len(pool)) * len(selecting)
    # The soup is scored on each split; of a search those that select are known by then.
    finals = [split for split in kitchen.splits.reporting if not (singles and split in selecting)]
    total = len(singles) + candidates + len(finals)
    evaluations = 0 if is_done else len(unknown) + candidates + len(finals)
    # A split that was not read yet is taken to be as long as held_out.
    lengths = {
        split: len(kitchen.splits.load(split if kitchen.splits.is_loaded(split) else HELD_OUT))
        for split in kitchen.splits.names
    }
    tried = recipe.candidates(len(pool)) * sum(lengths[split] for split in selecting)
    rest = sum(lengths[split] for split in [*finals, *(split for _, split, _ in unknown)])
    examples = 0 if is_done else tried + rest
    # The k-th candidate of a search is made of at most k + 1 ingredients; of further searches, of all.
    ordered = sorted(sizes.values(), reverse=True)
    growing = min(recipe.candidates(len(pool)), len(pool))
    mixed = sum(sum(ordered[: number + 2]) for number in range(growing)) * len(selecting)
    mixed += (candidates - growing * len(selecting) + len(finals)) * sum(ordered)
    return CookingCost(
        evaluations=evaluations,
        known=total - evaluations,
        examples=examples,
        bytes_read=(0 if is_done else sum(sizes[name] for ((name, _),), _, _ in unknown) + mixed)
        + writes * sum(ordered),
        bytes_written=writes * max(sizes.values()),
        peak_bytes=_peak(kitchen, pool),
        seconds=kitchen.scores.seconds_for(examples),
        workers=kitchen.scores.executor.num_workers,
        utilisation=kitchen.scores.utilisation(examples),
        to_start=kitchen.scores.num_to_start if evaluations else 0,
        notes=_notes(kitchen, recipe),
    )


def _notes(kitchen: Kitchen, recipe: Recipe) -> tuple[str, ...]:
    metric = kitchen.objective
    if not recipe.is_search or has_bound(metric):
        return ()
    return (f"{metric.label} has no bound: every candidate is scored whole, none is given up early.",)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a picture takes. evaluations: passes over a split. known: how many scores are in the store already.
    examples: to be evaluated, those of re-estimations among them. seconds: None where the speed was not measured yet.
    reestimations: of running statistics, one for each mix."""

    evaluations: int
    known: int
    examples: int
    seconds: float | None
    reestimations: int = 0


FREE = Cost(evaluations=0, known=0, examples=0, seconds=None)
"""Of what evaluates nothing."""


def cost(kitchen: Kitchen, wanted: Iterable[Wanted]) -> Cost:
    """What it takes to score mixes; nothing is read or evaluated.

    An ensemble is made of its members' logits: those that are not kept take an evaluation each, however many
    ensembles they are in.

    Args:
        wanted: what is asked for twice counts once.
    """
    asked = list(dict.fromkeys(wanted))
    unknown = lacking(kitchen, asked)
    passes = dict.fromkeys(one for each in unknown for one in _passes(kitchen, each))
    estimated = {(mixture, aggregation) for mixture, _, aggregation in passes if num_examples(aggregation)}
    lengths = {
        split: len(kitchen.splits.load(split if kitchen.splits.is_loaded(split) else HELD_OUT))
        for _, split, _ in passes
    }
    examples = sum(lengths[split] for _, split, _ in passes)
    examples += sum(num_examples(aggregation) for _, aggregation in estimated)
    seconds = kitchen.scores.seconds_for(examples)
    return Cost(len(passes), len(asked) - len(unknown), examples, seconds, len(estimated))


def cost_of_all(kitchen: Kitchen, recipes: Iterable[Recipe], beside: Iterable[Wanted] = ()) -> Cost:
    """What cooking recipes takes at most: single scores that they share count once; further sharing makes it less.

    Args:
        beside: scores that are needed too.
    """
    singles = dict.fromkeys(beside)
    evaluations = examples = 0
    for recipe in recipes:
        bound = cooking_cost(kitchen, recipe)
        selecting = recipe.selects_on(kitchen.splits.names) if recipe.is_search else []
        pool = pool_of(kitchen, recipe)
        own: list[Wanted] = [(((name, 1.0),), split, recipe.aggregation) for split in selecting for name in pool]
        shared = cost(kitchen, own)
        singles |= dict.fromkeys(own)
        evaluations += bound.evaluations - shared.evaluations
        examples += bound.examples - shared.examples
    single = cost(kitchen, singles)
    examples += single.examples
    return Cost(evaluations + single.evaluations, single.known, examples, kitchen.scores.seconds_for(examples))


def _passes(kitchen: Kitchen, one: Wanted) -> Iterator[Wanted]:
    """The evaluations of an unknown score: its own, or those of an ensemble's members whose logits are not kept."""
    mixture, split, aggregation = one
    if aggregation not in OUTPUTS or len(mixture) == 1:
        yield one
        return
    for name, _ in mixture:
        alone: Wanted = ((name, 1.0),), split, "average"
        is_here = name not in kitchen.other_models.items and is_readable(kitchen, split, "average")
        if not is_here or kitchen.store.logits(kitchen.scores.key(*alone)) is None:
            yield alone


def lacking(kitchen: Kitchen, wanted: Iterable[Wanted]) -> list[Wanted]:
    """Those of the scores that are not known yet, in their order; no example of a known one is read."""
    keys = {one: kitchen.scores.key(*one) if is_readable(kitchen, *one[1:]) else "" for one in wanted}
    there = kitchen.store.scored(filter(None, keys.values()))
    return [one for one, key in keys.items() if key not in there]


def known(kitchen: Kitchen, mixture: Coefficients, split: str, aggregation: str = "average") -> Score | None:
    """A score that was measured before, of a split that was read before, as the train data was if it is needed.

    Its examples are unpacked: where only the summary is wanted, of many scores even, ask for `summaries`.
    """
    is_there = split in kitchen.splits.names and is_readable(kitchen, split, aggregation)
    return kitchen.scores.known(mixture, split, aggregation) if is_there else None


def summaries(kitchen: Kitchen, wanted: Iterable[Wanted]) -> dict[Wanted, Score]:
    """Those of the scores that are known, without their examples and what they tell of each class: for lists."""
    by_split: dict[str, list[Wanted]] = {}
    for one in dict.fromkeys(wanted):
        if one[1] in kitchen.splits.names and is_readable(kitchen, *one[1:]):
            by_split.setdefault(one[1], []).append(one)
    found: dict[Wanted, Score] = {}
    for split, ones in by_split.items():
        mixes = [(mixture, aggregation) for mixture, _, aggregation in ones]
        scores = kitchen.scores.summaries(mixes, split, brief=True)
        found |= {one: score for one, score in zip(ones, scores, strict=True) if score is not None}
    return found


def ingredient_summaries(kitchen: Kitchen, split: str, names: Iterable[str]) -> dict[str, Score]:
    """The known scores of ingredients (or the base) alone, without their examples."""
    wanted: dict[str, Wanted] = {name: (((name, 1.0),), split, "average") for name in names}
    found = summaries(kitchen, wanted.values())
    return {name: found[one] for name, one in wanted.items() if one in found}


def is_readable(kitchen: Kitchen, split: str, aggregation: str) -> bool:
    """Whether the store can be asked for a score without a split being read first."""
    return kitchen.splits.is_loaded(split) and (not num_examples(aggregation) or kitchen.splits.is_loaded(TRAIN))


def _peak(kitchen: Kitchen, pool: list[str]) -> int:
    """The model, what its graph folds, the split as the model takes it, and a few tensors of a mix."""
    tensors = kitchen.weights.resolve(pool[0]).shapes.values()
    model = sum(4 * tensor.numel() for tensor in tensors)
    largest = max(4 * tensor.numel() for tensor in tensors)
    return 2 * model + kitchen.evaluator.ready_bytes(kitchen.splits.load(HELD_OUT)) + TENSORS_HELD * largest


def measure_rate(kitchen: Kitchen, progress: Progress = quiet) -> None:
    """Score a few batches of held_out, so that a cost can be told in seconds."""
    split = kitchen.splits.load(HELD_OUT, progress)
    found = kitchen.evaluator.blank(split)
    found.scored[3 * kitchen.evaluator.batch_size :] = True
    items = kitchen.scores.resolved(((kitchen.names[0], 1.0),))
    kitchen.evaluator.evaluate(split, Trial(lambda: mix_tensors(items), found))
