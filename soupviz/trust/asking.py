"""All that opening a kitchen would run or fetch, gathered before anybody is asked."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from soupviz.addresses import addresses_in, host_of
from soupviz.errors import KitchenError
from soupviz.files import STORE, digest, file_digest
from soupviz.spec import KitchenSpec
from soupviz.trust.naming import code_of, files_in, named_by, places_in, runs_code, used_by
from soupviz.yaml_file import kitchen_file, read_kitchen_file

Allowed = Callable[[Path], Path]
"""Gives the path resolved, or raises KitchenError where it lies outside what may be read."""


@dataclass(frozen=True, slots=True)
class Request:
    """What opening a kitchen would use, read once: what was approved of it is what is opened.

    other_models: by name, the kitchens whose models may join, each with its file. code: references and files that
    would be run or unpickled, as a reader wants them. seen: for each file of code its digest, and for each
    kitchen.yaml that of what it says of code and of places elsewhere. places: the hosts and buckets that are read from.
    """

    file: Path
    spec: KitchenSpec
    other_models: Mapping[str, tuple[KitchenSpec, Path]]
    code: tuple[str, ...]
    seen: Mapping[str, str]
    places: tuple[str, ...] = ()

    @property
    def kitchens(self) -> list[tuple[KitchenSpec, Path]]:
        """The kitchen and those of other models, each with its file."""
        return [(self.spec, self.file), *self.other_models.values()]


def request(file: Path, spec: KitchenSpec, allowed: Allowed) -> Request:
    """Gather what opening a kitchen would run; the files of other models' kitchens are read, once, if they are allowed.

    Raises:
        KitchenError: another model's kitchen outside what is allowed, or whose kitchen.yaml is wrong.
    """
    other_models = {}
    for name, place in spec.other_models.items():
        other = allowed(kitchen_file(file.parent / place))
        other_models[name] = (read_kitchen_file(other).model_copy(update={"other_models": {}}), other)
    code: list[str] = []
    seen: dict[str, str] = {}
    places: set[str] = set()
    for one, yaml in [(spec, file), *other_models.values()]:
        told = []
        known: dict[str, list[Path]] = {}  # several splits may use one file of code
        for reference, arguments in used_by(one):
            runs = runs_code(reference)
            key = reference.rpartition(":")[0] if runs else repr(arguments)
            files = known[key] if key in known else code_of(reference, arguments, yaml.parent)
            known[key] = files
            if not runs and not files:
                continue
            told.append((reference, arguments))  # which say what the code does
            code += [reference, *(f"{reference} with {path.name}" for path in files if not runs)][-1:]
            seen |= {str(path): file_digest(path) for path in files if str(path) not in seen}
        hosts = sorted({host_of(address) for text in named_by(one) for address in addresses_in(text)})
        places |= set(hosts)
        if told or hosts:
            seen[str(yaml.resolve())] = digest(repr((told, hosts) if hosts else told))
    return Request(file, spec, other_models, tuple(code), seen, tuple(sorted(places)))


def check_paths(spec: KitchenSpec, folder: Path, allowed: Allowed) -> None:
    """Refuse a kitchen that names, or links to, what may not be read.

    Every text of kitchen.yaml counts as a path, so that no key that names files can be forgotten here.

    Raises:
        KitchenError: naming the path.
    """
    named = {place for text in named_by(spec) if text for place in places_in(text, folder)}
    named.add(folder / STORE)  # which is written to
    named |= {folder / "data" for split in spec.split_specs().values() if split.path is None}
    for arguments in (spec.model.args, *(split.args for split in spec.split_specs().values())):
        named |= set(files_in(arguments, folder))
    _check_places(named, allowed)


def _check_places(named: set[Path], allowed: Allowed) -> None:
    """The paths, and where the links below those that are folders lead."""
    if bad := next((place for place in named if "\0" in str(place)), None):
        raise KitchenError(f"{str(bad)!r} is no path: it holds a character that no path has.")
    waiting = [allowed(place) for place in sorted(named)]
    seen: set[Path] = set()
    while waiting:
        here = waiting.pop()
        if here in seen:
            continue
        seen.add(here)
        try:
            entries = list(os.scandir(here))  # which know, without a further look, what is a link
        except OSError:  # no folder, or none that may be listed
            continue
        waiting += [allowed(here / entry.name) for entry in entries if entry.is_symlink()]
        waiting += [here / entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
