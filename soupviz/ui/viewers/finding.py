"""The viewers by name, the first that can show a unit first."""

from soupviz.data.split import Split
from soupviz.tasks.task import Task
from soupviz.ui.viewers.boxes import BOXES
from soupviz.ui.viewers.entities import ENTITIES
from soupviz.ui.viewers.masks import MASKS
from soupviz.ui.viewers.numbers import NUMBERS
from soupviz.ui.viewers.picture import PICTURE
from soupviz.ui.viewers.sound import SOUND
from soupviz.ui.viewers.text import TEXT
from soupviz.ui.viewers.transcript import TRANSCRIPT
from soupviz.ui.viewers.viewer import Viewer

KNOWN = (TRANSCRIPT, SOUND, BOXES, ENTITIES, MASKS, TEXT, PICTURE, NUMBERS)
VIEWERS: dict[str, Viewer] = {viewer.name: viewer for viewer in KNOWN}


def viewer_of(task: Task, split: Split, row: int) -> Viewer:
    """What shows the units of a split, by one of them."""
    return next(viewer for viewer in VIEWERS.values() if viewer.can_show(task, split, row))
