"""Looking into checkpoints and Python files without running anything."""

import ast
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from soupviz.errors import CheckpointError
from soupviz.weights.checkpoints import Checkpoint, read
from soupviz.weights.conversions import stand_ins
from soupviz.weights.inert import LARGEST

BUILDERS = ("build", "make", "create", "get_model", "model", "net", "classifier")
SCANNED = 40
"""Python files that are looked at for factories."""
HARMLESS = ("torch", "sys", "os", "warnings", "logging", "random", "np", "numpy")
"""Modules whose functions a file may call when it is imported, such as to set a seed or a path."""
BASES = ("base", "pretrained", "init", "initial", "zeroshot")
"""Names of what a run started from: of a file, or of a folder."""
DEPTH = 3
"""How many folders deep a run is looked for."""
WIDTH = 200
"""Folders of one level that are looked at."""


def levels(folder: Path) -> Iterator[list[Path]]:
    """A folder, the folders in it, those in these, and so on."""
    level = [folder]
    for _ in range(DEPTH + 1):
        yield level
        level = [child for place in level for child in _folders_in(place)][:WIDTH]


def _folders_in(folder: Path) -> list[Path]:
    try:
        children = sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
    except OSError:  # it may not be read
        return []
    if any(child.name == "snapshots" for child in children):  # Hugging Face's cache: blobs are what snapshots link to
        children = [child for child in children if child.name != "blobs"]
    return [child for child in children if not child.name.startswith((".", "__"))]


def first_readable(files: Iterable[Path]) -> Checkpoint | None:
    """The first checkpoint that can be read; what cannot is refused with its reason when the kitchen is opened."""
    for path in files:
        try:
            return read(next(iter(stand_ins(path).values()), path))
        except CheckpointError:
            continue
    return None


def places(folder: Path, named: object) -> tuple[Path, ...]:
    """Where a path that was relative to an unknown folder may be: in the run's folder, or in one above it."""
    try:
        path = Path(str(named)).expanduser()
    except RuntimeError:  # no such user
        return ()
    return (path,) if path.is_absolute() else tuple(place / path for place in (folder, *folder.parents[:5]))


def mapping_in(path: Path) -> dict[str, Any]:
    """What a small JSON file holds, if it is a mapping; nothing where there is none."""
    if not path.is_file() or path.stat().st_size > LARGEST:
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def head_size(checkpoint: Checkpoint) -> int | None:
    """Outputs of the last linear layer, by the order in which a state dict lists its tensors."""
    matrices = [tensor for tensor in checkpoint.candidates[0].tensors.values() if tensor.ndim == 2]
    return int(matrices[-1].shape[0]) if matrices else None


def factories(folders: Iterable[Path]) -> dict[str, tuple[Path, tuple[str, ...]]]:
    """Functions and classes of Python files that may build a model: `model.py:build` to the file and the parameters.

    The files are parsed, not run; those that do work when they are imported, such as to train, are left out.
    """
    found: dict[str, tuple[Path, tuple[str, ...]]] = {}
    for path in [path for folder in folders for path in sorted(folder.glob("*.py"))][:SCANNED]:
        for name, parameters in definitions(path).items() if not _is_script(path) else ():
            found.setdefault(f"{path.name}:{name}", (path, parameters))
    return found


def _is_script(path: Path) -> bool:
    calls = (
        node.value.func for node in _statements(path) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    )
    return any(ast.unparse(call).partition(".")[0] not in HARMLESS for call in calls)


def _statements(path: Path) -> list[ast.stmt]:
    try:
        return ast.parse(path.read_text(encoding="utf-8")).body
    except (OSError, ValueError, SyntaxError, RecursionError):  # it may be no factory's file; one that is named is run
        return []


def definitions(path: Path, *, every: bool = False) -> dict[str, tuple[str, ...]]:
    """What a Python file defines that may build a model, each with the names of its parameters.

    Args:
        every: all functions and classes, not only those whose name, base or annotation says so.
    """
    found: dict[str, tuple[str, ...]] = {}
    for node in _statements(path):
        if isinstance(node, ast.FunctionDef) and (every or _builds(node)):
            found[node.name] = _parameters(node)
        elif isinstance(node, ast.ClassDef) and (every or any(_is_module(base) for base in node.bases)):
            init = (part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__")
            found[node.name] = next((_parameters(part)[1:] for part in init), ())
    return found


def _builds(node: ast.FunctionDef) -> bool:
    returns = ast.unparse(node.returns) if node.returns else ""
    return node.name.startswith(BUILDERS) or returns.endswith("Module")


def _is_module(base: ast.expr) -> bool:
    return ast.unparse(base).endswith(("Module", "Model"))


def _parameters(node: ast.FunctionDef) -> tuple[str, ...]:
    return tuple(one.arg for one in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs])
