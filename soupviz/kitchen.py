"""A kitchen: what was opened of a kitchen.yaml. One model, its ingredients, the data and the task that judge them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from soupviz import trust
from soupviz.addresses import shown
from soupviz.data.labels import WITH_CLASSES
from soupviz.data.loading import Splits
from soupviz.data.sweeps import with_sweep
from soupviz.errors import CompatibilityError, KitchenError
from soupviz.mixing.named import NamedWeights
from soupviz.models import building, identity
from soupviz.models.architecture import Architecture
from soupviz.scoring.checking import checked_by
from soupviz.scoring.evaluator import Evaluator, choose_device
from soupviz.scoring.executors.reopening import Reopening
from soupviz.scoring.executors.starting import check_meant, crew_of, workers_of
from soupviz.scoring.other_models import OtherModels
from soupviz.scoring.scorer import Scorer
from soupviz.scoring.service import Scores
from soupviz.scoring.tables import table_of
from soupviz.spec import HELD_OUT, ExecutorName, KitchenSpec, Precision, RayWeights
from soupviz.store.database import Store, open_store
from soupviz.tasks.finding import find_metric, find_task
from soupviz.tasks.metric import Metric
from soupviz.tasks.task import Task
from soupviz.types import Progress, Refusal, above, quiet, refusals_in_words
from soupviz.weights import telling
from soupviz.weights.discovery import Gathered, gather
from soupviz.weights.fitting import Weights
from soupviz.weights.ingredients import Ingredient
from soupviz.weights.pairs import set_aside
from soupviz.yaml_file import kitchen_file, read_kitchen_file

if TYPE_CHECKING:
    import pandas as pd

Named = Mapping[str, tuple[KitchenSpec, Path]]
"""Specifications by name, each with its file."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Kitchen:
    """Open one with `Kitchen.load(path)`.

    ingredients: in the order of kitchen.yaml. base: None where there is none, or it has another head and is no model
    itself. aside: copies and twins of others, that count only where they are named. refused: files that cannot join a
    soup, and why. notes: what was understood, chosen and left over, in sentences. weights: everything that can be
    mixed, by name. splits: the data, by name. scores: what mixes do on it. objective: the metric that searches raise or
    lower.
    """

    spec: KitchenSpec
    file: Path
    device: torch.device
    task: Task
    objective: Metric
    architecture: Architecture
    model_fingerprint: str
    ingredients: tuple[Ingredient, ...]
    aside: frozenset[str]
    refused: tuple[Refusal, ...]
    notes: tuple[str, ...]
    store: Store
    other_models: OtherModels
    weights: NamedWeights
    splits: Splits
    evaluator: Evaluator
    scores: Scores
    reopening: Reopening

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        skip_incompatible: bool = False,
        skip_corrupt: bool = False,
        weights: Weights | None = None,
        executor: ExecutorName | None = None,
        workers: int | None = None,
        ray_address: str | None = None,
        ray_weights: RayWeights | None = None,
        progress: Progress = quiet,
    ) -> "Kitchen":
        """Open a kitchen.yaml, or the folder that holds one.

        Args:
            weights: raw or ema, where files hold both; default: as the file says.
            executor: who evaluates, inline, processes or ray. workers: how many. ray_address: of a running cluster.
                ray_weights: files or object_store, from where its workers have the checkpoints. Default of each: as
                the file says.
            skip_incompatible: go on without the files that are refused; they are listed in `refused`.
            skip_corrupt: leave out images and recordings that cannot be decoded; a split's `skipped` lists them.
        Raises:
            SoupError: one message that names the file, what was expected, what came, and the remedy.
        """
        file = kitchen_file(Path(path))
        spec = read_kitchen_file(file)
        given: dict[str, Any] = {"weights": weights, "executor": executor, "workers": workers}
        given |= {"ray_address": ray_address, "ray_weights": ray_weights}
        spec = spec.model_copy(update={name: value for name, value in given.items() if value is not None})
        check_meant(spec, given)
        return cls.open(spec, file, skip_incompatible=skip_incompatible, skip_corrupt=skip_corrupt, progress=progress)

    @classmethod
    def open(
        cls,
        spec: KitchenSpec,
        file: Path,
        *,
        skip_incompatible: bool = False,
        skip_corrupt: bool = False,
        other_models: Named | None = None,
        store: Store | None = None,
        gathered: Gathered | None = None,
        progress: Progress = quiet,
    ) -> "Kitchen":
        """Open a checked specification whose paths are relative to `file`, which need not exist.

        Args:
            other_models: what the specification's other_models are, each with its file; default: their files are read.
            store: of scores; default: the kitchen's own. gathered: its ingredients; default: their files are read.
        Raises:
            SoupError: the model cannot be built, a file is refused (unless skip_incompatible), or none fits.
        """
        folder = file.parent
        model = building.build(spec.model, folder)
        architecture = Architecture(model, lambda: building.build(spec.model, folder))
        task = find_task(spec.task.name, spec.task.parameters, folder)
        objective = find_metric(task, spec.metric)
        if spec.classes and task.labels not in WITH_CLASSES:
            raise KitchenError(f"{file}: classes names classes, which the task {task.name} has not; remove it.")
        device = choose_device(spec.device)
        evaluator = Evaluator(model, device, spec.precision, spec.batch_size, task)
        store = store or open_store(file)
        found = gathered or with_sweep(gather(spec, folder, architecture, store, progress), spec, file)
        _check(found, skip_incompatible=skip_incompatible)
        opened = {
            name: cls.open(
                one, place, skip_incompatible=skip_incompatible, skip_corrupt=skip_corrupt, progress=progress
            )
            for name, (one, place) in _other_models(spec, folder, other_models).items()
        }
        joined = OtherModels(opened, [item.name for item in found.ingredients])
        named = NamedWeights(file, found.ingredients, found.base, architecture, store, joined.items)
        splits = Splits(
            spec, file, model, checked_by(evaluator), task.labels, skip_corrupt=skip_corrupt, also_read=joined.read
        )
        fingerprint = identity.fingerprint(spec.model, model, folder)
        reopening = Reopening(
            cls.open,
            spec,
            file,
            {"skip_incompatible": skip_incompatible, "skip_corrupt": skip_corrupt},
            fingerprint,
            {item.name: item.fingerprint for item in found.ingredients},
            {item.name: shown(item.path.absolute()) for item in found.ingredients},
            store.files() if spec.executor != "inline" else {},
            trust.approved(folder),
        )
        crew = crew_of(spec, evaluator, reopening, named)
        scorer = Scorer(evaluator, store, fingerprint, joined, objective, named, crew)
        scorer.evaluations.share(found.ingredients)
        return cls(
            spec=spec,
            file=file,
            device=device,
            task=task,
            objective=objective,
            architecture=architecture,
            model_fingerprint=fingerprint,
            ingredients=found.ingredients,
            aside=frozenset(set_aside(found.ingredients, spec.weights)),
            refused=found.refused,
            notes=(*found.told, *telling.sentences(found.ingredients, found.base, found.passed, spec.weights)),
            store=store,
            other_models=joined,
            weights=named,
            splits=splits,
            evaluator=evaluator,
            scores=Scores(scorer, named, splits, file),
            reopening=reopening,
        )

    @property
    def name(self) -> str:
        return self.spec.name or self.folder.resolve().name

    @property
    def title(self) -> str:
        number = len(self.ingredients)
        return f"{self.name}: {number} ingredient{'s' * (number != 1)}, {self.task.name}"

    @property
    def folder(self) -> Path:
        return self.file.parent

    @property
    def names(self) -> list[str]:
        """The ingredients' names, in kitchen order."""
        return [ingredient.name for ingredient in self.ingredients]

    @property
    def pool(self) -> list[str]:
        """What recipes choose among unless told otherwise: of copies and twins of one checkpoint one."""
        return [name for name in self.names if name not in self.aside]

    @property
    def base(self) -> Ingredient | None:
        """The base, where it is a whole model; one with another head is found by name alone."""
        found = self.weights.base
        return found if found and not found.lacking else None

    def score(
        self, split: str = HELD_OUT, members: Sequence[str] | None = None, progress: Progress = quiet
    ) -> "pd.DataFrame":
        """Score every ingredient.

        Returns:
            One row per ingredient, in kitchen order: ingredient, the task's metrics, the kitchen's first (of a
            classifier: accuracy, a fraction; loss, nats; macro_f1), its metadata, split, and what else the task
            tells (top5_accuracy, None for five classes or fewer; num_examples; correct).
        Raises:
            SoupError: an unknown split or name; data that does not fit.
        """
        scores = self.scores.of_ingredients(split, members, progress)
        return table_of(scores, self.task, {name: self.weights.resolve(name).metadata for name in scores})

    def __repr__(self) -> str:
        return f"<Kitchen {self.title}>"

    def _repr_html_(self) -> str:
        return str(above("html")(self))


def at_precision(kitchen: Kitchen, precision: Precision) -> Kitchen:
    """The same kitchen, evaluated in another precision; its scores and runs are kept apart."""
    model = kitchen.evaluator.model
    evaluator = Evaluator(model, kitchen.device, precision, kitchen.spec.batch_size, kitchen.task)
    spec = kitchen.spec.model_copy(update={"precision": precision})
    return changed(kitchen, spec=spec, evaluator=evaluator)


def with_workers(kitchen: Kitchen, executor: ExecutorName, workers: int | None = None) -> Kitchen:
    """The same kitchen, whose scores others make."""
    return changed(kitchen, spec=kitchen.spec.model_copy(update={"executor": executor, "workers": workers}))


def changed(
    kitchen: Kitchen,
    *,
    spec: KitchenSpec | None = None,
    store: Store | None = None,
    splits: Splits | None = None,
    evaluator: Evaluator | None = None,
) -> Kitchen:
    """A kitchen of the same model and ingredients, some of the rest replaced."""
    crew = kitchen.scores.scorer.evaluations.crew
    if evaluator or (spec and workers_of(spec) != workers_of(kitchen.spec)):
        reopening = replace(kitchen.reopening, spec=spec or kitchen.spec, files=kitchen.store.files())
        crew = crew_of(spec or kitchen.spec, evaluator or kitchen.evaluator, reopening, kitchen.weights)
    spec, store = spec or kitchen.spec, store or kitchen.store
    splits, evaluator = splits or kitchen.splits, evaluator or kitchen.evaluator
    named = NamedWeights(
        kitchen.file, kitchen.ingredients, kitchen.weights.base, kitchen.architecture, store, kitchen.other_models.items
    )
    scorer = Scorer(evaluator, store, kitchen.model_fingerprint, kitchen.other_models, kitchen.objective, named, crew)
    scorer.evaluations.share_as(kitchen.scores.scorer.evaluations)
    scores = Scores(scorer, named, splits, kitchen.file)
    return replace(kitchen, spec=spec, store=store, splits=splits, evaluator=evaluator, weights=named, scores=scores)


def _check(found: Gathered, *, skip_incompatible: bool) -> None:
    if found.refused and not (skip_incompatible and found.ingredients):
        first, *others = refusals_in_words(found.refused)
        raise CompatibilityError(f"{len(found.refused)} files are refused. {first}" if others else first)


def _other_models(spec: KitchenSpec, folder: Path, other_models: Named | None) -> Named:
    """The kitchens of models that may join ensembles; theirs have none of their own."""
    if other_models is None:
        files = {name: kitchen_file(folder / place) for name, place in spec.other_models.items()}
        other_models = {name: (read_kitchen_file(file), file) for name, file in files.items()}
    return {name: (one.model_copy(update={"other_models": {}}), file) for name, (one, file) in other_models.items()}
