"""Examples as cards: the picture or the text, the label, and what two models say of it."""

import base64
import html
from collections.abc import Sequence

from soupviz.analysis import examples
from soupviz.analysis.examples import Rows
from soupviz.data.splits import Split
from soupviz.tasks.outcomes import Outcomes

LONGEST_TEXT = 600
STYLE = """
<style>
.soupviz-examples {display: grid; gap: 0.75rem; grid-template-columns: repeat(auto-fill, minmax(WIDTH, 1fr));}
.soupviz-examples figure {margin: 0; padding: 0.6rem; border: 1px solid #80808060; border-radius: 0.5rem;}
.soupviz-examples img {image-rendering: pixelated; display: block; margin: 0 auto 0.4rem; max-width: 100%;}
.soupviz-examples p {font-size: 0.85rem; margin: 0 0 0.5rem; overflow-wrap: anywhere;}
.soupviz-examples figcaption {font-size: 0.8rem; line-height: 1.4; overflow-wrap: anywhere;}
</style>
"""


def gallery(split: Split, classes: Sequence[str], new: Outcomes, old: Outcomes, rows: Rows) -> str:
    """Examples as cards, in HTML: the picture or the text, the label, and both predictions with their confidence."""
    has_pictures = not split.texts and examples.pixels(split, int(rows[0])) is not None
    cards = "".join(_card(split, classes, new, old, int(row)) for row in rows)
    return f"{STYLE.replace('WIDTH', '9.5rem' if has_pictures else '18rem')}<div class='soupviz-examples'>{cards}</div>"


def _card(split: Split, classes: Sequence[str], new: Outcomes, old: Outcomes, row: int) -> str:
    label = classes[int(split.labels[row])]
    where = split.files[row] if split.files else f"{split.name}[{row}]"
    told = [_prediction(name, one, row, classes) for name, one in (("soup", new), ("rival", old))]
    caption = f"label <b>{html.escape(label)}</b><br>{'<br>'.join(told)}"
    title = html.escape(where, quote=True)
    return f"<figure title='{title}'>{_shown(split, row, label)}<figcaption>{caption}</figcaption></figure>"


def _shown(split: Split, row: int, label: str) -> str:
    picture = None if split.texts else examples.pixels(split, row)
    if picture is None:
        text = examples.described(split, row)
        text = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…"
        return f"<p>#{row}: {html.escape(text)}</p>"
    width, height = examples.shown_size(picture)
    data = base64.b64encode(examples.png(picture)).decode()
    alt = html.escape(f"example {row}, {label}", quote=True)
    return f"<img src='data:image/png;base64,{data}' width='{width}' height='{height}' alt='{alt}'>"


def _prediction(name: str, one: Outcomes, row: int, classes: Sequence[str]) -> str:
    if one["prediction"][row] < 0:
        return f"{name} ✗ nothing: its output is not finite"
    mark = "✓" if one["right"][row] else "✗"
    said = html.escape(classes[int(one["prediction"][row])])
    return f"{name} {mark} {said}, {100 * float(one['confidence'][row]):.0f} %"
