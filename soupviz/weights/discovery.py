"""From the files that a kitchen means to checked, fingerprinted ingredients, and the files that were refused."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from soupviz.addresses import shown, spelled
from soupviz.errors import CheckpointError, CompatibilityError, KitchenError
from soupviz.files import digest
from soupviz.models.architecture import Architecture
from soupviz.spec import KitchenSpec
from soupviz.store.database import Store
from soupviz.types import Progress, Refusal
from soupviz.weights import ingredients as checks
from soupviz.weights.adapters.adapted import Adapted, fit_adapter
from soupviz.weights.adapters.bases import base_named_by, of_another_base, told_of_base, without_base
from soupviz.weights.adapters.config import AdapterConfig, config_of, read_config
from soupviz.weights.checkpoints import Checkpoint, read
from soupviz.weights.conversions import CONTENT
from soupviz.weights.dtypes import in_types_of, narrowed
from soupviz.weights.elsewhere import files_meant
from soupviz.weights.fitting import Fitted, Weights, fit, fit_body
from soupviz.weights.ingredients import Ingredient, stamp_of
from soupviz.weights.key_maps import KeyMap
from soupviz.weights.metadata import beside
from soupviz.weights.pickles import NeedsCodeError
from soupviz.weights.selection import BASE, Passed, file_in, taken
from soupviz.weights.vocabulary import says_average

GO_ON = "go on without it (--skip-incompatible)"


@dataclass(frozen=True, slots=True)
class Gathered:
    """What came of reading a kitchen's files.

    base: None where there is none; it may have another head than the model.
    passed: files that were named and are not read: no checkpoints, or pickles that were converted. told: what else was
    chosen, in sentences.
    """

    ingredients: tuple[Ingredient, ...]
    base: Ingredient | None = None
    refused: tuple[Refusal, ...] = ()
    passed: tuple[Passed, ...] = field(default=())
    told: tuple[str, ...] = ()


def read_ingredient(
    name: str,
    path: Path,
    architecture: Architecture,
    store: Store,
    *,
    weights: Weights = "raw",
    is_base: bool = False,
    base: Ingredient | None = None,
    sweep: Path | None = None,
    progress: Callable[[], None] = lambda: None,
) -> Ingredient:
    """Read one checkpoint as the model holds it, check it and fingerprint it; the store spares a second reading.

    Args:
        weights: which to take where the file holds both. is_base: it may have another head than the model. base: what
            an adapter changes. sweep: a table that is joined later, and not looked into here.
    Raises:
        CheckpointError: the file cannot be read.
        CompatibilityError: it does not fit the model; the message begins with the verb.
    """
    stamp = stamp_of(path)
    checkpoint = read(path)
    if description := config_of(path):
        fitted = _over_base(checkpoint, read_config(description), base, architecture)
        assert base is not None
        stamp = (*stamp, *stamp_of(description), *base.stamp)
    else:
        fitted = (fit_body if is_base else fit)(checkpoint, architecture, weights)
    if fitted.weights == "raw" and not (fitted.has_twin or checkpoint.says_weights):
        if says_average(name) or says_average(path.name):
            fitted = replace(fitted, weights="ema", by_name=True)
    body = fitted.tensors
    if not isinstance(body, Adapted):  # whose tensors are made at each look, and are the model's
        body = {key: tensor for key, tensor in body.items() if _is_shared(key, tensor, architecture)}
    shapes = {key: [str(tensor.dtype), list(tensor.shape)] for key, tensor in architecture.state.items()}
    # Times of writing are set back by tar, rsync and containers; those of the last change of any kind are not.
    changed = [Path(file).stat().st_ctime_ns for file, *_ in stamp]
    key = digest(
        [stamp, changed, fitted.place, fitted.weights, sorted(fitted.tensors), shapes, sorted(architecture.buffers)]
    )
    known = store.file(key)
    if known is None:
        known = _inspect(fitted.tensors, body, architecture, progress)
        store.keep_file(key, *known)
    fingerprint, problem = known
    if problem:
        raise CompatibilityError(problem)
    unread: list[str] = []
    metadata: dict[str, Any] = dict(checkpoint.metadata)
    metadata |= beside(path, checkpoint.metadata, lambda error: unread.append(str(error)), sweep)
    for key in ("format", CONTENT):
        metadata.pop(key, None)
    lacking = tuple(key for key in architecture.state if key not in body)
    return Ingredient(name, path, body, fingerprint, metadata, fitted, stamp, lacking, tuple(unread))


def _over_base(
    checkpoint: Checkpoint, config: AdapterConfig, base: Ingredient | None, architecture: Architecture
) -> Fitted:
    """What the model holds once an adapter is merged into its base."""
    if base is None:
        raise without_base(config)
    tensors, left_over = fit_adapter(checkpoint, config, base, architecture)
    return Fitted(tensors, left_over=left_over, key_map=KeyMap(adapter=tensors.adapter.names))


def _is_shared(key: str, tensor: Tensor, architecture: Architecture) -> bool:
    return key in architecture.state and tensor.shape == architecture.state[key].shape


def read_other(
    name: str, path: Path, architecture: Architecture, store: Store, ingredient: Ingredient, base: Ingredient | None
) -> Ingredient:
    """Read a checkpoint that is no ingredient, and check that it can be mixed with one.

    Args:
        base: what it changes, if it is an adapter.
    Raises:
        CheckpointError: the file cannot be read.
        CompatibilityError: it does not fit the model, or not the ingredient.
    """
    try:
        other = narrowed(read_ingredient(name, path, architecture, store, base=base), ingredient)
        if reason := checks.disagreement(other, ingredient, architecture.buffers):
            raise CompatibilityError(reason)
    except CompatibilityError as error:
        raise CompatibilityError(f"{path} {error}. Choose a file of this kitchen's architecture.") from None
    return other


def _inspect(
    whole: Mapping[str, Tensor], body: Mapping[str, Tensor], architecture: Architecture, progress: Callable[[], None]
) -> tuple[str, str | None]:
    try:
        state = {key: architecture.state[key] for key in body}
        ties = {key: first for key, first in architecture.ties.items() if key in body and first in body}
        checks.check_against_model(body, state, ties, architecture.buffers)
    except CompatibilityError as error:
        return "", str(error)
    return checks.fingerprint(whole, lambda _bytes: progress()), None


def gather(spec: KitchenSpec, folder: Path, architecture: Architecture, store: Store, progress: Progress) -> Gathered:
    """Read every candidate file: the ingredients that belong together, the base, and what was refused and why.

    Raises:
        KitchenError: a pattern that matches nothing; an ingredient named as the base; averages are asked for, and no
            file has any.
    """
    files, passed = files_meant(spec, folder, progress)
    if found := None if spec.base else base_named_by(files.values(), folder):
        file = taken(found, spec.weights, passed)
        files = {name: path for name, path in files.items() if path.resolve() != file.resolve()} | {BASE: file}
    fitting: dict[str, Ingredient] = {}
    reasons: dict[str, str] = {}
    unreadable: dict[str, CheckpointError] = {}
    sweep = (folder / spec.sweep.file).resolve() if spec.sweep else None
    # Adapters are read over the base, which comes first for their sake.
    for index, (name, path) in enumerate(sorted(files.items(), key=lambda one: one[0] != BASE)):

        def report(done: int = index) -> None:
            progress(done, len(files), "reading checkpoints")

        report()
        try:
            fitting[name] = read_ingredient(
                name, path, architecture, store, weights=spec.weights, is_base=name == BASE, base=fitting.get(BASE),
                sweep=sweep, progress=report,
            )  # fmt: skip
        except CompatibilityError as error:
            reasons[name] = f"Ingredient '{name}' ({path}) {error}"
        except CheckpointError as error:
            unreadable[name] = error
    progress(len(files), len(files), "reading checkpoints")
    others = [item for name, item in fitting.items() if name != BASE]
    if BASE in fitting and others:
        fitting[BASE] = in_types_of(fitting[BASE], checks.reference_of(others))
    reasons |= _misfits(fitting, architecture) | _misplaced(fitting, folder, architecture, store)
    model = spec.model.factory
    why = {name: (_with_remedy(reason, others, model), "") for name, reason in reasons.items()}
    why |= _unreadable(unreadable, is_all=not others)
    refused = tuple(Refusal(name, shown(files[name]), *map(spelled, why[name])) for name in files if name in why)
    kept = tuple(item for name, item in fitting.items() if name not in reasons and name != BASE)
    if spec.weights == "ema" and kept and not any(item.fitted and item.fitted.weights == "ema" for item in kept):
        raise KitchenError(
            f"weights is 'ema', but none of the {len(kept)} files is an average or has one beside its weights; "
            "expected a state_dict_ema, ema or the like. Take weights: raw."
        )
    start = fitting[BASE] if BASE in fitting and BASE not in reasons else None
    return Gathered(kept, start, refused, tuple(passed), told_of_base(found) if found else ())


def _misfits(fitting: Mapping[str, Ingredient], architecture: Architecture) -> dict[str, str]:
    """Which of the ingredients that fit the model do not fit the others."""
    ingredients = [item for name, item in fitting.items() if name != BASE]
    if not ingredients:
        return {}
    reference = checks.reference_of(ingredients)
    found = {name: checks.disagreement(item, reference, architecture.buffers) for name, item in fitting.items()}
    reasons = {name: reason for name, reason in found.items() if reason} | dict(checks.unsteady(ingredients))
    return {name: f"Ingredient '{name}' ({fitting[name].path}) {reason}" for name, reason in reasons.items()}


def _misplaced(
    fitting: Mapping[str, Ingredient], folder: Path, architecture: Architecture, store: Store
) -> dict[str, str]:
    """Which adapters say that they were trained on another model than the kitchen's base."""
    configs = {name: item.adapter.config for name, item in fitting.items() if item.adapter}
    if not configs:
        return {}
    base, first = fitting[BASE], next(iter(configs.values()))

    def fingerprint_of(place: Path) -> str:
        return read_ingredient(BASE, file_in(place), architecture, store, is_base=True).fingerprint

    told = {name: of_another_base(one, first, base, folder, fingerprint_of) for name, one in configs.items()}
    return {name: f"Ingredient '{name}' ({fitting[name].path}) {reason}" for name, reason in told.items() if reason}


def _with_remedy(reason: str, fitting: Sequence[Ingredient], factory: str) -> str:
    """The reason with what can be done: where not one ingredient fits the model, it is the model that is another."""
    if not fitting:
        return (
            f"{reason}. No checkpoint that was read fits the model that {factory} builds: name what they are of "
            "(model.factory and model.args in kitchen.yaml; --factory and --args of new), or other checkpoints."
        )
    if "as in the model" in reason:
        reason += f" and in '{fitting[0].name}' ({fitting[0].path})"
    return f"{reason}. Soups need one architecture and one kind of numbers: remove it, or {GO_ON}."


def _unreadable(errors: Mapping[str, CheckpointError], *, is_all: bool) -> dict[str, tuple[str, str]]:
    """Why files cannot be read, and of those that need the same code one command that mends them all.

    Args:
        is_all: nothing is left to go on with.
    """
    told = {}
    for name, error in errors.items():
        remedy = error.remedy
        if isinstance(error, NeedsCodeError):
            alike = [e for e in errors.values() if isinstance(e, NeedsCodeError) and e.classes == error.classes]
            remedy = NeedsCodeError.remedy_for([one.path for one in alike])
        instead = "name other checkpoints." if is_all else f"take it out of kitchen.yaml, or {GO_ON}."
        told[name] = (error.reason, f"You can {instead} {remedy}") if remedy else (f"{error} Or {instead}", "")
    return told
