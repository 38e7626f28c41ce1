"""A viewer: how one kind of unit is shown."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from soupviz.data.split import Split
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.task import Task


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """A unit to be shown. name: what it is called where it cannot be seen. new, old: what soup and rival made of all
    units of the split."""

    task: Task
    split: Split
    row: int
    name: str
    classes: Sequence[str]
    new: Outcomes
    old: Outcomes


@dataclass(frozen=True, slots=True)
class Viewer:
    """How one kind of unit is shown.

    can_show: whether a split's row is of that kind. html: a unit as HTML, all text in it escaped. width: of a card, in
    CSS. note: what is to be said of all of them. tells_answers: whether the HTML has what is right and both answers.
    style: CSS of its own, for the whole gallery. legend: as HTML, once above all cards.
    """

    name: str
    can_show: Callable[[Task, Split, int], bool]
    html: Callable[[Unit], str]
    width: str
    note: Callable[[Split], str] = lambda _split: ""
    tells_answers: bool = False
    style: str = ""
    legend: str = ""
