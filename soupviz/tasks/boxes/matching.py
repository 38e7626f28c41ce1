"""Which detections of an image match which of its objects, at each overlap and for each range of sizes, as COCO counts.

Nothing is looked at pair by pair: the best detection of every class of every image is matched at once, then the second.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soupviz.data.detection.readings import Boxes, overlaps

IOUS = np.linspace(0.5, 0.95, 10)
"""Overlaps (intersection over union) from which a detection matches."""

AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Square pixels from which, and up to which, an object counts; others are ignored, with what matches them."""

MOST = 100
"""Detections of a class in an image that count: the surest."""

LOW, HIGH = (np.array([bounds[side] for bounds in AREAS.values()]) for side in (0, 1))


@dataclass(frozen=True, slots=True, eq=False)
class Truths:
    """The objects of some images: of each the number of its image, class, box, area, and whether it stands for a crowd,
    in which any number of detections may lie."""

    image: NDArray[np.int64]
    label: NDArray[np.int64]
    boxes: Boxes
    area: NDArray[np.float64]
    crowd: NDArray[np.bool_]

    @property
    def ignored(self) -> NDArray[np.bool_]:
        """Whether each counts for nothing in each range of sizes, shape (number, ranges)."""
        return np.asarray(self.crowd[:, None] | outside(self.area))


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """What was found in some images: of each the number of its image, class, score and box."""

    image: NDArray[np.int64]
    label: NDArray[np.int64]
    score: NDArray[np.float64]
    boxes: Boxes

    def take(self, rows: NDArray[np.int64]) -> "Detections":
        return Detections(self.image[rows], self.label[rows], self.score[rows], self.boxes[rows])

    def best(self) -> "Detections":
        """The surest of each class of each image, by image, class and falling score."""
        order = np.lexsort((-self.score, self.label, self.image))
        return self.take(order[rank_within(self.image[order], self.label[order]) < MOST])


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """Of each detection whether it matches an object, and whether it counts for nothing, as bits: one for each overlap,
    shape (number, ranges of sizes)."""

    matched: NDArray[np.uint16]
    ignored: NDArray[np.uint16]


def outside(area: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether areas lie outside each range of sizes, shape (number, ranges)."""
    return np.asarray((area[:, None] < LOW) | (area[:, None] > HIGH))


def rank_within(*keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each row among those with the same keys, which stand together."""
    if not len(keys[0]):
        return np.zeros(0, dtype=np.int64)
    starts = np.flatnonzero(np.append(True, np.logical_or.reduce([key[1:] != key[:-1] for key in keys])))
    return np.arange(len(keys[0])) - np.repeat(starts, np.diff(np.append(starts, len(keys[0]))))


def match(found: Detections, truths: Truths) -> Matches:
    """Match detections with objects of their class and image, the surest first.

    Args:
        found: as `Detections.best` gives them.
    Source:
        COCOeval.evaluateImg of pycocotools: of the objects that no surer detection has, the one that overlaps most; one
        that counts before one that does not; of equals the last.
    """
    matched, on_ignored = (np.zeros((len(found.image), len(AREAS), len(IOUS)), dtype=np.bool_) for _ in range(2))
    for rows, group, members in _in_groups(found, truths):
        _match_groups(found, truths, rows, group, members, matched, on_ignored)
    sides = found.boxes[:, 2:] - found.boxes[:, :2]
    ignored = on_ignored | (~matched & outside(sides.prod(axis=1))[:, :, None])
    return Matches(_bits(matched), _bits(ignored))


def _bits(flags: NDArray[np.bool_]) -> NDArray[np.uint16]:
    return np.asarray(flags @ (1 << np.arange(flags.shape[-1])), dtype=np.uint16)


def _in_groups(
    found: Detections, truths: Truths
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Detections whose class their image has, together where about as many objects are there.

    Returns:
        Rows of detections, the group of each, and of each group its objects, filled up with -1.
    """
    labels = np.unique(np.concatenate([found.label, truths.label]))
    places = [np.searchsorted(labels, one.label) + one.image * len(labels) for one in (found, truths)]
    groups, group_of_truth, sizes = np.unique(places[1], return_inverse=True, return_counts=True)
    if not len(groups):
        return
    order = np.argsort(group_of_truth, kind="stable")
    members = np.full((len(groups), sizes.max()), -1)
    members[group_of_truth[order], rank_within(group_of_truth[order])] = order
    group = np.searchsorted(groups, places[0]).clip(max=len(groups) - 1)
    has_truths = groups[group] == places[0]
    level = np.ceil(np.log2(sizes)).astype(np.int64)
    for one in np.unique(level).tolist():
        rows = np.flatnonzero(has_truths & (level[group] == one))
        if len(rows):
            kept, index = np.unique(group[rows], return_inverse=True)
            yield rows, index, members[kept, : sizes[kept].max()]


def _match_groups(
    found: Detections,
    truths: Truths,
    rows: NDArray[np.int64],
    group: NDArray[np.int64],
    members: NDArray[np.int64],
    matched: NDArray[np.bool_],
    on_ignored: NDArray[np.bool_],
) -> None:
    """Match the detections of some groups: the surest of each at once, then the second."""
    members = members[:, ::-1]  # argmax takes the first of equals, and the last is wanted
    there, crowd = members >= 0, truths.crowd[members] & (members >= 0)
    counts_not = truths.ignored[members].transpose(0, 2, 1) | ~there[:, None]
    shared = overlaps(found.boxes[rows][:, None], truths.boxes[members[group]], crowd[group])
    shared[~there[group]] = -1.0
    near = np.flatnonzero(shared.max(axis=1) >= IOUS[0])  # no other can match anything
    rows, group, shared = rows[near], group[near], shared[near]
    free = np.ones((len(members), len(AREAS), len(IOUS), members.shape[1]), dtype=np.bool_)
    rank = rank_within(group)
    for place in range(rank.max(initial=-1) + 1):
        now = np.flatnonzero(rank == place)
        of, overlap = group[now], shared[now][:, None, None]
        ignored = counts_not[of][:, :, None]
        able = (overlap >= IOUS[:, None]) & (free[of] | crowd[of][:, None, None])
        value = np.where(able, overlap + 2.0 * ~ignored, -1.0)
        best = value.argmax(axis=-1)
        hit = np.take_along_axis(value, best[..., None], axis=-1)[..., 0] >= 0
        matched[rows[now]] = hit
        on_ignored[rows[now]] = (
            hit & np.take_along_axis(np.broadcast_to(ignored, value.shape), best[..., None], -1)[..., 0]
        )
        unit, area, threshold = np.nonzero(hit)
        free[of[unit], area, threshold, best[unit, area, threshold]] = False
