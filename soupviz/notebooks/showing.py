"""A record as HTML: its picture, where what draws it is installed, and a table of what is known of it."""

import uuid
from collections.abc import Sequence
from html import escape
from importlib.util import find_spec

from soupviz.analysis.verdicts import verdict_of
from soupviz.kitchen import Kitchen
from soupviz.notebooks.charts import Picture, picture_of
from soupviz.reports.drawing import inline_svg
from soupviz.soups.frames import Curve
from soupviz.soups.planning import ingredient_summaries
from soupviz.soups.soup import Soup
from soupviz.spec import HELD_OUT, TEST
from soupviz.tasks.wording import cell_of

WIDTH = 620
NONE = "–"


def html(thing: Kitchen | Soup | Curve) -> str:
    """What a notebook shows of it; nothing is scored for it."""
    picture = picture_of(thing)
    drawn = _drawn(picture) if picture and find_spec("vl_convert") else ""
    if isinstance(thing, Curve):
        return drawn  # the table is the frame's own
    return drawn + (_soup(thing) if isinstance(thing, Soup) else _kitchen(thing))


def _drawn(picture: Picture) -> str:
    name = "soupviz" + "".join(chr(ord("a") + int(digit, 16)) for digit in uuid.uuid4().hex[:12])  # of letters alone
    svg = inline_svg(picture.chart, name=name, title=picture.title, alt=picture.title, width=WIDTH)
    return f'<figure style="margin:0">{svg}<figcaption>{escape(picture.title)}</figcaption></figure>'


def _soup(soup: Soup) -> str:
    kitchen = soup.kitchen
    rows = [
        [split, "selects" if split in soup.selected_on else "reports", *kitchen.task.in_words(score).values()]
        for split, score in soup.scores.items()
    ]
    heads = ["split", "role", *kitchen.task.in_words(next(iter(soup.scores.values())))]
    told = [soup.made_of, verdict_of(kitchen, soup).sentence]
    return (
        f"<p><b>{escape(soup.title)}</b></p>" + _table(heads, rows) + "".join(f"<p>{escape(one)}</p>" for one in told)
    )


def _kitchen(kitchen: Kitchen) -> str:
    metric = kitchen.objective
    splits = [split for split in (HELD_OUT, TEST) if split in kitchen.splits.names and kitchen.splits.is_loaded(split)]
    known = {split: ingredient_summaries(kitchen, split, kitchen.names) for split in splits}
    facts = dict.fromkeys(key for item in kitchen.ingredients for key in item.metadata)

    def value(name: str, split: str) -> str:
        score = known[split].get(name)
        return cell_of(metric, score) if score else NONE

    rows = [
        [
            item.name,
            *(value(item.name, split) for split in splits),
            *(str(item.metadata.get(key, NONE)) for key in facts),
            item.fingerprint[:12],
        ]
        for item in kitchen.ingredients
    ]
    heads = ["ingredient", *(f"{metric.label} on {split}" for split in splits), *facts, "fingerprint"]
    return f"<p><b>{escape(kitchen.title)}</b></p>" + _table(heads, rows)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(text)}</{tag}>" for text in cells) + "</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(heads, 'th')}</thead><tbody>{body}</tbody></table>"
