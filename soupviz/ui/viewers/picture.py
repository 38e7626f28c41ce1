"""Pictures: inputs of one or three channels."""

import base64
import html

import torch

from soupviz.analysis import examples
from soupviz.data.split import Split
from soupviz.tasks.task import Task
from soupviz.ui.viewers.viewer import Unit, Viewer


def _can_show(_task: Task, split: Split, row: int) -> bool:
    return examples.pixels(split, row) is not None


def _html(unit: Unit) -> str:
    picture = examples.pixels(unit.split, unit.row)
    assert picture is not None
    width, height = examples.shown_size(picture)
    data = base64.b64encode(examples.png(picture)).decode()
    alt = html.escape(unit.name, quote=True)
    return f"<img src='data:image/png;base64,{data}' width='{width}' height='{height}' alt='{alt}'>"


def _note(split: Split) -> str:
    if split.arrays[""].dtype == torch.uint8:
        return "As the images are before normalisation, after resizing and cropping."
    return "Each is scaled from its own smallest to its own largest value."


PICTURE = Viewer("picture", _can_show, _html, "9.5rem", _note)
