"""Sentences with their entities marked: those that are right, those of the soup, those of the rival."""

import html
from collections.abc import Sequence

import numpy as np

from soupviz.data.split import Split
from soupviz.data.text.tagged import CUT
from soupviz.pictures.palette import OF_CLASSES
from soupviz.tasks.task import Task
from soupviz.tasks.text.entities import Tags
from soupviz.tasks.text.token_classification import SAID, TokenClassification
from soupviz.ui.viewers.viewer import Unit, Viewer

LONGEST = 80
"""Words; what comes after them is left out."""

MARK = "border-radius: 0.25rem; padding: 0 0.2rem; border-bottom: 2px solid {colour}; background: {colour}33"
NAME = "display: inline-block; min-width: 2.7rem; font-size: 0.75rem"
KIND = "font-size: 0.65rem; font-weight: 600; opacity: 0.85"
LOST = "text-decoration: line-through; opacity: 0.6"


def _can_show(task: Task, split: Split, row: int) -> bool:
    return isinstance(task, TokenClassification) and bool(split.texts)


def _html(unit: Unit) -> str:
    assert isinstance(unit.task, TokenClassification)
    words = unit.split.texts[unit.row].split(" ")
    label = unit.split.labels[unit.row, : len(words)].numpy()
    lost = label <= CUT
    rows = {"truth": np.where(lost, CUT - label, label)}
    for name, outcomes in (("soup", unit.new), ("rival", unit.old)):
        if SAID in outcomes:
            rows[name] = outcomes[SAID][unit.row, : len(words)]
    return "".join(
        f"<p><b style='{NAME}'>{name}</b>{_marked(unit.task.tags, words, row.tolist(), lost.tolist())}</p>"
        for name, row in rows.items()
    )


def _marked(tags: Tags, words: Sequence[str], row: Sequence[int], lost: Sequence[bool]) -> str:
    """A sentence in HTML. lost: words that the model is not given."""
    shown = [f"<span style='{LOST}'>{html.escape(word)}</span>" if gone else html.escape(word)
             for word, gone in zip(words, lost, strict=True)]  # fmt: skip
    found, place = [], 0
    for kind, start, end in sorted(tags.entities(row), key=lambda one: one[1]):
        if start < place:
            continue
        colour = OF_CLASSES[tags.kinds.index(kind) % len(OF_CLASSES)]
        found += shown[place:start]
        inner = " ".join(shown[start : end + 1])
        found.append(
            f"<span style='{MARK.format(colour=colour)}'>{inner} <span style='{KIND}'>{html.escape(kind)}</span></span>"
        )
        place = end + 1
    found += shown[place:]
    more = " …" if len(words) > LONGEST else ""
    return " ".join(found[:LONGEST]) + more


def _note(split: Split) -> str:
    lost = bool((split.labels <= CUT).any())
    return "Words that are struck out lie beyond the last token that the model is given." if lost else ""


ENTITIES = Viewer("entities", _can_show, _html, "24rem", _note)
