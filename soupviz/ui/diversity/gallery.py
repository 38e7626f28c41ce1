"""Units as cards: what they are, what is right, and what two models say of them."""

import html
from collections.abc import Sequence

from soupviz.analysis.examples import Rows
from soupviz.data.split import Split
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.task import Task
from soupviz.ui.viewers.finding import viewer_of
from soupviz.ui.viewers.viewer import Unit, Viewer

STYLE = """
<style>
.soupviz-examples {display: grid; gap: 0.75rem; grid-template-columns: repeat(auto-fill, minmax(WIDTH, 1fr));}
.soupviz-examples figure {margin: 0; padding: 0.6rem; border: 1px solid #80808060; border-radius: 0.5rem;}
.soupviz-examples img {image-rendering: pixelated; display: block; margin: 0 auto 0.4rem; max-width: 100%;}
.soupviz-examples audio {display: block; width: 100%; height: 2.25rem; margin: 0 0 0.5rem;}
.soupviz-examples p {font-size: 0.85rem; margin: 0 0 0.5rem; overflow-wrap: anywhere;}
.soupviz-examples figcaption {font-size: 0.8rem; line-height: 1.4; overflow-wrap: anywhere;}
OWN</style>
"""


def gallery(task: Task, split: Split, classes: Sequence[str], new: Outcomes, old: Outcomes, rows: Rows) -> str:
    """Units as cards, in HTML: as their viewer shows them, and both answers in the task's words."""
    viewer = viewer_of(task, split, int(rows[0]))
    cards = "".join(_card(viewer, task, split, classes, new, old, int(row)) for row in rows)
    style = STYLE.replace("WIDTH", viewer.width).replace("OWN", viewer.style)
    return f"{style}{viewer.legend}<div class='soupviz-examples'>{cards}</div>"


def _card(
    viewer: Viewer, task: Task, split: Split, classes: Sequence[str], new: Outcomes, old: Outcomes, row: int
) -> str:
    label = task.target(new, row, classes)
    if label is None:
        label = task.labelled(split.labels[row].numpy())
    where = split.files[row] if split.files else f"{split.name}[{row}]"
    title, name = html.escape(where, quote=True), f"{task.unit} {row}" + (f", {label}" if label else "")
    shown = viewer.html(Unit(task, split, row, name, classes, new, old))
    if not viewer.tells_answers:
        told = [html.escape(f"{name} {task.told(one, row, classes)}") for name, one in (("soup", new), ("rival", old))]
        caption = "<br>".join([*([f"label <b>{html.escape(label)}</b>"] if label else []), *told])
        shown += f"<figcaption>{caption}</figcaption>"
    return f"<figure title='{title}'>{shown}</figure>"
