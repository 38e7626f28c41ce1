"""Which of a file's tensors each of a model's is: kept in recipes, so that a file is read again as it was read once."""

from collections.abc import Mapping

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from torch import Tensor

from soupviz.errors import CheckpointError
from soupviz.files import digest
from soupviz.weights.checkpoints import Checkpoint
from soupviz.weights.states import Candidate

MOST_BYTES = 4096
"""Of a tensor that no file holds and that is kept as it is: a counter, a table of positions."""


def name_of(dtype: torch.dtype) -> str:
    """Such as float32."""
    return str(dtype).removeprefix("torch.")


DTYPES = {
    name_of(dtype): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
        torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool,
    )
}  # fmt: skip


class Constant(BaseModel):
    """A small tensor: its dtype, its shape, and its little-endian bytes in hexadecimal digits."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    dtype: str
    shape: tuple[int, ...]
    data: str

    @classmethod
    def of(cls, tensor: Tensor) -> "Constant":
        data = bytes(tensor.contiguous().reshape(-1).view(torch.uint8).tolist()).hex()
        return cls(dtype=name_of(tensor.dtype), shape=tuple(tensor.shape), data=data)

    @model_validator(mode="after")
    def _fits(self) -> "Constant":
        if self.dtype not in DTYPES or any(size < 1 for size in self.shape):
            raise ValueError(f"{self.dtype} of shape {self.shape} is no tensor")
        try:
            num_bytes = len(bytes.fromhex(self.data))
        except ValueError:
            num_bytes = -1
        expected = DTYPES[self.dtype].itemsize
        for size in self.shape:
            expected *= size
        if num_bytes != expected:
            raise ValueError(f"{self.dtype} of shape {self.shape} takes {expected} bytes, not {num_bytes}")
        return self

    def tensor(self) -> Tensor:
        data = torch.tensor(list(bytes.fromhex(self.data)), dtype=torch.uint8)
        return data.view(DTYPES[self.dtype]).reshape(self.shape)


class AdapterMap(BaseModel):
    """How an adapter's names became the model's.

    taken: off the beginning of each. put: before it. turned: keys of square weights that hold the product transposed.
    whole: what tensors that take the place of the base's are called in the model. without: the base's keys that the
    model lacks.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    taken: str = ""
    put: str = ""
    turned: tuple[str, ...] = ()
    whole: dict[str, str] = {}
    without: tuple[str, ...] = ()


class KeyMap(BaseModel):
    """How a file was read.

    place: of the state dict in the file. prefix: of its keys. keys: what the file calls each of the model's keys; empty
    where the model's keys are all that stand under the prefix. added: what PyTorch or the model's own loading code puts
    beside them, such as a counter. computed: what that code makes of the file's tensors; only the model reads such a
    file again. narrowed: the dtypes in which tensors are mixed whose file is wider, as that of a soup may be. adapter:
    of a file that is read over a base.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    place: str = ""
    prefix: str = ""
    keys: dict[str, str] = {}
    added: dict[str, Constant] = {}
    computed: tuple[str, ...] = ()
    narrowed: dict[str, str] = {}
    adapter: AdapterMap | None = Field(default=None, exclude_if=lambda value: value is None)

    @field_validator("narrowed")
    @classmethod
    def _are_dtypes(cls, value: dict[str, str]) -> dict[str, str]:
        if unknown := set(value.values()) - set(DTYPES):
            raise ValueError(f"{unknown.pop()!r} is no dtype")
        return value

    @property
    def id(self) -> str:
        """The same for maps that say the same."""
        return digest(self.model_dump(mode="json"))[:12]

    def read(self, checkpoint: Checkpoint) -> dict[str, Tensor]:
        """The tensors of a file as the model held them.

        Raises:
            CheckpointError: the file is laid out in another way.
        """
        found = next((one.tensors for one in checkpoint.candidates if one.place == self.place), None)
        if found is None:
            raise CheckpointError(f"{checkpoint.path}: holds no state dict under {self.place!r}, as it did.")
        under = {key.removeprefix(self.prefix): key for key in found if key.startswith(self.prefix)}
        named = self.keys or {key: name for key, name in under.items() if key not in self.added}
        missing = [name for name in named.values() if name not in found]
        if missing or not named:
            raise CheckpointError(
                f"{checkpoint.path}: lacks {(missing or [self.prefix])[0]!r}, which was in it ({len(missing)} keys)."
            )
        return {key: found[name] for key, name in named.items()} | {key: c.tensor() for key, c in self.added.items()}

    def narrow(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of the file as they are mixed."""
        return {key: t.to(DTYPES[self.narrowed[key]]) if key in self.narrowed else t for key, t in tensors.items()}


def traced(candidate: Candidate, prefix: str, held: Mapping[str, Tensor]) -> KeyMap:
    """Find what a model holds among the tensors of the state dict that it was loaded from.

    PyTorch's loading keeps the tensors themselves; where a model's own code has copied them, they are found by value.
    """
    by_memory = {_memory(tensor): key for key, tensor in candidate.tensors.items()}
    keys: dict[str, str] = {}
    added: dict[str, Constant] = {}
    computed: list[str] = []
    for key, tensor in held.items():
        own = prefix + key
        if own in candidate.tensors and _memory(candidate.tensors[own]) == _memory(tensor):
            keys[key] = own
        elif name := by_memory.get(_memory(tensor)) or _copied(own, tensor, candidate.tensors):
            keys[key] = name
        elif 0 < tensor.nbytes <= MOST_BYTES:
            added[key] = Constant.of(tensor)
        else:
            computed.append(key)
    under = {name for name in candidate.tensors if name.startswith(prefix)}
    is_plain = not computed and under == {name for key, name in keys.items() if name == prefix + key}
    is_plain = is_plain and len(under) == len(keys)
    return KeyMap(
        place=candidate.place, prefix=prefix, keys={} if is_plain else keys, added=added, computed=tuple(computed)
    )


def _memory(tensor: Tensor) -> tuple[object, ...]:
    place = tensor.untyped_storage().data_ptr(), tensor.storage_offset()
    return *place, tuple(tensor.shape), tensor.stride(), tensor.dtype


def _copied(own: str, tensor: Tensor, tensors: Mapping[str, Tensor]) -> str | None:
    """The key of a tensor of the same values; a single number is too easily found."""
    others = tensors if tensor.numel() > 1 else {}
    for name in dict.fromkeys([*([own] if own in tensors else []), *others]):
        other = tensors[name]
        if other.dtype == tensor.dtype and other.shape == tensor.shape and torch.equal(other, tensor):
            return name
    return None
