"""Writing a soup's tensors as they are mixed: no more than a few of them are in memory at a time."""

import json
import struct
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

from soupviz.weights.scratch import set_down
from soupviz.weights.vocabulary import METADATA_ATTRIBUTE, METADATA_KEY

WAITING = 2
"""Tensors that may wait to be written while the next is mixed."""

LARGE = 2**25
"""Bytes of a tensor that is written before the next is mixed: waiting, it would be in memory beside it."""

PIECE = 2**19
"""Bytes in a write. A kernel that caches files in large pages took five times as long for tensors whole."""

DTYPE_NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8",
    torch.uint64: "U64", torch.uint32: "U32", torch.uint16: "U16", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
"""As the safetensors format calls them."""


def aligned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors, or what tells their dtypes, widest first, as safetensors' own writer has them.

    Every one then starts in a file at a multiple of its element's size.
    """
    return dict(sorted(tensors.items(), key=lambda pair: -pair[1].element_size()))


def write(
    tensors: Iterable[tuple[str, Tensor]], like: Mapping[str, Tensor], path: Path, record: str | None, suffix: str
) -> None:
    """Write a soup with its record inside, in the format of the suffix, .safetensors or .pt.

    Tensors that are one in the model are written under each of their names: every loader finds every key. In a .pt file
    the record is an attribute of the state dict (as PyTorch's own `_metadata` is), so that
    `model.load_state_dict(torch.load(path))` works as it stands.

    Args:
        like: tells key, dtype and shape of what will come, in that order, best that of `aligned`. record: None for a
            shard, whose index has it.
    """
    if suffix == ".safetensors":
        _stream(tensors, like, path, {"format": "pt"} | ({} if record is None else {METADATA_KEY: record}))
    else:
        state_dict = OrderedDict((key, set_down(tensor)) for key, tensor in tensors)
        setattr(state_dict, METADATA_ATTRIBUTE, record)
        try:
            torch.save(state_dict, path)
        except RuntimeError as error:  # what its writer makes of a full disk
            raise OSError(str(error)) from None


def _stream(
    tensors: Iterable[tuple[str, Tensor]], like: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str]
) -> None:
    """The safetensors format: length of the header, the header as JSON, the tensors' bytes in the header's order.

    Source:
        https://huggingface.co/docs/safetensors/index#format. Its own writer wants the whole state dict in memory.
    """
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    start = 0
    for key, tensor in like.items():
        header[key] = {
            "dtype": DTYPE_NAMES[tensor.dtype], "shape": list(tensor.shape),
            "data_offsets": [start, start + tensor.nbytes],
        }  # fmt: skip
        start += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    waiting: deque[Future[None]] = deque()
    with path.open("wb", buffering=0) as file, ThreadPoolExecutor(1) as writer:
        file.write(struct.pack("<Q", len(text)) + text)

        def put(data: memoryview) -> None:
            while data:  # an unbuffered file may take less than it is given
                data = data[file.write(data[:PIECE]) :]

        for _, tensor in tensors:
            while len(waiting) >= WAITING:
                waiting.popleft().result()
            waiting.append(writer.submit(put, tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data))
            if tensor.nbytes > LARGE:
                waiting.pop().result()
            del tensor  # or it would be in memory while the next is mixed
        for future in waiting:
            future.result()
