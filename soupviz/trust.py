"""What may be imported or unpickled, and which paths may be read: the one place that decides.

The command line takes a kitchen's name as consent. The dashboard asks: it gathers a `Request` of all that would run,
remembers the user's yes, and binds the kitchen's folder to exactly what was approved before anything is opened.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soupviz.addresses import addresses_in, host_of
from soupviz.errors import KitchenError
from soupviz.files import digest, digest_of, file_digest
from soupviz.sources import code_files, is_file, is_installed
from soupviz.spec import KitchenSpec
from soupviz.yaml_file import kitchen_file, read_kitchen_file

LIBRARIES = ("torchvision", "timm", "transformers")
"""Whose models go without a question: `LIBRARY:NAME`, while the library is the installed one."""

OWN_FACTORIES = {
    "soupviz.demo:DigitsNet": "torch",
    "soupviz.demo:DiabetesNet": "torch",
    "soupviz.demo:ShapesNet": "torch",
    "soupviz.demo:TonesNet": "torch",
    "soupviz.demo:SentencesNet": "torch",
    "soupviz.demo:Sentences": "torch",
    "soupviz.models.yolo:classifier": "ultralytics",
    "soupviz.models.yolo:detector": "ultralytics",
}
"""Functions of soupviz itself that go without a question, in exactly this spelling, and what they build models with."""

NO_PATHS = frozenset({"name", "classes", "device", "precision", "batch_size", "other_models", "weights"})
"""Keys of kitchen.yaml whose text names no path; kitchens of other models are read, and asked about, on their own."""

Allowed = Callable[[Path], Path]
"""Gives the path resolved, or raises KitchenError where it lies outside what may be read."""

_FUNCTION = re.compile(r"[^\W\d]\w*(\.\w+)*:[^\W\d]\w*")
"""Of an installed package: `package.module:function`."""

_PYTHON = re.compile(r"(.+\.py):\w+$", re.IGNORECASE | re.DOTALL)


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


@dataclass(frozen=True, slots=True)
class Bound:
    """What a folder's kitchens may use: code by file and digest, the paths that may be read, and places elsewhere."""

    seen: Mapping[str, str]
    allowed: Allowed
    places: frozenset[str] = frozenset()


_bound: dict[Path, Bound] = {}
"""By folder; kitchens in other folders were named on the command line."""


def runs_code(reference: str) -> bool:
    """Whether using `LIBRARY:NAME`, or another reference to a function, runs code that somebody has to be asked about.

    Only the exact spelling of a library's or of soupviz's own factory does not.
    """
    library = OWN_FACTORIES.get(reference, reference.partition(":")[0])
    is_known = reference in OWN_FACTORIES or library in LIBRARIES
    return not (is_known and is_installed(library))


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
        for reference, arguments in _used(one):
            runs = runs_code(reference)
            key = reference.rpartition(":")[0] if runs else repr(arguments)
            files = known[key] if key in known else _code_of(reference, arguments, yaml.parent)
            known[key] = files
            if not runs and not files:
                continue
            told.append((reference, arguments))  # which say what the code does
            code += [reference, *(f"{reference} with {path.name}" for path in files if not runs)][-1:]
            seen |= {str(path): file_digest(path) for path in files if str(path) not in seen}
        hosts = sorted({host_of(address) for text in _named(one) for address in addresses_in(text)})
        places |= set(hosts)
        if told or hosts:
            seen[str(yaml.resolve())] = digest(repr((told, hosts) if hosts else told))
    return Request(file, spec, other_models, tuple(code), seen, tuple(sorted(places)))


def _used(spec: KitchenSpec) -> list[tuple[str, dict[str, Any]]]:
    """The functions and libraries' factories that a kitchen uses, each with its arguments."""
    used = [(spec.model.factory, spec.model.args)]
    if ":" in spec.task.name:
        used.append((spec.task.name, spec.task.parameters))
    used += [(text, {}) for text in _texts(spec.task.parameters) if ".py:" in text]
    if ":" not in spec.task.name:  # of a file's own task, whose code counts, they may be any words
        given = [value for value in spec.task.parameters.values() if isinstance(value, str)]
        used += [(value, {}) for value in given if _FUNCTION.fullmatch(value)]
    for split in spec.split_specs().values():
        named = str(split.path) if split.format == "python" else split.format
        if split.format == "python" or ":" in split.format:
            used.append((named, split.args))
    return used


def _code_of(reference: str, arguments: Mapping[str, Any], folder: Path) -> list[Path]:
    """The files that a reference runs; a library unpickles those that it is given, and they count as code."""
    return code_files(reference, folder) if runs_code(reference) else _files_in(arguments, folder)


def _files_in(arguments: Mapping[str, Any], folder: Path) -> list[Path]:
    """The files that arguments name, from the kitchen's folder or from where the program runs."""
    found = (place for text in _texts(arguments) for place in _places(text, folder, Path.cwd()))
    return sorted({place.resolve() for place in found if is_file(place)})


def _texts(value: Any) -> Iterator[str]:
    """Every text in plain data."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)


def _places(text: str, *folders: Path) -> list[Path]:
    """The paths that a text may stand for: without its function, library or scheme, relative to each folder."""
    text = text.removeprefix("file://")
    if python := _PYTHON.match(text):
        text = python[1]
    library, _, name = text.partition(":")
    text = name if library in LIBRARIES else text
    path = Path(text)
    if text.startswith("~"):
        try:
            path = path.expanduser()
        except RuntimeError:  # no such user
            return []
    return [folder / path for folder in folders]


def check_paths(spec: KitchenSpec, folder: Path, allowed: Allowed) -> None:
    """Refuse a kitchen that names, or links to, what may not be read.

    Every text of kitchen.yaml counts as a path, so that no key that names files can be forgotten here.

    Raises:
        KitchenError: naming the path.
    """
    named = {place for text in _named(spec) if text for place in _places(text, folder)}
    named |= {folder / "data" for split in spec.split_specs().values() if split.path is None}
    for arguments in (spec.model.args, *(split.args for split in spec.split_specs().values())):
        named |= set(_files_in(arguments, folder))
    _check_places(named, allowed)


def _named(spec: KitchenSpec) -> Iterator[str]:
    """Every text of kitchen.yaml that may name a file, or an address."""
    values = spec.model_dump(mode="json", exclude=set(NO_PATHS), exclude_none=True)
    if isinstance(values["task"].get("vocabulary"), list):
        del values["task"]["vocabulary"]  # tokens, of which one may look like a path
    return _texts(values)


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


def bind(asked: Request, allowed: Allowed) -> None:
    """From now on the folders of a kitchen and its other models use what was approved, and nothing else."""
    for _, file in asked.kitchens:
        folder = file.parent.resolve()
        before = _bound.get(folder) or Bound({}, allowed)
        _bound[folder] = Bound({**before.seen, **asked.seen}, allowed, before.places | set(asked.places))


def approved(folder: Path) -> Mapping[str, str] | None:
    """The code of a folder's kitchens that was approved, by file and digest; None: nobody had to be asked."""
    bound = _bound.get(folder.resolve())
    return bound.seen if bound else None


def bind_in_worker(folder: Path, seen: Mapping[str, str]) -> None:
    """From now on a folder's kitchens run what was approved elsewhere; what is read, the driver has looked at."""
    _bound[folder.resolve()] = Bound(seen, lambda path: path)


def check_read(path: Path, folder: Path) -> Path:
    """A path that something else than kitchen.yaml named (a soup's recipe, a link), where the folder's kitchens may go.

    Raises:
        KitchenError: outside what the dashboard may read.
    """
    bound = _bound.get(folder.resolve())
    return bound.allowed(path) if bound else path


def check_fetch(address: str, folder: Path) -> None:
    """See that an address that something else than kitchen.yaml named is fetched only where nobody is to be asked.

    Raises:
        KitchenError: the dashboard opened the folder's kitchens; a link to a page may hold any address.
    """
    if folder.resolve() in _bound:
        raise KitchenError(f"{address} is not in kitchen.yaml, which names all that is fetched: add it there.")


def check_place(address: str, folder: Path) -> None:
    """See that an address of kitchen.yaml lies where somebody said that it may be read from, where they were asked.

    Raises:
        KitchenError: in another place.
    """
    if (bound := _bound.get(folder.resolve())) and host_of(address) not in bound.places:
        raise KitchenError(f"{address}: you were not asked about {host_of(address)}; open the kitchen again.")


def check_use(reference: str, arguments: Mapping[str, Any], folder: Path) -> None:
    """See that what is about to run is what was approved, where somebody was asked.

    Raises:
        KitchenError: it changed since, or nobody was asked about it.
    """
    bound = _bound.get(folder.resolve())
    if bound is None:
        return
    for path in _code_of(reference, arguments, folder):
        if bound.seen.get(str(path)) != file_digest(path):
            raise _refusal(reference, str(path))


def source(path: Path, reference: str, folder: Path) -> bytes:
    """A file of code, read once: what is checked against the approval is what is run."""
    content = path.read_bytes()
    bound = _bound.get(folder.resolve())
    if bound is not None and bound.seen.get(str(path.resolve())) != digest_of(content):
        raise _refusal(reference, str(path))
    return content


def _refusal(reference: str, name: str) -> KitchenError:
    return KitchenError(
        f"{reference!r} runs {name}, which is not what you said yes to: it changed, or came later. Look at it, and "
        "open the kitchen again."
    )
