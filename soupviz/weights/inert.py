"""What pickles and YAML files say, read without importing or calling anything that they name."""

import argparse
import io
import pickle
import types
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from soupviz.errors import CheckpointError
from soupviz.plain_data import json_of, yaml_in

LARGEST = 4_000_000
"""Bytes of a file that is read for the plain values in it; what is larger holds something else."""


LARGEST_JSON = 100_000_000
"""Bytes of an index or a log: ten times what the index of the largest models has."""

NAMESPACES = (argparse.Namespace, types.SimpleNamespace)


class Stub:
    """Stands for an instance of a class that a file names; it keeps what the file says of it."""

    arguments: tuple[Any, ...]
    state: dict[str, Any]

    def __new__(cls, *arguments: Any, **_named: Any) -> "Stub":
        made = super().__new__(cls)  # pickles make instances without calling __init__
        made.arguments, made.state = arguments, {}
        return made

    def __setstate__(self, state: Any) -> None:
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, dict):
                self.state |= part

    def __call__(self, *arguments: Any, **named: Any) -> "Stub":
        return Stub(*arguments, **named)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.state[str(key)] = value

    def append(self, value: Any) -> None:
        self.arguments += (value,)

    def extend(self, values: Any) -> None:
        self.arguments += tuple(values)

    add = append


class _Reader(pickle.Unpickler):
    """Every class and function that the stream names is a stub: none is looked up."""

    def find_class(self, _module: str, _name: str) -> Any:
        return Stub

    def persistent_load(self, _identity: Any) -> Any:
        return Stub()


class KnownReader(pickle._Unpickler):
    """What a stream names and is known is read as that, all else as stubs, and listed as needed.

    It is the unpickler that is written in Python: what a damaged file asks for is checked, or can be.
    """

    dispatch = dict(pickle._Unpickler.dispatch)  # noqa: RUF012 - as the class that it is of has it
    # Python makes room for as many bytes as a bytearray is said to have, before it looks how many there are.
    dispatch[pickle.BYTEARRAY8[0]] = dispatch[pickle.BINBYTES8[0]]

    def __init__(self, file: Any, known: Mapping[str, Any]):
        super().__init__(file, encoding="latin1")
        self.known = known
        self.needed: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in self.known:
            self.needed.add(full)
        return self.known.get(full, Stub)


def read_pickle(path: Path) -> dict[str, Any]:
    """The attributes of the object, or the items of the mapping, that torch.save wrote, as far as they are plain.

    An enumeration's member is its value.

    Raises:
        CheckpointError: the file is too large for a few values, or no pickle.
    """
    try:
        content = _stream_of(path)
        loaded = _Reader(io.BytesIO(content)).load()
    except Exception as error:  # a damaged pickle raises whatever its opcodes run into
        raise CheckpointError(
            f"{path}: cannot be read ({type(error).__name__}: {error}); mend it or move it away."
        ) from None
    return plain(loaded.state if isinstance(loaded, Stub) else loaded)


def _stream_of(path: Path) -> bytes:
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path.stat().st_size} bytes, expected at most {LARGEST}")
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        [entry] = [item for item in archive.infolist() if item.filename.endswith("data.pkl")]
        if entry.file_size > LARGEST:
            raise ValueError(f"{entry.file_size} bytes of pickle, expected at most {LARGEST}")
        return archive.read(entry)


def plain(values: Any, passed: Collection[str] = ()) -> dict[str, Any]:
    """The items of a mapping that are numbers, truth values or short texts; of nested mappings too, one level deep.

    Args:
        passed: keys of nested mappings that are passed over.
    """
    outer = _items(values)
    found: dict[str, Any] = {}
    for key, value in outer.items():
        if key not in passed:
            found |= {name: item for name, item in _items(value).items() if _is_plain(item)}
    return found | {key: value for key, value in outer.items() if _is_plain(value)}


def _items(value: Any) -> dict[str, Any]:
    """What is in a mapping or in a bag of arguments, by key; enumerations' members and NumPy's numbers as Python's."""
    items = vars(value) if isinstance(value, NAMESPACES) else _only(value)
    return {str(key): _only(item) for key, item in items.items()} if isinstance(items, Mapping) else {}


def _only(value: Any) -> Any:
    if isinstance(value, Stub) and len(value.arguments) == 1:
        return value.arguments[0]
    return value.item() if isinstance(value, np.generic) else value


def _is_plain(value: Any) -> bool:
    return isinstance(value, (bool, int, float)) or (isinstance(value, str) and 0 < len(value) <= 100)


class _Loader(yaml.SafeLoader):
    """Tags of Python objects are passed over: what stands under them is read as the plain data it is written as."""


def _untagged(loader: _Loader, _tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_scalar(node)  # type: ignore[arg-type]


_Loader.add_multi_constructor("tag:yaml.org,2002:python/", _untagged)
_Loader.add_multi_constructor("!", _untagged)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's mapping; empty where it holds something else.

    Raises:
        CheckpointError: it is not YAML.
    """
    try:
        values = yaml_in(path, _Loader)
    except (OSError, ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise CheckpointError(
            f"{path}: not YAML ({' '.join(str(error).split())[:200]}); mend it or move it away."
        ) from None
    return {str(key): value for key, value in values.items()} if isinstance(values, dict) else {}


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        CheckpointError: it is not JSON.
    """
    if (size := path.stat().st_size if path.is_file() else 0) > LARGEST_JSON:
        raise CheckpointError(f"{path}: {size:,} bytes of JSON; expected at most {LARGEST_JSON:,}. Move it away.")
    try:
        return json_of(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not JSON ({error}); mend it or move it away.") from None
