"""From kitchen.yaml's `ingredients` to checked, fingerprinted ingredients, and the files that were refused."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from soupviz.config import KitchenSpec
from soupviz.errors import CheckpointError, CompatibilityError, KitchenError
from soupviz.files import digest
from soupviz.records import Progress, Refusal
from soupviz.store import Store
from soupviz.weights import ingredients as checks
from soupviz.weights.checkpoints import INDEX_SUFFIX, PICKLE_SUFFIXES, Checkpoint, read, shards_of
from soupviz.weights.ingredients import Ingredient
from soupviz.weights.metadata import beside

BASE = "base"
CHECKPOINT_SUFFIXES = (".safetensors", INDEX_SUFFIX, *PICKLE_SUFFIXES)
GO_ON = "go on without it (--skip-incompatible)"


def candidate_files(spec: KitchenSpec, folder: Path) -> dict[str, Path]:
    """The files that may be ingredients, by name, globs sorted naturally.

    A glob leaves out the base, the shards of sharded checkpoints (their index stands for them), and files with another
    suffix than a checkpoint's, such as the metadata beside it.

    Raises:
        KitchenError: a pattern that matches nothing, no pattern at all, or a name that is taken.
    """
    if isinstance(spec.ingredients, dict):
        named = {name: folder / file for name, file in spec.ingredients.items()}
    else:
        base = (folder / spec.base).resolve() if spec.base else None
        paths: list[Path] = []
        for pattern in spec.ingredients:
            paths += [path for path in _matches(pattern, folder, base) if path not in paths]
        relative = [path.relative_to(folder) if path.is_relative_to(folder) else path for path in paths]
        named = dict(zip(checks.short_names(relative), paths, strict=True))
    if not named:
        raise KitchenError(f"{folder}: `ingredients` names no file; expected globs or files, such as ft_*.safetensors.")
    if BASE in named:
        raise KitchenError(f"{named[BASE]}: an ingredient cannot be named 'base'; rename it, or give it as base:.")
    return named


def _matches(pattern: str, folder: Path, base: Path | None) -> list[Path]:
    if not any(sign in pattern for sign in "*?["):
        return [folder / pattern]
    root = Path(pattern).anchor
    relative = Path(pattern).relative_to(root).as_posix() if root else pattern
    matches = (Path(root) if root else folder).glob(relative)
    found = [path for path in matches if path.name.endswith(CHECKPOINT_SUFFIXES) and path.is_file()]
    shards = {shard for path in {p.parent for p in found} for shard in _shards_below(path)}
    kept = [path for path in found if path.resolve() != base and path not in shards]
    if not kept:
        hint = f" ({len(found)} matches are the base or shards; name an index: *{INDEX_SUFFIX})" if found else ""
        raise KitchenError(f"ingredients: {folder / pattern} matches no checkpoint{hint}.")
    return sorted(kept, key=lambda path: checks.natural_key(path.as_posix()))


def _shards_below(folder: Path) -> set[Path]:
    found: set[Path] = set()
    for index in folder.glob(f"*{INDEX_SUFFIX}"):
        try:
            found |= shards_of(index)
        except CheckpointError:  # if it is among the ingredients, it is refused when it is read, with the reason
            continue
    return found


def read_ingredient(
    name: str,
    path: Path,
    state: Mapping[str, Tensor],
    ties: Mapping[str, str],
    store: Store,
    progress: Callable[[], None] = lambda: None,
) -> Ingredient:
    """Read one checkpoint as the model holds it, check it and fingerprint it; the store spares a second reading.

    Raises:
        CheckpointError: the file cannot be read.
        CompatibilityError: it does not fit the model; the message begins with the verb.
    """
    checkpoint = read(path)
    tensors = checks.fit(checkpoint, state, ties)
    key = digest([_stat(path), sorted(tensors), {k: [str(v.dtype), list(v.shape)] for k, v in state.items()}])
    known = store.file(key)
    if known is None:
        known = _inspect(tensors, state, ties, progress)
        store.keep_file(key, *known)
    fingerprint, problem = known
    if problem:
        raise CompatibilityError(problem)
    metadata = dict(checkpoint.metadata) | beside(path)
    metadata.pop("format", None)
    return Ingredient(name, path, tensors, fingerprint, metadata)


def read_other(
    name: str,
    path: Path,
    state: Mapping[str, Tensor],
    ties: Mapping[str, str],
    store: Store,
    ingredient: Ingredient,
) -> Ingredient:
    """Read a checkpoint that is no ingredient, and check that it can be mixed with one.

    Raises:
        CheckpointError: the file cannot be read.
        CompatibilityError: it does not fit the model, or not the ingredient.
    """
    try:
        other = checks.narrowed(read_ingredient(name, path, state, ties, store), ingredient)
        if reason := checks.disagreement(other, ingredient):
            raise CompatibilityError(reason)
    except CompatibilityError as error:
        raise CompatibilityError(f"{path} {error}. Choose a file of this kitchen's architecture.") from None
    return other


def _inspect(
    tensors: Mapping[str, Tensor], state: Mapping[str, Tensor], ties: Mapping[str, str], progress: Callable[[], None]
) -> tuple[str, str | None]:
    try:
        checks.check_against_model(tensors, state, ties)
    except CompatibilityError as error:
        return "", str(error)
    return checks.fingerprint(tensors, lambda _bytes: progress()), None


def _stat(path: Path) -> list[list[str | int]]:
    files = [path, *sorted(shards_of(path))] if path.name.endswith(INDEX_SUFFIX) else [path]
    return [[str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns] for file in files]


def carries_soup(path: Path) -> bool:
    """Whether a file is an exported soup; one that cannot be read is not, and is refused later with its reason."""
    try:
        checkpoint: Checkpoint = read(path)
    except CheckpointError:
        return False
    return checkpoint.soup is not None


def gather(
    spec: KitchenSpec,
    folder: Path,
    state: Mapping[str, Tensor],
    ties: Mapping[str, str],
    store: Store,
    progress: Progress,
) -> tuple[list[Ingredient], Ingredient | None, list[Refusal]]:
    """Read every candidate file: the ingredients that belong together, the base, and what was refused and why.

    Raises:
        KitchenError: a pattern that matches nothing; an ingredient named as the base.
    """
    files = candidate_files(spec, folder)
    if not isinstance(spec.ingredients, dict):
        outright = {folder / pattern for pattern in spec.ingredients}
        soups = {name for name, path in files.items() if path not in outright and carries_soup(path)}
        files = {name: path for name, path in files.items() if name not in soups}
        if not files:
            raise KitchenError(
                f"ingredients: all {len(soups)} files are exported soups ({', '.join(sorted(soups))}); "
                "name the checkpoints that a soup is made of."
            )
    if spec.base:
        files[BASE] = folder / spec.base
    fitting: dict[str, Ingredient] = {}
    reasons: dict[str, str] = {}
    unreadable: dict[str, str] = {}
    for index, (name, path) in enumerate(files.items()):

        def report(done: int = index) -> None:
            progress(done, len(files), "reading checkpoints")

        report()
        try:
            fitting[name] = read_ingredient(name, path, state, ties, store, report)
        except CompatibilityError as error:
            reasons[name] = f"Ingredient '{name}' ({path}) {error}"
        except CheckpointError as error:
            unreadable[name] = str(error)
    progress(len(files), len(files), "reading checkpoints")
    reasons |= _misfits(fitting)
    told = {name: _with_remedy(reason, fitting) for name, reason in reasons.items()}
    told |= {name: f"{reason} Or take it out of kitchen.yaml, or {GO_ON}." for name, reason in unreadable.items()}
    refused = [Refusal(name, str(files[name]), told[name]) for name in files if name in told]
    kept = [item for name, item in fitting.items() if name not in reasons and name != BASE]
    return kept, (fitting[BASE] if BASE in fitting and BASE not in reasons else None), refused


def _misfits(fitting: Mapping[str, Ingredient]) -> dict[str, str]:
    """Which of the ingredients that fit the model do not fit the others."""
    ingredients = [item for name, item in fitting.items() if name != BASE]
    if not ingredients:
        return {}
    reference = checks.reference_of(ingredients)
    found = {name: checks.disagreement(item, reference) for name, item in fitting.items()}
    return {name: f"Ingredient '{name}' ({fitting[name].path}) {reason}" for name, reason in found.items() if reason}


def _with_remedy(reason: str, fitting: Mapping[str, Ingredient]) -> str:
    example: Sequence[Ingredient] = list(fitting.values())[:1]
    if "as in the model" in reason and example:
        reason += f" and in '{example[0].name}' ({example[0].path})"
    return f"{reason}. Soups need one architecture and one kind of numbers: remove it, or {GO_ON}."
