"""Room for large tensors: in memory that is given back as soon as they go, or in files, where it is none at all; and
large tensors by pieces."""

import ctypes
import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress

import torch
from torch import Tensor

from soupviz.errors import ExportError
from soupviz.files import cache_folder

SMALL = 2**16
"""Bytes of a tensor that is not set down, but stays in memory."""

LARGE = 2**22
"""Bytes of a tensor that has memory of its own. What is freed in pieces between smaller things is not given back, and
what is made next may not fit into it: of tensors made one after another many would be in memory."""

PIECE = 2**19
"""Elements that are looked at at a time: 2 MB of float32, which stay in the processor's cache."""


def by_pieces(*tensors: Tensor, size: int = PIECE) -> Iterator[tuple[Tensor, ...]]:
    """Pieces of tensors of one shape, of each the same elements; what is written to one is the tensor's.

    Args:
        size: elements of a piece, at most.
    """
    flat = [tensor.reshape(-1) for tensor in tensors]
    if flat[0].numel() <= size:  # dividing a small one takes longer than adding it up
        yield tuple(flat)
    else:
        yield from zip(*(torch.split(one, size) for one in flat), strict=True)


def room(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Zeros in memory that goes back to the system with them."""
    num_bytes = shape.numel() * dtype.itemsize
    if num_bytes < LARGE or not hasattr(mmap, "MAP_PRIVATE"):
        return torch.zeros(shape, dtype=dtype)
    mapped = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):  # a fault for each 4 KB made mixing a quarter slower
        with suppress(OSError):  # a kernel without them
            mapped.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(mapped, dtype=dtype).view(shape)


def cast(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor in another dtype, if it is another."""
    return tensor if tensor.dtype == dtype else room(tensor.shape, dtype).copy_(tensor)


def copied(tensor: Tensor) -> Tensor:
    """A new tensor of the same numbers."""
    return room(tensor.shape, tensor.dtype).copy_(tensor)


def product(left: Tensor, right: Tensor) -> Tensor:
    """The product of two matrices, on the CPU in memory that goes back to the system with it."""
    if left.device.type != "cpu":
        return left @ right
    return torch.mm(left, right, out=room(torch.Size([len(left), right.shape[1]]), left.dtype))


def zeros(shape: torch.Size, dtype: torch.dtype = torch.float32) -> Tensor:
    """Zeros that are mapped from a file of the cache, which is gone with them.

    Where memory is short, what was written there goes to the disk.

    Raises:
        ExportError: the disk has no room for them.
    """
    num_bytes = shape.numel() * dtype.itemsize
    if num_bytes <= SMALL:
        return torch.zeros(shape, dtype=dtype)
    folder = cache_folder("scratch")
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):  # room that is missing later, when it is written to, ends the process
                os.posix_fallocate(file.fileno(), 0, num_bytes)
            else:
                file.truncate(num_bytes)
            mapped = mmap.mmap(file.fileno(), num_bytes)
    except OSError as error:
        raise ExportError(
            f"{folder}: {num_bytes / 1e6:.0f} MB of what is worked on cannot be set down ({error.strerror}); "
            f"{shutil.disk_usage(folder).free / 1e6:.0f} MB are free. Free some space, or set SOUPVIZ_CACHE to another "
            "disk."
        ) from None
    return torch.frombuffer(mapped, dtype=dtype).view(shape)


def give_back() -> None:
    """Let the system have what was freed and lies between what is in use, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:
        trim(0)


def set_down(tensor: Tensor) -> Tensor:
    """A copy of a tensor, in such a file; of one that is on another device than the CPU the tensor itself."""
    return zeros(tensor.shape, tensor.dtype).copy_(tensor) if tensor.device.type == "cpu" else tensor
