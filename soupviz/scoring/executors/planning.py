"""Which block a free worker is given: of the candidate that is asked for, or of one that probably will be."""

from collections import deque
from collections.abc import Sequence
from statistics import median

from soupviz.scoring.executors.candidate import Candidate

BLOCK_SECONDS = 0.1
"""What a block takes, about: long beside sending it, short beside a second, in which work has to stop."""

MOST_BATCHES = 64
"""In a block, however short they are."""

LOOKED_BACK = 9
"""Candidates, by which it is guessed whether the next ones are given up, and when."""


class Plan:
    """Learns how long batches take, and after how many of them candidates are given up."""

    def __init__(self, num_workers: int):
        self._num_workers = num_workers
        self._seconds: float | None = None
        self._given_up: deque[int] = deque([1], maxlen=LOOKED_BACK)
        self._stood: deque[bool] = deque(maxlen=LOOKED_BACK)

    def took(self, seconds: float, num_batches: int) -> None:
        """Learn from a block."""
        if num_batches:
            each = seconds / num_batches
            self._seconds = each if self._seconds is None else 0.8 * self._seconds + 0.2 * each

    def ended(self, num_batches: int, *, given_up: bool) -> None:
        """Learn from a candidate that might have been given up."""
        self._stood.append(not given_up)
        if given_up:
            self._given_up.append(num_batches)

    @property
    def most_stand(self) -> bool:
        """Whether more of the last candidates were scored whole than were given up."""
        return sum(self._stood) > len(self._stood) / 2

    @property
    def typical(self) -> int:
        """Batches after which a candidate that loses is given up, about."""
        return max(1, round(median(self._given_up)))

    def choose(self, worker: int, candidates: Sequence[Candidate], asked: Candidate | None) -> Candidate | None:
        """Whose batches a worker is given.

        A candidate that may be given up is looked into first as far as usually decides it, and those behind it so far
        too. One that is asked for and has stood longer will probably stay: it comes before the others, as far ahead of
        what was taken up as that is long. What is scored whole goes to one worker each, which mixes its weights; those
        that are idle at the end help.
        """
        free = [one for one in candidates if one.num_waiting and (one.is_divisible or not one.workers - {worker})]
        places = {id(one): place for place, one in enumerate(candidates)}

        def rank(one: Candidate) -> tuple[int, bool, int, int]:
            if one.asked.gives_up is None:
                return 0, worker not in one.workers, len(one.workers - {worker}), places[id(one)]
            if one is asked and self._room(one):
                return -1, False, 0, 0
            return (one.next or 0) // self.typical, False, 0, places[id(one)]

        return min(free, key=rank, default=None)

    def _room(self, asked: Candidate) -> int:
        """How many more batches of a candidate that stands, or probably will, may be handed out now."""
        if self.most_stand:
            return asked.num_waiting
        if asked.taken < self.typical:
            return 0
        return max(0, asked.taken + max(asked.taken, self._num_workers) - (asked.next or 0))

    def num_batches(self, candidate: Candidate, asked: Candidate | None) -> int:
        """Of a block: as many as take about so long, and leave some for the other workers."""
        most = 1 if self._seconds is None else MOST_BATCHES
        if self._seconds:
            most = min(most, int(BLOCK_SECONDS / self._seconds))
        most = min(most, -(-candidate.num_waiting // (2 * self._num_workers)))
        if candidate.asked.gives_up is not None:
            room = self._room(candidate) if candidate is asked else 0
            most = min(most, room or self.typical - (candidate.next or 0) % self.typical)
        return max(1, most)
