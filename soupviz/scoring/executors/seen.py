"""What a worker has seen of the candidates that it scores, by which it stops where the driver would."""

from collections.abc import Sequence

from soupviz.data.split import Split
from soupviz.scoring.executors.messages import Block, Part
from soupviz.scoring.scorer import Scorer
from soupviz.tasks.outcomes import Outcomes

CANDIDATES_HELD = 8
"""The last ones: a worker is given blocks of a few in turn."""


class Seen:
    """One worker's, of candidates of which it was given every batch so far: it knows what the driver will know.

    Of one that it has let go of it knows less; then less is proved, and nothing wrongly.
    """

    def __init__(self, scorer: Scorer):
        self._metrics = {metric.name: metric for metric in (scorer.objective, *scorer.evaluator.task.metrics)}
        self._evaluator = scorer.evaluator
        self._found: dict[int, Outcomes] = {}

    def is_lost(self, block: Block, split: Split) -> bool:
        """Whether a block's mix is proved not to beat what it has to."""
        return block.to_beat is not None and block.to_beat.rule(self._metrics)(self._of(block, split))

    def write(self, block: Block, split: Split, parts: Sequence[Part]) -> None:
        """Take note of a batch of a block that may be given up."""
        if block.to_beat is not None:
            for part in parts:
                self._of(block, split).write(part.rows, part.columns)

    def _of(self, block: Block, split: Split) -> Outcomes:
        found = self._found.pop(block.candidate, None) or self._evaluator.blank(split)
        self._found[block.candidate] = found  # the one asked for last is at the end
        while len(self._found) > CANDIDATES_HELD:
            del self._found[next(iter(self._found))]
        return found
