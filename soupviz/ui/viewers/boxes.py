"""Images with the boxes of what is there, and of what soup and rival find."""

import base64
import html
import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from soupviz.analysis import examples
from soupviz.data.split import Split
from soupviz.pictures import palette
from soupviz.tasks.boxes.detection import Detection, named
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.task import Task
from soupviz.ui.viewers.viewer import Unit, Viewer

WIDTH = 480
"""Pixels of a picture that is sent; larger ones are made smaller."""

SMALL = 150
"""Pixels of the longer side up to which a picture is sent as it is."""

LINES = {
    "label": (palette.BEST, "solid"),
    "soup": (palette.SOUP, "dashed"),
    "rival": (palette.INGREDIENT, "dotted"),
}
"""Whose box it is: its colour, and what repeats it."""

STYLE = (
    ".soupviz-boxed {position: relative; margin: 0 0 0.4rem;}"
    ".soupviz-boxed img {width: 100%; margin: 0;}"
    ".soupviz-boxed span {position: absolute; box-sizing: border-box; border-width: 2px;"
    " box-shadow: 0 0 0 1px #0006;}"
    ".soupviz-key {font-size: 0.85rem; margin: 0 0 0.6rem;}"
    ".soupviz-key span {white-space: nowrap; margin-right: 1.2rem;}"
    ".soupviz-key i {display: inline-block; width: 2.2rem; margin-right: 0.35rem; vertical-align: middle;}"
    + "".join(
        f".soupviz-{whose} {{border-color: {color}; border-style: {line};}}" for whose, (color, line) in LINES.items()
    )
)
"""A dark edge makes each line stand out on a light picture."""


def _can_show(task: Task, split: Split, row: int) -> bool:
    return isinstance(task, Detection) and examples.pixels(split, row) is not None


def _html(unit: Unit) -> str:
    picture = examples.pixels(unit.split, unit.row)
    assert picture is not None
    truths = unit.new["truths"][unit.row]
    most = max(1, int((truths[:, 5] == 0).sum()))
    told = [f"{named(int(one[4]), unit.classes)}{' (crowd)' if one[5] else ''}" for one in truths]
    size = picture.shape[:2]
    boxes = _drawn("label", truths[:, :4], told, size)
    for whose, found in (("soup", unit.new), ("rival", unit.old)):
        boxes += _drawn(whose, *_surest(found, unit, most), size)
    alt = html.escape(unit.name, quote=True)
    return f"<div class='soupviz-boxed'><img src='{_data(picture)}' alt='{alt}'>{boxes}</div>"


def _data(picture: NDArray[np.uint8]) -> str:
    """The picture itself where it is small, so that its pixels stay squares; else as a JPEG."""
    image, buffer = Image.fromarray(picture), io.BytesIO()
    if max(image.size) <= SMALL:
        image.save(buffer, "PNG")
        return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    image.thumbnail((WIDTH, WIDTH), Image.Resampling.LANCZOS)
    image.save(buffer, "JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _surest(found: Outcomes, unit: Unit, most: int) -> tuple[NDArray[np.float32], list[str]]:
    """The boxes that a model is surest of, with what it says of each."""
    score, box, category = (found[name][unit.row] for name in ("score", "box", "category"))
    rows = np.argsort(-score, kind="stable")[:most]
    return box[rows], [f"{named(int(category[row]), unit.classes)} {score[row]:.2f}" for row in rows.tolist()]


def _drawn(whose: str, boxes: NDArray[np.generic], told: Iterable[str], size: tuple[int, int]) -> str:
    """Boxes over the picture, in shares of it, as far as they lie in it. size: its height and width in pixels."""
    height, width = size
    drawn = []
    for corners, text in zip(boxes.tolist(), told, strict=True):
        x1, x2 = (min(max(100 * one / width, 0.0), 100.0) for one in corners[::2])
        y1, y2 = (min(max(100 * one / height, 0.0), 100.0) for one in corners[1::2])
        if x2 > x1 and y2 > y1:
            place = f"left:{x1:.2f}%;top:{y1:.2f}%;width:{x2 - x1:.2f}%;height:{y2 - y1:.2f}%"
            title = html.escape(f"{whose}: {text}", quote=True)
            drawn.append(f"<span class='soupviz-{whose}' style='{place}' title='{title}'></span>")
    return "".join(drawn)


def _key() -> str:
    """The legend."""
    lines = "".join(
        f"<span><i class='soupviz-{whose}' style='border-width:3px 0 0 0'></i>{whose}</span>" for whose in LINES
    )
    return f"<p class='soupviz-key'>{lines}</p>"


BOXES = Viewer(
    "boxes",
    _can_show,
    _html,
    "14.5rem",
    lambda _split: "Of each model those boxes are drawn that it is surest of, as many as the image has objects.",
    style=STYLE,
    legend=_key(),
)
