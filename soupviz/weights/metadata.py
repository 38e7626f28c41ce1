"""What is known of a checkpoint besides its weights: values in JSON or CSV files beside it."""

import csv
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from soupviz.errors import CheckpointError

NAME_COLUMNS = ("name", "file", "filename", "checkpoint", "ingredient", "path")


def beside(path: Path) -> dict[str, Any]:
    """Plain values from NAME.json beside a checkpoint, and from the row that names it in a CSV of its folder.

    Raises:
        CheckpointError: NAME.json is not a JSON object.
    """
    found: dict[str, Any] = {}
    for table in sorted(path.parent.glob("*.csv")):
        found |= _row(table, path)
    sidecar = path.with_suffix(".json")
    if sidecar.is_file():
        try:
            values = json.loads(sidecar.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"{sidecar}: not JSON ({error}); mend it or move it away.") from None
        if isinstance(values, dict):
            found |= {key: value for key, value in values.items() if isinstance(value, (bool, int, float, str))}
    return found


def _row(table: Path, path: Path) -> dict[str, Any]:
    names = {path.name, path.stem}
    for row in _rows(table, table.stat().st_mtime_ns):
        named = next((column for column in row if column and column.lower() in NAME_COLUMNS), None)
        if named and row[named] and (row[named] in names or Path(row[named]).name in names):
            return {key: value for key, value in row.items() if key and key != named and value}
    return {}


@lru_cache(maxsize=64)
def _rows(table: Path, _mtime: int) -> list[dict[str, Any]]:
    with table.open(newline="", encoding="utf-8", errors="replace") as file:
        return list(csv.DictReader(file))


def as_number(value: Any) -> Any:
    """A value as a number where it reads as one ("1e-3"), else as it is: metadata in safetensors is all text."""
    if isinstance(value, bool) or not isinstance(value, str):
        return value
    try:
        return int(value) if value.strip().lstrip("+-").isdigit() else float(value)
    except ValueError:
        return value
