"""From kitchen.yaml's `ingredients` to the files that are meant, and those that a pattern matched and that are none."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soupviz.addresses import is_remote
from soupviz.errors import CheckpointError, KitchenError
from soupviz.spec import KitchenSpec
from soupviz.weights.checkpoints import NoWeightsError, file_of, read
from soupviz.weights.containers import (
    GATHER_ZERO,
    INDEX_SUFFIX,
    SUFFIXES,
    Kind,
    checkpoints_in,
    files_of,
    gathering_of,
    kind_of,
    shards_beside,
)
from soupviz.weights.conversions import stand_ins
from soupviz.weights.fitting import Weights
from soupviz.weights.names import natural_key, short_names

BASE = "base"
MAGIC = "*?["


@dataclass(frozen=True, slots=True)
class Passed:
    """A file that was named and is not read: what it is, or what `convert` wrote of it and is read in its place.

    other: what `convert` wrote of it besides: the average where the raw weights are read, and the other way round.
    """

    path: Path
    reason: str = ""
    stand_in: Path | None = None
    other: Path | None = None


def matched_paths(spec: KitchenSpec, folder: Path) -> Iterator[Path]:
    """Every path that `ingredients` and `base` name, by their patterns alone: nothing is opened."""
    named = spec.ingredients.values() if isinstance(spec.ingredients, dict) else spec.ingredients
    for pattern in [*named, *([spec.base] if spec.base else [])]:
        if is_remote(pattern):  # nothing that lies here
            continue
        yield from [folder / pattern] if not _is_pattern(pattern) else _glob(pattern, folder)


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in MAGIC)


def _glob(pattern: str, folder: Path) -> list[Path]:
    root = Path(pattern).anchor
    relative = Path(pattern).relative_to(root).as_posix() if root else pattern
    try:
        found = list((Path(root) if root else folder).glob(relative))
    except (ValueError, NotImplementedError) as error:
        raise KitchenError(f"ingredients: {pattern!r} is no pattern: {error}.") from None
    return [path for path in found if not path.name.startswith(".")]


def candidate_files(spec: KitchenSpec, folder: Path) -> tuple[dict[str, Path], list[Passed]]:
    """The files that may be ingredients, by name, globs sorted naturally; and what is not read.

    A glob leaves out the base, the shards of sharded checkpoints (their index stands for them) and exported soups; it
    passes over what is recognisably no checkpoint. A folder with one checkpoint in it stands for that one, a folder
    with several, where it is named, for each of them.

    Raises:
        KitchenError: a pattern that matches nothing, no pattern at all, or a name that is taken.
    """
    passed: list[Passed] = []
    if isinstance(spec.ingredients, dict):
        named = {name: folder / file for name, file in spec.ingredients.items()}
    else:
        base = file_in(folder / spec.base).resolve() if spec.base else None
        of_base = _alike(base) if base else set()
        paths: dict[Path, Path] = {}  # what is read to what names it
        for pattern in spec.ingredients:
            for path in _matches(pattern, folder, base, passed):
                if _alike(path) & of_base:
                    continue
                file = taken(path, spec.weights, passed)
                if file not in paths or path.is_file():  # a pattern may match a folder and the one checkpoint in it
                    paths[file] = path
        relative = [path.relative_to(folder) if path.is_relative_to(folder) else path for path in paths.values()]
        stems = [Path(folder, one) if Path(folder, one).is_dir() else one for one in relative]
        named = dict(zip(short_names(stems), paths, strict=True))
    if not named:
        raise KitchenError(f"{folder}: `ingredients` names no file; expected globs or files, such as ft_*.safetensors.")
    if BASE in named:
        raise KitchenError(f"{named[BASE]}: an ingredient cannot be named 'base'; rename it, or give it as base:.")
    return {name: taken(path, spec.weights, passed) for name, path in named.items()}, list(dict.fromkeys(passed))


def taken(path: Path, weights: Weights, passed: list[Passed]) -> Path:
    """The file that is read for a path that kitchen.yaml names; where it is another, `passed` tells."""
    return _converted(file_in(path), weights, passed)


def _converted(path: Path, weights: Weights, passed: list[Passed]) -> Path:
    """A pickle, or what `convert` wrote of it."""
    found = stand_ins(path)
    if not found:
        return path
    chosen = found.get(weights) or next(iter(found.values()))
    other = next((file for file in found.values() if file != chosen), None)
    passed.append(Passed(path, stand_in=chosen, other=other))
    return chosen


def _alike(path: Path) -> set[Path]:
    """A file, and what `convert` wrote of it."""
    return {path.resolve(), *(file.resolve() for file in stand_ins(path).values())}


def file_in(path: Path) -> Path:
    """The file that a path stands for: itself, or the one checkpoint in a folder."""
    try:
        return file_of(path)
    except CheckpointError:  # a folder with none or several: refused when it is read, with the reason
        return path


def _matches(pattern: str, folder: Path, base: Path | None, passed: list[Passed]) -> list[Path]:
    place = folder / pattern
    if not _is_pattern(pattern) or place.is_file():  # a name may have brackets
        if not (place.is_dir() and len(checkpoints_in(place)) > 1):
            return [place]
        found = [path for path in place.iterdir() if not path.name.startswith(".")]
    else:
        found = _glob(pattern, folder)
    shards = shards_beside(found)
    kept, left_out = [], 0
    for path in sorted(found, key=lambda path: natural_key(path.as_posix())):
        if (base and (path.resolve() == base or (path.is_dir() and file_in(path).resolve() == base))) or path in shards:
            left_out += 1
        elif reason := no_ingredient(path):
            passed.append(Passed(path, reason))
        else:
            kept.append(path)
    if not kept:
        hint = f" ({left_out} matches are the base or shards; name an index: *{INDEX_SUFFIX})" if left_out else ""
        others = "; ".join(f"{one.path.name} is {one.reason}" for one in passed[:3] if one.reason)
        hint += f": {others}; name the checkpoints themselves" if others else ""
        raise KitchenError(f"ingredients: {folder / pattern} matches no checkpoint{hint}.")
    return kept


def no_ingredient(path: Path) -> str:
    """Why what a glob matched is no ingredient; empty for what is one, or is damaged or refused when it is read."""
    if path.is_dir():
        inside = checkpoints_in(path)
        if len(inside) == 1:
            return _is_other(inside[0])
        if gathering_of(path):
            return ""
        return f"a folder with {len(inside)} checkpoints" if inside else "a folder without a checkpoint"
    kind = kind_of(path)
    if kind.is_checkpoint:
        return _is_other(path)
    if kind in (Kind.EMPTY, Kind.UNKNOWN, Kind.SCRIPT, Kind.POINTER):
        return ""
    if kind is Kind.ZERO:
        return f"{kind.value}; {GATHER_ZERO} gathers the weights"
    name = path.name.lower()
    is_named_as_one = name.endswith(SUFFIXES) and kind is not Kind.STATE and not name.endswith(INDEX_SUFFIX)
    return "" if is_named_as_one else kind.value


def _is_other(path: Path) -> str:
    """Whether a file is an exported soup, or a training's state; one that cannot be read is refused later, and why."""
    try:
        return "an exported soup" if read(path).soup is not None else ""
    except NoWeightsError:
        return Kind.STATE.value
    except CheckpointError:
        return ""


def files_behind(spec: KitchenSpec, folder: Path) -> Iterator[Path]:
    """Every file here that a kitchen's ingredients and its base are read from, shards among them."""
    spec = _here(spec)
    base = [taken(folder / spec.base, spec.weights, [])] if spec.base else []
    named = [*(candidate_files(spec, folder)[0].values() if spec.ingredients else ()), *base]
    for file in named:
        yield from files_of(file)


def _here(spec: KitchenSpec) -> KitchenSpec:
    """A kitchen without what lies elsewhere."""
    given = spec.ingredients
    ingredients: Any = (
        {name: file for name, file in given.items() if not is_remote(file)}
        if isinstance(given, dict)
        else tuple(file for file in given if not is_remote(file))
    )
    base = None if spec.base and is_remote(spec.base) else spec.base
    return spec.model_copy(update={"ingredients": ingredients, "base": base})
