"""An exported soup's record back among the soups of a kitchen."""

from soupviz.errors import ExportError
from soupviz.exports import Record
from soupviz.kitchen import Kitchen
from soupviz.mixing import count_clamped
from soupviz.recipes import Recipe, parse
from soupviz.records import Progress, Step, quiet
from soupviz.soups import Soup, recall, run_key


def restore(kitchen: Kitchen, record: Record, progress: Progress = quiet) -> Soup:
    """Match a record's ingredients to the kitchen's by fingerprint, score its mix, and keep it as a finished run.

    Names may have changed since; the mix is the record's own, so that the weights are those that were exported.

    Raises:
        ExportError: an ingredient is not in the kitchen.
    """
    names = _names(kitchen, record)
    recipe = _renamed(record, names)
    key = run_key(kitchen, recipe, [names[name] for name in record.coefficients])
    known = kitchen.store.run(key)
    if known is not None and known.status == "finished":
        return recall(kitchen, known)
    mixture = tuple((names[name], weight) for name, weight in record.mix)
    scores = {split: kitchen.score_mix(mixture, split, record.batchnorm, progress) for split in kitchen.report_splits()}
    soup = Soup(
        key=key,
        recipe=recipe,
        mix=mixture,
        coefficients={names[name]: weight for name, weight in record.coefficients.items()},
        # A step may name something else than an ingredient: a subset, an alpha.
        trajectory=tuple(
            Step(**step | {"ingredient": names.get(step["ingredient"], step["ingredient"])})
            for step in record.trajectory
        ),
        scores=scores,
        clamped=count_clamped(kitchen.resolved(mixture), record.batchnorm),
        kitchen=kitchen,
    )
    kitchen.store.begin_run(key, recipe.title, recipe.model_dump(mode="json"))
    kitchen.store.end_run(key, "finished", soup.as_dict())
    return soup


def _names(kitchen: Kitchen, record: Record) -> dict[str, str]:
    """What the kitchen calls the record's ingredients."""
    here = {item.fingerprint: item.name for item in kitchen.ingredients}
    if kitchen.base is not None:
        here.setdefault(kitchen.base.fingerprint, "base")
    for name, origin in record.ingredients.items():
        if origin.fingerprint not in here:
            raise ExportError(
                f"Ingredient {name!r} of {record.title!r} is not in this kitchen ({kitchen.file}): expected "
                f"fingerprint {origin.fingerprint[:12]}…, which none of its {len(kitchen.ingredients)} checkpoints "
                "has. Open the kitchen that the soup was cooked in, or add the checkpoint."
            )
    return {name: here[origin.fingerprint] for name, origin in record.ingredients.items()}


def _renamed(record: Record, names: dict[str, str]) -> Recipe:
    values = dict(record.recipe)
    if values.get("members"):
        values["members"] = [names[name] for name in values["members"]]
    for side in ("mix_a", "mix_b"):
        if side in values:
            values[side] = [[names[name], weight] for name, weight in values[side]]
    return parse(values)
