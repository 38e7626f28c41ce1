"""Mean average precision of detections: of all images, and of resamples of them without matching anew."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from soupviz.tasks.boxes.matching import AREAS, IOUS, outside
from soupviz.tasks.metric import Value, Weights
from soupviz.tasks.outcomes import Outcomes

RECALLS = np.linspace(0.0, 1.0, 101)
"""At which precision is read."""

BLOCK = 150_000
"""Numbers of one array: of many resamples some at a time, so that they stay near the processor."""

ALL = tuple(range(len(IOUS)))


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """What was found of one class, the surest first; as they are counted for one range of sizes.

    image: of each detection. matched, ignored: bits, one for each overlap. truths: how many objects that count each
    image has.
    """

    image: NDArray[np.int64]
    matched: NDArray[np.uint16]
    ignored: NDArray[np.uint16]
    truths: NDArray[np.float64]

    def precision(self, at: Sequence[int], counts: NDArray[np.float64], perfect: float = 0.0) -> NDArray[np.float64]:
        """Average precision at each overlap on each resample, shape (overlaps, resamples); nan without an object.

        Only true positives need a precision: between two of them it falls, and what counts at a recall is the best
        that any higher recall has.

        Args:
            at: which of IOUS. counts: how often each image counts, shape (images, resamples). perfect: objects that
                are found above all others, beside what is ranked here.
        Source:
            COCOeval.accumulate of pycocotools. Differs: a resample's copies of a detection stand together.
        """
        number = self.truths @ counts
        found = np.empty((len(at), counts.shape[1]))
        some = np.where(number > 0, number, 1.0)
        for places, told, right in self._cumulated(at, counts):
            for place, (rows, hits) in zip(places, right, strict=True):
                true, all_told = np.cumsum(hits, axis=0) + perfect, told[rows] + perfect
                precision = np.divide(true, all_told, out=np.zeros_like(true), where=all_told > 0)
                best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
                first = num_recalls(perfect / some) if perfect else np.zeros(len(number))
                reached = np.vstack([first, num_recalls(true / some)])
                gained = np.einsum("ij,ij->j", best, np.diff(reached, axis=0))
                found[place] = (first + gained) / len(RECALLS)
        return np.where(number > 0, found, np.nan)

    def _cumulated(
        self, at: Sequence[int], counts: NDArray[np.float64]
    ) -> Iterator[tuple[list[int], NDArray[np.float64], list[tuple[NDArray[np.int64], NDArray[np.float64]]]]]:
        """Overlaps that ignore the same detections; how many are told up to each true positive of any of them; and of
        each overlap which of these are its own, with how often each counts."""
        from scipy.sparse import csr_array  # loading it takes a while

        ignored = [(self.ignored >> bit & 1).astype(np.bool_) for bit in at]
        waiting = list(range(len(at)))
        while waiting:
            same = [place for place in waiting if np.array_equal(ignored[place], ignored[waiting[0]])]
            waiting = [place for place in waiting if place not in same]
            kept = np.flatnonzero(~ignored[same[0]])
            image, matched = self.image[kept], self.matched[kept]
            ends = np.flatnonzero(matched & sum(1 << at[place] for place in same))
            image = image[: ends[-1] + 1] if len(ends) else image[:0]
            between = csr_array((np.ones(len(image)), image, np.append(0, ends + 1)), shape=(len(ends), len(counts)))
            told = np.cumsum(between @ counts, axis=0)
            right = []
            for place in same:
                rows = np.flatnonzero(matched[ends] >> at[place] & 1)
                right.append((rows, counts[image[ends[rows]]]))
            yield same, told, right


def num_recalls(recall: NDArray[np.float64]) -> NDArray[np.float64]:
    """How many of RECALLS are reached; of these, which are rounded, as comparing floats tells."""
    whole = (100 * recall + 1e-9).astype(np.intp)
    return np.asarray(whole + (RECALLS[whole] <= recall), dtype=np.float64)


def rankings(outcomes: Outcomes, area: int) -> dict[int, Ranking]:
    """By class what was found of it, and what there is; classes that no image has are left out.

    Args:
        area: which of AREAS.
    """
    truths = np.concatenate([*outcomes["truths"], np.empty((0, 7))])
    owner = np.repeat(np.arange(len(outcomes)), [len(one) for one in outcomes["truths"]])
    is_crowd = truths[:, 5] > 0
    counts = ~is_crowd & ~outside(truths[:, 6])[:, area]
    labels = np.unique(truths[counts, 4]).astype(np.int64).tolist()
    found = [np.concatenate(list(outcomes[name])) for name in ("category", "score", "matched", "ignored")]
    image = np.repeat(np.arange(len(outcomes)), [len(one) for one in outcomes["score"]])
    order = np.lexsort((-found[1].astype(np.float64), found[0]))
    label, matched, ignored = found[0][order], found[2][order, area], found[3][order, area]
    image = image[order]
    rankings = {}
    for one in labels:
        inside = slice(*np.searchsorted(label, [one, one + 1]))
        own = counts & (truths[:, 4] == one)
        number = np.bincount(owner[own], minlength=len(outcomes)).astype(np.float64)
        rankings[one] = Ranking(image[inside], matched[inside], ignored[inside], number)
    return rankings


@dataclass(frozen=True, slots=True)
class MeanAP:
    """Mean average precision over classes and overlaps, of all objects or of those of a range of sizes.

    at: which of IOUS. area: which of AREAS.
    """

    name: str
    label: str
    at: tuple[int, ...] = ALL
    area: str = "all"
    unit: str = "%"
    higher_is_better: bool = True
    judges_nonfinite: bool = False
    draws: ClassVar[int] = 1_000

    @property
    def _area(self) -> int:
        return list(AREAS).index(self.area)

    def value(self, outcomes: Outcomes) -> Value | None:
        return _number(self._mean(rankings(outcomes, self._area), np.ones((len(outcomes), 1)), {})[0])

    def values(self, outcomes: Outcomes, weights: Weights) -> NDArray[np.float64]:
        return self.on_resamples(outcomes)(weights)

    def on_resamples(self, outcomes: Outcomes) -> Callable[[Weights], NDArray[np.float64]]:
        """The values, from how often each unit counts in each resample; all are ranked once."""
        ranked = rankings(outcomes, self._area)
        most = max((int(one.matched.astype(np.bool_).sum()) for one in ranked.values()), default=1)
        step = max(16, BLOCK // max(most, len(outcomes)))

        def values(weights: Weights) -> NDArray[np.float64]:
            blocks = (weights[start : start + step] for start in range(0, len(weights), step))
            return np.concatenate([self._mean(ranked, np.ascontiguousarray(block.T), {}) for block in blocks])

        return values

    def _mean(
        self, ranked: dict[int, Ranking], counts: NDArray[np.float64], perfect: dict[int, float]
    ) -> NDArray[np.float64]:
        total, number = np.zeros(counts.shape[1]), np.zeros(counts.shape[1])
        for label, ranking in ranked.items():
            own = ranking.precision(self.at, counts, perfect.get(label, 0.0)).mean(axis=0)
            total += np.nan_to_num(own)
            number += ~np.isnan(own)
        with np.errstate(invalid="ignore"):
            return np.asarray(total / number)

    def bound(self, outcomes: Outcomes) -> Value | None:
        """Every object of the images that wait is found, before all else."""
        if not outcomes.num_scored:
            return None
        ranked = rankings(outcomes, self._area)
        waiting = {label: float(one.truths[~outcomes.scored].sum()) for label, one in ranked.items()}
        return _number(self._mean(ranked, np.ones((len(outcomes), 1)), waiting)[0])

    def ties(self) -> float:
        return 1e-9


def _number(value: Any) -> float | None:
    return None if np.isnan(value) else float(value)


def by_class(outcomes: Outcomes, area: str = "all") -> dict[int, NDArray[np.float64]]:
    """Average precision at each of IOUS, by class, of those that have objects."""
    once = np.ones((len(outcomes), 1))
    ranked = rankings(outcomes, list(AREAS).index(area))
    return {label: one.precision(ALL, once)[:, 0] for label, one in ranked.items()}


def of_each(outcomes: Outcomes) -> NDArray[np.float64]:
    """Of each image alone the average precision of its own detections, of all classes together; the mean over IOUS.

    Precision is averaged over the image's objects that count; nan where there are none.
    """
    number = np.array([int((one[:, 5] == 0).sum()) for one in outcomes["truths"]])
    image = np.repeat(np.arange(len(outcomes)), [len(one) for one in outcomes["score"]])
    score, matched, ignored = (np.concatenate(list(outcomes[name])) for name in ("score", "matched", "ignored"))
    order = np.lexsort((-score.astype(np.float64), image))
    image, matched, ignored = image[order], matched[order, 0], ignored[order, 0]
    total = np.zeros(len(outcomes))
    for bit in ALL:
        kept = np.flatnonzero(~ignored >> bit & 1)
        of, hits = image[kept], (matched[kept] >> bit & 1).astype(np.float64)
        starts = np.searchsorted(of, np.arange(len(outcomes)))
        before = np.append(0.0, np.cumsum(hits))[starts]
        precision = (np.cumsum(hits) - before[of]) / (np.arange(len(of)) - starts[of] + 1)
        total += np.bincount(of, precision * hits, minlength=len(outcomes))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(number > 0, total / len(ALL) / number, np.nan))
