"""Images with a class for each pixel: what is right, and what soup and rival predict, laid over the picture."""

import base64
import html
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from soupviz.analysis import examples
from soupviz.data.split import Split
from soupviz.pictures.palette import NEUTRAL, OF_CLASSES
from soupviz.tasks.masks.mask_runs import from_runs, made_small
from soupviz.tasks.masks.segmentation import SAID, Segmentation
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.task import Task
from soupviz.ui.viewers.viewer import Unit, Viewer

Mask = NDArray[np.int64]

BARE = ("background", "__background__", "bg", "0")
"""Names of class 0 that is no thing of its own, and left without a colour."""

NOT_JUDGED = -1
ALPHA, EDGE = 130, 255
EDGED = 64
"""Pixels of the shorter side from which the edges of regions are drawn."""

NAMES_SHOWN = 8


def _can_show(task: Task, split: Split, row: int) -> bool:
    return isinstance(task, Segmentation) and examples.pixels(split, row) is not None


def _html(unit: Unit) -> str:
    picture = examples.pixels(unit.split, unit.row)
    assert picture is not None and isinstance(unit.task, Segmentation)
    width, height = examples.shown_size(picture)
    masks = {
        "truth": _truth(unit.task, unit.split, unit.row),
        "soup": _said(unit.new, unit),
        "rival": _said(unit.old, unit),
    }
    base = f"background-image: url({_data(picture)}); background-size: 100% 100%; image-rendering: pixelated"
    size = f"width: {width}px; height: {height}px; max-width: 100%"
    panels = [_panel("image", size, base, "", unit.name)]
    for name, mask in masks.items():
        over = (
            ""
            if mask is None
            else f"<img src='{_data(coloured(mask, unit.classes))}' alt='' style='{size}; margin: 0'>"
        )
        said = "nothing" if mask is None else ", ".join(label for label, _ in _legend([mask], unit.classes))
        panels.append(_panel(name, size, base, over, f"{name}: {said}"))
    shown = [mask for mask in masks.values() if mask is not None]
    grid = "display: grid; grid-template-columns: repeat(2, auto); gap: 0.5rem; justify-content: center"
    return f"<div style='{grid}'>{''.join(panels)}</div>{_swatches(_legend(shown, unit.classes))}"


def _panel(title: str, size: str, base: str, over: str, alt: str) -> str:
    inner = f"<div role='img' aria-label='{html.escape(alt, quote=True)}' style='{size}; {base}'>{over}</div>"
    return f"<div style='font-size: 0.75rem'>{inner}{title}</div>"


def _truth(task: Segmentation, split: Split, row: int) -> Mask:
    mask = made_small(split.labels[row][None].to(torch.int32))[0].numpy().astype(np.int64)
    return np.where(np.isin(mask, task.ignore), NOT_JUDGED, mask)


def _said(outcomes: Outcomes, unit: Unit) -> Mask | None:
    return from_runs(outcomes[SAID][unit.row]) if SAID in outcomes else None


def coloured(mask: Mask, classes: Sequence[str]) -> NDArray[np.uint8]:
    """A mask as a picture with transparency, shape (height, width, 4), whose regions have an edge."""
    found = np.zeros((*mask.shape, 4), dtype=np.uint8)
    for value in np.unique(mask).tolist():
        if colour := _colour(value, classes):
            found[mask == value] = (*bytes.fromhex(colour[1:]), ALPHA)
    if min(mask.shape) >= EDGED:
        edge = np.zeros(mask.shape, dtype=np.bool_)
        edge[:, 1:] |= mask[:, 1:] != mask[:, :-1]
        edge[1:] |= mask[1:] != mask[:-1]
        found[edge & (found[:, :, 3] > 0), 3] = EDGE
    return found


def _colour(value: int, classes: Sequence[str]) -> str:
    """Of a class, or what is not judged; empty: it has none."""
    if value == NOT_JUDGED:
        return NEUTRAL
    is_bare = classes[0].lower() in BARE
    return "" if is_bare and not value else OF_CLASSES[(value - is_bare) % len(OF_CLASSES)]


def _legend(masks: Iterable[Mask], classes: Sequence[str]) -> list[tuple[str, str]]:
    """The names of the classes in some masks, each with its colour."""
    values = sorted({value for mask in masks for value in np.unique(mask).tolist()}, key=lambda one: (one < 0, one))
    return [("not judged" if value < 0 else classes[value], _colour(value, classes)) for value in values]


def _swatches(legend: Sequence[tuple[str, str]]) -> str:
    square = "display: inline-block; width: 0.7em; height: 0.7em; border: 1px solid #80808080; margin-right: 0.35em"
    each = [
        f"<span style='margin-right: 0.8em; white-space: nowrap'><span style='{square}; background: "
        f"{colour or 'transparent'}'></span>{html.escape(name)}</span>"
        for name, colour in legend[:NAMES_SHOWN]
    ]
    more = f"<span>and {len(legend) - NAMES_SHOWN} more</span>" if len(legend) > NAMES_SHOWN else ""
    return f"<p style='font-size: 0.75rem; margin: 0.4rem 0'>{''.join(each)}{more}</p>"


def _data(picture: NDArray[np.uint8]) -> str:
    return f"data:image/png;base64,{base64.b64encode(examples.png(picture)).decode()}"


MASKS = Viewer(
    "masks",
    _can_show,
    _html,
    "18.5rem",
    lambda _split: "As the images are after resizing and cropping, with the classes of their pixels laid over them.",
)
