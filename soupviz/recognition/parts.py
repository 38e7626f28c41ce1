"""The pieces that a proposal is joined of, and what they are made of."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soupviz.addresses import address_of
from soupviz.recognition.runs import Answers, Fact, Found, MayRead, Question, Run

SAID = "you said so"


@dataclass(frozen=True, slots=True)
class Setting:
    """What a proposal is made of: a run, the kitchen.yaml to write, the user's answers, and what may be looked at."""

    run: Run
    file: Path
    answers: Answers
    may_read: MayRead

    def relative(self, path: Path) -> str:
        """A path as the kitchen.yaml names it: by its address, where it was fetched from one."""
        if address := address_of(path):
            return address
        return Path(os.path.relpath(path, self.file.parent)).as_posix()

    def around(self) -> list[Path]:
        """The run's folder and those above it."""
        run = self.run.folder
        return [place for place in (run, *run.parents[:2]) if self.may_read(place)]


@dataclass(frozen=True, slots=True)
class Part:
    """Keys of the document, with what there is to tell of them."""

    document: Mapping[str, Any] = field(default_factory=dict)
    facts: tuple[Fact, ...] = ()
    questions: tuple[Question, ...] = ()
    notes: tuple[str, ...] = ()


def joined(parts: Iterable[Part]) -> Part:
    """Several parts as one."""
    parts = list(parts)
    return Part(
        {key: value for part in parts for key, value in part.document.items()},
        tuple(fact for part in parts for fact in part.facts),
        tuple(question for part in parts for question in part.questions),
        tuple(note for part in parts for note in part.notes),
    )


def of(key: str, found: Found | None) -> Part:
    """One key of the document; nothing where nothing was found."""
    return Part({key: found.value}, (Fact(key, found.value, found.source),)) if found else Part()
