"""Writing a soup with its recipe and its card."""

import json
import shutil
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import get_args

import yaml

from soupviz.addresses import is_remote
from soupviz.errors import ExportError
from soupviz.files import is_writable, replacing
from soupviz.mixing.aggregation import num_examples
from soupviz.remote import putting
from soupviz.soups.card import LOADERS, card
from soupviz.soups.content import Content, content_of
from soupviz.soups.provenance import Dtype, Record, record_of
from soupviz.soups.scaling import check_division, last_linear
from soupviz.soups.soup import Soup
from soupviz.types import Progress, quiet
from soupviz.weights.writing import write

COMPANIONS = RECIPE, CARD = ("recipe.yaml", "README.md")
"""What is written beside a soup."""

RECIPE_TITLE = "# The recipe of {}"
"""First line of a recipe.yaml; that of a model card is `# NAME`."""


def export(
    soup: Soup,
    path: str | Path,
    *,
    dtype: Dtype = "ingredients",
    temperature: float | None = None,
    bake_temperature: bool = False,
    progress: Progress = quiet,
) -> list[Path | str]:
    """Write a soup as .safetensors or .pt, with recipe.yaml and a model card README.md beside it.

    float32 holds the very values that were scored: a bfloat16 soup is rounded first, then widened.

    Args:
        path: of the file; or its address in a bucket, such as s3://bucket/soups/soup.safetensors.
        temperature: that was fitted to its logits, for the card. bake_temperature: divide the last layer by it, so that
            the file's own probabilities are calibrated; that every answer on held_out stays what it is, is measured.

    Returns:
        The files written, the weights first. A README.md or recipe.yaml that is not this soup's is left alone, and
        ours is then named after the soup.
    Raises:
        ExportError: an unknown dtype, a folder that is missing or read-only, a full disk, or a temperature that has no
            linear layer to go into, or would change an answer there; nothing is left half written.
    """
    target = target_of(path)
    check_target(target, dtype)
    soup.kitchen.scores.mixed(soup.mix, soup.recipe.aggregation)  # an ensemble has none, and says so
    layer = last_linear(soup.kitchen) if bake_temperature and temperature else None
    record = record_of(soup, folder_of(target), dtype, temperature, layer)
    content = _content(soup, record)
    if layer is not None:
        check_division(soup, layer, content)
    return write_soup(target, content, record.model_copy(update=asdict(content.identity())), progress)


def target_of(path: str | Path) -> Path | str:
    """Where a soup is to be written: a file here, or an address."""
    return str(path) if is_remote(str(path)) else Path(path)


def folder_of(target: Path | str) -> Path | None:
    """What a recipe there names files from; nothing, where it is an address."""
    return target.parent if isinstance(target, Path) else None


def pinned_record(soup: Soup, folder: Path) -> Record:
    """The record of a soup that is not written, with the fingerprint that its file would have.

    One whose statistics are re-estimated has none: that would read train.
    """
    record = record_of(soup, folder)
    if num_examples(record.batchnorm):
        return record
    return record.model_copy(update=asdict(_content(soup, record).identity()))


def _content(soup: Soup, record: Record) -> Content:
    kitchen = soup.kitchen
    return content_of(
        record,
        kitchen.ingredients[0].tensors,
        lambda keys: kitchen.scores.mixed(soup.mix, soup.recipe.aggregation, keys),
    )


def write_soup(target: Path | str, content: Content, record: Record, progress: Progress = quiet) -> list[Path | str]:
    """Write a soup with its record, recipe.yaml and card: all of them, or none.

    What is to lie elsewhere is written here first; the weights are put there last.
    """
    _spare_ingredients(target, record)
    if isinstance(target, Path):
        return [*_written(target, content, record)]
    return [*putting.put(target, COMPANIONS, lambda place: _written(place, content, record), progress)]


def _written(target: Path, content: Content, record: Record) -> list[Path]:
    _check_room(target, sum(tensor.nbytes for tensor in content.like.values()))
    values = record.model_dump(mode="json")
    companions = {
        RECIPE: RECIPE_TITLE.format(target.name) + "\n" + yaml.safe_dump(values, sort_keys=False, allow_unicode=True),
        CARD: card(target.name, record),
    }
    places = {_companion(target, name): text for name, text in companions.items()}
    try:
        with ExitStack() as all_or_none:  # each is renamed when all of them are written
            for place, text in places.items():
                all_or_none.enter_context(replacing(place)).write_text(text, encoding="utf-8")
            place = all_or_none.enter_context(replacing(target))
            write(content.tensors(), content.like, place, json.dumps(values), target.suffix)
    except (OSError, RuntimeError) as error:
        raise ExportError(
            f"{target}: cannot be written ({error}). Free some space, or choose another folder."
        ) from None
    return [target, *places]


def check_target(target: Path | str, dtype: str = "ingredients") -> None:
    """Whether a soup can be written there, as far as that can be told before it is cooked.

    Raises:
        ExportError: a dtype or suffix that is not known, or a folder that is missing or read-only.
    """
    if dtype not in get_args(Dtype):
        raise ExportError(f"dtype is {dtype!r}; expected {' or '.join(get_args(Dtype))}.")
    suffix = PurePosixPath(target).suffix
    if suffix not in LOADERS:
        raise ExportError(f"{target}: cannot write {suffix!r} files; name it .safetensors or .pt.")
    if not isinstance(target, Path):
        putting.check_target(target)
        return
    folder = target.parent
    if not folder.is_dir():
        raise ExportError(f"{folder}: no such folder; make it, or choose another.")
    if not is_writable(folder):
        raise ExportError(f"{folder}: the folder is read-only; choose another.")


def _spare_ingredients(target: Path | str, record: Record) -> None:
    for name, origin in record.ingredients.items():
        place = (target.parent / origin.file).resolve() if isinstance(target, Path) else origin.file
        if place == (target.resolve() if isinstance(target, Path) else target):
            raise ExportError(f"{target}: is the checkpoint of ingredient {name!r}; choose another name.")


def _check_room(target: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < num_bytes:
        raise ExportError(
            f"{target}: the disk is full: needs {num_bytes / 1e6:.1f} MB, {free / 1e6:.1f} MB are free. "
            "Free some space, or choose another folder."
        )


def _companion(target: Path, name: str) -> Path:
    """The file's usual name, unless that holds something that is not about this soup."""
    usual = target.parent / name
    if not usual.exists():
        return usual
    with usual.open(encoding="utf-8", errors="replace") as file:
        is_ours = file.readline().rstrip() in (f"# {target.name}", RECIPE_TITLE.format(target.name))
    return usual if is_ours else target.with_name(f"{target.stem}.{name}")
