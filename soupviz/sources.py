"""The files of code that a reference would run, found without running any of it."""

import ast
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Sequence
from importlib.machinery import all_suffixes
from pathlib import Path

_LONGEST = 200
"""Letters of a text that may be the name of a module or a file."""


def is_file(path: Path) -> bool:
    """Whether there is such a file; a text that can be no path names none."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a character that no path has
        return False


def is_installed(package: str) -> bool:
    """Whether a package comes from where packages are installed, not from a file beside the kitchen that has its name.

    One that is not there at all runs nothing.
    """
    found = importlib.util.find_spec(package)
    return found is None or (found.origin is not None and _is_below(Path(found.origin).resolve(), _installed()))


def _installed() -> list[Path]:
    """The folders that packages are installed in, and the standard library."""
    paths = {name: path for name, path in sysconfig.get_paths().items() if name != "data"}
    named = [*paths.values(), *site.getsitepackages(), site.getusersitepackages()]
    return [Path(name).resolve() for name in dict.fromkeys(named)]


def _is_below(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)


def code_files(reference: str, folder: Path) -> list[Path]:
    """The files of a reference's code: the one it names, and what that imports from beside it or from the kitchen.

    Packages that are installed count by the named file alone. Modules are found without importing anything; a text
    that reads as a module's or file's name counts as an import.
    """
    place = reference.rpartition(":")[0]
    path = [Path(entry or ".").resolve() for entry in sys.path]
    known = [*_installed(), Path(__file__).resolve().parent]
    waiting = [(folder / place).resolve()] if place.endswith(".py") else _of_module(place, path)
    found: dict[Path, None] = {}
    while waiting:
        file = waiting.pop()
        if file in found or not is_file(file):
            continue
        found[file] = None
        if not _is_below(file, known):
            near = [file.parent, folder.resolve(), *(entry for entry in path if not _is_below(entry, known))]
            waiting += [other for other in _imports(file, near) if not _is_below(other, known)]
    return list(found)


def _of_module(name: str, places: Sequence[Path]) -> list[Path]:
    """Every file that may be run when a dotted name is imported from one of the places: its packages' too."""
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return []
    found = []
    for place in dict.fromkeys(places):
        for length in range(1, len(parts) + 1):
            base = place.joinpath(*parts[:length])
            names = [base.with_name(base.name + suffix) for suffix in all_suffixes()]
            found += [path.resolve() for path in [*names, base / "__init__.py"] if path.is_file()]
    return found


def _imports(path: Path, near: Sequence[Path]) -> list[Path]:
    """The files nearby that a file of code imports, or names in a text."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # no Python, or compiled
        return []
    found: list[Path] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [file for alias in node.names for file in _of_module(alias.name, near)]
        elif isinstance(node, ast.ImportFrom):
            places = [path.parents[node.level - 1]] if 0 < node.level <= len(path.parents) else near
            names = [alias.name for alias in node.names]
            module = [node.module] if node.module else []
            found += [file for name in names for file in _of_module(".".join([*module, name]), places)]
            found += [file for name in module for file in _of_module(name, places)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < _LONGEST:
            found += _of_module(node.value, near)
            if node.value.endswith(".py"):
                found += [file.resolve() for place in near if is_file(file := place / node.value)]
    return found
