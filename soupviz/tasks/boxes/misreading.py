"""Whether boxes are meant otherwise than they are taken: told by how objects overlap with what is found."""

from collections.abc import Mapping
from itertools import permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soupviz.data.detection.readings import CENTRE, CORNERS, SIZE, Boxes, best_overlaps, reread, without_area
from soupviz.tasks.outcomes import Outcomes

MOST = 200
"""Images that are looked at: by so many it is plain."""

FEW = 10
"""Objects by which nothing is said."""

FITS = 0.5
"""Mean overlap of boxes that are read as they are meant."""

LEAST, GAIN = 0.4, 0.15
"""What another reading must reach, and by how much it must beat the boxes as they are, and chance."""

MOSTLY = 0.75
"""Share of the objects that it must serve better, of those that it serves otherwise."""

NEAR = 0.02
"""By which two readings are as good as each other."""

STRANGE = 0.1
"""Share of what is found that has no area, from which the model may give something else than corners."""

HELD, FOUND = "held", "found"
"""The boxes that are meant otherwise: the data's, or the model's."""

READINGS = [
    *((HELD, was, meant) for was, meant in permutations((CORNERS, SIZE, CENTRE), 2)),
    *((FOUND, CORNERS, meant) for meant in (SIZE, CENTRE)),
]


def misread(outcomes: Outcomes) -> Mapping[str, Any] | None:
    """What boxes are meant as, where that is plain; None: as they are taken, or it does not show.

    Of each object the surest detections of its image count, of any class, as many as it has objects. Another reading is
    believed only where these serve the objects of their own image much better than those of another one: what a bad
    model gives, or one that always gives the same, fits no image in particular.
    """
    rows = np.flatnonzero([(one[:, 5] == 0).any() for one in outcomes["truths"]])
    rows = rows[np.linspace(0, len(rows) - 1, min(MOST, len(rows))).astype(np.int64)] if len(rows) else rows
    held = [one[one[:, 5] == 0, :4] for one in outcomes["truths"][rows]]
    found = [
        box[np.argsort(-score, kind="stable")[: len(one)]].astype(np.float64)
        for box, score, one in zip(outcomes["box"][rows], outcomes["score"][rows], held, strict=True)
    ]
    objects, detections = (np.concatenate([*boxes, np.empty((0, 4))]) for boxes in (held, found))
    of_object, of_detection = (np.repeat(np.arange(len(boxes)), list(map(len, boxes))) for boxes in (held, found))
    if len(objects) < FEW or len(rows) < 2 or not len(detections):
        return None
    as_taken = best_overlaps(objects, of_object, detections, of_detection)
    if as_taken.mean() >= FITS:
        return None
    tried = {
        one: best_overlaps(_read(objects, HELD, one), of_object, _read(detections, FOUND, one), of_detection)
        for one in READINGS
    }
    best = _likeliest({one: float(values.mean()) for one, values in tried.items()}, detections)
    if best[0] == HELD:  # boxes of images that were resized, and not scaled back, spoil what is right
        scaled = best_overlaps(objects, of_object, _scaled(detections, objects), of_detection)
        if scaled.mean() >= tried[best].mean() - NEAR:
            return None
    # The next image's objects, with what is found in this one.
    other = (of_object - 1) % len(rows)
    order = np.argsort(other, kind="stable")
    by_chance = best_overlaps(
        _read(objects, HELD, best)[order], other[order], _read(detections, FOUND, best), of_detection
    )
    if not _is_plain(as_taken, tried[best], by_chance):
        return None
    side, was, meant = best
    overlap, overlap_if = float(as_taken.mean()), float(tried[best].mean())
    return {"side": side, "was": was, "meant": meant, "overlap": overlap, "overlap_if": overlap_if}


def _read(boxes: Boxes, side: str, reading: tuple[str, str, str]) -> Boxes:
    return reread(boxes, *reading[1:]) if reading[0] == side else boxes


def _scaled(boxes: Boxes, others: Boxes) -> Boxes:
    """Boxes in the scale of others: across and down, so that their mean places are the same."""
    own, other = (one.reshape(-1, 2, 2).mean(axis=(0, 1)) for one in (boxes, others))
    return np.asarray(boxes * np.tile(np.divide(other, own, out=np.ones(2), where=own > 0), 2))


def _likeliest(fits: Mapping[tuple[str, str, str], float], detections: Boxes) -> tuple[str, str, str]:
    """The reading that fits best, of the model's boxes only where some have no area as they are.

    Corners that the data has as widths and heights fit what is found in two ways: the data is read anew, or what is
    found is spoilt as the data was, which even helps where it is bad. But what gives corners gives boxes with an area.
    """
    is_strange = without_area(detections).mean() >= STRANGE
    able = [one for one in fits if is_strange or one[0] == HELD]
    near = [one for one in able if fits[one] >= max(fits[other] for other in able) - NEAR]
    return max(near, key=lambda one: (one[0] == FOUND, fits[one]))


def _is_plain(as_taken: NDArray[np.float64], otherwise: NDArray[np.float64], by_chance: NDArray[np.float64]) -> bool:
    better, worse = (otherwise > as_taken).sum(), (otherwise < as_taken).sum()
    gain = otherwise.mean() - max(as_taken.mean(), by_chance.mean())
    return bool(otherwise.mean() >= LEAST and gain >= GAIN and better >= MOSTLY * (better + worse))


def told(found: Mapping[str, Any], split: str) -> str:
    """A clause about a model whose answers show it; overlaps in tenths, so that models that show the same say so."""
    told_by = f"they then overlap by {found['overlap_if']:.1f} (mean IoU) instead of {found['overlap']:.1f}"
    if found["side"] == FOUND:
        return (
            f"its boxes fit the objects of {split} when they are read as {found['meant']} and not as {found['was']}: "
            f"{told_by}; let the model return {CORNERS}"
        )
    # The same shows where the model gives what the data has, and every box of it happens to have an area.
    or_else = f", or let the model return {CORNERS}" if found["meant"] == CORNERS else ""
    return (
        f"what it finds fits the objects of {split} when their numbers are read as {found['meant']} and not as "
        f"{found['was']}: {told_by}; write the data's boxes as {found['was']}{or_else}"
    )
