"""Of more things than a picture can show: what is drawn, and a sentence that says so."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

MOST_POINTS = 500
"""Marks in a cloud of points."""

MOST_ROWS = 60
"""Labelled rows of a picture, one below the other."""


def thinned(items: Sequence[T], most: int, *, keeps: Callable[[T], bool] = lambda _one: False) -> list[T]:
    """At most so many of the items, in their order: what has to be there, and of the rest every so many-th.

    Args:
        keeps: what is drawn in any case, and counts.
    """
    if len(items) <= most:
        return list(items)
    rest = [index for index, one in enumerate(items) if not keeps(one)]
    room = max(0, most - (len(items) - len(rest)))
    drawn = {rest[place * len(rest) // room] for place in range(room)} if room else set()
    return [one for index, one in enumerate(items) if index in drawn or keeps(one)]


def leading(items: Sequence[T], most: int, *, keeps: Callable[[T], bool] = lambda _one: False) -> list[T]:
    """The first so many, and of the rest what has to be there."""
    return [one for index, one in enumerate(items) if index < most or keeps(one)]


def told(drawn: int, number: int, what: str, how: str, rest: str = "The table has all of them.") -> str:
    """What is not drawn, in a sentence; empty where everything is.

    Args:
        what: they are called, in the plural. how: they were chosen. rest: where the others are.
    """
    return "" if drawn == number else f"Drawn are {drawn:,} of {number:,} {what}: {how}. {rest}"
