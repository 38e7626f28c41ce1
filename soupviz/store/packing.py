"""Named columns as compressed bytes, and back; those of earlier versions under the names that columns have now."""

import io
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

Columns = Mapping[str, NDArray[Any]]

LENGTHS = "lengths of "
"""Before the name of a column whose rows are arrays of varying length: how long each is."""

ZIP = b"PK"
"""How an npz begins."""

ONCE_CALLED = {
    "predictions": "prediction",
    "correct": "right",
    "losses": "loss",
    "margins": "margin",
    "confidences": "confidence",
}
"""Columns of a classifier's scores, as versions before tasks called them."""


def pack(columns: Columns) -> bytes:
    plain: dict[str, NDArray[Any]] = {}
    for name, values in columns.items():
        if values.dtype == object:
            plain[LENGTHS + name] = np.array([len(one) for one in values])
            plain[name] = np.concatenate(list(values))
        else:
            plain[name] = values
    return zlib.compress(_as_bytes(plain), 1)


def _as_bytes(columns: Columns) -> bytes:
    """As safetensors, which are read in a third of the time; what these cannot hold, such as texts, as npz."""
    if all(values.dtype.kind in "biuf" and values.dtype.itemsize <= 8 for values in columns.values()):
        return save({name: np.ascontiguousarray(values) for name, values in columns.items()})
    buffer = io.BytesIO()
    np.savez(buffer, **columns)  # type: ignore[arg-type]
    return buffer.getvalue()


def _from_bytes(data: bytes) -> dict[str, NDArray[Any]]:
    """What `_as_bytes` gave, or versions before, which wrote npz alone; writable."""
    if data.startswith(ZIP):
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    return {name: values.copy() for name, values in load(data).items()}


def unpack(blob: bytes) -> dict[str, NDArray[Any]]:
    found = _from_bytes(zlib.decompress(blob))
    if "predictions" in found:
        found = {ONCE_CALLED.get(name, name): values for name, values in found.items()}
        found["finite"] = found["prediction"] >= 0
    for name in [name for name in found if name.startswith(LENGTHS)]:
        lengths = found.pop(name)
        rows = np.empty(len(lengths), dtype=object)
        for index, part in enumerate(np.split(found[name.removeprefix(LENGTHS)], np.cumsum(lengths)[:-1])):
            rows[index] = part
        found[name.removeprefix(LENGTHS)] = rows
    return found
