"""Ingredients as plain data and bytes apart, which a store keeps as they are; weights over such bytes copy none."""

import io
import pickle
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soupviz.weights.ingredients import Ingredient

Packed = tuple[bytes, list[NDArray[np.uint8]]]
"""What an ingredient is but for its numbers, and the bytes of its tensors, each memory once."""


def packed(item: Ingredient, apart: Sequence[Ingredient] = ()) -> Packed:
    """An ingredient without what its file alone tells: what is packed is no file, and cannot change as one.

    Args:
        apart: what is packed by itself, and stands in this one by its place: an adapter's base.
    """
    file = io.BytesIO()
    buffers: list[pickle.PickleBuffer] = []
    packer = _Packer(file, buffers.append, apart)
    packer.dump(replace(item, metadata={}, fitted=None, stamp=(), unread_logs=()))
    return file.getvalue(), [np.frombuffer(one.raw(), np.uint8) for one in buffers]


def num_bytes(content: Packed) -> int:
    """That a store needs for it."""
    return len(content[0]) + sum(data.nbytes for data in content[1])


def unpacked(content: Packed, apart: Sequence[Ingredient] = ()) -> Ingredient:
    """The ingredient over the very bytes that are given; they may be read only, and nobody writes into weights.

    Args:
        apart: as when it was packed.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        item: Ingredient = _Unpacker(io.BytesIO(content[0]), content[1], apart).load()
    return item


class _Packer(pickle.Pickler):
    """Tensors as NumPy's bytes, which the protocol keeps apart whatever their dtype."""

    def __init__(self, file: io.BytesIO, on_buffer: Callable[[pickle.PickleBuffer], None], apart: Sequence[Ingredient]):
        super().__init__(file, protocol=5, buffer_callback=on_buffer)
        self._apart = {id(one): place for place, one in enumerate(apart)}
        self._views: dict[object, NDArray[np.uint8]] = {}

    def persistent_id(self, obj: Any) -> int | None:
        return self._apart.get(id(obj))

    def reducer_override(self, obj: Any) -> Any:
        if not isinstance(obj, Tensor) or obj.device.type != "cpu":  # those that only tell shapes have no bytes
            return NotImplemented
        return _over, (self._view(obj), obj.dtype, tuple(obj.shape))

    def _view(self, tensor: Tensor) -> NDArray[np.uint8]:
        """Its bytes in the order of its elements; of tied tensors the same object, which is packed once."""
        memory = tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride()
        if memory not in self._views:
            self._views[memory] = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
        return self._views[memory]


class _Unpacker(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, buffers: Sequence[NDArray[np.uint8]], apart: Sequence[Ingredient]):
        super().__init__(file, buffers=buffers)
        self._apart = apart

    def persistent_load(self, pid: int) -> Ingredient:
        return self._apart[pid]


def _over(data: NDArray[np.uint8], dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(data).view(dtype).reshape(shape)
