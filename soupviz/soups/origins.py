"""Where the ingredients of a soup come from, as its record keeps it."""

import os
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from soupviz.addresses import shown
from soupviz.remote.keeping import noted
from soupviz.weights.fitting import Weights
from soupviz.weights.ingredients import Ingredient
from soupviz.weights.key_maps import KeyMap
from soupviz.weights.lineage import lineage_of


class Origin(BaseModel):
    """Where an ingredient came from: its file, relative to the soup's own, and its fingerprint.

    weights: which of the two the file's were. key_map: of the record's, how the file was read. Earlier versions kept
    neither, but what stands among its keys and is no part of the model: ignored. over: of an adapter, the ingredient
    that it changes. model: its name on the Hugging Face Hub. license: as its own model card says it. Both where they
    are known.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    file: str
    fingerprint: str
    weights: Weights | None = None
    key_map: str | None = None
    ignored: tuple[str, ...] = ()
    over: str | None = Field(default=None, exclude_if=lambda value: value is None)
    model: str = Field(default="", exclude_if=lambda value: not value)
    license: str = Field(default="", exclude_if=lambda value: not value)


def origins_of(items: Sequence[Ingredient], folder: Path | None) -> tuple[dict[str, Origin], dict[str, KeyMap]]:
    """Where ingredients come from, relative to a folder, and how their files were read, as a record keeps both."""
    origins: dict[str, Origin] = {}
    key_maps: dict[str, KeyMap] = {}
    bases = {item.adapter.base.name: item.adapter.base for item in items if item.adapter}
    for item in {item.name: item for item in (*bases.values(), *items)}.values():
        told = lineage_of(item.path)
        origins[item.name] = Origin(
            file=relative(item.path, folder), fingerprint=item.fingerprint, model=told.model,
            license=told.license_name or told.license,
        )  # fmt: skip
        if item.fitted is not None:
            key_map = item.fitted.key_map
            key_maps[key_map.id] = key_map
            how = {"weights": item.fitted.weights, "key_map": key_map.id}
            how |= {"over": item.adapter.base.name} if item.adapter else {}
            origins[item.name] = origins[item.name].model_copy(update=how)
    return origins, key_maps


def relative(path: Path, folder: Path | None) -> str:
    """A file as a recipe in a folder names it: by its address, where it was fetched from one."""
    if noted(path) is not None:
        return shown(path)
    # Of a link the own name stays: the hub's cache has files without any in their place.
    whole = path.parent.resolve() / path.name
    return (Path(os.path.relpath(whole, folder.resolve())) if folder else whole).as_posix()
