"""Checkpoints of torch.distributed: a folder of chunks, and `.metadata`, which says of which tensor each is a part.

`.metadata` is a pickle: it is read without looking up anything that it names. Tensors that are weights are put together
once, one after another, in a file of the cache that can be mapped into memory; an optimizer's are left where they are.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from soupviz.errors import CheckpointError, shortened, told
from soupviz.weights.chunks import Entry, Place, loaded, mapped
from soupviz.weights.containers import CHUNKS
from soupviz.weights.inert import KnownReader, Stub, plain
from soupviz.weights.states import Candidate, candidates
from soupviz.weights.vocabulary import WRAPPERS, is_training_state
from soupviz.weights.writing import DTYPE_NAMES

SMALL = 65536
"""Bytes of a value that is no tensor, of those that are read: a step, a learning rate, arguments."""


class _Record(Stub):
    """One of the records that `.metadata` consists of: what it says is in its state."""

    parts: tuple[Any, ...] = ()

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self.parts = state if isinstance(state, tuple) else ()


class _Tensor(_Record):
    """What is said of a tensor: its properties, the first of which is its dtype, its size and its chunks."""


def _size(values: Any = ()) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


METADATA, FILES = "torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem"
SHARDED = "torch.distributed._shard.sharded_tensor.metadata"
KNOWN: Mapping[str, Any] = {
    f"{METADATA}.TensorStorageMetadata": _Tensor,
    **dict.fromkeys(
        (
            *(f"{METADATA}.{name}" for name in (
                "Metadata", "BytesStorageMetadata", "ChunkStorageMetadata", "TensorProperties", "MetadataIndex",
                "StorageMeta", "_MEM_FORMAT_ENCODING",
            )),
            *(f"{FILES}.{name}" for name in ("_StorageInfo", "_StoragePrefix")),
            *(f"{SHARDED}.{name}" for name in ("TensorProperties", "MEM_FORMAT_ENCODING")),
            "torch.serialization._get_layout", "builtins.getattr",
            *(f"pathlib.{name}" for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")),
            *(f"pathlib._local.{name}" for name in ("PosixPath", "WindowsPath")),
        ),
        _Record,
    ),
    "torch.Size": _size,
    "collections.OrderedDict": dict,
    "builtins.dict": dict,
    **{str(dtype): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)},
}  # fmt: skip
"""What `.metadata` may name, and what each is read as: nothing of it is looked up, and most is a record."""


def read_distributed(file: Path) -> tuple[list[Candidate], dict[str, Any]]:
    """The state dicts that the `.metadata` of a folder tells of, mapped into memory, and the plain values beside them.

    Raises:
        CheckpointError: it is damaged, names what no such checkpoint has, or a chunk is missing or damaged.
    """
    entries = _entries(file)
    tree = _tree({name: one.like() for name, one in entries.items() if one.dtype is not None}, entries)
    values = {name: _value(file.parent, one) for name, one in entries.items() if one.dtype is None and _is_told(one)}
    known = plain(_tree(values, entries), WRAPPERS)
    found = [one for one in candidates(tree) if one.tensors or one.odd]
    names = {id(tensor): name for name, tensor in _leaves(tree, entries)}
    used = {names[id(tensor)]: entries[names[id(tensor)]] for one in found for tensor in one.tensors.values()}
    held = mapped(file, {name: one for name, one in used.items() if one.dtype in DTYPE_NAMES})
    return [_with_values(one, names, held) for one in found], known


def _with_values(one: Candidate, names: Mapping[int, str], held: Mapping[str, Tensor]) -> Candidate:
    tensors = {key: names[id(tensor)] for key, tensor in one.tensors.items()}
    odd = {key: f"a tensor of {one.tensors[key].dtype}" for key, name in tensors.items() if name not in held}
    return replace(
        one, tensors={key: held[name] for key, name in tensors.items() if name in held}, odd={**one.odd, **odd}
    )


# What .metadata says


def _entries(file: Path) -> dict[str, Entry]:
    try:
        with file.open("rb") as opened:
            reader = KnownReader(opened, KNOWN)
            metadata = reader.load()
        if reader.needed:
            named = shortened(", ".join(sorted(reader.needed)[:3]))
            raise CheckpointError(
                f"{file}: names {named}; expected what torch.distributed.checkpoint writes, and nothing "
                "that needs other code. Save the state dict with torch.distributed.checkpoint.save."
            )
        return _entries_in(metadata.state, file)
    except CheckpointError:
        raise
    except Exception as error:  # whatever the opcodes and the values of a damaged file run into
        raise CheckpointError(
            f"{file}: not the metadata of a distributed checkpoint ({told(error)}); copy it again."
        ) from None


def _entries_in(state: Mapping[str, Any], file: Path) -> dict[str, Entry]:
    places: dict[str, dict[tuple[int, ...] | None, Place]] = {}
    for index, info in state["storage_data"].items():
        if info.state.get("transform_descriptors"):
            how = ", ".join(info.state["transform_descriptors"])
            raise CheckpointError(
                f"{file}: {shortened(str(index.state['fqn']))} is stored with {shortened(how)}; expected chunks as "
                "torch.save writes them: save the checkpoint without extensions."
            )
        place = Place(str(info.state["relative_path"]), int(info.state["offset"]), int(info.state["length"]))
        name = PurePosixPath(place.file)
        # What is called otherwise is not among the files that the checkpoint is known by: it could change unnoticed.
        if place.file != name.name or not name.match(CHUNKS) or "\\" in place.file or "\0" in place.file:
            raise CheckpointError(
                f"{file}: names chunks in {shortened(repr(place.file))}; expected files in its own folder, {CHUNKS}."
            )
        places.setdefault(index.state["fqn"], {})[index.state.get("offset")] = place
    paths = state.get("planner_data") or {}
    entries: dict[str, Entry] = {}
    for name, one in state["state_dict_metadata"].items():
        path = tuple(paths[name]) if isinstance(paths, Mapping) and name in paths else (name,)
        if isinstance(one, _Tensor):
            properties = one.state["properties"]
            dtype = properties.parts[0] if properties.parts else properties.state["dtype"]
            chunks = {
                chunk.state["offsets"]: (places[name][chunk.state["offsets"]], chunk.state["sizes"])
                for chunk in one.state["chunks"]
            }
            _check_whole(name, one.state["size"], {start: size for start, (_, size) in chunks.items()})
            entries[name] = Entry(path, dtype, one.state["size"], chunks)
        else:
            found = list(places.get(name, {}).values())
            entries[name] = Entry(path, None, (), {(): (found[0], ())} if found else {})
    return entries


def _check_whole(name: str, shape: tuple[int, ...], chunks: Mapping[tuple[int, ...], tuple[int, ...]]) -> None:
    """See that every element of a tensor lies in one chunk: each inside it, no two overlap, as many elements in all."""
    boxes = []
    for start, size in chunks.items():
        ends = tuple(at + length for at, length in zip(start, size, strict=True))
        if min((*start, *size), default=0) < 0 or any(end > most for end, most in zip(ends, shape, strict=True)):
            raise ValueError(f"a chunk of {name} at {start} of shape {size} lies outside {shape}")
        if prod(size):
            boxes.append((start, ends))
    if both := _overlapping(boxes):
        raise ValueError(f"the chunks of {name} at {both[0]} and {both[1]} overlap")
    if sum(prod(size) for size in chunks.values()) != prod(shape):
        raise ValueError(f"the chunks of {name} do not make up its shape {shape}")


Box = tuple[tuple[int, ...], tuple[int, ...]]
"""Where a chunk begins in its tensor, and where it ends."""


def _overlapping(boxes: Sequence[Box]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Where two boxes begin that have an element in common; looked at along the dimension that is divided most."""
    starts = [{start[at] for start, _ in boxes} for at in range(len(boxes[0][0]))] if boxes else []
    along = max(range(len(starts)), key=lambda at: len(starts[at]), default=0)
    open_ones: list[Box] = []
    for start, ends in sorted(boxes, key=lambda box: box[0][along:]):
        open_ones = [one for one in open_ones if one[1][along] > start[along]]
        for before, until in open_ones:
            if all(a < d and c < b for a, b, c, d in zip(before, until, start, ends, strict=True)):
                return before, start
        open_ones.append((start, ends))
    return None


# State dicts


def _tree(values: Mapping[str, Any], entries: Mapping[str, Entry]) -> dict[str, Any]:
    """The values under the keys that lead to them."""
    tree: dict[Any, Any] = {}
    for name, value in values.items():
        *outer, last = entries[name].path
        place = tree
        for key in outer:
            place = place.setdefault(key, {})
        place[last] = value
    return {str(key): _listed(value) for key, value in tree.items()}


def _listed(value: Any) -> Any:
    """A mapping of numbers from 0 is what is read of a list."""
    if not isinstance(value, dict):
        return value
    inner = {key: _listed(item) for key, item in value.items()}
    is_list = bool(inner) and list(inner) == list(range(len(inner)))
    return list(inner.values()) if is_list else {str(key): item for key, item in inner.items()}


def _leaves(tree: Any, entries: Mapping[str, Entry]) -> Iterator[tuple[str, Tensor]]:
    for name, entry in entries.items():
        if entry.dtype is not None:
            place = tree
            for key in entry.path:
                place = place[key if isinstance(place, list) else str(key)]
            yield name, place


def _is_told(entry: Entry) -> bool:
    is_of_training = any(is_training_state(str(key)) for key in entry.path)
    return not is_of_training and all(place.length <= SMALL for place, _ in entry.chunks.values())


def _value(folder: Path, entry: Entry) -> Any:
    """A number or a text that lies among the chunks; None for what is neither, or cannot be read."""
    try:
        [(place, _)] = entry.chunks.values()
        return loaded(folder, place)
    except Exception:  # an object of a class of its own, say: nothing that weights need
        return None
