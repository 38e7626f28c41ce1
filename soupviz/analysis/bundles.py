"""Several curves at once: each pair's path on each split and with each treatment of running statistics."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import combine
from soupviz.soups.curves import Peak, coarse_to_fine, loss_interval, peak
from soupviz.tasks.metrics import whole_loss, wilson
from soupviz.tasks.score import Score
from soupviz.types import Coefficients, Progress, part_of, quiet


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """One point of one curve: which pair, what became of running statistics, on which split, where."""

    pair: str
    statistics: str
    split: str
    alpha: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What was measured at a place, with 95 % intervals: Wilson's of the accuracy, a normal one of the mean loss."""

    place: Place
    correct: int
    num_examples: int
    accuracy_interval: tuple[float, float]
    loss: float | None
    loss_interval: tuple[float, float] | None

    @classmethod
    def of(cls, place: Place, score: Score) -> "Reading":
        """A score without its examples."""
        interval, loss = _wilson(score.correct, score.num_examples), whole_loss(score)
        around = None if loss is None else loss_interval(score)
        return cls(place, score.correct, score.num_examples, interval, loss, around)

    @property
    def accuracy(self) -> float:
        return self.correct / self.num_examples


_wilson = cache(wilson)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Curves that are looked at together.

    pairs: by title, the mixes at alpha 0 and at alpha 1. alphas: ascending, with 0 and 1 among them.
    """

    pairs: Mapping[str, tuple[Coefficients, Coefficients]]
    alphas: Sequence[float]
    splits: Sequence[str]
    statistics: Sequence[str]

    def mix(self, pair: str, alpha: float) -> Coefficients:
        return combine(*self.pairs[pair], alpha)

    def places(self) -> list[Place]:
        """Every place, coarse to fine; the splits of one mix in turn, so that it is re-estimated once for them all."""
        return [
            Place(pair, statistics, split, alpha)
            for alpha in coarse_to_fine(self.alphas)
            for pair in self.pairs
            for statistics in self.statistics
            for split in self.splits
        ]

    def wanted(self) -> list[tuple[Coefficients, str, str]]:
        """Mix, split and treatment of every place."""
        return [(self.mix(each.pair, each.alpha), each.split, each.statistics) for each in self.places()]


def survey(
    kitchen: Kitchen,
    bundle: Bundle,
    progress: Progress = quiet,
    on_reading: Callable[[Reading], None] = lambda _reading: None,
) -> list[Reading]:
    """Score every place of a bundle, coarse to fine; each is told of as it comes."""
    readings = []
    places = bundle.places()
    for index, place in enumerate(places):
        mixture = bundle.mix(place.pair, place.alpha)
        score = kitchen.score_mix(mixture, place.split, place.statistics, part_of(progress, index, len(places)))
        readings.append(Reading.of(place, score))
        on_reading(readings[-1])
    return readings


@dataclass(frozen=True, slots=True)
class Line:
    """One curve on one split, by alpha, and its barriers, as far as it is known.

    in_loss: in nats. in_errors: the barrier of the share of errors, a fraction. None before both ends and a point
    between them are known, or where a loss is not finite.
    """

    readings: tuple[Reading, ...]
    in_loss: Peak | None
    in_errors: Peak | None


def lines(readings: Iterable[Reading]) -> dict[tuple[str, str, str], Line]:
    """Readings by (pair, statistics, split)."""
    found: dict[tuple[str, str, str], list[Reading]] = {}
    for each in sorted(readings, key=lambda each: each.place):
        found.setdefault((each.place.pair, each.place.statistics, each.place.split), []).append(each)
    return {key: _line(tuple(each)) for key, each in found.items()}


def _line(readings: tuple[Reading, ...]) -> Line:
    inside = [each for each in readings if 0.0 <= each.place.alpha <= 1.0]
    alphas = [each.place.alpha for each in inside]
    if len(alphas) < 3 or (alphas[0], alphas[-1]) != (0.0, 1.0):
        return Line(readings, None, None)
    losses = [each.loss for each in inside if each.loss is not None]
    in_loss = peak(alphas, losses) if len(losses) == len(alphas) else None
    return Line(readings, in_loss, peak(alphas, [1.0 - each.accuracy for each in inside]))


def best(line: Line) -> Reading:
    """The reading with most correct; of equals the one nearest to the middle of the path."""
    return max(line.readings, key=lambda each: (each.correct, -abs(each.place.alpha - 0.5)))
