"""Soups, and the runs that the store keeps of them: what a run's key is made of, and a soup from a kept run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from soupviz.data import slices
from soupviz.files import digest
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.recipes import Recipe, parse
from soupviz.recipes.trajectory import Step, steps_from
from soupviz.scoring.executors.usage import Usage
from soupviz.soups.selecting import Examples, from_plain, plain
from soupviz.spec import HELD_OUT, TEST
from soupviz.store.runs import Run
from soupviz.tasks.score import Score
from soupviz.tasks.wording import of_score
from soupviz.types import Coefficients, above, mix_from
from soupviz.weights.ingredients import pick
from soupviz.weights.selection import BASE

GOALS = ("objective", "metric")
"""Parameters of recipes that name what is raised, and are empty for the kitchen's own metric."""

ELSEWHERE = "selected elsewhere"
"""The note of a soup that was loaded back and that this kitchen's held_out did not select."""


@dataclass(frozen=True, slots=True)
class Soup:
    """What cooking a recipe gives.

    mix: ingredients with their coefficients, in the order in which they are accumulated.
    coefficients: one number for each of the pool, 0 for the rejected; None where it is no weighted sum of them. The mix
    names a formula then, and where the sum is accumulated in float64. pool: what the recipe chose among. trajectory:
    the decisions of a search.
    scores: by split. clamped: running variances of the mix that were clamped at 0. evaluations: scores that it took,
    those that were in the store among them. seconds: that it took when it was cooked first.
    Both are None for a soup that was loaded back. notes: what its recipe says of it beside, as plain data; under
    ELSEWHERE, in a sentence, that other data than this held_out selected it, or may have. selecting_data: what selected
    it, by the split's name then; empty where that is not known. selected_on: the splits of this kitchen that had a part
    in it: what they say of it is no report. usage: what workers did for it, where there were any.
    """

    key: str
    recipe: Recipe
    mix: Coefficients
    coefficients: Mapping[str, float] | None
    pool: tuple[str, ...]
    trajectory: tuple[Step, ...]
    scores: Mapping[str, Score]
    clamped: int
    kitchen: Kitchen
    evaluations: int | None = None
    seconds: float | None = field(default=None, compare=False)
    notes: Mapping[str, Any] = field(default_factory=dict)
    selecting_data: Mapping[str, Examples] = field(default_factory=dict)
    selected_on: tuple[str, ...] = (HELD_OUT,)
    usage: Usage = field(default=Usage(), compare=False)

    @property
    def title(self) -> str:
        return self.recipe.title

    @property
    def passes(self) -> int:
        """What an answer costs: one forward pass, or one for each member of an ensemble."""
        return len(self.mix) if self.recipe.aggregation in OUTPUTS else 1

    @property
    def made_of(self) -> str:
        """What it is made of, in a sentence."""
        if self.coefficients is None:
            return f"not one weighted sum: {', '.join(name for name, _ in self.mix)}, of {len(self.pool)} ingredients"
        weights = summed(self.mix, self.coefficients)
        used = ", ".join(f"{name} {weight:.4g}" for name, weight in weights)
        return f"{len(weights)} of {len(self.pool)} ingredients: {used}"

    def state_dict(self) -> dict[str, Tensor]:
        """The soup's weights, mixed anew, in the ingredients' dtype.

        Raises:
            RecipeError: an ensemble, which has no weights of its own.
        """
        return dict(self.kitchen.scores.mixed(self.mix, self.recipe.aggregation))

    def plot(self) -> Any:
        """Its picture as a chart of Altair: the search, or the soup among the ingredients.

        Raises:
            SoupError: altair is not installed, or nothing is known that could be drawn.
        """
        return above("plot")(self)

    def __repr__(self) -> str:
        split, metric = TEST if TEST in self.scores else HELD_OUT, self.kitchen.objective
        caveat = ", which selected it" if split in self.selected_on else ""
        return f"<Soup {self.title}: {metric.label} {of_score(metric, self.scores[split])} on {split}{caveat}>"

    def _repr_html_(self) -> str:
        return str(above("html")(self))

    def told(self) -> dict[str, Any]:
        """The soup as the command line's JSON has it: its recipe names the metric that it raised."""
        values = self.as_dict()
        return values | {"recipe": resolved(self.kitchen, values["recipe"])} | self.kitchen.scores.made_by

    def as_dict(self) -> dict[str, Any]:
        """The soup as plain data, as the store keeps it."""
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "mix": [list(item) for item in self.mix],
            "coefficients": None if self.coefficients is None else dict(self.coefficients),
            "pool": list(self.pool),
            "treatment": self.recipe.aggregation,  # as the store has it since before
            "scores": {split: score.summary() for split, score in self.scores.items()},
            "selected_on": list(self.selected_on),
            "selecting_data": plain(self.selecting_data),
            "trajectory": [plain_step(self.kitchen, step) for step in self.trajectory],
            "clamped_variances": self.clamped,
            "notes": dict(self.notes),
            "evaluations": self.evaluations,
            "seconds": self.seconds,
            "made_in": made_in(self.kitchen, self.pool),
            "usage": self.usage.as_plain() if self.usage.shares else None,
        }


def resolved(kitchen: Kitchen, values: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's plain data with the kitchen's own metric by its name, where the recipe leaves it to the kitchen."""
    return {name: kitchen.objective.name if name in GOALS and not value else value for name, value in values.items()}


def plain_step(kitchen: Kitchen, step: Step) -> dict[str, Any]:
    """A decision as plain data, with the names that the task has for it."""
    values = step.as_dict()
    return values | dict(kitchen.task.step(values))


def made_in(kitchen: Kitchen, pool: Sequence[str]) -> dict[str, Any]:
    """What a kitchen computes with, as it is: kept with a run, so that one that no longer stands can say why.

    Returns:
        device, precision, and the first letters of fingerprints: of the model, of held_out, and of each of the pool.
    """
    return {
        "device": str(kitchen.device),
        "precision": kitchen.spec.precision,
        "model": kitchen.model_fingerprint[:12],
        "held_out": kitchen.splits.load(HELD_OUT).fingerprint[:12],
        "ingredients": {name: kitchen.weights.resolve(name).fingerprint[:12] for name in pool},
    }


def run_key(kitchen: Kitchen, recipe: Recipe, pool: Sequence[str] | None = None) -> str:
    """What a run is kept under: the recipe, its pool's fingerprints, the data that selects, the model, the numerics.

    Slices are part of it where the recipe looks at them: no score depends on them, but what is chosen does.

    Args:
        pool: of a soup cooked elsewhere or before; default: what the recipe chooses among in this kitchen, as it is.
    """
    recipe = recipe.suited(kitchen.task)
    return key_of(kitchen, recipe, recipe.model_dump(mode="json"), pool or pool_of(kitchen, recipe))


def key_of(kitchen: Kitchen, recipe: Recipe, values: dict[str, Any], pool: Sequence[str]) -> str:
    """`run_key` of a recipe whose plain data was kept."""
    fingerprints = {name: kitchen.weights.resolve(name).fingerprint for name in pool}
    values = resolved(kitchen, values)  # as runs of versions that had no other metric were kept
    context: list[Any] = [
        kitchen.splits.load(HELD_OUT).fingerprint,
        kitchen.model_fingerprint,
        *kitchen.evaluator.numerics,
    ]
    context += [*kitchen.task.key, *kitchen.task.source]
    if kitchen.objective.name != kitchen.task.metrics[0].name:
        context.append(kitchen.objective.name)
    if BASE in recipe.needs:
        context.append(kitchen.weights.resolve(BASE).fingerprint)
    if recipe.meets_other_models and kitchen.other_models.items:
        other_models = {
            name: [item.fingerprint, kitchen.other_models.context(name)]
            for name, item in kitchen.other_models.items.items()
        }
        context.append(other_models)
    if "train" in recipe.needs:
        # What it says in kitchen.yaml, not what it holds: a page that lists soups must not have to read it.
        train = kitchen.spec.data.train
        context.append(train.model_dump_json(exclude={"slices"}) if train else "")
    if "slices" in recipe.needs:
        divided = kitchen.splits.load(HELD_OUT).slices
        context.append(slices.fingerprint(divided) if divided else "")
    if "shifts" in recipe.needs:
        shifts = kitchen.spec.data.shifts
        context.append(
            digest({name: spec.model_dump(mode="json", exclude={"slices"}) for name, spec in shifts.items()})
        )
    return digest([values, fingerprints, context])


def elsewhere_key(kitchen: Kitchen, key: str, mix: Coefficients, selecting: Mapping[str, Examples]) -> str:
    """What a soup is kept under that was not selected by this kitchen's held_out: never under its recipe's own key,
    where it would pass for what the recipe makes here. With other splits in kitchen.yaml it is another's: which of them
    had a part in the choice was found out for these.

    Args:
        key: of its recipe here.
    """
    weights = [[kitchen.weights.resolve(name).fingerprint, weight.hex()] for name, weight in mix]
    splits = {
        name: spec.model_dump(mode="json", exclude={"slices"}) for name, spec in kitchen.spec.split_specs().items()
    }
    return digest([key, weights, plain(selecting), splits])


def pool_of(kitchen: Kitchen, recipe: Recipe) -> list[str]:
    """The names a recipe chooses among, in kitchen order; of copies of one checkpoint one, unless all are named.

    Raises:
        KitchenError: a member that the kitchen lacks.
    """
    if recipe.ends:
        return list(dict.fromkeys(name for end in recipe.ends for name, _ in end))
    joins = (*kitchen.ingredients, *kitchen.other_models.items.values())
    chosen = pick(joins if recipe.takes_other_models else kitchen.ingredients, recipe.considered)
    copies = set(kitchen.names) - set(kitchen.pool) if recipe.considered is None else set()
    return [item.name for item in chosen if item.name not in copies]


def pool_in(run: Run) -> list[str]:
    """What a finished run chose among; runs of earlier versions have it in their coefficients only."""
    assert run.result is not None
    return list(run.result.get("pool") or run.result["coefficients"])


def summed(mix: Coefficients, coefficients: Mapping[str, float]) -> Coefficients:
    """What a weighted sum is summed of, those of zero left out: the mix, in its order, unless that names a formula."""
    if all(name in coefficients for name, _ in mix):
        return mix
    return tuple((name, weight) for name, weight in coefficients.items() if weight)


def mix_in(run: Run) -> Coefficients:
    """A finished run's mix."""
    assert run.result is not None
    return mix_from(run.result["mix"]) if run.mix is None else run.mix


def aggregation_in(run: Run) -> str:
    """What became of a finished run's ingredients; runs of earlier versions say it in their recipe only."""
    assert run.result is not None
    return str(run.result.get("treatment") or run.recipe["batchnorm"])


def recall(kitchen: Kitchen, run: Run) -> Soup:
    """A finished run as a soup again, from what was kept of it: nothing is read, mixed or scored."""
    run = kitchen.store.whole(run)
    assert run.status == "finished" and run.result is not None
    recipe = parse(run.result["recipe"])
    return Soup(
        key=run.key,
        recipe=recipe,
        mix=mix_in(run),
        coefficients=run.result["coefficients"],
        pool=tuple(pool_in(run)),
        trajectory=steps_from(run.result["trajectory"]),
        scores={split: kitchen.scores.recalled(score, split) for split, score in run.result["scores"].items()},
        clamped=run.result["clamped_variances"],
        kitchen=kitchen,
        notes=run.result.get("notes", {}),
        selecting_data=from_plain(run.result.get("selecting_data", {})),
        selected_on=tuple(run.result.get("selected_on") or recipe.selects_on(run.result["scores"])),
        evaluations=run.result.get("evaluations"),
        seconds=run.result.get("seconds"),
        usage=Usage.from_plain(run.result["usage"]) if run.result.get("usage") else Usage(),
    )
