"""Building the kitchen's model from its factory, and reading what it returns."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from soupviz import trust
from soupviz.addresses import is_remote
from soupviz.errors import ModelError
from soupviz.extras import needed
from soupviz.files import digest_of
from soupviz.models.pretrained import builder
from soupviz.models.usercode import guarded
from soupviz.remote.trees import settings_at
from soupviz.spec import ModelSpec

FACTORIES = {
    "torchvision:NAME": "a torchvision model, without its pre-trained weights",
    "timm:NAME": "a timm model, without its pre-trained weights; install timm for it",
    "transformers:FOLDER": "the class that the folder's `config.json` names under `architectures`; `args` update the "
    "configuration, which may name another class so. Nothing is downloaded, and no code of the folder is run; install "
    "transformers for it",
    "soupviz.models.yolo:classifier": "an Ultralytics classifier, with `args: {model: yolo11n-cls.yaml, "
    "num_classes: 10}`; "
    "install ultralytics for it",
    "soupviz.models.yolo:detector": "an Ultralytics detector, with `args: {model: yolo11n.yaml, num_classes: 3, "
    "size: 640}`; the same",
    "path/to/file.py:function": "what a function in a file beside the kitchen returns",
    "package.module:function": "what a function in an installed package returns",
}
"""What `factory` may be, and what it builds."""

SUMS_TO_ONE = 1e-2
"""How far from 1 the sum of probabilities may lie, in bfloat16 too."""

OUTPUTS = ("logits", "out")
"""Where models put their logits among other things: transformers' name, and torchvision's."""


def load_function(reference: str, folder: Path) -> Callable[..., Any]:
    """Find `path/to/file.py:function` (relative to the folder) or `package.module:function`.

    Raises:
        ModelError: no such file, module or function.
        KitchenError: it is not what the user said yes to, where the dashboard asked.
    """
    place, _, name = reference.rpartition(":")
    if not place or not name:
        raise ModelError(
            f"{reference!r} names no function; expected path/to/file.py:function or package.module:function."
        )
    if is_remote(place):
        raise ModelError(f"{reference}: code is not fetched from elsewhere; copy the file, look at it, name the copy.")
    trust.check_use(reference, {}, folder)
    is_file = place.endswith(".py")
    module = _module_of_file(reference, folder) if is_file else _module_by_name(place, reference)
    function = getattr(module, name, None)
    if not callable(function):
        raise ModelError(f"{reference!r}: {place} has no function {name!r}; check the spelling.")
    return function  # type: ignore[no-any-return]


def _module_of_file(reference: str, folder: Path) -> ModuleType:
    path = folder / reference.rpartition(":")[0]
    if not path.is_file():
        raise ModelError(f"{path}: no such file; the kitchen takes a function from it.")
    source = trust.source(path, reference, folder)
    name = f"soupviz_file_{digest_of(source)[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a .py file always has a loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling inside the file look their module up by name
    try:
        with guarded(lambda told: ModelError(f"{path}: running it failed with {told}.")):
            # These bytes, not what the loader would read by now, or has compiled before.
            exec(compile(source, str(path), "exec"), module.__dict__)
    except ModelError:
        del sys.modules[name]
        raise
    return module


def _module_by_name(name: str, reference: str) -> ModuleType:
    try:
        with guarded(lambda told: ModelError(f"{reference!r}: importing {name} failed with {told}."), ImportError):
            return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(f"{reference!r}: {error}. Install it, or check the spelling.") from None


def _factory(spec: ModelSpec, folder: Path) -> Callable[..., Any]:
    library, _, name = spec.factory.partition(":")
    if library == "torchvision":
        with needed(f"model.factory {spec.factory!r}", ModelError):
            import torchvision
        if name not in torchvision.models.list_models():
            raise ModelError(f"model.factory is {spec.factory!r}; torchvision has no model {name!r}.")
        found = torchvision.models.get_model_builder(name)
        # A detector's default downloads the weights of its backbone, which checkpoints replace anyway.
        has_backbone = "weights_backbone" in inspect.signature(found).parameters
        return partial(found, weights_backbone=None) if has_backbone else found
    if library == "timm":
        with needed(f"model.factory {spec.factory!r}", ModelError):
            import timm
        if not timm.is_model(name):
            raise ModelError(f"model.factory is {spec.factory!r}; timm has no model {name!r}.")
        return lambda **arguments: timm.create_model(name, pretrained=False, **arguments)
    if library == "transformers":
        return builder(settings_at(name, folder))
    return load_function(spec.factory, folder)


def build(spec: ModelSpec, folder: Path) -> nn.Module:
    """Build the kitchen's model, in evaluation mode, on the CPU; the caller's random state is left as it was.

    Raises:
        ModelError: the factory is unknown, fails with these arguments, returns no nn.Module, or one without numbers.
    """
    trust.check_use(spec.factory, spec.args, folder)
    factory = _factory(spec, folder)
    with (
        guarded(lambda told: ModelError(f"model.factory {spec.factory!r} with args {spec.args} failed with {told}")),
        torch.random.fork_rng(devices=[]),
    ):
        torch.manual_seed(0)
        model = factory(**spec.args)
        if isinstance(model, nn.Module):
            _check_whole(spec.factory, model.eval())
            return model
    raise ModelError(f"model.factory {spec.factory!r} returned {type(model).__name__}; expected an nn.Module.")


def _check_whole(factory: str, model: nn.Module) -> None:
    """Refuse a model whose tensors have no size yet, or no memory: nothing can be loaded into those."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ModelError(
                f"model.factory {factory!r} returned a model whose {name} has no shape before its first forward (a "
                "lazy module); call it once in the factory, as in model(torch.zeros(1, 3, 224, 224)), or give the size."
            )
        if tensor.is_meta:
            raise ModelError(
                f"model.factory {factory!r} returned a model whose {name} is on the meta device, without numbers; "
                "build it on the CPU."
            )


def tied_keys(model: nn.Module) -> dict[str, str]:
    """Keys of the state dict that are the same tensor as an earlier one, and which."""
    first: dict[int, str] = {}
    ties: dict[str, str] = {}
    for key, tensor in model.state_dict(keep_vars=True).items():
        if isinstance(tensor, Tensor) and id(tensor) in first:
            ties[key] = first[id(tensor)]
        else:
            first[id(tensor)] = key
    return ties


def image_size(model: nn.Module) -> int | None:
    """Pixels on a side of the images that a model says it was built for; None where it says nothing."""
    config = getattr(model, "config", None)
    for place in (model, getattr(model, "patch_embed", None), config):
        for name in ("image_size", "img_size"):
            size = getattr(place, name, None)
            size = size[-1] if isinstance(size, (tuple, list)) and size else size
            if isinstance(size, int):
                return size
    return None


def _logits_in(output: Any) -> tuple[Any, str]:
    """What stands where logits do in what a model returns, and what there is to tell where it was one of several."""
    if isinstance(output, Mapping):
        return next((output[key] for key in OUTPUTS if key in output), None), ""
    if isinstance(output, Tensor):
        return output, ""
    if isinstance(output, (tuple, list)) and not any(hasattr(output, key) for key in OUTPUTS):
        more = f"the model returns {len(output)} things: the first is taken for its logits." if len(output) > 1 else ""
        return next(iter(output), None), more
    return next((getattr(output, key) for key in OUTPUTS if hasattr(output, key)), None), ""


def told_of(output: Any) -> list[str]:
    """What there is to tell of a model's answers: that one of several is taken, or that they may be probabilities."""
    logits, told = _logits_in(output)
    notes = [told] if told else []
    # What one output alone means cannot be seen so: before training, logits lie between 0 and 1 as often as not.
    if not isinstance(logits, Tensor) or logits.is_complex() or logits.ndim != 2 or logits.shape[1] < 2:
        return notes
    values = logits.float()
    if bool((values >= 0).all()) and bool(((values.sum(1) - 1).abs() < SUMS_TO_ONE).all()):
        notes.append(
            "the model's outputs sum to 1, as probabilities do: they are taken for logits, so that losses, "
            "ensembles and temperatures are not the model's; let it return logits, without the softmax."
        )
    return notes


def tensor_of(output: Any) -> Tensor:
    """The one tensor in what a model returns: itself, `logits`, `out`, or the first of several.

    Raises:
        ModelError: none of these, or no real numbers.
    """
    found, _ = _logits_in(output)
    if not isinstance(found, Tensor):
        kind = f"a {type(output).__name__} of {', '.join(map(str, output))}" if isinstance(output, Mapping) else ""
        raise ModelError(
            f"the model returned {kind or type(output).__name__}; expected a tensor of logits, alone or first of "
            "several, or under `logits` or `out`."
        )
    if found.is_complex():
        raise ModelError(f"the model returned {found.dtype}; expected real numbers.")
    return found


def logits_of(output: Any) -> Tensor:
    """The logits of classes in what a model returns, shape (batch, classes).

    One output x is that of class 1 against class 0: it stands for the two logits 0 and x, whose softmax is its sigmoid.
    Raises:
        ModelError: no logits in it, of another number of dimensions, or no real numbers.
    """
    logits = tensor_of(output)
    if logits.ndim == 1:  # one output of each example, as nn.Flatten(0) or squeeze leave it
        logits = logits[:, None]
    if logits.ndim != 2:
        raise ModelError(f"the model returned logits of shape {tuple(logits.shape)}; expected (batch, classes).")
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits
