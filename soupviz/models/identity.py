"""What tells a model from others, so that scores are kept with it: its factory, arguments and source."""

import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from torch import nn

from soupviz import trust
from soupviz.files import digest, file_digest
from soupviz.models.pretrained import CONFIG
from soupviz.remote.trees import settings_at
from soupviz.spec import ONCE_CALLED, ModelSpec

DIGITS = "268944c4f70720074e0975315c58c1fa90cade4eb133fc3db7822076f7e51e7d"

OWN_SOURCES = {
    "soupviz.demo": DIGITS,
    "soupviz.demo.digits": DIGITS,
    "soupviz.demo.diabetes": "diabetes-1",
    "soupviz.models.yolo": "c6479fd3ce163d563021525c9db444edb99d15c0acd65fc09ee39bdee367d95f",
}
"""What stands for the source of soupviz's own models: what their files were when 0.1.0 kept scores of them.

The files may be moved, and edited around the models; where a model is to compute something else, it gets another word.
"""

FIRST_CALLED = {now: once for once, now in ONCE_CALLED.items()}


def fingerprint(spec: ModelSpec, model: nn.Module, folder: Path) -> str:
    """SHA-256 of factory, arguments and source: the same model means that scores may be kept.

    The source is the factory's own file and those of the classes that the model is made of, torch's left out.
    """
    place, _, name = spec.factory.rpartition(":")
    if spec.factory.startswith("transformers:"):  # an address has more colons
        place, _, name = spec.factory.partition(":")
    if place.endswith(".py"):
        sources = [file_digest(folder / place)]
    elif place == "transformers":
        sources = [file_digest(settings_at(name, folder) / CONFIG)]
    else:
        sources = [] if place in trust.LIBRARIES else [_source_digest(sys.modules[place])]
    sources += sorted(set(_digests_of_classes(model)))
    return digest([FIRST_CALLED.get(spec.factory, spec.factory), spec.args, sources])


def _digests_of_classes(model: nn.Module) -> Iterable[str]:
    kinds = {type(part) for part in model.modules()}
    return (_source_digest(kind) for kind in kinds if not kind.__module__.startswith("torch."))


def _source_digest(thing: type | ModuleType) -> str:
    module = thing.__name__ if isinstance(thing, ModuleType) else thing.__module__
    if module in OWN_SOURCES:
        return OWN_SOURCES[module]
    try:
        return file_digest(Path(inspect.getfile(thing)))
    except (TypeError, OSError):  # built in, or defined where there is no file
        return thing.__name__
