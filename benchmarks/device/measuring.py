"""Seconds and bytes of what a device is asked for, at one precision; nothing of it is known before."""

import statistics
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import torch

from benchmarks.measuring import fresh, run_bare, timed
from soupviz.kitchen import Kitchen, at_precision
from soupviz.mixing.averaging import mean_of, mix_tensors
from soupviz.scoring.evaluator import Trial
from soupviz.soups.textbook import greedy
from soupviz.spec import Precision

PASSES = 3
"""Of each kind, whose median is told."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Seconds. again: with fingerprints known. data: held_out, read and fingerprinted."""

    cold: float
    again: float
    data: float
    checkpoint_bytes: int
    num_ingredients: int

    def as_plain(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Row:
    """One precision's. Seconds, but for peak_bytes, which the device held at most.

    bare: the model on batches that lie on the device. inside: a pass as an evaluation makes it, of weights that are
    there. mixed: all ingredients mixed, and put down nowhere. placed: mixed and copied into the model. scored: every
    ingredient, whole. searched: greedy behind that. passes: whole splits that this took.
    """

    precision: Precision
    bare: float
    inside: float
    mixed: float
    placed: float
    scored: float
    searched: float
    passes: float
    peak_bytes: int
    values: list[float | None]
    decided: list[tuple[str, bool, int]]

    def as_plain(self) -> dict[str, Any]:
        return asdict(self)


def opened(file: Path) -> tuple[Kitchen, Opening]:
    """The kitchen, opened twice: its folder is new, so that nothing is kept of it."""
    cold, _ = timed(Kitchen.load, file)
    again, kitchen = timed(Kitchen.load, file)
    data, _ = timed(kitchen.splits.load, "held_out")
    kitchen.splits.load("test")
    return kitchen, Opening(cold, again, data, kitchen.ingredients[0].num_bytes, len(kitchen.names))


def measured(kitchen: Kitchen, precision: Precision) -> Row:
    """Passes first, which make the split ready and the device warm."""
    with fresh(at_precision(kitchen, precision)) as one:
        evaluator, split = one.evaluator, one.splits.load("held_out")
        if evaluator.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(evaluator.device)
        items = one.scores.resolved(mean_of(one.names))
        evaluator.evaluate(split, Trial(lambda: mix_tensors(items), evaluator.blank(split)))
        inside = _median(lambda: evaluator.evaluate(split, Trial(lambda: (), evaluator.blank(split))))
        mixed = _median(lambda: [None for _ in mix_tensors(items)])
        placed = _median(lambda: evaluator.load(mix_tensors(items)))
        scored, table = timed(one.score)
        searched, soup = timed(greedy, one)
        peak = torch.cuda.max_memory_allocated(evaluator.device) if evaluator.device.type == "cuda" else 0
        steps = soup.trajectory
        return Row(
            precision,
            _bare(one),
            inside,
            mixed,
            placed,
            scored,
            searched,
            sum(step.num_scored for step in steps[1:]) / len(split) + len(soup.scores) - 1,
            peak,
            table[one.objective.name].tolist(),
            [(step.ingredient, step.accepted, step.num_scored) for step in steps],
        )


def _bare(kitchen: Kitchen) -> float:
    """Seconds of the model's own code on a split's batches, which lie ready."""
    evaluator, split = kitchen.evaluator, kitchen.splits.load("held_out")
    prepared = evaluator.prepared(split)
    batches = [prepared.take(rows) for rows in torch.arange(len(split)).split(evaluator.batch_size)]  # type: ignore[no-untyped-call]
    with evaluator.running():
        run_bare(evaluator.model, batches[:2])
        return _median(lambda: run_bare(evaluator.model, batches))


def _median(work: Any) -> float:
    return statistics.median(timed(one)[0] for one in repeat(work, PASSES))
