"""What the driver knows of one worker: what it was told, what it has under way, and how it fares."""

from dataclasses import dataclass, field, replace

from soupviz.scoring.executors.candidate import Candidate
from soupviz.scoring.executors.messages import Answered
from soupviz.scoring.executors.telling import Told
from soupviz.scoring.executors.usage import Share

NO_ROOM = "out of memory, asked no more"
"""Behind the place of a worker that was ended, because it had none for a single unit, or for the model."""

Lacked = tuple[Candidate, int]
"""A batch for which there was no room."""


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """A block under way. batches: of the candidate, by their numbers."""

    candidate: Candidate
    batches: list[int]


@dataclass(slots=True, eq=False)
class Post:
    """One worker's, who may die and be followed by another.

    under_way: blocks by their numbers. deaths: one after the other. is_retired: nobody fills it, as there is no room
    for the model, or for what was lacked.
    """

    number: int
    told: Told = field(default_factory=Told)
    under_way: dict[int, Sent] = field(default_factory=dict)
    share: Share = field(default_factory=Share)
    deaths: int = 0
    is_ready: bool = False
    is_retired: bool = False
    lacked: Lacked | None = None

    def is_at(self, place: str) -> None:
        self.share = replace(self.share, place=place)

    def ready(self, place: str) -> None:
        self.is_ready = True
        self.is_at(place)

    def answered(self, said: Answered) -> None:
        self.deaths = 0
        scored = sum(len(part.rows) for batch in said.batches for part in batch)
        self.share = replace(self.share, busy=self.share.busy + said.seconds, num_units=self.share.num_units + scored)

    def died(self) -> list[Sent]:
        """What it had under way, which others may do."""
        self.deaths += 1
        self.share = replace(self.share, place="", deaths=self.share.deaths + 1)
        return self._vacated()

    def retire(self, lacked: Lacked | None) -> None:
        self.is_retired, self.lacked = True, lacked
        self.is_at(": ".join(filter(None, [self.share.place, NO_ROOM])))
        self._vacated()

    def come_back(self) -> None:
        self.is_retired, self.lacked = False, None

    def forget(self) -> None:
        """What it was told last may not have come."""
        self.told = Told()

    def _vacated(self) -> list[Sent]:
        lost = list(self.under_way.values())
        self.is_ready, self.told, self.under_way = False, Told(), {}
        for one in lost:
            one.candidate.hand_back(one.batches)
            one.candidate.workers.discard(self.number)
        return lost
