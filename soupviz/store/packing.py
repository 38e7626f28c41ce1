"""Named columns as compressed bytes, and back; those of earlier versions under the names that columns have now."""

import io
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = Mapping[str, NDArray[Any]]

LENGTHS = "lengths of "
"""Before the name of a column whose rows are arrays of varying length: how long each is."""

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
    buffer = io.BytesIO()
    np.savez(buffer, **plain)  # type: ignore[arg-type]
    return zlib.compress(buffer.getvalue(), 1)


def unpack(blob: bytes) -> dict[str, NDArray[Any]]:
    with np.load(io.BytesIO(zlib.decompress(blob)), allow_pickle=False) as arrays:
        found = {name: arrays[name] for name in arrays.files}
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
