"""A kitchen: one architecture, its ingredients, the data that judges them, and what was measured so far."""

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from soupviz.data import splits
from soupviz.data.splits import Split
from soupviz.errors import CompatibilityError, KitchenError, RecipeError
from soupviz.mixing.averaging import count_clamped, resolve
from soupviz.mixing.treatments import OUTPUTS, Treatment, check_batchnorm, num_examples
from soupviz.models import building
from soupviz.models.architecture import Architecture
from soupviz.pantry import Pantry
from soupviz.scoring.batchnorm import norms_of
from soupviz.scoring.evaluator import Evaluator, choose_device
from soupviz.scoring.guests import Guests
from soupviz.scoring.limits import Limit
from soupviz.scoring.scorer import Scorer
from soupviz.spec import KitchenSpec, Precision, kitchen_file, read_kitchen_file
from soupviz.store.database import Store, open_store
from soupviz.tasks.finding import find_metric, find_task
from soupviz.tasks.metric import Metric
from soupviz.tasks.score import Bound, Score
from soupviz.tasks.task import Task
from soupviz.types import Coefficients, Progress, quiet, refusals_in_words
from soupviz.weights import ingredients, telling
from soupviz.weights.discovery import gather
from soupviz.weights.fitting import Weights
from soupviz.weights.ingredients import Ingredient
from soupviz.weights.metadata import as_number
from soupviz.weights.pairs import set_aside

if TYPE_CHECKING:
    import pandas as pd


class Kitchen:
    """Open one with `Kitchen.load(path)`; its attributes are read only."""

    def __init__(
        self,
        spec: KitchenSpec,
        file: Path,
        *,
        skip_incompatible: bool = False,
        skip_corrupt: bool = False,
        guests: Mapping[str, tuple[KitchenSpec, Path]] | None = None,
        progress: Progress = quiet,
    ):
        """Open a checked specification whose paths are relative to `file`, which need not exist.

        Args:
            guests: what the specification's guests are, each with its file; default: their files are read.
        Raises:
            SoupError: the model cannot be built, a file is refused (unless skip_incompatible), or none fits.
        """
        self.spec = spec
        self.file = file
        self.folder = file.parent
        self.name = spec.name or self.folder.resolve().name
        self.skip_corrupt = skip_corrupt
        self.device = choose_device(spec.device)
        model = building.build(spec.model, self.folder)
        self.architecture = Architecture(model, lambda: building.build(spec.model, self.folder))
        self.model_fingerprint = building.fingerprint(spec.model, model, self.folder)
        self.task: Task = find_task(spec.task.name, spec.task.parameters, self.folder)
        self.objective: Metric = find_metric(self.task, spec.metric)
        self.evaluator = Evaluator(model, self.device, spec.precision, spec.batch_size, self.task)
        self.store: Store = open_store(file)
        found = gather(spec, self.folder, self.architecture, self.store, progress)
        self.ingredients = found.ingredients
        self.refused = found.refused
        if self.refused and not (skip_incompatible and self.ingredients):
            first, *others = refusals_in_words(self.refused)
            raise CompatibilityError(f"{len(self.refused)} files are refused. {first}" if others else first)
        self.notes = telling.sentences(found.ingredients, found.base, found.passed, spec.weights)
        self._aside = set_aside(found.ingredients, spec.weights)
        self.pantry = Pantry(file, self.ingredients, found.base, self.architecture, self.store)
        opened = self._open_guests(guests, skip_incompatible, skip_corrupt, progress)
        self.guests = Guests(opened, self.names)
        self.scorer = Scorer(self.evaluator, self.store, self.model_fingerprint, self.guests, self.objective)
        self.scorer.share(self.ingredients)
        self._splits: dict[str, Split] = {}
        self._num_classes: int | None = None

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        skip_incompatible: bool = False,
        skip_corrupt: bool = False,
        weights: Weights | None = None,
        progress: Progress = quiet,
    ) -> "Kitchen":
        """Open a kitchen.yaml, or the folder that holds one.

        Args:
            weights: raw or ema, where files hold both; default: as the file says.
            skip_incompatible: go on without the files that are refused; they are listed in `refused`.
            skip_corrupt: leave out images that cannot be decoded; they are listed in a split's `skipped`.
        Raises:
            SoupError: one message that names the file, what was expected, what came, and the remedy.
        """
        file = kitchen_file(Path(path))
        spec = read_kitchen_file(file)
        return cls(
            spec.model_copy(update={"weights": weights}) if weights else spec,
            file,
            skip_incompatible=skip_incompatible,
            skip_corrupt=skip_corrupt,
            progress=progress,
        )

    def _open_guests(
        self,
        guests: Mapping[str, tuple[KitchenSpec, Path]] | None,
        skip_incompatible: bool,
        skip_corrupt: bool,
        progress: Progress,
    ) -> dict[str, "Kitchen"]:
        """The kitchens of models that may join ensembles; theirs have no guests of their own."""
        if guests is None:
            files = {name: kitchen_file(self.folder / place) for name, place in self.spec.guests.items()}
            guests = {name: (read_kitchen_file(file), file) for name, file in files.items()}
        alone = {name: (spec.model_copy(update={"guests": {}}), file) for name, (spec, file) in guests.items()}
        return {
            name: Kitchen(spec, file, skip_incompatible=skip_incompatible, skip_corrupt=skip_corrupt, progress=progress)
            for name, (spec, file) in alone.items()
        }

    def at_precision(self, precision: Precision) -> "Kitchen":
        """The same kitchen, evaluated in another precision; its scores and runs are kept apart."""
        other = copy.copy(self)
        other.spec = self.spec.model_copy(update={"precision": precision})
        other.evaluator = Evaluator(self.evaluator.model, self.device, precision, self.spec.batch_size, self.task)
        other.scorer = Scorer(other.evaluator, self.store, self.model_fingerprint, self.guests, self.objective)
        other.scorer.share(self.ingredients)
        return other

    @property
    def base(self) -> Ingredient | None:
        """The base, where it is a whole model; one with another head is found by `resolve` alone."""
        found = self.pantry.base
        return found if found and not found.lacking else None

    @property
    def ties(self) -> Mapping[str, str]:
        """Keys that are the same tensor as an earlier one, and which."""
        return self.architecture.ties

    @property
    def names(self) -> list[str]:
        """The ingredients' names, in kitchen order."""
        return [ingredient.name for ingredient in self.ingredients]

    @property
    def pool(self) -> list[str]:
        """What recipes choose among unless told otherwise: of copies and twins of one checkpoint one."""
        return [name for name in self.names if name not in self._aside]

    @property
    def split_names(self) -> list[str]:
        """held_out, then what the kitchen has of test, train and shifts.NAME."""
        return list(self.spec.split_specs())

    def lacks(self, needs: Iterable[str]) -> str:
        """What of `base`, `train`, `slices`, `shifts` is needed and missing, and where to put it; empty for nothing."""
        data = self.spec.data
        there = {"base": self.pantry.base, "train": data.train, "slices": data.held_out.slices, "shifts": data.shifts}
        missing = [name for name in sorted(needs) if not there[name]]
        remedies = {"base": "`base: FILE`", "train": "`train:` under `data:`", "shifts": "`shifts:` under `data:`"}
        remedies["slices"] = "`slices: {file: FILE.csv, column: NAME}` under `held_out:`"
        return f"{self.file} has no {missing[0]}; add {remedies[missing[0]]} to it" if missing else ""

    def report_splits(self) -> list[str]:
        """The splits that a soup is scored on: held_out, test and the shifts, never train."""
        return [name for name in self.split_names if name != "train"]

    def split(self, name: str, progress: Progress = quiet) -> Split:
        """A split, read once per process; from the cache folder where it was read before. Guests read theirs too.

        Raises:
            KitchenError: a split that the kitchen lacks.
            DataError: it cannot be read, or its classes differ from the model's head.
        """
        if name not in self._splits:
            specs = self.spec.split_specs()
            if name not in specs:
                raise KitchenError(f"{self.file}: no split {name!r}; this kitchen has {', '.join(specs)}.")
            classes = self.spec.classes or (self.split("held_out", progress).classes if name != "held_out" else None)
            loaded = splits.load(
                name,
                specs[name],
                self.folder,
                self.evaluator.model,
                classes=classes,
                skip_corrupt=self.skip_corrupt,
                progress=progress,
            )
            splits.check_head(loaded, specs[name].path or specs[name].format, self.num_classes(loaded))
            if name == "held_out":  # of the model, told once
                loaded = replace(loaded, notes=(*loaded.notes, *self.evaluator.told_of_outputs(loaded)))
            if name == "train":  # it is never scored, which would tell of inputs that the model does not take
                self.evaluator.num_classes(loaded)
            self.guests.read(name, progress)
            self._splits[name] = loaded
        return self._splits[name]

    def has_split(self, name: str) -> bool:
        """Whether a split was read in this process, so that asking for its scores costs nothing."""
        return name in self._splits

    def num_classes(self, split: Split) -> int:
        """The width of the model's head."""
        if self._num_classes is None:
            self._num_classes = self.evaluator.num_classes(split)
        return self._num_classes

    def resolve(self, name: str) -> Ingredient:
        """An ingredient by name, `base`, a guest, weights made by a formula, or a checkpoint's file."""
        return self.guests.items[name] if name in self.guests.items else self.pantry.resolve(name)

    def resolved(self, coefficients: Coefficients) -> list[tuple[Ingredient, float]]:
        """A mix by name as a mix of ingredients, whose files are those that were opened."""
        found = {name: self.resolve(name) for name, _ in coefficients}
        for item in found.values():
            item.check_unchanged()
        return list(resolve(coefficients, found))

    def treatment(self, name: str, progress: Progress = quiet) -> Treatment:
        """What a recipe says becomes of its ingredients, with the data that it needs.

        Raises:
            RecipeError: no such treatment, or one that this kitchen has no data or no layers for.
        """
        if name not in OUTPUTS:
            check_batchnorm(name)
        if not num_examples(name):
            return Treatment(name)
        if not norms_of(self.evaluator.model):
            raise RecipeError(
                f"batchnorm is {name!r}, but the model of {self.file} keeps no running statistics; leave it at average."
            )
        if missing := self.lacks({"train"}):
            raise RecipeError(f"batchnorm is {name!r}: {missing}, or take average.")
        return Treatment(name, self.split("train", progress))

    def weights(
        self, coefficients: Coefficients, treatment: str = "average", keys: Iterable[str] | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """A mix's weights, tensor by tensor, in the ingredients' dtype."""
        prepared = self.treatment(treatment)
        if prepared.is_output:
            raise RecipeError(
                f"an ensemble of {len(coefficients)} models has no weights of its own, so there is nothing to write or "
                "to mix; distil it into one model, or take a soup."
            )
        return self.scorer.weights(self.resolved(coefficients), prepared, keys)

    def count_clamped(self, coefficients: Coefficients, treatment: str = "average") -> int:
        """How many running variances of a mix are clamped at 0; none where they are re-estimated, or not averaged."""
        return count_clamped(self.resolved(coefficients)) if treatment == "average" else 0

    def score_key(self, coefficients: Coefficients, split: str, treatment: str) -> str:
        """What the score of a mix is kept under: its content, the data's, the model's and the precision."""
        return self.scorer.key(self.resolved(coefficients), self.split(split), self.treatment(treatment))

    def score_mix(
        self,
        coefficients: Coefficients,
        split_name: str = "held_out",
        treatment: str = "average",
        progress: Progress = quiet,
    ) -> Score:
        """Score a mix on every example of a split; from the store where it was scored before, by any process."""
        score = self.try_mix(coefficients, split_name, treatment, progress)
        assert isinstance(score, Score)  # without a limit nothing is given up
        return score

    def try_mix(
        self,
        coefficients: Coefficients,
        split_name: str,
        treatment: str,
        progress: Progress,
        limit: Limit | None = None,
    ) -> Score | Bound:
        """Score a mix until it is scored whole, or has more errors than the limit allows."""
        split = self.split(split_name, progress)
        items = self.resolved(coefficients)
        prepared = self.treatment(treatment, progress)
        return self.scorer.score(items, split, self.num_classes(split), prepared, progress, limit)

    def known_score(self, coefficients: Coefficients, split_name: str, treatment: str = "average") -> Score | None:
        """The score of a mix if it was measured before; nothing is computed."""
        return self.scorer.known(self.resolved(coefficients), self.split(split_name), self.treatment(treatment))

    def known_summaries(self, mixes: Sequence[tuple[Coefficients, str]], split_name: str) -> list[Score | None]:
        """Of mixes, each with its treatment, the scores that were measured before, without their examples."""
        wanted = [(self.resolved(mixture), self.treatment(treatment)) for mixture, treatment in mixes]
        return self.scorer.summaries(wanted, self.split(split_name))

    def logits(
        self,
        coefficients: Coefficients,
        split_name: str = "held_out",
        treatment: str = "average",
        progress: Progress = quiet,
    ) -> NDArray[np.float32]:
        """A mix's logits, shape (num_examples, num_classes), kept in the store from then on."""
        split = self.split(split_name, progress)
        prepared = self.treatment(treatment, progress)
        return self.scorer.logits(self.resolved(coefficients), split, self.num_classes(split), prepared, progress)

    def score_ingredients(
        self, split: str = "held_out", members: Sequence[str] | None = None, progress: Progress = quiet
    ) -> Mapping[str, Score]:
        """Score the ingredients that were not scored yet; all scores in kitchen order, without their examples."""
        chosen = ingredients.pick(self.ingredients, members)
        mixes: list[Coefficients] = [((item.name, 1.0),) for item in chosen]
        self.split(split, progress)
        known = self.known_summaries([(mixture, "average") for mixture in mixes], split)
        scores = {}
        for index, (item, mixture, score) in enumerate(zip(chosen, mixes, known, strict=True)):

            def within(done: int, total: int, what: str, index: int = index, name: str = item.name) -> None:
                progress(index * total + done, len(chosen) * total, f"{what}: {name}")

            found = score or self.score_mix(mixture, split, progress=within)
            scores[item.name] = replace(found, outcomes=None)
        return scores

    def score(
        self, split: str = "held_out", members: Sequence[str] | None = None, progress: Progress = quiet
    ) -> "pd.DataFrame":
        """Score every ingredient.

        Returns:
            One row per ingredient, in kitchen order: ingredient, split, accuracy (a fraction), correct, num_examples,
            loss (nats), top5_accuracy (None for five classes or fewer), macro_f1, then its metadata.
        Raises:
            SoupError: an unknown split or name; data that does not fit.
        """
        import pandas as pd

        return pd.DataFrame([self._row(n, s) for n, s in self.score_ingredients(split, members, progress).items()])

    def _row(self, name: str, score: Score) -> dict[str, Any]:
        row = {"ingredient": name, "split": score.split, **self.task.row(score)}
        known = {key: as_number(value) for key, value in self.resolve(name).metadata.items() if key not in row}
        return row | known
