"""What is known of a checkpoint besides its weights: values in files beside it, and what its framework logged."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from soupviz.weights import logs
from soupviz.weights.inert import plain, read_json, read_yaml

NAME_COLUMNS = ("name", "file", "filename", "checkpoint", "ingredient", "path")


def beside(path: Path, known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Plain values of a checkpoint, a file or a folder, from what lies beside it; the nearest to it win.

    They come from its framework's logs (timm, Trainer, Lightning, Ultralytics), from the row that names it in a CSV of
    its folder, and from NAME.yaml, CKPT.yaml or NAME.json.

    Args:
        known: plain values inside the checkpoint, such as its epoch, for files whose name does not tell.
    Raises:
        CheckpointError: a file beside it that is damaged.
    """
    folder = path if path.is_dir() else path.parent
    found: dict[str, Any] = {}
    for reader in logs.READERS:
        found |= {key: as_number(value) for key, value in reader(folder, path.name, known or {}).items()}
    for table in sorted(table for table in path.parent.glob("*.csv") if table.is_file()):
        found |= _row(table, path)
    for sidecar in _sidecars(path, folder):
        found |= plain(read_json(sidecar) if sidecar.suffix == ".json" else read_yaml(sidecar))
    return found


def _sidecars(path: Path, folder: Path) -> list[Path]:
    stems = [path.name]
    if path.is_file():
        while stems[-1] != Path(stems[-1]).stem and len(Path(stems[-1]).suffix) <= len(".safetensors"):
            stems.append(Path(stems[-1]).stem)
    places = [path.parent / f"{stem}{suffix}" for suffix in (".yaml", ".yml", ".json") for stem in stems]
    return [place for place in [folder / "CKPT.yaml", *places] if place.is_file() and place != path]


def _row(table: Path, path: Path) -> dict[str, Any]:
    names = {path.name, path.stem}
    for row in logs.read_rows(table, table.stat().st_mtime_ns):
        named = next((column for column in row if column.lower() in NAME_COLUMNS), None)
        if named and (row[named] in names or Path(row[named]).name in names):
            return {key: value for key, value in row.items() if key != named}
    return {}


def as_number(value: Any) -> Any:
    """A value as a number where it reads as one ("1e-3"), else as it is: metadata in safetensors is all text."""
    if isinstance(value, bool) or not isinstance(value, str):
        return value
    try:
        return int(value) if value.strip().lstrip("+-").isdigit() else float(value)
    except ValueError:
        return value
