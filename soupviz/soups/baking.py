"""Rebuilding a soup from its recipe, bit for bit, and checking that it is the one that was exported."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from soupviz.errors import CheckpointError, CompatibilityError, ExportError
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import num_examples
from soupviz.mixing.averaging import BatchNorm, mix_tensors
from soupviz.mixing.formulas import KEPT, made
from soupviz.models.architecture import EXTRA_STATE
from soupviz.soups.as_adapter import OneAdapter, as_adapter
from soupviz.soups.as_folder import NOTHING
from soupviz.soups.content import Content, Identity, are_statistics, content_of, differing
from soupviz.soups.exports import adapter_files, check_target, folder_of, target_of, write_soup
from soupviz.soups.forms import AdapterForm
from soupviz.soups.origins import Origin, origins_of, relative
from soupviz.soups.provenance import Record, read_record
from soupviz.soups.selecting import of_other_data
from soupviz.types import Progress, quiet
from soupviz.weights import checkpoints
from soupviz.weights.adapters.adapted import read_again
from soupviz.weights.adapters.config import CONFIG, config_of, read_config
from soupviz.weights.checkpoints import Checkpoint
from soupviz.weights.discovery import read_ingredient
from soupviz.weights.dtypes import cast_floats
from soupviz.weights.elsewhere import named_from, place_of
from soupviz.weights.fitting import Fitted
from soupviz.weights.ingredients import Ingredient, body_of, fingerprint
from soupviz.weights.key_maps import KeyMap
from soupviz.weights.layouts import SPELLINGS, fill_ties, readings_of
from soupviz.weights.selection import BASE

Tell = Callable[[str], None]


def _warn(text: str) -> None:
    warnings.warn(text, stacklevel=3)


def bake(
    source: str | Path,
    out: str | Path,
    *,
    kitchen: Kitchen | None = None,
    shard_size: str | int | None = None,
    tell: Tell = _warn,
    progress: Progress = quiet,
) -> list[Path | str]:
    """Rebuild a soup's weights, bit for bit, from a recipe.yaml, or from the record inside an exported soup.

    What comes is held against the fingerprint that was kept when the soup was exported, and the data that selected it
    against that of the kitchen, where there is one.

    Args:
        kitchen: where to look its ingredients up by name; default: their files, relative to the source.
        shard_size: as of `export`.
        tell: is told what cannot be checked, and what differs where rounding may; default: a warning.
    Returns:
        The files written, the weights first.
    Raises:
        ExportError: an ingredient is missing, or is not the one that was pinned; or the weights that come are not those
            that were exported. Nothing is written then.
    """
    file, target = checkpoints.file_of(place_of(source, Path(), progress)), target_of(out)
    record = read_record(file)
    check_target(target, shard_size=shard_size, form=record.form)
    if record.kept and kitchen is None:
        raise ExportError(
            f"{file}: {record.kept} was trained, or made from data: it cannot be rebuilt from its ingredients alone. "
            "Name the kitchen that it was cooked in with --kitchen; the exported file itself holds the weights."
        )
    if record.computed and kitchen is None:
        raise ExportError(
            f"{file}: the file of ingredient {record.computed!r} is made into weights by the model's own loading code; "
            "name the kitchen that has the model with --kitchen."
        )
    if num_examples(record.batchnorm) and kitchen is None:
        raise ExportError(
            f"{file}: its running statistics were re-estimated on train data; name the kitchen that has it with "
            "--kitchen. They repeat up to rounding."
        )
    found: dict[str, Ingredient] = {}
    for name, origin in sorted(_pins(record).items(), key=lambda one: one[1].over is not None):  # bases first
        found[name] = _pinned(name, origin, file, record, kitchen, found, progress)
    whole = next(item for name, item in found.items() if name != BASE or len(found) == 1)
    if BASE in found:  # it may have another head, of which nothing is mixed
        found[BASE] = body_of(found[BASE], whole)
    one = _as_adapter(record, found) if record.adapter else None
    content = one.content() if one else content_of(record, whole.tensors, _mixed(record, found, kitchen))
    again = content.identity()
    _check(file, record, content, again, tell, one.form() if one else None)
    if kitchen is not None and (other := of_other_data(kitchen, record.selecting_data, record.soupviz)):
        tell(f"{file}: {other}")
    moved = _moved(record, found, file, folder_of(target, record.form)).model_copy(update=asdict(again))
    more = adapter_files(one) if one else NOTHING
    return write_soup(target, content, moved, shard_size, progress, record.form, more)


def _moved(record: Record, found: Mapping[str, Ingredient], file: Path, folder: Path | None) -> Record:
    """The record as it is told from where the soup is written now, and of the files that it was made of now."""
    named = {name: named_from(origin.file, file.parent) for name, origin in record.ingredients.items()}
    places = {name: one if isinstance(one, str) else relative(one, folder) for name, one in named.items()}
    origins = {name: o.model_copy(update={"file": places[name]}) for name, o in record.ingredients.items()}
    used, key_maps = origins_of([item for item in found.values() if item.fitted], folder)
    origins |= used
    known = record.key_maps | key_maps
    read_by = {origin.key_map for origin in origins.values()}
    key_maps = {key: known[key] for key in known if key in read_by}
    return record.model_copy(update={"ingredients": origins, "key_maps": key_maps})


def _pins(record: Record) -> Mapping[str, Origin]:
    """The ingredients that the weights are made of."""
    needed = record.needed
    return {name: origin for name, origin in record.ingredients.items() if name in needed}


def _mixed(
    record: Record, found: Mapping[str, Ingredient], kitchen: Kitchen | None
) -> Callable[[Iterable[str]], Iterable[tuple[str, Tensor]]]:
    """The record's mix of these ingredients, for any keys."""

    def look_up(name: str) -> Ingredient:
        if name in found:
            return found[name]
        formula = record.formulas[name]
        return _kept(name, kitchen) if formula.kind == KEPT else made(name, formula, look_up, record.ties)

    items = [(look_up(name), weight) for name, weight in record.mix]
    if kitchen is not None:
        scorer, aggregation = kitchen.scores.scorer, kitchen.scores.aggregation(record.batchnorm)
        return lambda keys: scorer.mixed.of(items, aggregation, keys)
    statistics: BatchNorm = "first" if record.batchnorm == "first" else "average"
    return lambda keys: mix_tensors(items, statistics, keys)


def _as_adapter(record: Record, found: Mapping[str, Ingredient]) -> OneAdapter:
    assert record.adapter is not None
    return as_adapter(record.mix, record.adapter.rank, record.formulas.get, found.__getitem__)


def _check(file: Path, record: Record, content: Content, again: Identity, tell: Tell, form: AdapterForm | None) -> None:
    """Whether the weights are those that were exported; what was re-estimated or decomposed may differ by rounding."""
    if record.fingerprint is None:
        tell(
            f"{file}: keeps no fingerprint of the soup's own weights (soupviz {record.soupviz} wrote it): it cannot be "
            "checked that these are the same."
        )
        return
    if again.fingerprint == record.fingerprint:
        return
    keys = differing(content.like, Identity(record.fingerprint, record.tensors), again)
    where = f"{len(keys)} of {len(content.like)} tensors differ, the first of them {keys[0]}" if keys else "all differ"
    told = f"expected fingerprint {record.fingerprint[:12]}…, got {again.fingerprint[:12]}…: {where}"
    if num_examples(record.batchnorm) and are_statistics(keys):
        tell(f"{file}: {told}. They are statistics, re-estimated on train, which repeat up to rounding.")
        return
    if record.adapter and form and record.adapter.repeats(form):
        tell(f"{file}: {told}. Its factors of a given rank were decomposed anew, which repeat up to rounding.")
        return
    raise ExportError(
        f"{file}: its recipe makes other weights than were exported, {told}. The recipe was changed, or another type "
        "of machine or version rounds otherwise; take the exported file, or cook the soup again."
    )


def _kept(name: str, kitchen: Kitchen | None) -> Ingredient:
    """Weights that were trained, from the store of the kitchen that they were trained in."""
    if kitchen is None or not kitchen.weights.has_kept(name):
        where = f" of {kitchen.file}" if kitchen else ""
        raise ExportError(
            f"{name} was trained, or made from data, and is not in the store{where}: cook it there again, or load "
            "the exported soup that holds its weights back into that kitchen."
        )
    return kitchen.weights.resolve(name)


def _pinned(
    name: str,
    origin: Origin,
    source: Path,
    record: Record,
    kitchen: Kitchen | None,
    found: Mapping[str, Ingredient],
    progress: Progress,
) -> Ingredient:
    """The ingredient of that name, if it has the fingerprint that the recipe pins.

    Args:
        found: those that were looked up before, the bases of adapters among them.
    """
    if kitchen is not None:
        item = _in_kitchen(name, origin, kitchen)
        if item.fingerprint != origin.fingerprint:
            raise _differs(name, item.path, origin.fingerprint, item.fingerprint)
        return item
    path = place_of(origin.file, source.parent, progress)
    seen = ""
    try:
        for tensors, fitted in _readings(origin, record, checkpoints.read(path), found):
            for whole in (tensors, *(_as_base(tensors) if name == BASE else ())):
                pin = fingerprint(whole)
                if pin == origin.fingerprint:
                    narrowed = fitted.key_map.narrow(whole) if fitted and not origin.over else whole
                    return Ingredient(name, path, narrowed, pin, fitted=fitted)
                seen = seen or pin
    except CheckpointError as error:
        raise ExportError(
            f"{error} It is ingredient {name!r} of {source}; --kitchen names where else to look."
        ) from None
    raise _differs(name, path, origin.fingerprint, seen)


def _as_base(tensors: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """A base as it may have been read: in the type of the ingredients."""
    for kind in (torch.float32, torch.bfloat16, torch.float16):
        yield cast_floats(tensors, dict.fromkeys(tensors, kind))


def _in_kitchen(name: str, origin: Origin, kitchen: Kitchen) -> Ingredient:
    """A kitchen's ingredient; of a file with raw weights and an average those of the two that were cooked."""
    item = kitchen.weights.resolve(name)
    if item.fitted is None or origin.weights in (None, item.fitted.weights) or not item.fitted.has_twin:
        return item
    return read_ingredient(
        name, item.path, kitchen.architecture, kitchen.store, weights=origin.weights, is_base=name == BASE
    )


def _readings(
    origin: Origin, record: Record, checkpoint: Checkpoint, found: Mapping[str, Ingredient]
) -> Iterator[tuple[Mapping[str, Tensor], Fitted | None]]:
    """What the file may say, without a model to ask: as it was read, where the recipe tells; else whatever fits.

    Earlier versions did not keep how a file was read.
    """
    if origin.key_map is not None:
        key_map = record.key_maps[origin.key_map]
        tensors = (
            _over(found[origin.over], checkpoint, key_map, record) if origin.over else key_map.read(checkpoint)
        )  # fmt: skip
        yield tensors, Fitted(tensors, weights=origin.weights or "raw", key_map=key_map)
        return
    for candidate in checkpoint.candidates:
        for wrappers in SPELLINGS:
            for reading in readings_of(candidate, None, wrappers):
                inside = {
                    key: tensor
                    for key, tensor in reading.tensors.items()
                    if key not in origin.ignored and not key.endswith(EXTRA_STATE)
                }
                yield fill_ties(inside, record.ties), None


def _over(base: Ingredient, checkpoint: Checkpoint, key_map: KeyMap, record: Record) -> Mapping[str, Tensor]:
    """An adapter's weights over its base.

    Raises:
        CheckpointError: it is none any more, or another.
    """
    description = config_of(checkpoint.path)
    if description is None or key_map.adapter is None:
        raise CheckpointError(f"{checkpoint.path}: is no adapter any more; expected {CONFIG} beside it.")
    try:
        return read_again(checkpoint, read_config(description), base, key_map.adapter, record.ties)
    except CompatibilityError as error:
        raise CheckpointError(f"{checkpoint.path} {error}.") from None


def _differs(name: str, path: Path, expected: str, got: str) -> ExportError:
    return ExportError(
        f"Ingredient {name!r} ({path}) is not the one in the recipe: expected fingerprint {expected[:12]}…, got "
        f"{got[:12]}…. The file has changed; restore it, or cook again."
    )
