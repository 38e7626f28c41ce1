"""Writing a soup with its recipe and its card."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import get_args

import yaml
from torch import Tensor

from soupviz.addresses import is_remote
from soupviz.errors import ExportError
from soupviz.files import is_writable, made_folder, replacing
from soupviz.mixing.aggregation import num_examples
from soupviz.remote import putting
from soupviz.soups.as_adapter import OneAdapter, adapter_of
from soupviz.soups.as_folder import NOTHING, Beside, beside, check_opened
from soupviz.soups.card import LOADERS, card
from soupviz.soups.content import Content, content_of
from soupviz.soups.forms import FOLDERS, Form, check_folder, file_of
from soupviz.soups.mergekit import check_configuration, mergekit_yaml
from soupviz.soups.placing import (
    CARD,
    COMPANIONS,
    RECIPE,
    RECIPE_TITLE,
    check_folder_elsewhere,
    check_free,
    check_room,
    companion,
    earlier_addresses,
    earlier_files,
    in_turn,
    spare_addresses,
    spare_ingredients,
    spare_others,
)
from soupviz.soups.provenance import Dtype, Record, record_of
from soupviz.soups.scaling import check_division, last_linear
from soupviz.soups.soup import Soup
from soupviz.types import Progress, quiet
from soupviz.weights.adapters.config import CONFIG
from soupviz.weights.sharding import SUFFIX, divided, index_of, index_text, num_bytes, shard_of
from soupviz.weights.writing import write


def export(
    soup: Soup,
    path: str | Path,
    *,
    form: Form = "dense",
    rank: int | None = None,
    dtype: Dtype = "ingredients",
    temperature: float | None = None,
    bake_temperature: bool = False,
    shard_size: str | int | None = None,
    progress: Progress = quiet,
) -> list[Path | str]:
    """Write a soup as .safetensors or .pt, with recipe.yaml and a model card README.md beside it.

    float32 holds the very values that were scored: a bfloat16 soup is rounded first, then widened. A soup of LoRA
    adapters may be written as one adapter, too, a folder that peft loads: its product is the sum of the members'
    products, which no dtype of the base has rounded. A model of transformers or timm may be written as a folder that
    these open by themselves: config.json, tokenizer and preprocessor lie beside the weights.

    Args:
        path: of the file; or its address in a bucket, such as s3://bucket/soups/soup.safetensors.
        form: dense: whole weights in a file; folder: the same with what transformers or timm opens them by; adapter:
            one LoRA over the members' base; of these two path names the folder. mergekit: no weights, but the .yaml
            file by which mergekit makes the same. rank: of that adapter, which is the nearest one then; default: the
            exact sum, at the sum of the members' ranks.
        temperature: that was fitted to its logits, for the card. bake_temperature: divide the last layer by it, so that
            the file's own probabilities are calibrated; that every answer on held_out stays what it is, is measured.
        shard_size: such as "5GB": a .safetensors file that would be larger is written as several, called
            soup-00001-of-00003.safetensors and so on, beside soup.safetensors.index.json, which stands for them.

    Returns:
        The files written, the weights first, or the index of their shards, which come last. A README.md or recipe.yaml
        that is not this soup's is left alone, and ours is then named after the soup.
    Raises:
        ExportError: an unknown dtype or size, a folder that is missing or read-only, a file there that is no soup or is
            the kitchen's own, a full disk, a model that neither transformers nor timm knows, or a temperature that has
            no linear layer to go into, or would change an answer there; nothing is left half written.
    """
    target = target_of(path)
    check_target(target, dtype, shard_size, form)
    check_free(target, form, soup.kitchen)
    if form == "mergekit":
        return [_export_configuration(soup, Path(target))]
    if form == "adapter":
        return _export_adapter(soup, target, rank, temperature, bake_temperature, progress)
    if rank is not None:
        raise ExportError("a rank is of an adapter; take the form adapter (--as adapter), or give no rank.")
    soup.kitchen.scores.mixed(soup.mix, soup.recipe.aggregation)  # an ensemble has none, and says so
    if form == "folder":
        check_opened(soup.kitchen, shard_size)
    layer = last_linear(soup.kitchen) if bake_temperature and temperature else None
    record = record_of(soup, folder_of(target, form), dtype, temperature, layer)
    content = _content(soup, record)
    if layer is not None:
        check_division(soup, layer, content)
    pinned = record.model_copy(update=asdict(content.identity()))
    more = beside(soup.kitchen, content.like, PurePosixPath(target).name) if form == "folder" else NOTHING
    return write_soup(target, content, pinned, shard_size, progress, form, more)


def target_of(path: str | Path) -> Path | str:
    """Where a soup is to be written: a file here, or an address."""
    return str(path).rstrip("/") if is_remote(str(path)) else Path(path)


def folder_of(target: Path | str, form: Form = "dense") -> Path | None:
    """What a recipe there names files from; nothing, where it is an address."""
    return file_of(target, form).parent if isinstance(target, Path) else None


def _export_adapter(
    soup: Soup,
    target: Path | str,
    rank: int | None,
    temperature: float | None,
    bake_temperature: bool,
    progress: Progress,
) -> list[Path | str]:
    if bake_temperature:
        raise ExportError("an adapter has no last layer to divide by a temperature; write the soup dense.")
    one = adapter_of(soup.kitchen, soup.mix, rank)
    folder = folder_of(target, "adapter")
    record = record_of(soup, folder, "float32", temperature).model_copy(update={"adapter": one.form()})
    content = one.content()
    pinned = record.model_copy(update=asdict(content.identity()))
    return write_soup(target, content, pinned, None, progress, "adapter", adapter_files(one))


def adapter_files(one: OneAdapter) -> Beside:
    """What lies beside the weights of an adapter."""
    return Beside({CONFIG: one.description().encode()})


def _export_configuration(soup: Soup, target: Path) -> Path:
    text = mergekit_yaml(soup)
    try:
        with replacing(target) as temporary:
            temporary.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ExportError(f"{target}: cannot be written ({error}). Choose another folder.") from None
    return target


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


def write_soup(
    target: Path | str,
    content: Content,
    record: Record,
    shard_size: str | int | None = None,
    progress: Progress = quiet,
    form: Form = "dense",
    more: Beside = NOTHING,
) -> list[Path | str]:
    """Write a soup with its record, recipe.yaml and card: all of them, or none; its weights in shards, if need be.

    What is to lie elsewhere is written here first; what its weights are read by is put there last.

    Args:
        target: a file, or the folder of an adapter or of a whole model. more: what else lies in that folder.
    """
    if isinstance(target, Path):
        return [*_written(target, content, record, shard_size, form, more)]
    weights = file_of(target, form)
    folder = weights.rpartition("/")[0]
    spare_addresses([weights], record)
    earlier = earlier_addresses(weights, progress)
    if form != "dense":
        earlier |= {weights, *(f"{folder}/{name}" for name in more.files)}
    spare_addresses(earlier, record)
    written: list[str] = []

    def write_here(place: Path) -> list[Path]:
        files = _written(place if form == "dense" else place.parent, content, record, shard_size, form, more)
        written.extend(f"{folder}/{file.name}" for file in files)
        spare_addresses(written, record)
        return in_turn(files)

    putting.put(weights, COMPANIONS, write_here, progress, earlier)
    putting.remove(sorted(earlier - set(written)), progress)
    return [*written]


def _written(
    target: Path, content: Content, record: Record, shard_size: str | int | None, form: Form, more: Beside
) -> list[Path]:
    parts = divided(content.like, num_bytes(shard_size)) if shard_size else [dict(content.like)]
    is_sharded = len(parts) > 1
    file = file_of(target, form)
    names = [shard_of(file, at, len(parts)) for at in range(1, len(parts) + 1)] if is_sharded else [file]
    shards = dict(zip(names, parts, strict=True))
    weights = index_of(file) if is_sharded else file
    title = target.name
    # A soup of this name that is in another form, or was divided otherwise: beside this one, it would be loaded.
    ours = earlier_files(file)
    earlier = ours - {weights, *shards}
    described = {target / name: held for name, held in more.files.items()}
    spare_ingredients({weights, *shards, *earlier, *described}, record, file.parent)
    spare_others({weights, *shards} - ours)
    check_room(target, sum(tensor.nbytes for tensor in content.like.values()))
    values = record.model_dump(mode="json")
    companions = {
        RECIPE: RECIPE_TITLE.format(title) + "\n" + yaml.safe_dump(values, sort_keys=False, allow_unicode=True),
        CARD: card(
            title, weights.name if form == "dense" else title, record, more.loader, companion(file, RECIPE, title).name
        ),
    }
    texts = {companion(file, name, title): text for name, text in companions.items()}
    places = [*texts, *described]
    texts = ({weights: index_text(shards, json.dumps(values))} if is_sharded else {}) | texts
    try:
        with ExitStack() as all_or_none:  # each is renamed when all of them are written, the last first
            if form != "dense":
                all_or_none.enter_context(made_folder(target))
            for place, text in texts.items():
                all_or_none.enter_context(replacing(place)).write_text(text, encoding="utf-8")
            for place, held in described.items():
                all_or_none.enter_context(replacing(place)).write_bytes(held)
            files = {all_or_none.enter_context(replacing(file)): like for file, like in shards.items()}
            _write_weights(files, content.tensors(), None if is_sharded else json.dumps(values), file.suffix)
    except OSError as error:
        raise ExportError(
            f"{target}: cannot be written ({error}). Free some space, or choose another folder."
        ) from None
    for path in earlier:
        path.unlink(missing_ok=True)
    return [weights, *places, *(shards if is_sharded else ())]


def _write_weights(
    files: Mapping[Path, Mapping[str, Tensor]], tensors: Iterator[tuple[str, Tensor]], record: str | None, suffix: str
) -> None:
    for file, like in files.items():
        write(islice(tensors, len(like)), like, file, record, suffix)


def check_target(
    target: Path | str, dtype: str = "ingredients", shard_size: str | int | None = None, form: Form = "dense"
) -> None:
    """Whether a soup can be written there, as far as that can be told before it is cooked.

    Raises:
        ExportError: a form, dtype, suffix or size that is not known, shards of another format than safetensors, a
            folder that is missing or read-only, or an adapter there that is none of soupviz's.
        RemoteError: an address that takes no files, or a bucket that does not exist.
    """
    if form not in get_args(Form):
        raise ExportError(f"the form is {form!r}; expected {' or '.join(get_args(Form))}.")
    place = PurePosixPath(target)
    if shard_size is not None and num_bytes(shard_size) and place.suffix == ".pt":
        raise ExportError(f"{target}: shards are written as safetensors; name it {place.stem}{SUFFIX}.")
    if dtype not in get_args(Dtype):
        raise ExportError(f"dtype is {dtype!r}; expected {' or '.join(get_args(Dtype))}.")
    if form == "mergekit":
        check_configuration(target)
    elif form in FOLDERS:
        check_folder(target, form, shard_size)
    elif place.suffix not in LOADERS or not place.suffix:
        raise ExportError(f"{target}: cannot write {place.suffix!r} files; name it .safetensors or .pt.")
    if not isinstance(target, Path):
        putting.check_target(target)
        if form in FOLDERS:
            check_folder_elsewhere(target, form, quiet)
        return
    folder = target.parent
    if not folder.is_dir():
        raise ExportError(f"{folder}: no such folder; make it, or choose another.")
    if not is_writable(folder):
        raise ExportError(f"{folder}: the folder is read-only; choose another.")
