"""Ensembles of detectors: boxes that lie on each other become one, weighed by their scores."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from soupviz.data.detection.readings import overlaps
from soupviz.tasks.boxes.matching import MOST, Detections, rank_within

CLOSE = 0.55
"""Overlap from which boxes become one: the authors'."""

FADED = 1e-3
"""Scores below which boxes are left out: they come last, and there are many."""


def fused(members: Sequence[Detections], weights: Sequence[float]) -> Detections:
    """Weighted boxes fusion of several detectors' boxes, by image, class and falling score.

    The surest box of a class of an image begins; each next one joins the fused box that it overlaps most, if by more
    than CLOSE, else it begins one. A fused box is the mean of its boxes by their scores, its score the mean of theirs,
    times the share of the models that it may have boxes of: min(boxes, models) / models.

    Args:
        weights: of the members, above 0; their mean is taken as 1, and scores are multiplied by them.
    Source:
        Solovyev, Wang and Gabruseva 2021 (arXiv 1910.13302), section 3. All images are worked on at once.
    """
    shares = np.asarray(weights) * len(members) / sum(weights)
    parts = [member.best() for member in members]
    told = [np.concatenate([getattr(part, name) for part in parts]) for name in ("image", "label", "score", "boxes")]
    score = told[2] * np.repeat(shares, [len(part.score) for part in parts])
    kept = score >= FADED
    image, label, score, boxes = told[0][kept], told[1][kept], score[kept], told[3][kept]
    order = np.lexsort((-score, label, image))
    image, label, score, boxes = image[order], label[order], score[order], boxes[order]
    rank = rank_within(image, label)
    group = np.cumsum(rank == 0) - 1
    width = min(int(rank.max(initial=-1)) + 1, len(members) * MOST)
    number = int(group.max(initial=-1)) + 1
    # Of each group its fused boxes so far: their boxes and scores, summed, and how many they are of.
    total, sure, joined = np.zeros((number, width, 4)), np.zeros((number, width)), np.zeros((number, width))
    begun = np.zeros(number, dtype=np.int64)
    for place in range(width):
        now = np.flatnonzero(rank == place)
        of, reach = group[now], max(1, int(begun.max(initial=0)))
        with np.errstate(invalid="ignore", divide="ignore"):
            there = total[of, :reach] / sure[of, :reach, None]
        shared = np.nan_to_num(overlaps(np.nan_to_num(there), boxes[now][:, None]))
        nearest = shared.argmax(axis=1)
        joins = shared[np.arange(len(now)), nearest] > CLOSE
        slot = np.where(joins, nearest, begun[of])
        total[of, slot] += score[now, None] * boxes[now]
        sure[of, slot] += score[now]
        joined[of, slot] += 1
        begun[of] += ~joins
    row, slot = np.nonzero(joined)
    first = np.flatnonzero(rank == 0)
    held = joined[row, slot]
    return Detections(
        image[first][row],
        label[first][row],
        sure[row, slot] / held * np.minimum(held, len(members)) / len(members),
        total[row, slot] / sure[row, slot, None],
    ).best()


def as_answers(found: Detections, num_images: int) -> NDArray[np.float32]:
    """Detections by image as an answer's rows: x1, y1, x2, y2, score, class, and 1; what fills up is 0."""
    place = rank_within(found.image)
    rows = np.zeros((num_images, int(place.max(initial=-1)) + 1, 7), dtype=np.float32)
    rows[found.image, place] = np.column_stack([found.boxes, found.score, found.label, np.ones(len(place))])
    return rows
