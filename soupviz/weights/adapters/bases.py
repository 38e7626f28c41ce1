"""Which full model adapters change: what kitchen.yaml names, or else what they name themselves."""

import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soupviz import trust
from soupviz.errors import CheckpointError, CompatibilityError, KitchenError, shortened
from soupviz.weights.adapters.config import CONFIG, AdapterConfig, config_of, read_config
from soupviz.weights.containers import checkpoints_in

if TYPE_CHECKING:
    from soupviz.weights.ingredients import Ingredient

LONGEST_NAME = 200
"""Letters of a name that a folder may have, with what is put before it."""


def base_named_by(paths: Iterable[Path], folder: Path) -> Path | None:
    """The local folder or file that the first adapter among some files says it was trained on.

    Args:
        folder: of the kitchen, from which relative paths are tried, before the adapter's own.
    """
    for path in paths:
        found = config_of(path)
        config = found and _readable(found)
        if config and (place := _place(config, folder)):
            return trust.check_read(place, folder)
    return None


def told_of_base(base: Path) -> tuple[str, ...]:
    """That a base was taken which kitchen.yaml does not name."""
    return (f"kitchen.yaml names no base: taken is {base}, as the adapters do ({CONFIG}: base_model_name_or_path).",)


def _readable(file: Path) -> AdapterConfig | None:
    try:
        return read_config(file)
    except (CheckpointError, CompatibilityError):  # refused with its reason where it is read as an ingredient
        return None


def _place(config: AdapterConfig, folder: Path) -> Path | None:
    """Where the base lies that an adapter names; None where it is on the hub alone, or on another machine.

    An adapter is a file from somewhere: what it names is not even looked for where the dashboard may not read.
    """
    name = config.base_name
    if not name or "\0" in name:
        return None
    try:
        named = Path(name).expanduser()
    except RuntimeError:  # no such user
        return None
    known = (folder / named, config.file.parent / named, cached(config.values))
    return next((place for place in known if place and _may_read(place, folder) and _holds_weights(place)), None)


def _holds_weights(place: Path) -> bool:
    try:
        return place.is_file() or (place.is_dir() and bool(checkpoints_in(place)))
    except (OSError, CheckpointError):  # a name that is too long, or what may not be read
        return False


def cached(values: Mapping[str, Any]) -> Path | None:
    """The snapshot of a model on the hub that was fetched before, by an adapter's description; nothing is fetched.

    Source:
        https://huggingface.co/docs/huggingface_hub/guides/manage-cache: models--ORG--NAME, with refs and snapshots.
    """
    name, revision = str(values.get("base_model_name_or_path") or ""), str(values.get("revision") or "main")
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)*", revision):
        return None
    if ".." in name + revision or max(len(name), len(revision)) > LONGEST_NAME:
        return None
    home = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface")
    root = Path(os.environ.get("HF_HUB_CACHE") or home / "hub").expanduser()
    repository = root / f"models--{name.replace('/', '--')}"
    reference = repository / "refs" / revision
    commit = reference.read_text(encoding="utf-8", errors="replace").strip() if reference.is_file() else revision
    place = repository / "snapshots" / Path(commit).name
    return place if place.is_dir() else None


def without_base(config: AdapterConfig) -> CheckpointError:
    """Why an adapter alone is no ingredient, and what to write; the same remedy for all adapters of one base."""
    name = config.base_name
    named = shortened(repr(name))
    told = name and f" ({named}, which is neither a folder here nor in the cache of the hub, as far as may be read)"
    fetched = Path(name).name or "base"
    is_short = name and len(name) <= LONGEST_NAME
    fetch = f" Fetch it with: hf download {shlex.quote(name)} --local-dir {shlex.quote(fetched)}" if is_short else ""
    return CheckpointError(
        f"{config.file.parent}: is a LoRA adapter, which needs the model that it changes{told}; expected `base:` with "
        "that model's checkpoint, a file or a folder.",
        f"Write base: {fetched if is_short else 'FOLDER'} into kitchen.yaml.{fetch}",
    )


def of_another_base(
    config: AdapterConfig, first: AdapterConfig, base: "Ingredient", folder: Path, fingerprint_of: Callable[[Path], str]
) -> str:
    """Why an adapter is one of another model than the kitchen's base, as far as that can be known; empty else.

    A folder that lies here is held against the base by its fingerprint; the same model may have any place on another
    machine. Two names on the hub are two models where their last parts differ.

    Args:
        first: of the kitchen's adapters. fingerprint_of: a base's, by its path.
    """
    place = _place(config, folder)
    if place is not None and not _is_at(place, base.path):
        if fingerprint_of(place) == base.fingerprint:
            return ""
        return (
            f"was trained on {place} ({CONFIG}: base_model_name_or_path), whose weights are others than those of the "
            f"base, {base.path}; name it as base:"
        )
    names = [_on_the_hub(one, folder) for one in (config, first)]
    if not all(names) or names[0] == names[1]:
        return ""
    return (
        f"was trained on {shortened(repr(config.base_name))}, and '{first.file.parent.name}' on "
        f"{shortened(repr(first.base_name))} ({CONFIG}: "
        "base_model_name_or_path); updates of two models add up to nothing"
    )


def _is_at(place: Path, file: Path) -> bool:
    return place.resolve() in (file.resolve(), file.resolve().parent)


def _may_read(place: Path, folder: Path) -> bool:
    try:
        trust.check_read(place, folder)
    except KitchenError:
        return False
    return True


def _on_the_hub(config: AdapterConfig, folder: Path) -> str:
    """The last part of a name on the hub; empty for what is, or may have been, a folder."""
    name = config.base_name
    is_local = name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1
    place = None if is_local else _place(config, folder)
    return "" if is_local or (place and place != cached(config.values)) else name.rpartition("/")[2].lower()
