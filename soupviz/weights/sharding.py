"""A soup's tensors in several files: which are in which, what the files are called, and the index that names them."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from soupviz.errors import ExportError
from soupviz.weights.containers import INDEX_SUFFIX
from soupviz.weights.vocabulary import METADATA_KEY

SUFFIX = ".safetensors"
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", re.IGNORECASE)


def num_bytes(size: str | int) -> int:
    """How many bytes a text such as 5GB, 500MB or 2GiB says, as transformers' `max_shard_size` does.

    Raises:
        ExportError: it says no number of bytes above 0.
    """
    found = SIZE.fullmatch(str(size).strip())
    if found:
        unit = found[2].upper()
        factor = 1024 ** list(UNITS).index(unit) if found[3] else UNITS[unit]
        if (number := int(float(found[1]) * factor)) > 0:
            return number
    raise ExportError(f"the size of a shard is {str(size)!r}; expected a number of bytes, such as 5GB or 500MB.")


def divided(like: Mapping[str, Tensor], most: int) -> list[dict[str, Tensor]]:
    """The tensors of each file, in their order: at most so many bytes in one, but for a tensor that alone has more."""
    files: list[dict[str, Tensor]] = [{}]
    held = 0
    for key, tensor in like.items():
        if files[-1] and held + tensor.nbytes > most:
            files.append({})
            held = 0
        files[-1][key] = tensor
        held += tensor.nbytes
    return files


def index_of(target: Path) -> Path:
    """Where the index of a sharded checkpoint stands."""
    return target.with_name(target.name + INDEX_SUFFIX)


def shard_of(target: Path, number: int, total: int) -> Path:
    """What a shard is called, counted from 1, as transformers calls its."""
    return target.with_name(f"{target.name.removesuffix(SUFFIX)}-{number:05d}-of-{total:05d}{SUFFIX}")


def index_text(shards: Mapping[Path, Mapping[str, Tensor]], record: str) -> str:
    """The index of a sharded checkpoint: the shard of each key, and the soup's record."""
    names = {key: path.name for path, like in shards.items() for key in like}
    total = sum(tensor.nbytes for like in shards.values() for tensor in like.values())
    return json.dumps({"metadata": {"total_size": total, METADATA_KEY: record}, "weight_map": names}, indent=1)
