"""What a worker has seen of the mixes that it scores, by which it stops where the driver would."""

from collections.abc import Sequence

from soupviz.data.split import Split
from soupviz.scoring.executors.messages import Block, MixOf, Part, ToBeat
from soupviz.scoring.scorer import Scorer
from soupviz.tasks.objective import CannotWin, Objective
from soupviz.tasks.outcomes import Outcomes

MIXES_HELD = 8
"""The last ones: a worker is given blocks of a few in turn."""


class Seen:
    """One worker's. What others have seen of a mix is not known here: then less is proved, and nothing wrongly."""

    def __init__(self, scorer: Scorer):
        metrics = [scorer.objective, *scorer.evaluator.task.metrics]
        self._metrics = {metric.name: metric for metric in metrics}
        self._evaluator = scorer.evaluator
        self._found: dict[tuple[MixOf, str], Outcomes] = {}

    def is_lost(self, block: Block, split: Split) -> bool:
        """Whether a block's mix is proved not to beat what it has to."""
        return block.to_beat is not None and self._rule(block.to_beat)(self._of(block, split))

    def write(self, block: Block, split: Split, parts: Sequence[Part]) -> None:
        """Take note of a batch of a block that may be given up."""
        if block.to_beat is not None:
            for part in parts:
                self._of(block, split).write(part.rows, part.columns)

    def _rule(self, to_beat: ToBeat) -> CannotWin:
        objective = Objective(self._metrics[to_beat.metric], to_beat.part, to_beat.groups)
        return CannotWin(objective, to_beat.merit, to_beat.ties)

    def _of(self, block: Block, split: Split) -> Outcomes:
        key = block.mix, split.fingerprint
        if key not in self._found:
            while len(self._found) >= MIXES_HELD:
                del self._found[next(iter(self._found))]
            self._found[key] = self._evaluator.blank(split)
        return self._found[key]
