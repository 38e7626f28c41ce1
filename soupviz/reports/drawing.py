"""Pictures as inline SVG: the specifications of the pages, drawn by Vega without a browser and without a network."""

import json
import re
from typing import Any
from xml.etree import ElementTree

from soupviz.pictures.basics import Chart

WIDTH = 752
"""Of every picture, in CSS pixels: what a column of the report takes; on paper it shrinks to the page."""

ROOM = 0.86
"""Letters are drawn by so much smaller than there is room for: the reader's font may be wider than Vega's."""

FONT = "system-ui, sans-serif"
INK = "currentColor"
"""Text and lines take the colour of the text around the picture: black on white, white on black, black on paper."""

CONFIG: dict[str, Any] = {
    "background": None,
    "aria": False,  # the picture as a whole is described; hundreds of marks read one by one are not
    "font": FONT,
    "view": {"stroke": None},
    "axis": {
        "labelColor": INK, "titleColor": INK, "gridColor": INK, "gridOpacity": 0.12, "domainColor": INK,
        "domainOpacity": 0.35, "tickColor": INK, "tickOpacity": 0.35, "titleFontWeight": 500, "labelFontSize": 13,
        "titleFontSize": 14, "titlePadding": 8, "labelFlush": False,
    },
    "legend": {"labelColor": INK, "titleColor": INK, "labelFontSize": 13, "titleFontSize": 14, "titleFontWeight": 500},
    "header": {"labelColor": INK, "titleColor": INK},
    "title": {"color": INK, "subtitleColor": INK, "fontWeight": 600},
}  # fmt: skip


def inline_svg(chart: Chart, *, name: str, title: str, alt: str, width: int = WIDTH) -> str:
    """A picture as an `<svg>` that can stand in HTML: transparent, its text in the page's colour, described.

    Args:
        name: of letters, unlike that of any other picture in the page: its marks' identifiers begin with it.
        title, alt: what a screen reader says first, and what the picture shows.
    """
    import vl_convert

    data, spec = chart
    # pandas makes null of what is missing, which JSON has no number for.
    values = json.loads(data.to_json(orient="records", double_precision=12))
    fit = {"type": "fit-x", "contains": "padding"}
    whole = {"width": width, "autosize": fit, "padding": 2} | spec | {"data": {"values": values}, "config": CONFIG}
    return _described(vl_convert.vegalite_to_svg(whole, allowed_base_urls=[]), name, title, alt)


def _described(svg: str, name: str, title: str, alt: str) -> str:
    """The SVG with a title and a description, and nothing that clashes with another picture of the page."""
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        element.tag = _local(element.tag)  # HTML knows what is SVG; the addresses of namespaces are not needed
        kept = {_local(key): value for key, value in element.attrib.items() if not key.startswith(("aria-", "role"))}
        element.attrib.clear()
        element.attrib.update({key: _own(key, value, name) for key, value in kept.items()})
    for place, (tag, text) in enumerate((("title", title), ("desc", alt))):
        told = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        told.text = text
        root.insert(place, told)
    root.attrib |= {"role": "img", "aria-labelledby": f"{name}-title {name}-desc"}
    return ElementTree.tostring(root, encoding="unicode")


def _local(key: str) -> str:
    return key.rpartition("}")[2]


def _own(key: str, value: str, name: str) -> str:
    """An attribute whose identifier, or reference to one, begins with the picture's name; letters leave some room."""
    if key == "font-size":
        return f"{ROOM * float(value.removesuffix('px')):g}px"
    return f"{name}-{value}" if key == "id" else re.sub(r"^url\(#", f"url(#{name}-", value)
