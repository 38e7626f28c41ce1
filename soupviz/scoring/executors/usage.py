"""What workers did: how long each computed, and how many units it scored."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Share:
    """One worker's. place: the host and the device. busy: seconds that it computed. deaths: how often it ended
    unasked."""

    place: str = ""
    busy: float = 0.0
    num_units: int = 0
    deaths: int = 0


@dataclass(frozen=True, slots=True)
class Usage:
    """Of all workers. seconds: what a clock showed; of the difference of two looks, what lies between."""

    seconds: float = 0.0
    shares: tuple[Share, ...] = field(default=())

    def since(self, before: "Usage") -> "Usage":
        """What came after an earlier look."""
        known = dict(enumerate(before.shares))
        shares = tuple(_less(share, known.get(number, Share())) for number, share in enumerate(self.shares))
        return Usage(self.seconds - before.seconds, shares)

    def fraction(self, share: Share) -> float:
        """Which part of the time a worker computed."""
        # What was begun before the first look counts when it ends; workers that were started anew begin at 0.
        return min(1.0, max(0.0, share.busy / self.seconds)) if self.seconds else 0.0

    @property
    def utilisation(self) -> float | None:
        """The mean over the workers."""
        return sum(map(self.fraction, self.shares)) / len(self.shares) if self.shares and self.seconds else None

    def as_plain(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "workers": [asdict(share) for share in self.shares]}

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "Usage":
        return cls(values["seconds"], tuple(Share(**worker) for worker in values["workers"]))


def _less(share: Share, before: Share) -> Share:
    return replace(
        share,
        busy=share.busy - before.busy,
        num_units=share.num_units - before.num_units,
        deaths=share.deaths - before.deaths,
    )
