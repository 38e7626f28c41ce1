"""Reading kitchen.yaml: what is wrong with it is said by file and key, with the nearest key that is known."""

import re
import shlex
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from soupviz.errors import KitchenError, did_you_mean
from soupviz.plain_data import yaml_in
from soupviz.spec import (
    DataSpec,
    GroupSpec,
    KitchenSpec,
    ModelSpec,
    PartSpec,
    SliceSpec,
    Spec,
    SplitSpec,
    SweepSpec,
    TransformSpec,
)


def kitchen_file(path: Path) -> Path:
    """A kitchen.yaml, named itself or by its folder.

    Raises:
        KitchenError: it is named by an address, of which a path keeps one slash.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/+", path.as_posix()) and not path.exists():
        raise KitchenError(
            f"{path}: a kitchen.yaml lies here, beside its store of scores; copy it. What it names may lie elsewhere."
        )
    return path / "kitchen.yaml" if path.is_dir() else path


def known_keys(location: tuple[int | str, ...]) -> list[str]:
    """The keys that kitchen.yaml knows at a place, for the nearest one to an unknown key."""
    nested: dict[tuple[type[Spec], int | str], type[Spec]] = {
        (KitchenSpec, "model"): ModelSpec, (KitchenSpec, "data"): DataSpec,
        (KitchenSpec, "sweep"): SweepSpec,
        (SplitSpec, "transform"): TransformSpec, (SplitSpec, "part"): PartSpec,
        (SplitSpec, "slices"): SliceSpec,
        (SplitSpec, "group"): GroupSpec,
    }  # fmt: skip
    model: type[Spec] = KitchenSpec
    for part in location:
        if model is DataSpec:
            model = DataSpec if part == "shifts" else SplitSpec
        elif (model, part) in nested:
            model = nested[model, part]
    return list(model.model_fields)


def validate(document: Any, file: Path | str) -> KitchenSpec:
    """Check a parsed kitchen.yaml.

    Raises:
        KitchenError: naming the file, the key, what was expected and, for an unknown key, the nearest known one.
    """
    if not isinstance(document, dict):
        raise KitchenError(f"{file}: expected a mapping of keys, got {type(document).__name__}.")
    try:
        return KitchenSpec.model_validate(document)
    except ValidationError as error:
        raise KitchenError(f"{file}: " + "; ".join(_sentence(item) for item in error.errors()) + ".") from None


def _sentence(item: Any) -> str:
    where = tuple(part for part in item["loc"] if part not in ("tuple[str, ...]", "dict[str,str]"))
    place = ".".join(str(part) for part in where)
    if item["type"] == "extra_forbidden":
        remedy = did_you_mean(str(where[-1]), known_keys(where[:-1]))
        return f"unknown key {place!r}; {remedy.removesuffix('.')}"
    if item["type"] == "missing":
        return f"the key {place!r} is missing"
    message = item["msg"].removeprefix("Value error, ")
    return f"{place or 'kitchen'}: {message} (got {str(item['input'])[:80]!r})"


def read_kitchen_file(path: Path) -> KitchenSpec:
    """Read and check a kitchen.yaml (or the folder that holds one).

    Raises:
        KitchenError: missing, unreadable, not YAML, or with keys that are wrong.
    """
    try:
        document = yaml_in(path)
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError) and path.name == "kitchen.yaml" and path.parent.is_dir()
        command = f"python -m soupviz new {shlex.quote(str(path.parent))}"
        make = f" Of a run's folder one is made with: {command}" if is_missing else ""
        raise KitchenError(f"{path}: cannot be read ({error.strerror}); expected a kitchen.yaml.{make}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise KitchenError(f"{path}: not YAML: {' '.join(str(error).split())}; expected a kitchen.yaml.") from None
    return validate(document, path)


def as_yaml(values: Any) -> str:
    """Plain data as YAML for people to read, in the order in which it stands; by the fast writer where there is one."""
    fast = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return str(yaml.dump(values, Dumper=fast, sort_keys=False, allow_unicode=True))
