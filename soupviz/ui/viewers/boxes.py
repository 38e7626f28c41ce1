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
from soupviz.tasks.detection import Detection, named
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.task import Task
from soupviz.ui.viewers.viewer import Unit, Viewer

WIDTH = 480
"""Pixels of a picture that is sent; larger ones are made smaller."""

SHOWN = 300
"""About as many pixels wide a card shows it."""

LINES = {
    "label": (palette.BEST, ""),
    "soup": (palette.SOUP, "7 3"),
    "rival": (palette.INGREDIENT, "2 3"),
}
"""Whose box it is: its colour, and what repeats it: a whole line, dashes, dots."""


def _can_show(task: Task, split: Split, row: int) -> bool:
    return isinstance(task, Detection) and examples.pixels(split, row) is not None


def _html(unit: Unit) -> str:
    picture = examples.pixels(unit.split, unit.row)
    assert picture is not None
    height, width = picture.shape[:2]
    truths = unit.new["truths"][unit.row]
    most = max(1, int((truths[:, 5] == 0).sum()))
    told = [f"{named(int(one[4]), unit.classes)}{' (crowd)' if one[5] else ''}" for one in truths]
    boxes = _rects("label", truths[:, :4], told, width)
    for whose, found in (("soup", unit.new), ("rival", unit.old)):
        boxes += _rects(whose, *_surest(found, unit, most), width)
    alt = html.escape(unit.name, quote=True)
    return (
        f"<div style='position:relative;margin-bottom:0.4rem'><img src='{_data(picture)}' alt='{alt}' "
        "style='width:100%;margin:0'>"
        f"<svg viewBox='0 0 {width} {height}' style='position:absolute;inset:0;width:100%;height:100%' fill='none'>"
        f"{boxes}</svg></div>"
    )


def _data(picture: NDArray[np.uint8]) -> str:
    """The picture itself where it is small, so that its pixels stay squares; else as a JPEG."""
    image, buffer = Image.fromarray(picture), io.BytesIO()
    if max(image.size) <= SHOWN // 2:
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


def _rects(whose: str, boxes: NDArray[np.generic], told: Iterable[str], width: int) -> str:
    """Boxes as SVG: a dark line below makes each stand out on any picture."""
    color, dashes = LINES[whose]
    unit = width / SHOWN
    dashed = f" stroke-dasharray='{' '.join(f'{unit * float(one):.2f}' for one in dashes.split())}'" if dashes else ""
    drawn = []
    for (x1, y1, x2, y2), text in zip(boxes.tolist(), told, strict=True):
        if not (x2 > x1 and y2 > y1):
            continue
        place = f"x='{x1:.1f}' y='{y1:.1f}' width='{x2 - x1:.1f}' height='{y2 - y1:.1f}'"
        drawn.append(
            f"<rect {place} stroke='#000' stroke-opacity='0.45' stroke-width='{3.6 * unit:.2f}'{dashed}></rect>"
            f"<rect {place} stroke='{color}' stroke-width='{2 * unit:.2f}'{dashed}>"
            f"<title>{html.escape(f'{whose}: {text}')}</title></rect>"
        )
    return "".join(drawn)


def _key() -> str:
    """The legend."""
    lines = "".join(
        "<span style='white-space:nowrap;margin-right:1.2rem'>"
        "<svg width='34' height='10' style='vertical-align:middle;margin-right:0.35rem'>"
        f"<line x1='1' y1='5' x2='33' y2='5' stroke='{color}' stroke-width='3' stroke-dasharray='{dashes or 'none'}'>"
        f"</line></svg>{whose}</span>"
        for whose, (color, dashes) in LINES.items()
    )
    return f"<p style='font-size:0.85rem;margin:0 0 0.6rem'>{lines}</p>"


BOXES = Viewer(
    "boxes",
    _can_show,
    _html,
    "17rem",
    lambda _split: "Of each model those boxes are drawn that it is surest of, as many as the image has objects.",
    legend=_key(),
)
