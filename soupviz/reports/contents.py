"""What a report tells of a soup: the models it stands among with their scores, and the facts of how it came about."""

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass

from soupviz.analysis.verdicts import best_on_held_out
from soupviz.kitchen import Kitchen
from soupviz.mixing.aggregation import OUTPUTS
from soupviz.mixing.averaging import mean_of
from soupviz.scoring.batchnorm import norms_of
from soupviz.soups.planning import lacking, summaries
from soupviz.soups.soup import Soup, recall
from soupviz.soups.standing import current
from soupviz.soups.yardsticks import ensemble_of_all
from soupviz.spec import HELD_OUT
from soupviz.tasks.score import Score
from soupviz.types import Coefficients, Progress, Wanted, part_of, quiet
from soupviz.version import __version__
from soupviz.weights.selection import BASE


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the kitchen. id: an ingredient's name, or a run's key. kind: as pictures draw it. scores: by split,
    as far as they are known."""

    id: str
    name: str
    kind: str
    mix: Coefficients
    aggregation: str
    scores: Mapping[str, Score]


@dataclass(frozen=True, slots=True)
class Compared:
    """The models that a soup stands among. best: the best ingredient on held_out, one of the ingredients. others: the
    base, the uniform soup, the ensemble and other soups, as far as anything is known of them."""

    soup: Model
    best: Model
    ingredients: tuple[Model, ...]
    others: tuple[Model, ...]

    @property
    def all(self) -> tuple[Model, ...]:
        return (self.soup, *self.ingredients, *self.others)


def needed(soup: Soup) -> list[Wanted]:
    """The scores that a report cannot be without: of every ingredient on held_out, and of the soup and of the best
    ingredient everywhere. Which one is best is known when the first are: until then the first one stands for it."""
    kitchen = soup.kitchen
    best = best_on_held_out(kitchen) or kitchen.names[0]
    pairs = [(((best, 1.0),), "average"), (soup.mix, soup.recipe.aggregation)]
    splits = kitchen.splits.reporting
    singles: list[Wanted] = [(((name, 1.0),), HELD_OUT, "average") for name in kitchen.names]
    return [*singles, *((mixture, split, how) for split in splits for mixture, how in pairs)]


def gather(soup: Soup, progress: Progress = quiet) -> Compared:
    """Score what a report cannot be without, and take what else is known.

    Raises:
        Cancelled: from the progress callback.
    """
    kitchen = soup.kitchen
    kitchen.scores.of_ingredients(progress=part_of(progress, 0, 2))
    wanted = lacking(kitchen, needed(soup)[len(kitchen.names) :])
    kitchen.scores.score_all(wanted, part_of(progress, 1, 2))
    best = best_on_held_out(kitchen)
    ingredients = tuple(
        _model(kitchen, name, name, "best" if name == best else "ingredient", ((name, 1.0),)) for name in kitchen.names
    )
    return Compared(
        soup=_model(kitchen, soup.key, title_of(soup), _kind(soup), soup.mix, soup.recipe.aggregation),
        best=next(model for model in ingredients if model.id == best),
        ingredients=ingredients,
        others=tuple(model for model in _others(soup) if model.scores),
    )


def title_of(soup: Soup) -> str:
    """What the user calls it, else its recipe's title."""
    run = soup.kitchen.store.run(soup.key)
    return run.name if run else soup.title


def _others(soup: Soup) -> list[Model]:
    """What is in the store beside ingredients and the soup; of equal mixes the first."""
    kitchen = soup.kitchen
    found = [_model(kitchen, BASE, "base", "base", ((BASE, 1.0),))] if kitchen.base else []
    if (count := len(kitchen.pool)) > 1:
        everyone = mean_of(kitchen.pool)
        found.append(_model(kitchen, "uniform", f"uniform soup of all {count}", "soup", everyone))
    if together := ensemble_of_all(kitchen):
        found.append(_model(kitchen, "ensemble", together.name, "ensemble", together.mix, together.aggregation))
    for run in current(kitchen, kitchen.store.runs()):
        other = recall(kitchen, run)
        found.append(_model(kitchen, run.key, run.name, _kind(other), other.mix, other.recipe.aggregation))
    seen = {(soup.mix, soup.recipe.aggregation), *((((name, 1.0),), "average") for name in kitchen.names)}
    different = []
    for model in found:
        if (model.mix, model.aggregation) not in seen:
            seen.add((model.mix, model.aggregation))
            different.append(model)
    return different


def _kind(soup: Soup) -> str:
    return "ensemble" if soup.recipe.aggregation in OUTPUTS else "soup"


def _model(
    kitchen: Kitchen, id: str, name: str, kind: str, mixture: Coefficients, aggregation: str = "average"
) -> Model:
    """With the scores that are known, without their examples."""
    found = summaries(kitchen, [(mixture, split, aggregation) for split in kitchen.splits.reporting])
    return Model(id, name, kind, mixture, aggregation, {split: score for (_, split, _), score in found.items()})


def facts(soup: Soup) -> dict[str, str]:
    """What soup it is, when and on what it was made; what is not known is left out."""
    kitchen = soup.kitchen
    run = kitchen.store.run(soup.key)
    told = {
        split: f"{split} ({len(kitchen.splits.load(split)):,} {kitchen.task.unit}s)"
        for split in kitchen.splits.reporting
    }
    reporting = [text for split, text in told.items() if split not in soup.selected_on]
    arguments = ", ".join(f"{key}={value!r}" for key, value in kitchen.spec.model.args.items())
    found = {
        "Kitchen": f"{kitchen.name} ({kitchen.folder.resolve().name}/{kitchen.file.name})",
        "Model": f"{kitchen.spec.model.factory}({arguments}), {_parameters(kitchen):,} parameters",
        "Recipe": soup.title,
        "Made of": soup.made_of.partition(":")[0],
        "Chosen on": ", ".join(told[split] for split in soup.selected_on if split in told),
        "Reported on": ", ".join(reporting) or "nothing: this kitchen has no split that did not choose it",
    }
    if norms_of(kitchen.evaluator.model):
        found["BatchNorm"] = f"running statistics: {soup.recipe.aggregation}"
    if run is not None:
        device = (run.result or {}).get("made_in", {}).get("device")
        found["Cooked"] = f"{moment(run.created)}{f' on {device}' if device else ''}, run {run.id} ({run.key[:12]})"
    if soup.evaluations is not None:
        found["It took"] = f"{soup.evaluations:,} scores" + (f", {soup.seconds:,.1f} s" if soup.seconds else "")
    return found | {"Evaluated on": f"{_device(kitchen)}, {kitchen.spec.precision}", "Versions": _versions()}


def moment(seconds: float) -> str:
    """A time as people write it, with its time zone."""
    then = time.localtime(seconds)
    return f"{then.tm_mday} {time.strftime('%B %Y, %H:%M %Z', then)}"


def _parameters(kitchen: Kitchen) -> int:
    return sum(tensor.numel() for tensor in kitchen.evaluator.model.parameters())


def _device(kitchen: Kitchen) -> str:
    import torch

    if kitchen.device.type == "cuda":
        return f"{kitchen.device} ({torch.cuda.get_device_name(kitchen.device)})"
    return f"{kitchen.device} ({platform.machine()})"


def _versions() -> str:
    import torch

    return f"soupviz {__version__}, PyTorch {torch.__version__}, Python {platform.python_version()}"
