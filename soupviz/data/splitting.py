"""Making a test split where a kitchen has none: held_out is dealt in two, and kitchen.yaml says so."""

import itertools
import shutil
from pathlib import Path
from typing import Any

import yaml

from soupviz.errors import KitchenError
from soupviz.files import replacing
from soupviz.spec import HELD_OUT, TEST, KitchenSpec
from soupviz.yaml_file import read_kitchen_file


def with_test_split(spec: KitchenSpec, seed: int = 0) -> dict[str, Any]:
    """The kitchen as plain data, held_out its first half and test its second, stratified by class.

    Raises:
        KitchenError: there is a test split, or held_out is a part already.
    """
    if spec.data.test is not None:
        raise KitchenError("this kitchen has a test split already; held_out stays as it is.")
    if spec.data.held_out.part is not None:
        raise KitchenError("held_out is a part of its data already; name the other part as test in kitchen.yaml.")
    document = document_of(spec)
    for index, name in enumerate((HELD_OUT, TEST)):
        # Each half is a copy of its own: YAML writes what is shared as anchors.
        whole = document_of(spec)["data"]["held_out"]
        document["data"][name] = whole | {"part": {"index": index, "of": 2, "seed": seed}}
    return document


def document_of(spec: KitchenSpec) -> dict[str, Any]:
    """A specification as kitchen.yaml holds it: only what differs from the defaults."""
    return spec.model_dump(mode="json", exclude_defaults=True)


def write_document(document: dict[str, Any], file: Path) -> None:
    """Write kitchen.yaml; one that is there is kept beside it.

    Raises:
        KitchenError: the folder is read-only, or the disk is full.
    """
    write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), file)


def write_text(text: str, file: Path) -> None:
    """Write kitchen.yaml as it stands; one that is there is kept beside it.

    Raises:
        KitchenError: the folder is read-only, or the disk is full.
    """
    try:
        if file.is_file():
            shutil.copyfile(file, kept_as(file))
        with replacing(file) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise KitchenError(
            f"{file}: cannot be written ({error.strerror}). Make its folder writable, or free some space."
        ) from None


def kept_as(file: Path) -> Path:
    """The first name that is free for a file's old contents: kitchen.yaml.bak, kitchen.yaml.bak2 and so on."""
    names = itertools.chain([".bak"], (f".bak{number}" for number in itertools.count(2)))
    return next(place for name in names if not (place := file.with_name(file.name + name)).exists())


def split_held_out(file: Path, seed: int = 0) -> Path:
    """Write the split into a kitchen.yaml; returns where the old file is kept.

    Raises:
        KitchenError: the file is wrong, or there is nothing to split.
    """
    document, kept = with_test_split(read_kitchen_file(file), seed), kept_as(file)
    write_document(document, file)
    return kept
