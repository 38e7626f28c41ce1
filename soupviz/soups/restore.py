"""An exported soup's record back among the soups of a kitchen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from soupviz.errors import ExportError
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import num_examples
from soupviz.mixing.formulas import KEPT
from soupviz.recipes import Recipe, parse
from soupviz.recipes.trajectory import steps_from
from soupviz.soups.as_adapter import adapter_of
from soupviz.soups.content import Identity, are_statistics, content_of, differing
from soupviz.soups.provenance import RECIPES, Record
from soupviz.soups.selecting import met_by, named, of_other_data
from soupviz.soups.soup import ELSEWHERE, Soup, elsewhere_key, mix_in, recall, run_key
from soupviz.store.runs import Run
from soupviz.types import Coefficients, Progress, quiet
from soupviz.weights import checkpoints
from soupviz.weights.ingredients import fingerprint
from soupviz.weights.selection import BASE

OTHER_WEIGHTS = "Its weights, as they are mixed here, are not those that were exported"


def restore(kitchen: Kitchen, record: Record, file: Path | None = None, progress: Progress = quiet) -> Soup:
    """Match a record's ingredients to the kitchen's by fingerprint, score its mix, and keep it as a finished run.

    Names may have changed since; the mix is the record's own, so that the weights are those that were exported. What
    selected it is held against the kitchen's splits: one that has a part of it does not report on it.

    Args:
        file: the exported soup; where its weights were trained they are taken from it.
    Raises:
        ExportError: an ingredient is not in the kitchen, trained weights are nowhere, or the file's weights are not
            those that its record was written for.
    """
    if file is not None:
        check_file(record, file)
    names = _names(kitchen, record)
    made = _made(kitchen, record, names, file)
    pool = [made[name] for name in (record.pool or record.coefficients or ())]
    recipe = _renamed(record, made)
    mixture = tuple((made[name], weight) for name, weight in record.mix)
    key = run_key(kitchen, recipe, pool)
    known = kitchen.store.run(key)
    told = _elsewhere(kitchen, record, mixture, known)
    if told:
        key = elsewhere_key(kitchen, key, mixture, record.selecting_data)
        known = kitchen.store.run(key)
    if known is not None and known.status == "finished":
        return recall(kitchen, known)
    splits = kitchen.splits.reporting
    wanted = [(mixture, split, record.batchnorm) for split in splits]
    scores = dict(zip(splits, kitchen.scores.each(wanted, progress), strict=True))
    soup = Soup(
        key=key,
        recipe=recipe,
        mix=mixture,
        coefficients=record.coefficients and {made[name]: weight for name, weight in record.coefficients.items()},
        pool=tuple(pool),
        # A step may name something else than an ingredient: a subset, an alpha.
        trajectory=steps_from([_step(step, names, made) for step in record.trajectory]),
        scores=scores,
        clamped=kitchen.scores.count_clamped(mixture, record.batchnorm),
        kitchen=kitchen,
        notes=record.notes | ({ELSEWHERE: told} if told else {}),
        selecting_data=record.selecting_data,
        selected_on=tuple(dict.fromkeys([*recipe.selects_on(scores), *met_by(kitchen, record.selecting_data, scores)])),
    )
    kitchen.store.begin_run(key, recipe.title, recipe.model_dump(mode="json"))
    kitchen.store.end_run(key, "finished", soup.as_dict())
    return soup


def _elsewhere(kitchen: Kitchen, record: Record, mixture: Coefficients, known: Run | None) -> str:
    """Why a soup is none that its recipe makes in this kitchen, in sentences; empty where it is one.

    Args:
        known: the run of its recipe here.
    """
    told = [of_other_data(kitchen, record.selecting_data, record.soupviz)]
    if known is not None and known.status == "finished" and mix_in(known) != mixture:
        told.append("The same recipe made other coefficients in this kitchen.")
    told.append(_other_weights(kitchen, record, mixture))
    return " ".join(filter(None, told))


def _other_weights(kitchen: Kitchen, record: Record, mixture: Coefficients) -> str:
    """Whether what is mixed here is what was exported; statistics that are re-estimated repeat up to rounding only."""
    if record.fingerprint is None:
        return "It kept no fingerprint of its own weights either, so that these cannot be checked."
    if record.adapter:
        one = adapter_of(kitchen, mixture, record.adapter.rank)
        content, repeats = one.content(), record.adapter.repeats(one.form())
    else:
        like, repeats = kitchen.ingredients[0].tensors, False
        content = content_of(record, like, lambda keys: kitchen.scores.mixed(mixture, record.batchnorm, keys))
    again = content.identity()
    if repeats or again.fingerprint == record.fingerprint:
        return ""
    keys = differing(content.like, Identity(record.fingerprint, record.tensors), again)
    if num_examples(record.batchnorm) and are_statistics(keys):
        return ""
    first = f", the first of them {keys[0]}" if keys else ""
    return f"{OTHER_WEIGHTS}: {len(keys)} tensors differ{first}."


def check_file(record: Record, file: Path) -> None:
    """Hold an exported soup's own weights against the fingerprint in its record.

    Raises:
        ExportError: they are others.
    """
    if record.fingerprint is None or file.suffix in RECIPES:
        return
    found = fingerprint(checkpoints.read(file).candidates[0].tensors)
    if found != record.fingerprint:
        raise ExportError(
            f"{file}: its weights are not those that its recipe was written for: expected fingerprint "
            f"{record.fingerprint[:12]}…, got {found[:12]}…. The file was changed since it was exported; load its "
            "recipe.yaml, or bake it again."
        )


def checked(record: Record, soup: Soup) -> str:
    """What loading a soup back has found out about its weights and the data that selected it."""
    told = str(soup.notes.get(ELSEWHERE, ""))
    if not told:
        told = f"This kitchen's own data selected it: {named(record.selecting_data)}."
    if record.fingerprint is None or OTHER_WEIGHTS in told:
        return told
    rounding = " (re-estimated statistics up to rounding)" if num_examples(record.batchnorm) else ""
    same = f"Its weights are those that were exported, fingerprint {record.fingerprint[:12]}…{rounding}."
    return f"{same} {told}"


def _step(values: Mapping[str, Any], names: Mapping[str, str], made: Mapping[str, str]) -> dict[str, Any]:
    """A decision under the names of today; what it tried may be weights that this kitchen does not have."""
    mix = values.get("mix")
    here = mix if mix and all(name in made for name, _ in mix) else None
    renamed = here and [[made[name], weight] for name, weight in here]
    called = names.get(values["ingredient"], values["ingredient"])
    return {**values, "ingredient": called, "mix": renamed}


def _names(kitchen: Kitchen, record: Record) -> dict[str, str]:
    """What the kitchen calls the record's ingredients."""
    here = {item.fingerprint: item.name for item in (*kitchen.other_models.items.values(), *kitchen.ingredients)}
    if kitchen.weights.base is not None:  # it may have another head
        here.setdefault(kitchen.weights.base.fingerprint, BASE)
    for name, origin in record.ingredients.items():
        if origin.fingerprint not in here:
            twins = [item.fitted for item in kitchen.ingredients if item.name == name and item.fitted]
            if any(one.has_twin and origin.weights not in (None, one.weights) for one in twins):
                raise ExportError(
                    f"Ingredient {name!r} of {record.title!r} is not open in this kitchen ({kitchen.file}): it reads "
                    f"{kitchen.spec.weights} weights, and the soup was made from {origin.weights} weights; open the "
                    f"kitchen with weights: {origin.weights}."
                )
            raise ExportError(
                f"Ingredient {name!r} of {record.title!r} is not in this kitchen ({kitchen.file}): expected "
                f"fingerprint {origin.fingerprint[:12]}…, which none of its {len(kitchen.ingredients)} checkpoints "
                "has. Open the kitchen that the soup was cooked in, or add the checkpoint."
            )
    return {name: here[origin.fingerprint] for name, origin in record.ingredients.items()}


def _made(kitchen: Kitchen, record: Record, names: Mapping[str, str], file: Path | None) -> dict[str, str]:
    """What the record's ingredients and formulas are called here, where the formulas are kept from then on."""
    made = dict(names)
    for name in reversed(record.formulas):  # what a formula is made of stands behind it
        formula = record.formulas[name].renamed(made)
        if formula.kind != KEPT:
            ((made[name], _),) = kitchen.weights.adopt(formula)
        elif kitchen.weights.has_kept(name):
            made[name] = name
        elif file is not None and file.suffix not in RECIPES and record.mix == ((name, 1.0),):
            weights = kitchen.weights.read(file).tensors
            ((made[name], _),) = kitchen.weights.keep(name.rpartition("-")[0], weights, formula.parts)
        else:
            raise ExportError(
                f"{record.title!r} needs {name}, which was trained, or made from data, and is not in this kitchen's "
                "store; load the exported soup that holds its weights, not a recipe that names it."
            )
    return made


def _renamed(record: Record, names: dict[str, str]) -> Recipe:
    values = dict(record.recipe)
    if values.get("members"):
        values["members"] = [names[name] for name in values["members"]]
    for side in ("mix_a", "mix_b", "mix_c"):
        if side in values:
            values[side] = [[names[name], weight] for name, weight in values[side]]
    return parse(values)
