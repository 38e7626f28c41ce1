"""Writing a soup with its recipe and its card."""

import json
import shutil
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import yaml

from soupviz.errors import ExportError
from soupviz.files import is_writable, replacing
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import num_examples
from soupviz.soups.as_adapter import OneAdapter, as_adapter
from soupviz.soups.card import LOADERS, card
from soupviz.soups.content import Content, content_of
from soupviz.soups.forms import FILE, Form, file_of
from soupviz.soups.provenance import Dtype, Record, record_of
from soupviz.soups.scaling import check_division, last_linear
from soupviz.soups.soup import Soup
from soupviz.types import Coefficients
from soupviz.weights import checkpoints
from soupviz.weights.adapters.config import CONFIG
from soupviz.weights.containers import without_suffix
from soupviz.weights.writing import write

RECIPE_TITLE = "# The recipe of {}"
"""First line of a recipe.yaml; that of a model card is `# NAME`."""


def export(
    soup: Soup,
    path: str | Path,
    *,
    form: Form = "dense",
    rank: int | None = None,
    dtype: Dtype = "ingredients",
    temperature: float | None = None,
    bake_temperature: bool = False,
) -> list[Path]:
    """Write a soup as .safetensors or .pt, with recipe.yaml and a model card README.md beside it.

    float32 holds the very values that were scored: a bfloat16 soup is rounded first, then widened. A soup of LoRA
    adapters may be written as one adapter, too, a folder that peft loads: its product is the sum of the members'
    products, which no dtype of the base has rounded.

    Args:
        form: dense: whole weights; adapter: one LoRA over the members' base, path names its folder. rank: of that
            adapter, which is the nearest one then; default: the exact sum, at the sum of the members' ranks.
        temperature: that was fitted to its logits, for the card. bake_temperature: divide the last layer by it, so that
            the file's own probabilities are calibrated; that every answer on held_out stays what it is, is measured.

    Returns:
        The files written, the weights first. A README.md or recipe.yaml that is not this soup's is left alone, and
        ours is then named after the soup.
    Raises:
        ExportError: an unknown dtype, a folder that is missing or read-only, a full disk, or a temperature that has no
            linear layer to go into, or would change an answer there; nothing is left half written.
    """
    target = Path(path)
    check_target(target, dtype, form)
    if rank is not None and form != "adapter":
        raise ExportError("a rank is of an adapter; take the form adapter (--as adapter), or give no rank.")
    if form == "adapter" and bake_temperature:
        raise ExportError("an adapter has no last layer to divide by a temperature; write the soup dense.")
    if form == "adapter":
        return _export_adapter(soup, target, rank, temperature)
    soup.kitchen.scores.mixed(soup.mix, soup.recipe.aggregation)  # an ensemble has none, and says so
    layer = last_linear(soup.kitchen) if bake_temperature and temperature else None
    record = record_of(soup, target.parent, dtype, temperature, layer)
    content = _content(soup, record)
    if layer is not None:
        check_division(soup, layer, content)
    return write_soup(target, content, record.model_copy(update=asdict(content.identity())))


def _export_adapter(soup: Soup, target: Path, rank: int | None, temperature: float | None) -> list[Path]:
    one = adapter_of(soup.kitchen, soup.mix, rank)
    record = record_of(soup, target, "float32", temperature).model_copy(update={"adapter": one.form()})
    content = one.content()
    return write_soup(target, content, record.model_copy(update=asdict(content.identity())), one.description())


def adapter_of(kitchen: Kitchen, mix: Coefficients, rank: int | None = None) -> OneAdapter:
    """A kitchen's mix as one adapter.

    Raises:
        ExportError: it is none, and why.
    """
    return as_adapter(mix, rank, kitchen.weights.formula, kitchen.weights.resolve)


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


def write_soup(target: Path, content: Content, record: Record, description: str = "") -> list[Path]:
    """Write a soup with its record, recipe.yaml and card: all of them, or none.

    Args:
        target: a file, or the folder of an adapter. description: adapter_config.json, of an adapter.
    """
    file = file_of(target, record.form)
    _spare_ingredients(file, record)
    _check_room(target, sum(tensor.nbytes for tensor in content.like.values()))
    if record.adapter:
        target.mkdir(exist_ok=True)
    values = record.model_dump(mode="json")
    companions = {
        "recipe.yaml": RECIPE_TITLE.format(target.name)
        + "\n"
        + yaml.safe_dump(values, sort_keys=False, allow_unicode=True),
        "README.md": card(target.name, record),
    }
    places = {_companion(file, name, target.name): text for name, text in companions.items()}
    places |= {target / CONFIG: description} if record.adapter else {}
    try:
        with ExitStack() as all_or_none:  # each is renamed when all of them are written
            for place, text in places.items():
                all_or_none.enter_context(replacing(place)).write_text(text, encoding="utf-8")
            place = all_or_none.enter_context(replacing(file))
            write(content.tensors(), content.like, place, json.dumps(values), file.suffix)
    except (OSError, RuntimeError) as error:
        raise ExportError(
            f"{target}: cannot be written ({error}). Free some space, or choose another folder."
        ) from None
    return [file, *places]


def check_target(target: Path, dtype: str = "ingredients", form: Form = "dense") -> None:
    """Whether a soup can be written there, as far as that can be told before it is cooked.

    Raises:
        ExportError: a form, dtype or suffix that is not known, a folder that is missing or read-only, or an adapter
            there that is none of soupviz's.
    """
    if form not in get_args(Form):
        raise ExportError(f"the form is {form!r}; expected {' or '.join(get_args(Form))}.")
    if dtype not in get_args(Dtype):
        raise ExportError(f"dtype is {dtype!r}; expected {' or '.join(get_args(Dtype))}.")
    if form == "adapter":
        _check_folder(target)
    elif target.suffix not in LOADERS or not target.suffix:
        raise ExportError(f"{target}: cannot write {target.suffix!r} files; name it .safetensors or .pt.")
    folder = target.parent
    if not folder.is_dir():
        raise ExportError(f"{folder}: no such folder; make it, or choose another.")
    if not is_writable(folder):
        raise ExportError(f"{folder}: the folder is read-only; choose another.")


def _check_folder(target: Path) -> None:
    """Whether an adapter can be written into a folder, which need not be there."""
    if without_suffix(target.name) != target.name or target.is_file():
        raise ExportError(f"{target}: an adapter is a folder; name one, without a suffix.")
    if (target / FILE).exists() and checkpoints.read(target / FILE).soup is None:
        raise ExportError(f"{target}: holds an adapter that is no soup; choose another folder.")


def _spare_ingredients(target: Path, record: Record) -> None:
    for name, origin in record.ingredients.items():
        if (target.parent / origin.file).resolve() == target.resolve():
            raise ExportError(f"{target}: is the checkpoint of ingredient {name!r}; choose another name.")


def _check_room(target: Path, num_bytes: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < num_bytes:
        raise ExportError(
            f"{target}: the disk is full: needs {num_bytes / 1e6:.1f} MB, {free / 1e6:.1f} MB are free. "
            "Free some space, or choose another folder."
        )


def _companion(target: Path, name: str, title: str) -> Path:
    """The file's usual name, unless that holds something that is not about the soup of this title."""
    usual = target.parent / name
    if not usual.exists():
        return usual
    with usual.open(encoding="utf-8", errors="replace") as file:
        is_ours = file.readline().rstrip() in (f"# {title}", RECIPE_TITLE.format(title))
    return usual if is_ours else target.with_name(f"{target.stem}.{name}")
