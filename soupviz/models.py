"""Building the kitchen's model from its factory, and reading what it returns."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from soupviz import trust
from soupviz.config import ModelSpec
from soupviz.errors import ModelError, told
from soupviz.files import digest, digest_of, file_digest
from soupviz.pretrained import CONFIG, builder


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
        # These bytes, not what the loader would read by now, or has compiled before.
        exec(compile(source, str(path), "exec"), module.__dict__)
    except (Exception, SystemExit) as error:  # whatever the user's file raises; a script may want to leave
        del sys.modules[name]
        raise ModelError(f"{path}: running it failed with {told(error)}.") from error
    return module


def _module_by_name(name: str, reference: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ModelError(f"{reference!r}: {error}. Install it, or check the spelling.") from None
    except (Exception, SystemExit) as error:  # whatever the user's package raises; a script may want to leave
        raise ModelError(f"{reference!r}: importing {name} failed with {told(error)}.") from error


def _factory(spec: ModelSpec, folder: Path) -> Callable[..., Any]:
    library, _, name = spec.factory.partition(":")
    if library == "torchvision":
        import torchvision

        if name not in torchvision.models.list_models():
            raise ModelError(f"model.factory is {spec.factory!r}; torchvision has no model {name!r}.")
        return torchvision.models.get_model_builder(name)  # type: ignore[no-any-return]
    if library == "timm":
        try:
            import timm
        except ImportError:
            raise ModelError(f"model.factory is {spec.factory!r}; timm is not installed: pip install timm") from None
        if not timm.is_model(name):
            raise ModelError(f"model.factory is {spec.factory!r}; timm has no model {name!r}.")
        return lambda **arguments: timm.create_model(name, pretrained=False, **arguments)
    if library == "transformers":
        return builder(folder / name)
    return load_function(spec.factory, folder)


def build(spec: ModelSpec, folder: Path) -> nn.Module:
    """Build the kitchen's model, in evaluation mode, on the CPU; the caller's random state is left as it was.

    Raises:
        ModelError: the factory is unknown, fails with these arguments, or returns no nn.Module.
    """
    trust.check_use(spec.factory, spec.args, folder)
    factory = _factory(spec, folder)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = factory(**spec.args)
    except (Exception, SystemExit) as error:
        raise ModelError(
            f"model.factory {spec.factory!r} with args {spec.args} failed with {type(error).__name__}: {error}"
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"model.factory {spec.factory!r} returned {type(model).__name__}; expected an nn.Module.")
    return model.eval()


def fingerprint(spec: ModelSpec, model: nn.Module, folder: Path) -> str:
    """SHA-256 of factory, arguments and source: the same model means that scores may be kept.

    The source is the factory's own file and those of the classes that the model is made of, torch's left out.
    """
    place, _, name = spec.factory.rpartition(":")
    if place.endswith(".py"):
        sources = [file_digest(folder / place)]
    elif place == "transformers":
        sources = [file_digest(folder / name / CONFIG)]
    else:
        sources = [] if place in trust.LIBRARIES else [_source_digest(sys.modules[place])]
    kinds = {type(part) for part in model.modules()}
    sources += sorted({_source_digest(kind) for kind in kinds if not kind.__module__.startswith("torch.")})
    return digest([spec.factory, spec.args, sources])


def _source_digest(thing: type | ModuleType) -> str:
    try:
        return file_digest(Path(inspect.getfile(thing)))
    except (TypeError, OSError):  # built in, or defined where there is no file
        return thing.__name__


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


def logits_of(output: Any) -> Tensor:
    """The logits in what a model returns: a tensor, `.logits` or `["logits"]`, shape (batch, classes).

    One output x is that of class 1 against class 0: it stands for the two logits 0 and x, whose softmax is its sigmoid.
    Raises:
        ModelError: no logits in it, or of another number of dimensions.
    """
    logits = output
    if isinstance(output, Mapping) and "logits" in output:
        logits = output["logits"]
    elif not isinstance(output, Tensor):
        logits = getattr(output, "logits", None)
    if not isinstance(logits, Tensor):
        raise ModelError(f"the model returned {type(output).__name__}; expected logits, .logits or ['logits'].")
    if logits.ndim != 2:
        raise ModelError(f"the model returned logits of shape {tuple(logits.shape)}; expected (batch, classes).")
    return torch.cat([torch.zeros_like(logits), logits], dim=1) if logits.shape[1] == 1 else logits
