"""What a kitchen.yaml names: functions that are called with arguments, files, and addresses."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from soupviz.sources import code_files, is_file, is_installed
from soupviz.spec import KitchenSpec

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

NO_PATHS = frozenset({"name", "classes", "device", "precision", "batch_size", "other_models", "weights", "card"})
"""Keys of kitchen.yaml whose text names no path; kitchens of other models are read, and asked about, on their own."""

_FUNCTION = re.compile(r"[^\W\d]\w*(\.\w+)*:[^\W\d]\w*")
"""Of an installed package: `package.module:function`."""

_PYTHON = re.compile(r"(.+\.py):\w+$", re.IGNORECASE | re.DOTALL)


def runs_code(reference: str) -> bool:
    """Whether using `LIBRARY:NAME`, or another reference to a function, runs code that somebody has to be asked about.

    Only the exact spelling of a library's or of soupviz's own factory does not.
    """
    library = OWN_FACTORIES.get(reference, reference.partition(":")[0])
    is_known = reference in OWN_FACTORIES or library in LIBRARIES
    return not (is_known and is_installed(library))


def used_by(spec: KitchenSpec) -> list[tuple[str, dict[str, Any]]]:
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


def code_of(reference: str, arguments: Mapping[str, Any], folder: Path) -> list[Path]:
    """The files that a reference runs; a library unpickles those that it is given, and they count as code."""
    return code_files(reference, folder) if runs_code(reference) else files_in(arguments, folder)


def files_in(arguments: Mapping[str, Any], folder: Path) -> list[Path]:
    """The files that arguments name, from the kitchen's folder or from where the program runs."""
    found = (place for text in _texts(arguments) for place in places_in(text, folder, Path.cwd()))
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


def places_in(text: str, *folders: Path) -> list[Path]:
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


def named_by(spec: KitchenSpec) -> Iterator[str]:
    """Every text of kitchen.yaml that may name a file, or an address."""
    values = spec.model_dump(mode="json", exclude=set(NO_PATHS), exclude_none=True)
    if isinstance(values["task"].get("vocabulary"), list):
        del values["task"]["vocabulary"]  # tokens, of which one may look like a path
    return _texts(values)
