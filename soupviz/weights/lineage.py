"""Where a checkpoint comes from, as far as what lies beside it says: its model card, its configuration, its address."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from soupviz.addresses import address_of
from soupviz.errors import CheckpointError
from soupviz.weights.adapters.config import CONFIG as ADAPTER
from soupviz.weights.inert import LARGEST, read_json

CARD = "README.md"
CONFIG = "config.json"
OURS = "soupviz"
"""Among the tags of cards that soupviz writes; such a card is of one file of its folder."""

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
BASE_KEYS = {CONFIG: "_name_or_path", ADAPTER: "base_model_name_or_path"}
"""What says of which model weights were fine-tuned, by file."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """model: its name on the Hugging Face Hub. bases: the names of what it was fine-tuned from. license, license_name:
    as its card says them. Each empty where that is not known."""

    model: str = ""
    bases: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    license: str = ""
    license_name: str = ""


def lineage_of(path: Path) -> Lineage:
    """What is known of a checkpoint; nothing is fetched, and what cannot be read says nothing."""
    folder = path if path.is_dir() else path.parent
    told = _of_this(front_matter(folder / CARD), path)
    bases = _texts(told.get("base_model")) or _bases_in(folder)
    return Lineage(
        model=hub_name(path),
        bases=tuple(dict.fromkeys(bases)),
        datasets=_texts(told.get("datasets")),
        license=_text(told.get("license")),
        license_name=_text(told.get("license_name")),
    )


def hub_name(path: Path) -> str:
    """The name that a file's model has on the hub: by its address, or by its place in the hub's own cache."""
    address = address_of(path) or ""
    if found := re.match(r"hf://([\w.-]+/[\w.-]+?)(?:@[^/]+)?/", address):
        return found[1]
    cached = next((part for part in path.absolute().parts if part.startswith("models--")), "")
    organisation, _, name = cached.removeprefix("models--").partition("--")
    return f"{organisation}/{name}" if name else organisation


def front_matter(card: Path) -> dict[str, Any]:
    """The metadata at the head of a model card; empty where there is none, or nothing that can be read."""
    return _front_matter(card, card.stat().st_mtime_ns) if card.is_file() else {}


@lru_cache(maxsize=64)  # all the checkpoints of a folder have one card
def _front_matter(card: Path, _mtime: int) -> dict[str, Any]:
    try:
        text = card.read_text(encoding="utf-8") if card.stat().st_size <= LARGEST else ""
        found = re.match(r"\s*---[\r\n]+(.*?)[\r\n]+---(\r?\n|$)", text, re.DOTALL)
        values = yaml.safe_load(found[1]) if found else {}
    except (OSError, ValueError, RecursionError, yaml.YAMLError):  # it is somebody's text
        return {}
    return {str(key): value for key, value in values.items()} if isinstance(values, dict) else {}


def _of_this(told: dict[str, Any], path: Path) -> dict[str, Any]:
    """A card's metadata, unless it is soupviz's own of another file."""
    is_ours = OURS in _texts(told.get("tags"))
    return {} if is_ours and told.get("model_name") not in (path.name, path.parent.name) else told


def _bases_in(folder: Path) -> tuple[str, ...]:
    found = []
    for file, key in BASE_KEYS.items():
        try:
            values = read_json(folder / file) if (folder / file).is_file() else {}
        except CheckpointError:
            values = {}
        name = values.get(key) if isinstance(values, Mapping) else None
        if isinstance(name, str) and HUB_NAME.fullmatch(name) and not Path(name).exists():
            found.append(name)
    return tuple(found)


def _texts(value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(one for one in values if isinstance(one, str) and one)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
