"""Rows of numbers; of what is larger, and of several inputs, what tensors they are. It can show every split."""

from soupviz.analysis import examples
from soupviz.data.split import Split
from soupviz.ui.viewers.text import paragraph
from soupviz.ui.viewers.viewer import Viewer


def _note(split: Split) -> str:
    shapes = split.shapes
    if "" in shapes and len(shapes[""]) == 1 and shapes[""][0] <= examples.NUMBERS_SHOWN:
        return ""
    return "They are no pictures, and their data set has no method text(index) that tells what to show."


NUMBERS = Viewer(
    "numbers",
    lambda _task, _split, _row: True,
    lambda unit: paragraph(unit.row, examples.described(unit.split, unit.row)),
    "18rem",
    _note,
)
