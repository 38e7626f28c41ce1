"""What a kitchen's model holds, and what it accepts: PyTorch's own loading decides, on a copy without memory."""

import copy
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from soupviz.errors import ModelError
from soupviz.models.building import tied_keys
from soupviz.models.usercode import guarded

RUNNING_STATISTICS = ("running_mean", "running_var")

EXTRA_STATE = "_extra_state"
"""How keys end under which modules keep what is no weight."""


def weights_of(model: nn.Module) -> dict[str, Tensor]:
    """A model's state dict without what its modules add by `get_extra_state`."""
    state: dict[str, Any] = model.state_dict()
    return {key: value for key, value in state.items() if isinstance(value, Tensor) and not key.endswith(EXTRA_STATE)}


@dataclass(frozen=True, slots=True)
class Loading:
    """What came of loading tensors into a model that was freshly built.

    held: what it holds then, in its own order of keys; empty where it refused. missing, unexpected: keys. reason: what
    PyTorch or the model's own code says against it, where keys are not the trouble.
    """

    held: Mapping[str, Tensor]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reason: str = ""


class Architecture:
    """A model's keys and ties, its buffers but for running statistics, and a skeleton to load checkpoints into.

    parameters: the keys of what is learned, in the model's order, what is tied once.
    """

    def __init__(self, model: nn.Module, fresh: Callable[[], nn.Module]):
        """Look at a model.

        Args:
            fresh: builds the same model once more.
        """
        with guarded(lambda told: ModelError(f"the model's own state_dict failed with {told}")):
            self.state: Mapping[str, Tensor] = weights_of(model)
            self.ties = tied_keys(model)
        self.parameters = tuple(key for key, _ in model.named_parameters() if key in self.state)
        named = dict(model.named_buffers(remove_duplicate=False))
        self.buffers = frozenset(key for key in self.state if key in named and not key.endswith(RUNNING_STATISTICS))
        self._extra = {key: value for key, value in model.state_dict().items() if key.endswith(EXTRA_STATE)}
        ignored = getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ()
        self._ignored = tuple(re.compile(pattern) for pattern in ignored)
        self._fresh = fresh
        with guarded(lambda told: ModelError(f"the model cannot be moved to another device: {told}")):
            self._skeleton = _skeleton(model, fresh)

    def ignores(self, key: str) -> bool:
        """Whether the model's own class says that a key of old checkpoints means nothing (transformers' do)."""
        return any(pattern.search(key) for pattern in self._ignored)

    def kinds(self) -> dict[str, str]:
        """The names of the modules' classes, by the modules' own."""
        return {name: type(one).__name__ for name, one in self._skeleton.named_modules(remove_duplicate=False)}

    def load(self, tensors: Mapping[str, Tensor], versions: Mapping[str, Any] | None = None) -> Loading:
        """Load tensors into a fresh model as `load_state_dict(strict=True)` would; nothing is copied.

        Args:
            versions: what a state dict says of its modules' versions, by module; a file may have kept it.
        """
        given = OrderedDict(self._extra | dict(tensors))
        if versions:
            given._metadata = versions  # type: ignore[attr-defined] # where torch keeps it, and looks for it
        try:
            loading = _load(self._skeleton, given, assign=True)
        finally:
            self._skeleton.to("meta")
        is_unset = any(tensor.is_meta for tensor in loading.held.values()) and not loading.missing
        if is_unset or "'assign'" in loading.reason:
            # Loading code of the model's own copies into what is there, which a skeleton without memory does not keep.
            return _load(self._fresh().requires_grad_(False), given, assign=False)
        return loading


def _skeleton(model: nn.Module, fresh: Callable[[], nn.Module]) -> nn.Module:
    """The model without memory: a copy that never had any, where its parts can be copied; a second model is as large.

    What several of its modules share is shared in the copy too.
    """
    tensors = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    empty = {
        place: nn.Parameter(tensor.to("meta"), requires_grad=False)
        if isinstance(tensor, nn.Parameter)
        else tensor.to("meta")
        for place, tensor in tensors.items()
    }
    try:
        with guarded(ModelError):  # a module may hold what cannot be copied, or refuse to be
            return copy.deepcopy(model, empty)
    except ModelError:
        return fresh().requires_grad_(False).to("meta")


def _load(model: nn.Module, given: Mapping[str, Any], *, assign: bool) -> Loading:
    try:
        with guarded(ModelError):  # sizes that differ, or whatever the model's own loading code raises
            told = model.load_state_dict(given, strict=False, assign=True) if assign else _copied(model, given)
    except ModelError as error:
        return Loading({}, reason=str(error))
    missing, unexpected = told or ((), ())  # loading code of the model's own may say nothing
    return Loading(weights_of(model), tuple(missing), tuple(unexpected))


def _copied(model: nn.Module, given: Mapping[str, Any]) -> Any:
    """Load by copying, as loading code of the model's own may do it, which may not know every argument of PyTorch's."""
    try:
        told = model.load_state_dict(given, strict=False)
    except TypeError:
        told = None
    return told or model.load_state_dict(given)  # where it says nothing, it raises what is wrong
