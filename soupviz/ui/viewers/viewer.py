"""A viewer: how one kind of unit is shown."""

from collections.abc import Callable
from dataclasses import dataclass

from soupviz.data.split import Split


@dataclass(frozen=True, slots=True)
class Viewer:
    """How one kind of unit is shown.

    can_show: whether a split's row is of that kind. html: a row as HTML, all text in it escaped; its last argument is
    what the unit is called where it cannot be seen. width: of a card, in CSS. note: what is to be said of all of them.
    """

    name: str
    can_show: Callable[[Split, int], bool]
    html: Callable[[Split, int, str], str]
    width: str
    note: Callable[[Split], str] = lambda _split: ""
