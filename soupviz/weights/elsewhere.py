"""Checkpoints that lie elsewhere: which of them a kitchen means is found by their beginnings, and these are fetched."""

import posixpath
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from soupviz import trust
from soupviz.addresses import address_of, is_remote
from soupviz.errors import CheckpointError
from soupviz.remote.viewing import View, view
from soupviz.spec import KitchenSpec
from soupviz.types import Progress, quiet
from soupviz.weights.containers import files_of
from soupviz.weights.selection import BASE, Passed, candidate_files, file_in, taken

Files = dict[str, Path]


def files_meant(spec: KitchenSpec, folder: Path, progress: Progress = quiet) -> tuple[Files, list[Passed]]:
    """The files of a kitchen's ingredients and its base by name, those elsewhere fetched; and what is not read.

    Raises:
        KitchenError: a pattern that matches nothing, or a name that is taken.
        RemoteError: an address where nothing is, or that cannot be reached.
    """
    addresses = [text for text in _named(spec) if is_remote(text)]
    for address in addresses:
        trust.check_place(address, folder)
    if not addresses:
        return _files(spec, folder)
    with view(progress) as seen:
        spec = _changed(spec, lambda text: seen.add(text) if is_remote(text) else text)
        before: list[Path] | None = None
        files, passed = _files(spec, folder)  # by what their beginnings say
        while (meant := list(files.values())) != before:
            _fetch(seen, meant)
            before = meant
            files, passed = _files(spec, folder)  # an optimizer's state, say, is known once it is whole
        told = [replace(one, path=seen.real(one.path)) for one in passed]
        return {name: taken(seen.real(path), spec.weights, told) for name, path in files.items()}, told


def fetched(address: str, progress: Progress = quiet) -> Path:
    """The checkpoint, soup or recipe at an address, in the cache.

    Raises:
        RemoteError: nothing is there, or it cannot be reached.
    """
    with view(progress) as seen:
        path = file_in(Path(seen.add(address)))
        _fetch(seen, [path])
        return seen.real(path)


@contextmanager
def looked_at(address: str) -> Iterator[Path]:
    """A file at an address, of which the header is there; what has none, a recipe or a pickle, is there whole."""
    with view(quiet) as seen:
        path = file_in(Path(seen.add(address)))
        for shard in _shards_of(path):
            seen.add_beside(path, shard.relative_to(path.parent).as_posix())
        if path.suffix not in (".safetensors", ".json"):
            seen.fetch([path])
        yield path


def place_of(named: str | Path, folder: Path, progress: Progress = quiet) -> Path:
    """The file that a recipe or an argument names, fetched where it lies elsewhere."""
    place = named_from(str(named), folder)
    return fetched(place, progress) if isinstance(place, str) else place


def named_from(named: str, folder: Path) -> Path | str:
    """What a name in a folder stands for: a file, or an address; of a folder that was fetched, names are addresses."""
    if is_remote(named):
        return named
    address = address_of(folder)
    if address is None or Path(named).is_absolute():
        return folder / named
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{posixpath.normpath(posixpath.join(rest, named))}"


def _fetch(seen: View, paths: list[Path]) -> None:
    here = [path for path in paths if seen.is_here(path)]
    seen.fetch(here)
    shards: list[Path] = []
    for path in here:
        names = [shard.relative_to(path.parent).as_posix() for shard in _shards_of(path)]
        shards += [path.parent / seen.add_beside(path, name) for name in names]
    seen.fetch(shards)


def _shards_of(path: Path) -> list[Path]:
    try:
        return [one for one in files_of(path) if one != path] if path.is_file() else []
    except CheckpointError:  # it is refused when it is read, with the reason
        return []


def _files(spec: KitchenSpec, folder: Path) -> tuple[Files, list[Passed]]:
    files, passed = candidate_files(spec, folder)
    if spec.base:
        files[BASE] = taken(folder / spec.base, spec.weights, passed)
    return files, passed


def _named(spec: KitchenSpec) -> list[str]:
    named = spec.ingredients.values() if isinstance(spec.ingredients, Mapping) else spec.ingredients
    return [*named, *([spec.base] if spec.base else [])]


def _changed(spec: KitchenSpec, change: Callable[[str], str]) -> KitchenSpec:
    given = spec.ingredients
    ingredients = (
        {name: change(text) for name, text in given.items()}
        if isinstance(given, Mapping)
        else tuple(map(change, given))
    )
    return spec.model_copy(update={"ingredients": ingredients, "base": change(spec.base) if spec.base else None})
