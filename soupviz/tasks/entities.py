"""Entities in a row of tags: B-PER begins one of the kind PER, I-PER goes on, E-PER ends it, S-PER is one, O is none.

Source:
    The chunks of the CoNLL-2000 shared task's evaluation, as seqeval's default mode has them: an I- without a B- begins
    an entity, and so does a tag of another kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass

Entity = tuple[str, int, int]
"""Its kind, and its first and last word."""

NONE = "O"


@dataclass(frozen=True, slots=True)
class Tags:
    """Names of tags, by index; a last one beside them stands for no answer and is O.

    kinds: of entities, sorted. kind_of: of each tag. begins, ends: for a tag and the one after it, whether an entity
    begins at the second, and whether one ends at the first.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    kind_of: tuple[str, ...]
    begins: tuple[tuple[bool, ...], ...]
    ends: tuple[tuple[bool, ...], ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> "Tags":
        marks = [_marks(name) for name in (*names, NONE)]
        kinds = sorted({kind for mark, kind in marks if mark != NONE})
        begins = tuple(tuple(_begins(*one, *other) for other in marks) for one in marks)
        ends = tuple(tuple(_ends(*one, *other) for other in marks) for one in marks)
        return cls(tuple(names), tuple(kinds), tuple(kind for _, kind in marks), begins, ends)

    def entities(self, row: Sequence[int]) -> list[Entity]:
        """The entities of a sentence, from its tags' indices; -1: none."""
        nothing = len(self.names)
        found: list[Entity] = []
        before, start = nothing, 0
        for place, tag in enumerate([*row, nothing]):
            tag = nothing if tag < 0 else tag
            if self.ends[before][tag]:
                found.append((self.kind_of[before], start, place - 1))
            if self.begins[before][tag]:
                start = place
            before = tag
        return found


def _marks(name: str) -> tuple[str, str]:
    """What a tag says of its word's place in an entity, and the entity's kind."""
    return name[:1], name[1:].split("-", 1)[-1] or "_"


def _begins(mark: str, kind: str, next_mark: str, next_kind: str) -> bool:
    if next_mark in ("B", "S"):
        return True
    if next_mark in ("E", "I") and mark in ("E", "S", NONE):
        return True
    return next_mark not in (NONE, ".") and kind != next_kind


def _ends(mark: str, kind: str, next_mark: str, next_kind: str) -> bool:
    if mark in ("E", "S"):
        return True
    if mark in ("B", "I") and next_mark in ("B", "S", NONE):
        return True
    return mark not in (NONE, ".") and kind != next_kind
