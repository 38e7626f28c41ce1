"""What was said, and what soup and rival heard, with their differences marked."""

import html

from soupviz.data.labels import as_text
from soupviz.tasks.edits import aligned
from soupviz.tasks.outcomes import FINITE, Outcomes
from soupviz.tasks.task import NOTHING
from soupviz.tasks.transcription import HYPOTHESIS, REFERENCE, Transcription
from soupviz.ui.viewers import sound
from soupviz.ui.viewers.viewer import Unit, Viewer

MOST_WORDS = 60
"""Of a long text as many are shown."""

STYLE = """
.soupviz-heard p {font-size: 0.9rem; line-height: 1.6; margin: 0 0 0.3rem;}
.soupviz-heard span {display: block; font-size: 0.8rem; line-height: 1.3; opacity: 0.75;}
.soupviz-heard del, .soupviz-heard ins {background: #80808033; border-radius: 0.25rem; padding: 0 0.2rem;}
.soupviz-heard ins {font-weight: 600;}
"""

KEY = "−word is missed, +word is heard besides, one→other is heard instead."


def _html(unit: Unit) -> str:
    assert isinstance(unit.task, Transcription)
    said = as_text(unit.new[REFERENCE][unit.row])
    parts = [("said", _plain(said) or "(nothing)")]
    parts += [(name, _heard(unit.task, said, one, unit.row)) for name, one in (("soup", unit.new), ("rival", unit.old))]
    listed = "".join(f"<p><span>{name}</span>{text}</p>" for name, text in parts)
    listen = sound.player(unit.split, unit.row, unit.name) if unit.split.rate else ""
    return f"<p>#{unit.row}</p>{listen}<div class='soupviz-heard'>{listed}</div>"


def _plain(text: str) -> str:
    words = text.split()
    return html.escape(" ".join(words[:MOST_WORDS])) + ("…" if len(words) > MOST_WORDS else "")


def _heard(task: Transcription, said: str, outcomes: Outcomes, row: int) -> str:
    if not outcomes[FINITE][row]:
        return html.escape(NOTHING)
    pairs = aligned(said, task.normalized(as_text(outcomes[HYPOTHESIS][row])))
    number = sum(one != other for one, other in pairs)
    shown = " ".join(_marked(*pair) for pair in pairs[:MOST_WORDS]) + ("…" if len(pairs) > MOST_WORDS else "")
    mark = f"✗ {number} wrong: " if number else "✓ "
    return f"{mark}{shown or '(nothing)'}"


def _marked(said: str, heard: str) -> str:
    one, other = html.escape(said), html.escape(heard)
    if said == heard:
        return one
    if not heard:
        return f"−<del>{one}</del>"
    return f"<del>{one}</del>→<ins>{other}</ins>" if said else f"+<ins>{other}</ins>"


TRANSCRIPT = Viewer(
    "transcript",
    lambda task, _split, _row: isinstance(task, Transcription),
    _html,
    "18rem",
    lambda split: f"{KEY} {sound.note(split)}".rstrip(),
    tells_answers=True,
    style=STYLE,
)
