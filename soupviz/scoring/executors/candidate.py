"""A mix that workers score: which batches wait, which are under way, and what came back, taken up in order."""

import itertools
from collections import Counter, deque
from collections.abc import Sequence

import numpy as np

from soupviz.scoring.batches import waiting_rows
from soupviz.scoring.executors.executor import Evaluation
from soupviz.scoring.executors.messages import Part
from soupviz.tasks.outcomes import Outcomes

_numbers = itertools.count()


class Candidate:
    """Batches are those that one worker would make; what comes back before its turn waits until it is taken up.

    number: its own. taken: how many batches were taken up. workers: that have some, or had. deaths: by batch, how many
    workers died of it. may_stop: whether a worker that has all of it so far may give it up by itself.
    """

    def __init__(self, asked: Evaluation, found: Outcomes, batch_size: int):
        self.asked = asked
        waiting = waiting_rows(asked.split, found, asked.order, batch_size)
        self.batches = [waiting[start : start + batch_size] for start in range(0, len(waiting), batch_size)]
        self.taken = 0
        self.workers: set[int] = set()
        self.deaths: Counter[int] = Counter()
        self.number = next(_numbers)
        self.may_stop = not found.num_scored
        self._waiting = deque(range(len(self.batches)))
        self._back: dict[int, Sequence[Part]] = {}
        self._errors: dict[int, Exception] = {}
        self._is_asked = False
        self._is_lost = False

    def is_of(self, asked: Evaluation) -> bool:
        """Whether an evaluation goes the same way: of the same weights on the same units in the same order."""
        own = self.asked
        if own is asked:
            return True
        if own.key != asked.key or asked.keeps_answers > own.keeps_answers:
            return False
        if own.order is None or asked.order is None or own.order is asked.order:
            return own.order is asked.order
        return bool(np.array_equal(own.order, asked.order))

    @property
    def is_divisible(self) -> bool:
        """Whether several workers may score it: each would re-estimate running statistics for itself."""
        return self.asked.aggregation.train is None

    @property
    def next(self) -> int | None:
        """The first batch that waits for a worker."""
        return self._waiting[0] if self._waiting and not self._is_lost else None

    @property
    def num_waiting(self) -> int:
        return 0 if self._is_lost else len(self._waiting)

    def hand_out(self, number: int, worker: int) -> list[int]:
        """The next batches for a worker, at most so many."""
        self.workers.add(worker)
        return [self._waiting.popleft() for _ in range(min(number, len(self._waiting)))]

    def hand_back(self, batches: Sequence[int]) -> None:
        """Batches that a worker was given and did not score; if the driver does want them, they are scored."""
        there = self._back.keys() | set(range(self.taken))
        self._waiting = deque(sorted({*self._waiting, *batches} - there))
        self.may_stop = self.may_stop and not batches

    def bring(self, batches: Sequence[int], parts: Sequence[Sequence[Part]], error: Exception | None = None) -> None:
        """What became of batches; of the last ones, which were dropped, there may be nothing.

        Args:
            error: what the first of them ended in that is not among the parts.
        """
        self._back |= dict(zip(batches, parts, strict=False))
        if error is not None:
            self._errors[batches[len(parts)]] = error

    def take_up(self) -> Sequence[Part] | None:
        """The next batch in order, if it is back; what it ended in is raised."""
        if self._is_asked and self.taken in self._errors:
            raise self._errors[self.taken]
        parts = self._back.get(self.taken)
        if parts is not None:
            if self._is_asked:
                del self._back[self.taken]
            self.taken += 1
        return parts

    def look_ahead(self, found: Outcomes) -> None:
        """Take up what is back before it is asked for: of what will be given up nothing more is handed out.

        Args:
            found: what was seen of it so far.
        """
        while not self._is_lost and (parts := self.take_up()) is not None:
            for part in parts:
                found.write(part.rows, part.columns)
            self._is_lost = self.asked.is_over(found)

    def asked_for(self, asked: Evaluation) -> None:
        """Its turn has come: it is taken up from the first batch on, under the limit of now."""
        self.asked = asked
        self._is_asked = True
        self.taken = 0
        self._is_lost = False
