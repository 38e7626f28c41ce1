"""Draws docs/house.svg from the imports: which package uses which, in the order that pyproject.toml names.

    python -m docs.house

A test holds what is committed against what this would draw.
"""

import tomllib
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "house.svg"
ROW, LEFT, TOP = 24, 150, 96
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f } .small { fill: #57606a; font-size: 11px }
  line { stroke: #d0d7de } circle { fill: #0072b2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9da7b1 } line { stroke: #3d444d } circle { fill: #56b4e9 } }
"""


def rooms() -> list[str]:
    """The packages and modules of the house, the highest first."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [contract] = config["tool"]["importlinter"]["contracts"]
    names = [name.strip() for layer in contract["layers"] for name in layer.split(":")]
    return [name for name in names if not name.startswith("_")]


def uses() -> dict[tuple[str, str], int]:
    """How many imports lead from one room into another."""
    graph = grimp.build_graph("soupviz", cache_dir=None)
    found: dict[tuple[str, str], int] = {}
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            pair = _room(importer), _room(imported)
            if pair[0] != pair[1] and all(pair):
                found[pair] = found.get(pair, 0) + 1
    return found


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def picture() -> str:
    """A row and a column for each room; a dot where the row uses the column, larger where it does often."""
    names, counts = rooms(), uses()
    place = {name: index for index, name in enumerate(names)}
    side = ROW * len(names)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + side + 90} {TOP + side + 12}" role="img">',
        "<title>Which room of soupviz uses which: all dots lie right of the diagonal, as imports go down only</title>",
        f"<style>{STYLE}</style>",
    ]
    for name, index in place.items():
        y, x = TOP + ROW * index, LEFT + ROW * index
        parts.append(f'<line x1="{LEFT}" y1="{y}" x2="{LEFT + side}" y2="{y}"/>')
        parts.append(f'<line x1="{x}" y1="{TOP}" x2="{x}" y2="{TOP + side}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 16}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<text class="small" transform="translate({x + 15} {TOP - 6}) rotate(-55)">{escape(name)}</text>')
    for (above, below), count in sorted(counts.items()):
        if above in place and below in place:
            x, y = LEFT + ROW * place[below] + ROW / 2, TOP + ROW * place[above] + ROW / 2
            radius = min(9.0, 2.5 + count**0.5)
            told = f"{above} imports {below}: {count} times"
            parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:.1f}"><title>{escape(told)}</title></circle>')
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
