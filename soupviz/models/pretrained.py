"""Models of a local transformers folder: built from its config.json, never downloaded, no code of the folder run."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from soupviz.errors import ModelError
from soupviz.extras import needed

CONFIG = "config.json"


def builder(folder: Path) -> Callable[..., Any]:
    """What builds the folder's model; keyword arguments update its configuration.

    Raises:
        ModelError: transformers is missing, or the folder names no class that transformers has.
    """
    own = architecture(folder)
    with needed(f"model.factory 'transformers:{folder}'", ModelError):
        import transformers

    def kind_of(name: object) -> Any:
        kind = getattr(transformers, str(name), None)
        if isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel):
            return kind
        raise ModelError(
            f"{folder / CONFIG}: transformers {transformers.__version__} has no model {name!r}; "
            "its own code is not run. Install a version that has it, or name a factory in a file of your own."
        )

    kind_of(own)

    def build(**arguments: Any) -> Any:
        named = arguments.get("architectures")  # of a base, say, that was tuned with another head
        kind = kind_of(named[0] if isinstance(named, list) and named else own)
        with _offline():
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            if unknown := [key for key in arguments if not hasattr(config, key)]:
                raise ModelError(f"model.args: {folder / CONFIG} has no {', '.join(unknown)}; args update its values.")
            config.update(arguments)
            return kind(config)

    return build


def architecture(folder: Path) -> str:
    """The class that a folder's config.json names.

    Raises:
        ModelError: no config.json, or none of a model.
    """
    file = folder / CONFIG
    try:
        named = json.loads(file.read_text(encoding="utf-8"))["architectures"]
    except OSError:
        raise ModelError(f"{file}: no such file; transformers:FOLDER expects a folder with a config.json.") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        named = None
    if not isinstance(named, list) or not named or not isinstance(named[0], str):
        raise ModelError(f"{file}: names no class under 'architectures'; expected the config.json of a whole model.")
    return named[0]


@contextmanager
def _offline() -> Iterator[None]:
    """As under HF_HUB_OFFLINE=1, which is read once, when the library is loaded: some models fetch their backbone."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
