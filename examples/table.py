"""`python -m examples.table FOLDER...`: what examples found, a line a kitchen, as the README shows it."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from soupviz.tasks.wording import in_percent, places

SHOWN = ("uniform soup", "greedy soup", "ensemble of all")


def lines(folders: Sequence[Path]) -> Iterator[str]:
    yield "| kitchen | metric on test | best single | uniform | greedy | its 95 % | ensemble | n | p of greedy |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for folder in folders:
        for one in json.loads((folder / "results.json").read_text(encoding="utf-8"))["kitchens"].values():
            yield _line(one)


def _line(one: dict[str, Any]) -> str:
    rows = {row["name"]: row for row in one["rows"]}
    units = one["best"]["scores"]["test"]["num_units"]

    def told(value: float, digits: int = places(units)) -> str:
        return f"{in_percent(value, digits)} %" if one["in_percent"] else f"{value:.4f}"

    def shown(scores: dict[str, Any]) -> str:
        return told(scores["test"]["value"])

    uniform, greedy, ensemble = (shown(rows[name]["scores"]) if name in rows else "–" for name in SHOWN)
    row = rows["greedy soup"]
    around = " to ".join(told(row["scores"]["test"][end], 1) for end in ("low", "high"))
    p = "the best itself" if row["p_value"] is None else f"{row['p_value']:.2g}"
    cells = (one["kitchen"], one["metric"], shown(one["best"]["scores"]), uniform, greedy, around, ensemble)
    return f"| {' | '.join(cells)} | {units:,} {one['unit']}s | {p} |"


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines([Path(folder) for folder in sys.argv[1:]])) + "\n")
