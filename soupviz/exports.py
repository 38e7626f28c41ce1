"""Writing a soup with its recipe, and rebuilding it from that recipe bit for bit."""

import json
import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

import torch
import yaml
from torch import Tensor

from soupviz.card import LOADERS, card
from soupviz.errors import ExportError, SoupError
from soupviz.files import is_writable, replacing
from soupviz.formulas import KEPT, made
from soupviz.kitchen import Kitchen
from soupviz.mixing import BatchNorm, mix_tensors
from soupviz.provenance import Dtype, Origin, Record, read_record, record_of, relative
from soupviz.scaling import divided, last_linear
from soupviz.soups import Soup
from soupviz.treatments import num_examples
from soupviz.weights import checkpoints
from soupviz.weights.fitting import fill_ties, plain_readings
from soupviz.weights.ingredients import Ingredient, body_of, fingerprint
from soupviz.weights.selection import BASE
from soupviz.weights.writing import write

RECIPE_TITLE = "# The recipe of {}"
"""First line of a recipe.yaml; that of a model card is `# NAME`."""


def export(
    soup: Soup,
    path: str | Path,
    *,
    dtype: Dtype = "ingredients",
    temperature: float | None = None,
    bake_temperature: bool = False,
) -> list[Path]:
    """Write a soup as .safetensors or .pt, with recipe.yaml and a model card README.md beside it.

    float32 holds the very values that were scored: a bfloat16 soup is rounded first, then widened.

    Args:
        temperature: that was fitted to its logits, for the card. bake_temperature: divide the last layer by it, so that
            the file's own probabilities are calibrated; accuracy stays what it is.

    Returns:
        The files written, the weights first. A README.md or recipe.yaml that is not this soup's is left alone, and
        ours is then named after the soup.
    Raises:
        ExportError: an unknown dtype, a folder that is missing or read-only, a full disk, or a temperature that has no
            linear layer to go into; nothing is left half written.
    """
    target = Path(path)
    check_target(target, dtype)
    layer = last_linear(soup.kitchen) if bake_temperature and temperature else None
    like = _like(soup.kitchen.ingredients[0].tensors, dtype)
    weights = soup.kitchen.weights(soup.mix, soup.recipe.treatment, like)
    return _write(target, like, weights, record_of(soup, target.parent, dtype, temperature, layer))


def _write(
    target: Path, like: Mapping[str, Tensor], weights: Iterable[tuple[str, Tensor]], record: Record
) -> list[Path]:
    _spare_ingredients(target, record)
    if record.temperature and record.scaled_layer is not None:
        weights = divided(weights, record.scaled_layer, record.temperature)
    _check_room(target, sum(tensor.nbytes for tensor in like.values()))
    tensors = ((key, tensor.to(like[key].dtype)) for key, tensor in weights)
    values = record.model_dump(mode="json")
    companions = {
        "recipe.yaml": RECIPE_TITLE.format(target.name)
        + "\n"
        + yaml.safe_dump(values, sort_keys=False, allow_unicode=True),
        "README.md": card(target.name, values),
    }
    places = {_companion(target, name): text for name, text in companions.items()}
    try:
        with ExitStack() as all_or_none:  # each is renamed when all of them are written
            for place, text in places.items():
                all_or_none.enter_context(replacing(place)).write_text(text, encoding="utf-8")
            write(tensors, like, all_or_none.enter_context(replacing(target)), json.dumps(values), target.suffix)
    except (OSError, RuntimeError) as error:
        raise ExportError(
            f"{target}: cannot be written ({error}). Free some space, or choose another folder."
        ) from None
    return [target, *places]


def _like(tensors: Mapping[str, Tensor], dtype: Dtype) -> dict[str, Tensor]:
    """What the file will hold, without the numbers; widest elements first, so that each tensor starts aligned."""
    is_wide = dtype == "float32"
    kinds = {key: torch.float32 if is_wide and t.is_floating_point() else t.dtype for key, t in tensors.items()}
    ordered = sorted(kinds, key=lambda key: -kinds[key].itemsize)
    return {key: torch.empty(tensors[key].shape, dtype=kinds[key], device="meta") for key in ordered}


def check_target(target: Path, dtype: str = "ingredients") -> None:
    """Whether a soup can be written there, as far as that can be told before it is cooked.

    Raises:
        ExportError: a dtype or suffix that is not known, or a folder that is missing or read-only.
    """
    if dtype not in get_args(Dtype):
        raise ExportError(f"dtype is {dtype!r}; expected {' or '.join(get_args(Dtype))}.")
    if target.suffix not in LOADERS:
        raise ExportError(f"{target}: cannot write {target.suffix!r} files; name it .safetensors or .pt.")
    folder = target.parent
    if not folder.is_dir():
        raise ExportError(f"{folder}: no such folder; make it, or choose another.")
    if not is_writable(folder):
        raise ExportError(f"{folder}: the folder is read-only; choose another.")


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


def _companion(target: Path, name: str) -> Path:
    """The file's usual name, unless that holds something that is not about this soup."""
    usual = target.parent / name
    if not usual.exists():
        return usual
    with usual.open(encoding="utf-8", errors="replace") as file:
        is_ours = file.readline().rstrip() in (f"# {target.name}", RECIPE_TITLE.format(target.name))
    return usual if is_ours else target.with_name(f"{target.stem}.{name}")


def bake(source: str | Path, out: str | Path, *, kitchen: Kitchen | None = None) -> list[Path]:
    """Rebuild a soup from a recipe.yaml, or from the record inside an exported soup, bit for bit.

    Args:
        kitchen: where to look its ingredients up by name; default: their files, relative to the source.
    Returns:
        The files written, the weights first.
    Raises:
        ExportError: an ingredient is missing, or is not the one that was pinned.
    """
    file, target = Path(source), Path(out)
    record = read_record(file)
    check_target(target)
    if record.kept and kitchen is None:
        raise ExportError(
            f"{file}: {record.kept} was trained, or made from data: it cannot be rebuilt from its ingredients alone. "
            "Name the kitchen that it was cooked in with --kitchen; the exported file itself holds the weights."
        )
    if num_examples(record.batchnorm) and kitchen is None:
        raise ExportError(
            f"{file}: its running statistics were re-estimated on train data; name the kitchen that has it with "
            "--kitchen. They repeat up to rounding."
        )
    needed = record.needed
    pins = {name: origin for name, origin in record.ingredients.items() if name in needed}
    found = {name: _pinned(name, origin, file, record, kitchen) for name, origin in pins.items()}
    files = {name: relative(file.parent / origin.file, target.parent) for name, origin in record.ingredients.items()}
    files |= {name: relative(item.path, target.parent) for name, item in found.items()}
    origins = {name: Origin(file=files[name], fingerprint=o.fingerprint) for name, o in record.ingredients.items()}
    whole = next(item for name, item in found.items() if name != BASE or len(found) == 1)
    if BASE in found:  # it may have another head, of which nothing is mixed
        found[BASE] = body_of(found[BASE], whole)
    like = _like(whole.tensors, record.dtype)
    again = record.model_copy(update={"ingredients": origins})

    def look_up(name: str) -> Ingredient:
        if name in found:
            return found[name]
        formula = record.formulas[name]
        return _kept(name, kitchen) if formula.kind == KEPT else made(name, formula, look_up, record.ties)

    items = [(look_up(name), weight) for name, weight in record.mix]
    if kitchen is not None:
        return _write(target, like, kitchen.scorer.weights(items, kitchen.treatment(record.batchnorm), like), again)
    treatment: BatchNorm = "first" if record.batchnorm == "first" else "average"
    return _write(target, like, mix_tensors(items, treatment, like), again)


def _kept(name: str, kitchen: Kitchen | None) -> Ingredient:
    """Weights that were trained, from the store of the kitchen that they were trained in."""
    if kitchen is None or not kitchen.pantry.has_kept(name):
        where = f" of {kitchen.file}" if kitchen else ""
        raise ExportError(
            f"{name} was trained, or made from data, and is not in the store{where}: cook it there again, or load "
            "the exported soup that holds its weights back into that kitchen."
        )
    return kitchen.resolve(name)


def _pinned(name: str, origin: Origin, source: Path, record: Record, kitchen: Kitchen | None) -> Ingredient:
    """The ingredient of that name, if it has the fingerprint that the recipe pins."""
    if kitchen is not None:
        ingredient = kitchen.resolve(name)
        if ingredient.fingerprint != origin.fingerprint:
            raise _differs(name, ingredient.path, origin.fingerprint, ingredient.fingerprint)
        return ingredient
    path = source.parent / origin.file
    try:
        checkpoint = checkpoints.read(path)
    except SoupError as error:
        raise ExportError(
            f"{error} It is ingredient {name!r} of {source}; --kitchen names where else to look."
        ) from None
    seen = ""
    for tensors in plain_readings(checkpoint, origin.ignored):
        whole = fill_ties(tensors, record.ties)
        found = fingerprint(whole)
        if found == origin.fingerprint:
            return Ingredient(name, path, whole, found)
        seen = seen or found
    raise _differs(name, path, origin.fingerprint, seen)


def _differs(name: str, path: Path, expected: str, got: str) -> ExportError:
    return ExportError(
        f"Ingredient {name!r} ({path}) is not the one in the recipe: expected fingerprint {expected[:12]}…, got "
        f"{got[:12]}…. The file has changed; restore it, or cook again. "
        "(Where only the model's own code can read its keys, name the kitchen with --kitchen.)"
    )
