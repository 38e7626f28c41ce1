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
    "text", lambda split, _row: bool(split.texts), lambda split, row, _name: paragraph(row, split.texts[row]), "18rem"
)
