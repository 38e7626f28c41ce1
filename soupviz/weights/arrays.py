"""Plain pickles of NumPy arrays, as model zoos write them: read without importing or calling anything they name."""

import re
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from soupviz.weights.inert import KnownReader, Stub

NUMBERS = re.compile(r"[biufc]\d{1,2}")
"""How NumPy calls its types of numbers."""


class _Array(Stub):
    """`_reconstruct(...)`, whose state is (version, shape, type, is Fortran's order, bytes)."""

    content: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        self.content = tuple(state)


class _Type(Stub):
    """`dtype("f4", ...)`, whose state is (version, byte order, ...)."""

    order: str = "="

    def __setstate__(self, state: Any) -> None:
        self.order = str(state[1])


class _Bytes(Stub):
    """`encode(text, "latin1")`, which stands for bytes in old protocols."""


class _Buffer(Stub):
    """`_frombuffer(bytes, type, shape, order)`, which stands for arrays in new protocols."""


KNOWN: dict[str, type] = {
    "numpy.core.multiarray._reconstruct": _Array, "numpy._core.multiarray._reconstruct": _Array,
    "numpy.core.numeric._frombuffer": _Buffer, "numpy._core.numeric._frombuffer": _Buffer,
    "numpy.dtype": _Type, "_codecs.encode": _Bytes, "numpy.ndarray": Stub,
    "collections.OrderedDict": OrderedDict,
}  # fmt: skip


def read_arrays(path: Path) -> tuple[Any, list[str]]:
    """What a plain pickle holds, what is no plain data as stubs; and the classes and functions that these stand for.

    Whatever the opcodes of a damaged file run into is raised.
    """
    with path.open("rb") as file:
        reader = KnownReader(file, KNOWN)
        return _resolved(reader.load()), sorted(reader.needed)


def _resolved(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _resolved(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_resolved(item) for item in value]
    if isinstance(value, _Array) and len(value.content) == 5:
        _, shape, kind, is_fortran, data = value.content
        return _array(data, kind, shape, "F" if is_fortran else "C")
    if isinstance(value, _Buffer) and len(value.arguments) == 4:
        data, kind, shape, order = value.arguments
        return _array(data, kind, shape, order)
    return value


def _array(data: Any, kind: Any, shape: Any, order: Any) -> Any:
    """The array that is described, if it is one of numbers."""
    code = str(kind.arguments[0]) if isinstance(kind, _Type) else ""
    if not NUMBERS.fullmatch(code):
        return Stub()
    if isinstance(data, _Bytes):
        data = data.arguments[0]
    content = data.encode("latin1") if isinstance(data, str) else data
    order_of_bytes = {"<": "<", ">": ">"}.get(kind.order, "=")
    return np.frombuffer(content, np.dtype(order_of_bytes + code)).reshape(shape, order="F" if order == "F" else "C")
