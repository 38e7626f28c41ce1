"""Several curves at once: each pair's path on each split and with each aggregation of running statistics."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import combine
from soupviz.soups.curves import Peak, barrier_of, coarse_to_fine
from soupviz.tasks.figures import interval, two_metrics
from soupviz.tasks.metric import Metric, Value
from soupviz.tasks.objective import Objective
from soupviz.tasks.score import Score
from soupviz.types import Coefficients, Progress, quiet


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """One point of one curve: which pair, what became of running statistics, on which split, where."""

    pair: str
    statistics: str
    split: str
    alpha: float


@dataclass(frozen=True, slots=True)
class Reading:
    """What was measured at a place.

    values: by metric, over all units; None where one is not finite. intervals: of 95 %, by metric, where known.
    merit: by the kitchen's objective, higher is better.
    """

    place: Place
    num_units: int
    values: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float] | None]
    merit: tuple[int, Value]

    @classmethod
    def of(cls, place: Place, score: Score, kitchen: Kitchen) -> "Reading":
        """A score without its units, under the metrics that are drawn."""
        metrics = drawn_metrics(kitchen)
        return cls(
            place,
            score.num_units,
            {metric.name: score.whole(metric) for metric in metrics},
            {metric.name: interval(metric, score) for metric in metrics},
            Objective(kitchen.objective).merit(score),
        )


def drawn_metrics(kitchen: Kitchen) -> tuple[Metric, ...]:
    """The objective, and what stands beside it."""
    return two_metrics(kitchen.task.metrics, kitchen.objective)


@dataclass(frozen=True, slots=True)
class CurveSet:
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
        """Mix, split and aggregation of every place."""
        return [(self.mix(each.pair, each.alpha), each.split, each.statistics) for each in self.places()]


def survey(
    kitchen: Kitchen,
    curve_set: CurveSet,
    progress: Progress = quiet,
    on_reading: Callable[[Reading], None] = lambda _reading: None,
) -> list[Reading]:
    """Score every place of the curves, coarse to fine; each is told of as it comes."""
    readings = []
    places = curve_set.places()
    wanted = [(curve_set.mix(place.pair, place.alpha), place.split, place.statistics) for place in places]
    for place, score in zip(places, kitchen.scores.each(wanted, progress), strict=True):
        readings.append(Reading.of(place, score, kitchen))
        on_reading(readings[-1])
    return readings


@dataclass(frozen=True, slots=True)
class Curve:
    """One curve on one split, by alpha, and its barriers by metric, as far as it is known.

    A barrier is how far the curve is worse than the chord between its ends. None before both ends and a point between
    them are known, or where a value is not finite.
    """

    readings: tuple[Reading, ...]
    barriers: Mapping[str, Peak | None]


def lines(readings: Iterable[Reading], metrics: Sequence[Metric]) -> dict[tuple[str, str, str], Curve]:
    """Readings by (pair, statistics, split)."""
    found: dict[tuple[str, str, str], list[Reading]] = {}
    for each in sorted(readings, key=lambda each: each.place):
        found.setdefault((each.place.pair, each.place.statistics, each.place.split), []).append(each)
    return {
        key: Curve(tuple(each), {metric.name: _barrier(each, metric) for metric in metrics})
        for key, each in found.items()
    }


def _barrier(readings: Sequence[Reading], metric: Metric) -> Peak | None:
    inside = [each for each in readings if 0.0 <= each.place.alpha <= 1.0]
    alphas = [each.place.alpha for each in inside]
    values = [value for each in inside if (value := each.values[metric.name]) is not None]
    if len(alphas) < 3 or (alphas[0], alphas[-1]) != (0.0, 1.0) or len(values) < len(alphas):
        return None
    return barrier_of(alphas, values, metric)


def best(line: Curve) -> Reading:
    """The best reading by the kitchen's metric; of equals the one nearest to the middle of the path."""
    return max(line.readings, key=lambda each: (each.merit, -abs(each.place.alpha - 0.5)))
