"""What a file is, found by looking into it: its name says nothing that its first bytes do not say better."""

import zipfile
from collections.abc import Iterable, Iterator
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any

from soupviz.errors import CheckpointError, shortened
from soupviz.weights.inert import read_json
from soupviz.weights.vocabulary import is_training_state

INDEX_SUFFIX = ".index.json"
WEIGHTS_INDICES = (f".safetensors{INDEX_SUFFIX}", f".bin{INDEX_SUFFIX}")
SUFFIXES = (
    ".safetensors", *WEIGHTS_INDICES, INDEX_SUFFIX, ".pth.tar", ".pt.tar",
    ".tar", ".pt", ".pth", ".bin", ".ckpt", ".th", ".model", ".pkl", ".weights",
)  # fmt: skip
"""How checkpoints are usually named, the longest first where one ends another: taken off their names."""

HEAD = 64
"""Bytes that tell what a file is."""


class Kind(Enum):
    """What a file holds; those that are no checkpoint are worth saying so by name."""

    SAFETENSORS = "safetensors"
    PICKLE = "a pickle of PyTorch"
    INDEX = "the index of a sharded checkpoint"
    DISTRIBUTED = "the metadata of a distributed checkpoint"
    CHUNKS = "chunks of a distributed checkpoint, whose folder stands for it"
    SCRIPT = "a TorchScript archive, which holds a program"
    ARRAYS = "NumPy arrays"
    ARCHIVE = "an archive"
    HDF5 = "HDF5 (Keras, TensorFlow)"
    MSGPACK = "Flax weights"
    GGUF = "GGUF"
    POINTER = "a Git LFS pointer"
    IMAGE = "an image"
    EVENTS = "a TensorBoard log"
    STATE = "the state of a training, without weights"
    ZERO = "a shard of DeepSpeed's ZeRO"
    TEXT = "text"
    EMPTY = "empty"
    UNKNOWN = "of no known format"

    @property
    def is_checkpoint(self) -> bool:
        return self in (Kind.SAFETENSORS, Kind.PICKLE, Kind.INDEX, Kind.DISTRIBUTED)


STARTS: dict[bytes, Kind] = {
    b"\x89HDF": Kind.HDF5, b"GGUF": Kind.GGUF, b"\x93NUMPY": Kind.ARRAYS, b"\x89PNG": Kind.IMAGE,
    b"\xff\xd8\xff": Kind.IMAGE, b"GIF8": Kind.IMAGE, b"%PDF": Kind.IMAGE, b"version https://git-lfs": Kind.POINTER,
    b"\x1f\x8b": Kind.ARCHIVE, b"BZh": Kind.ARCHIVE, b"\xfd7zXZ": Kind.ARCHIVE, b"7z\xbc\xaf": Kind.ARCHIVE,
    b"SQLite format": Kind.ARCHIVE,
}  # fmt: skip
GATHER_ZERO = "DeepSpeed's zero_to_fp32.py"
REMEDIES = {
    Kind.SCRIPT: "load it with torch.jit.load, and save its state_dict()",
    Kind.HDF5: "convert it with transformers' from_pretrained(..., from_tf=True), and save that",
    Kind.CHUNKS: "name the folder, with its .metadata",
    Kind.ZERO: f"gather the weights with {GATHER_ZERO}",
    Kind.MSGPACK: "convert it with transformers' from_pretrained(..., from_flax=True), and save that",
}
COMMANDS = {Kind.POINTER: "Fetch the file itself with: git lfs pull"}
DISTRIBUTED_NAME, CHUNKS = ".metadata", "*.distcp"
"""How torch.distributed.checkpoint calls what it writes into a folder."""

ZERO_NAMES = ("*zero_pp_rank_*_states.pt", "*_optim_states.pt")
"""What each process of a ZeRO training writes: its part of the optimizer, and at stage 3 of the weights."""

OTHER_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".wav", ".flac", ".mp3", ".parquet", ".npy", ".npz"}
"""Of files that are no checkpoint, so that folders full of them need not be looked into."""

TEXT_SUFFIXES = {".json", ".yaml", ".yml", ".csv", ".tsv", ".txt", ".md", ".py", ".log", ".xml", ".toml", ".ini", ".sh"}


def kind_of(path: Path) -> Kind:
    """What a file is, by its first bytes; of zip archives by what they hold.

    Raises:
        CheckpointError: it cannot be opened.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); expected a checkpoint.") from None
    if path.name.endswith(INDEX_SUFFIX):
        return _kind_of_index(path)
    if path.name == DISTRIBUTED_NAME and any(path.parent.glob(CHUNKS)):
        return Kind.DISTRIBUTED
    if path.match(CHUNKS):
        return Kind.CHUNKS
    if any(path.match(pattern) for pattern in ZERO_NAMES):
        return Kind.ZERO
    if is_training_state(without_suffix(path.name)):
        return Kind.STATE
    if ".tfevents." in path.name:
        return Kind.EVENTS
    if path.suffix == ".msgpack":
        return Kind.MSGPACK
    if not head:
        return Kind.TEXT if path.suffix in TEXT_SUFFIXES else Kind.EMPTY
    for start, kind in STARTS.items():
        if head.startswith(start):
            return kind
    if head.startswith(b"PK"):
        return _kind_of_zip(path)
    if _is_safetensors(head, size):
        return Kind.SAFETENSORS
    if _is_pickle(head):
        return Kind.PICKLE
    return Kind.TEXT if path.suffix in TEXT_SUFFIXES or _is_text(head) else Kind.UNKNOWN


def _kind_of_index(path: Path) -> Kind:
    """Search indices, say, may be called so too; what is damaged is refused when it is read."""
    if path.name.endswith(WEIGHTS_INDICES):
        return Kind.INDEX
    try:
        values = read_json(path)
    except CheckpointError:
        return Kind.INDEX
    return Kind.INDEX if isinstance(values, dict) and "weight_map" in values else Kind.TEXT


def _kind_of_zip(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return Kind.PICKLE  # cut, most likely: torch says what is wrong with it
    if any("/code/" in name for name in names):
        return Kind.SCRIPT
    if any(name.endswith("data.pkl") for name in names):
        return Kind.PICKLE
    return Kind.ARRAYS if names and all(name.endswith(".npy") for name in names) else Kind.ARCHIVE


def _is_safetensors(head: bytes, size: int) -> bool:
    """Eight bytes that say how long the header is, and the header, which is JSON; a cut file is one, too."""
    return len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < max(size, 2**27)


def _is_pickle(head: bytes) -> bool:
    """Protocol 2 and later begin with their number; torch's oldest files are tar archives of pickles."""
    return head[0] == 0x80 and len(head) > 1 and 2 <= head[1] <= 5


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\n\r\f\b\x1b" for byte in head)


def refuse(path: Path, kind: Kind) -> CheckpointError:
    """Why a file that is named as a checkpoint is none."""
    if kind is Kind.EMPTY:
        return CheckpointError(f"{path}: the file is empty; expected a checkpoint. Copy it again.")
    if kind in COMMANDS:
        return CheckpointError(f"{path}: {kind.value}; expected a checkpoint with weights.", COMMANDS[kind])
    remedy = REMEDIES.get(kind, "name a file that torch.save or safetensors wrote")
    return CheckpointError(f"{path}: {kind.value}; expected a checkpoint with weights: {remedy}.")


def without_suffix(name: str) -> str:
    """A file's name without the usual suffix of checkpoints; what is not one stays, and something always does."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name


# Sharded checkpoints


def weight_map(index: Path) -> dict[str, Path]:
    """The shard that holds each key, by a sharded checkpoint's index.

    Raises:
        CheckpointError: the index is not JSON with a `weight_map`, or names a file outside its folder.
    """
    try:
        names: dict[str, str] = read_json(index)["weight_map"]
        pairs = [(key, PurePosixPath(name)) for key, name in names.items()]
    except (CheckpointError, KeyError, TypeError, AttributeError):
        raise CheckpointError(
            f"{index}: not a sharded checkpoint's index; expected JSON with a 'weight_map' of key: shard file."
        ) from None
    for _, name in pairs:
        if name.is_absolute() or ".." in name.parts or "\\" in str(name) or "\0" in str(name):
            raise CheckpointError(
                f"{index}: its weight_map names {shortened(repr(str(name)))}, outside its folder; expected shards that "
                "lie beside it."
            )
    return {key: index.parent / name for key, name in pairs}


def index_metadata(index: Path) -> dict[str, Any]:
    """What an index says beside its `weight_map`, which can be read."""
    found = read_json(index).get("metadata")
    return found if isinstance(found, dict) else {}


def shards_of(index: Path) -> set[Path]:
    """The shard files that a sharded checkpoint's index names."""
    return set(weight_map(index).values())


def files_of(path: Path) -> list[Path]:
    """The files that a checkpoint consists of: itself, and its shards or chunks."""
    if path.name == DISTRIBUTED_NAME:
        return [path, *sorted(path.parent.glob(CHUNKS))]
    return [path, *sorted(shards_of(path))] if path.name.endswith(INDEX_SUFFIX) else [path]


# Folders


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints that lie in a folder: an index stands for its shards, safetensors for the same as .bin.

    The metadata of a distributed checkpoint stand for all that lies there.
    """
    if (distributed := folder / DISTRIBUTED_NAME).is_file() and kind_of(distributed).is_checkpoint:
        return [distributed]
    dull = OTHER_SUFFIXES | (TEXT_SUFFIXES - {".json"})
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() not in dull and path.name[0] != "."]
    kinds = {path: kind_of(path) for path in files if path.is_file()}
    found = [path for path, kind in kinds.items() if kind.is_checkpoint]
    shards = set(_shards_below(folder))
    found = [path for path in found if path not in shards]
    stems = {_stem(path) for path in found if ".safetensors" in path.name}
    return [path for path in found if ".safetensors" in path.name or _stem(path) not in stems]


def gathering_of(folder: Path) -> tuple[str, str] | None:
    """What a folder is whose checkpoint lies in shards that no file names, and a sentence with what gathers it."""
    if any(folder.glob(CHUNKS)):
        return "holds chunks of a distributed checkpoint without their .metadata", "Copy the whole folder."
    if any(list(folder.glob(f"{below}{pattern}")) for below in ("", "*/") for pattern in ZERO_NAMES):
        return "is a checkpoint of ZeRO, in shards", f"Gather them with {GATHER_ZERO}"
    return None


def _shards_below(folder: Path) -> Iterator[Path]:
    for index in folder.glob(f"*{INDEX_SUFFIX}"):
        try:
            yield from shards_of(index)
        except CheckpointError:  # if it is among the ingredients, it is refused when it is read, with the reason
            continue


def shards_beside(paths: Iterable[Path]) -> set[Path]:
    """The shards that lie in the folders of these files."""
    return {shard for folder in {path.parent for path in paths} for shard in _shards_below(folder)}


def _stem(path: Path) -> str:
    """transformers calls the same weights model.safetensors and pytorch_model.bin."""
    return without_suffix(path.name).removeprefix("pytorch_")
