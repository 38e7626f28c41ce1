"""Texts, where the data set tells them."""

import html

from soupviz.ui.viewers.viewer import Viewer

LONGEST = 600
"""Characters; what is longer is cut."""


def paragraph(row: int, text: str) -> str:
    """A text as it is, with the number of its unit."""
    shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    return f"<p>#{row}: {html.escape(shown)}</p>"


TEXT = Viewer(
    "text",
    lambda _task, split, _row: bool(split.texts),
    lambda unit: paragraph(unit.row, unit.split.texts[unit.row]),
    "18rem",
)
