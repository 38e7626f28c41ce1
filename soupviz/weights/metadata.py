"""What is known of a checkpoint besides its weights: values in files beside it, and what its framework logged."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from soupviz.errors import CheckpointError
from soupviz.weights import logs
from soupviz.weights.inert import plain, read_json, read_yaml
from soupviz.weights.tables import header_of

NAME_COLUMNS = ("name", "file", "filename", "checkpoint", "ingredient", "path")


def beside(
    path: Path,
    known: Mapping[str, Any] | None = None,
    tell: Callable[[CheckpointError], None] | None = None,
    passed: Path | None = None,
) -> dict[str, Any]:
    """Plain values of a checkpoint, a file or a folder, from what lies beside it; the nearest to it win.

    They come from its framework's logs (timm, Trainer, Lightning, Ultralytics), from the row that names it in a CSV of
    its folder, and from NAME.yaml, CKPT.yaml or NAME.json.

    Args:
        known: plain values inside the checkpoint, such as its epoch, for files whose name does not tell.
        tell: is given what cannot be read, which is then left out. passed: a table that is passed over.
    Raises:
        CheckpointError: a file beside it that is damaged, where nobody is told.
    """
    folder = path if path.is_dir() else path.parent
    tables = sorted(table for table in path.parent.glob("*.csv") if table.is_file() and table.resolve() != passed)
    found: dict[str, Any] = {}
    for read in (
        *(partial(reader, folder, path.name, known or {}) for reader in logs.READERS),
        *(partial(_row, table, path) for table in tables),
        *(partial(_sidecar, sidecar) for sidecar in _sidecars(path, folder)),
    ):
        try:
            found |= {key: as_number(value) for key, value in read().items()}
        except CheckpointError as error:
            if tell is None:
                raise
            tell(error)
    return found


def _sidecar(path: Path) -> dict[str, Any]:
    return plain(read_json(path) if path.suffix == ".json" else read_yaml(path))


def _sidecars(path: Path, folder: Path) -> list[Path]:
    stems = [path.name]
    if path.is_file():
        while stems[-1] != Path(stems[-1]).stem and len(Path(stems[-1]).suffix) <= len(".safetensors"):
            stems.append(Path(stems[-1]).stem)
    places = [path.parent / f"{stem}{suffix}" for suffix in (".yaml", ".yml", ".json") for stem in stems]
    return [place for place in [folder / "CKPT.yaml", *places] if place.is_file() and place != path]


def _row(table: Path, path: Path) -> dict[str, Any]:
    names = {path.name, path.stem}
    if not any(column.lower() in NAME_COLUMNS for column in header_of(table)):
        return {}  # data, most likely
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
