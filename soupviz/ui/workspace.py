"""The folders the dashboard may touch, the kitchens it knows, and what the user said yes to. No Streamlit here."""

import json
import shlex
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from soupviz import trust as trusting
from soupviz.addresses import is_remote, redacted
from soupviz.demo.digits import VERSION
from soupviz.errors import KitchenError, SoupError
from soupviz.files import cache_folder, replacing
from soupviz.spec import KitchenSpec
from soupviz.trust import Request
from soupviz.weights.selection import files_behind, matched_paths
from soupviz.yaml_file import read_kitchen_file

DEPTH = 3
"""How many folders deep kitchen.yaml files are looked for."""
NOTHING: dict[str, Any] = {"opened": [], "trusted": {}, "folders": []}
"""What is remembered at first."""


def roots() -> list[Path]:
    """The folders below which kitchens are looked for: those that were named, else the current one."""
    return named_roots() or [Path.cwd()]


def named_roots() -> list[Path]:
    """The folders named after `streamlit run app.py --`."""
    named = [Path(argument).resolve() for argument in sys.argv[1:] if not argument.startswith("-")]
    return [folder for folder in named if folder.is_dir()]


def _place_of(typed: Path | str) -> Path:
    """What a user names by its path; a relative one starts at the first folder of the start."""
    if is_remote(str(typed)):
        address = redacted(str(typed))
        raise KitchenError(
            f"{address} is an address, and the dashboard opens folders of this machine. The command line looks into a "
            f"run that lies elsewhere and writes its kitchen.yaml here: python -m soupviz new {shlex.quote(address)}. "
            "Open that file then; it may name addresses."
        )
    place = Path(typed).expanduser()
    return (place if place.is_absolute() else roots()[0] / place).resolve()


def allowed(path: Path | str, where: str = "under Open a folder on the page Kitchens") -> Path:
    """The path, if it lies below the folders the dashboard was started with, or its own cache.

    Args:
        where: another folder can be named.
    Raises:
        KitchenError: it lies elsewhere.
    """
    place = _place_of(path)
    if not is_allowed(place):
        raise KitchenError(
            f"{place} lies outside the folders this dashboard was started with ({', '.join(map(str, roots()))}). "
            f"Name its folder {where}, or start the dashboard with: "
            f"python -m soupviz dashboard {shlex.quote(str(place if place.is_dir() else place.parent))}"
        )
    return place


def is_allowed(path: Path) -> bool:
    """Whether a path, links followed, lies below the folders of the start, those opened since, or the cache."""
    place = path.resolve()
    named = [*roots(), *opened_folders()]
    return any(place.is_relative_to(root) for root in [*named, *_blobs_of(named), cache_folder().resolve()])


def _blobs_of(folders: list[Path]) -> list[Path]:
    """Where the files of snapshots lie, which the hub's cache keeps as links: a repository's own folder of blobs."""
    found = []
    for place in (place for folder in folders for place in (folder, *folder.parents)):
        repository = place.parent.parent
        if place.parent.name == "snapshots" and repository.name.startswith(("models--", "datasets--")):
            found.append(repository / "blobs")
    return found


def opened_folders() -> list[Path]:
    """What the user opened by name since, in this or an earlier session."""
    return [Path(name) for name in _remembered()["folders"]]


def open_folder(typed: str) -> Path:
    """Let the dashboard read and write below a folder, or a file, that the user named.

    Raises:
        KitchenError: there is none, it holds everything, or it is an address.
    """
    place = _place_of(typed)
    if not place.exists():
        raise KitchenError(f"{place}: no such folder or file. Check its name.")
    if place == Path(place.anchor):
        raise KitchenError(f"{place} holds everything; name the folder of the run, or of the data.")
    if not is_allowed(place):
        values = _remembered()
        _remember(values | {"folders": [*values["folders"], str(place)]})
    return place


def demo_file() -> Path:
    """Where the demo's kitchen.yaml is, or will be."""
    return cache_folder("demo") / VERSION / "kitchen.yaml"


def found_kitchens() -> list[Path]:
    """Every kitchen.yaml not far below the roots."""
    return sorted({path.resolve() for root in roots() for path in _below(root, DEPTH)})


def first_kitchen() -> Path | None:
    """The one that lies highest below the roots; none of several where no folder was named: nobody asked for any."""
    found = found_kitchens()
    is_meant = len(found) == 1 or named_roots()
    return min(found, key=lambda file: (len(file.parts), file)) if found and is_meant else None


def _below(folder: Path, depth: int) -> Iterator[Path]:
    file = folder / "kitchen.yaml"
    if file.is_file():
        yield file
    if depth:
        try:
            children = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
        except OSError:
            return
        for child in children[:200]:
            yield from _below(child, depth - 1)


def _memory() -> Path:
    return cache_folder() / "dashboard.json"


def _remembered() -> dict[str, Any]:
    try:
        kept: dict[str, Any] = json.loads(_memory().read_text(encoding="utf-8"))
        return NOTHING | kept
    except (OSError, ValueError):
        return dict(NOTHING)


def _remember(values: dict[str, Any]) -> None:
    with replacing(_memory()) as temporary:
        temporary.write_text(json.dumps(values), encoding="utf-8")


def opened_before() -> list[Path]:
    """Kitchens opened in this or an earlier session, the latest first, that still exist."""
    return [Path(name) for name in _remembered()["opened"] if Path(name).is_file()]


def remember_opened(file: Path) -> None:
    values = _remembered()
    names = [str(file), *(name for name in values["opened"] if name != str(file))]
    _remember(values | {"opened": names[:20]})


def request(file: Path, spec: KitchenSpec) -> Request:
    """What opening a kitchen would use, other models' kitchens read: to be asked about, and then to be opened as it is.

    Raises:
        KitchenError: another model's kitchen lies outside the allowed folders, or its kitchen.yaml is wrong.
    """
    return trusting.request(file, spec, allowed)


def is_trusted(asked: Request) -> bool:
    """Whether the user said yes to this code, as it is now, and to the places elsewhere that are read from."""
    trusted = _remembered()["trusted"]
    return all(trusted.get(name) == seen for name, seen in asked.seen.items())


def trust(asked: Request) -> None:
    """Remember the user's yes to this kitchen's code, until the code, or what kitchen.yaml says of it, changes."""
    values = _remembered()
    _remember(values | {"trusted": values["trusted"] | asked.seen})


def check_paths(asked: Request) -> None:
    """Refuse a kitchen that reaches outside the allowed folders.

    Raises:
        KitchenError: naming the path; or a glob matches nothing.
    """
    for spec, file in asked.kitchens:
        trusting.check_paths(spec, file.parent, allowed)
        for path in matched_paths(spec, file.parent):  # a link among what a glob matches may lead elsewhere
            allowed(path)
        for found in files_behind(spec, file.parent):
            allowed(found)


def bind(asked: Request) -> None:
    """From now on the kitchen's folder uses what was approved, and nothing else."""
    trusting.bind(asked, allowed)


def name_of(file: Path) -> str:
    """What a kitchen.yaml calls its kitchen; empty where it does not, cannot be read, or lies where nothing is looked
    at."""
    try:
        return _name(file, file.stat().st_mtime_ns) if is_allowed(file) else ""
    except (OSError, SoupError):
        return ""


@lru_cache(256)
def _name(file: Path, _changed: int) -> str:
    return " ".join(read_kitchen_file(file).name.split())
