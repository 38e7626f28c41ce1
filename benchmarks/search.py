"""python -m benchmarks.search KITCHEN...: a greedy search against the bare passes it needs, whatever the task."""

import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.measuring import fresh, timed
from soupviz.data.split import Split
from soupviz.kitchen import Kitchen
from soupviz.scoring.batches import alike
from soupviz.scoring.evaluator import Evaluator
from soupviz.scoring.precision import arithmetic_of
from soupviz.soups.textbook import greedy
from soupviz.spec import HELD_OUT

ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Against:
    """Seconds, medians of some rounds. num_passes: whole splits' worth of units that the search scored."""

    kitchen: str
    search: float
    bare: float
    num_passes: float

    @property
    def ratio(self) -> float:
        """Of the search's time to that of the passes alone."""
        return self.search / self.bare


def measured(path: Path, rounds: int = ROUNDS) -> Against:
    """A search from nothing but decoded data, and its soup on every split that reports."""
    opened = Kitchen.load(path)
    splits = [opened.splits.load(name) for name in opened.splits.reporting]
    searches, passes, needed = [], [], 0.0
    for _ in range(rounds):
        with fresh(opened) as kitchen:
            seconds, soup = timed(greedy, kitchen)
        searches.append(seconds)
        # Step 0 is an ingredient's, scored with the others; the soup on held_out is a score that the search has.
        tried = sum(step.num_scored for step in soup.trajectory[1:]) / len(splits[0])
        of_each = {split.name: 1.0 for split in splits} | {HELD_OUT: len(opened.pool) + tried}
        alone = {split.name: bare(opened.evaluator, split) for split in splits}
        passes.append(sum(number * alone[name] for name, number in of_each.items()))
        needed = sum(of_each.values())
    return Against(opened.name, statistics.median(searches), statistics.median(passes), needed)


def bare(evaluator: Evaluator, split: Split) -> float:
    """Seconds of the model's own code on a split's batches, which lie ready, in the order of their lengths."""
    order = alike(torch.arange(len(split)).numpy(), split.lengths, evaluator.batch_size)
    batches = [split.take(rows, evaluator.device) for rows in torch.from_numpy(order).split(evaluator.batch_size)]  # type: ignore[no-untyped-call]
    with evaluator.running(), arithmetic_of(evaluator.precision):
        return timed(_run, evaluator.task.answer_batch, evaluator.model, batches)[0]


def _run(answer: Callable[..., object], model: torch.nn.Module, batches: list[dict[str, object]]) -> None:
    for batch in batches:
        answer(model, batch)


def main() -> None:
    import rich

    for path in sys.argv[1:]:
        one = measured(Path(path))
        rich.print(
            f"{one.kitchen}: {one.search:.2f} s for {one.num_passes:.1f} passes, {one.bare:.2f} s bare: {one.ratio:.2f}"
        )


if __name__ == "__main__":
    main()
