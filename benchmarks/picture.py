"""The benchmark's picture: a bar for each comparison, as long as the ratio's logarithm, as SVG without a library."""

import math
from collections.abc import Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

WIDTH, ROW, LABELS, RIGHT = 960, 30, 360, 240
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #31333f } .faint { fill: #6b6f7b } .ratio { font-weight: 600 }
.bar { fill: #e69f00 } .even { stroke: #6b6f7b; stroke-dasharray: 4 3 }
@media (prefers-color-scheme: dark) { text { fill: #fafafa } .faint { fill: #a3a8b4 } }
"""


def picture(title: str, rows: Sequence[tuple[str, float, str, str]]) -> str:
    """An SVG that fits light and dark pages.

    Args:
        rows: what is compared, the ratio (theirs over ours), and both sides in words.
    """
    # Both sides of "as fast" have room; the scale is logarithmic, as ratios are.
    logs = [math.log10(max(ratio, 1e-3)) for _, ratio, _, _ in rows]
    low, high = min(0.0, *logs) - 0.05, max(0.5, *logs)
    scale = (WIDTH - LABELS - RIGHT) / (high - low)
    even = LABELS - low * scale
    height = 40 + ROW * len(rows) + 10
    root = Element("svg", xmlns="http://www.w3.org/2000/svg", viewBox=f"0 0 {WIDTH} {height}", role="img")
    SubElement(root, "title").text = title
    SubElement(root, "style").text = STYLE
    _text(root, 10, 22, title, "ratio")
    for index, ((what, ratio, theirs, ours), log) in enumerate(zip(rows, logs, strict=True)):
        y = 40 + ROW * index
        _text(root, LABELS - 12, y + 19, what, anchor="end")
        left, right = sorted((even, even + log * scale))
        bar = {"x": f"{left:.1f}", "y": str(y + 5), "width": f"{max(1.0, right - left):.1f}", "height": str(ROW - 10)}
        SubElement(root, "rect", bar | {"class": "bar", "rx": "3"})
        told = _text(root, right + 8, y + 19, f"{ratio:,.3g}×" if ratio < 100 else f"{ratio:,.0f}×", "ratio")
        rest = SubElement(told, "tspan", {"class": "faint", "dx": "8", "font-weight": "400"})
        rest.text = f"{theirs} → {ours}"
    line = {"x1": f"{even:.1f}", "x2": f"{even:.1f}", "y1": "36", "y2": str(height - 6), "class": "even"}
    SubElement(root, "line", line)
    indent(root)
    return tostring(root, encoding="unicode") + "\n"


def _text(root: Element, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> Element:
    attributes = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor} | ({"class": kind} if kind else {})
    element = SubElement(root, "text", attributes)
    element.text = text
    return element
