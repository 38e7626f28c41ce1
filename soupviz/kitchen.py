"""A kitchen: one architecture, its ingredients, the data that judges them, and what was measured so far."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from soupviz import data, discovery, ingredients, models
from soupviz.config import KitchenSpec, Precision, read_kitchen_file
from soupviz.data import Split
from soupviz.errors import CompatibilityError, KitchenError
from soupviz.evaluation import Evaluator, choose_device
from soupviz.ingredients import Ingredient
from soupviz.limits import Limit
from soupviz.metadata import as_number
from soupviz.mixing import BatchNorm, resolve
from soupviz.records import Bound, Coefficients, Progress, Refusal, Score, quiet
from soupviz.scoring import Scorer
from soupviz.store import Store, open_store

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
        progress: Progress = quiet,
    ):
        """Open a checked specification whose paths are relative to `file`, which need not exist.

        Raises:
            SoupError: the model cannot be built, a file is refused (unless skip_incompatible), or none fits.
        """
        self.spec = spec
        self.file = file
        self.folder = file.parent
        self.name = spec.name or self.folder.resolve().name
        self.skip_corrupt = skip_corrupt
        self.device = choose_device(spec.device)
        model = models.build(spec.model, self.folder)
        self.ties = models.tied_keys(model)
        self.model_fingerprint = models.fingerprint(spec.model, model, self.folder)
        self.evaluator = Evaluator(model, self.device, spec.precision, spec.batch_size)
        self.store: Store = open_store(file)
        found, self.base, refused = self._gather(progress)
        self.ingredients: tuple[Ingredient, ...] = tuple(found)
        self.refused: tuple[Refusal, ...] = tuple(refused)
        if self.refused and not (skip_incompatible and self.ingredients):
            more = f" ({len(self.refused) - 1} more files are refused.)" if len(self.refused) > 1 else ""
            raise CompatibilityError(self.refused[0].reason + more)
        self.scorer = Scorer(self.evaluator, self.store, self.model_fingerprint)
        self.scorer.share(self.ingredients)
        self._splits: dict[str, Split] = {}
        self._others: dict[str, Ingredient] = {}
        self._num_classes: int | None = None

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        skip_incompatible: bool = False,
        skip_corrupt: bool = False,
        progress: Progress = quiet,
    ) -> "Kitchen":
        """Open a kitchen.yaml, or the folder that holds one.

        Args:
            skip_incompatible: go on without the files that are refused; they are listed in `refused`.
            skip_corrupt: leave out images that cannot be decoded; they are listed in a split's `skipped`.
        Raises:
            SoupError: one message that names the file, what was expected, what came, and the remedy.
        """
        file = Path(path)
        file = file / "kitchen.yaml" if file.is_dir() else file
        return cls(
            read_kitchen_file(file),
            file,
            skip_incompatible=skip_incompatible,
            skip_corrupt=skip_corrupt,
            progress=progress,
        )

    def _gather(self, progress: Progress) -> tuple[list[Ingredient], Ingredient | None, list[Refusal]]:
        state = self.evaluator.model.state_dict()
        return discovery.gather(self.spec, self.folder, state, self.ties, self.store, progress)

    def at_precision(self, precision: Precision) -> "Kitchen":
        """The same kitchen, evaluated in another precision; its scores and runs are kept apart."""
        other = copy.copy(self)
        other.spec = self.spec.model_copy(update={"precision": precision})
        other.evaluator = Evaluator(self.evaluator.model, self.device, precision, self.spec.batch_size)
        other.scorer = Scorer(other.evaluator, self.store, self.model_fingerprint)
        other.scorer.share(self.ingredients)
        return other

    @property
    def names(self) -> list[str]:
        """The ingredients' names, in kitchen order."""
        return [ingredient.name for ingredient in self.ingredients]

    @property
    def split_names(self) -> list[str]:
        """held_out, then what the kitchen has of test, train and shifts.NAME."""
        return list(self.spec.split_specs())

    def report_splits(self) -> list[str]:
        """The splits that a soup is scored on: held_out, test and the shifts, never train."""
        return [name for name in self.split_names if name != "train"]

    def split(self, name: str, progress: Progress = quiet) -> Split:
        """A split, read once per process; from the cache folder where it was read before.

        Raises:
            KitchenError: a split that the kitchen lacks.
            DataError: it cannot be read, or its classes differ from the model's head.
        """
        if name not in self._splits:
            specs = self.spec.split_specs()
            if name not in specs:
                raise KitchenError(f"{self.file}: no split {name!r}; this kitchen has {', '.join(specs)}.")
            classes = self.spec.classes or (self.split("held_out", progress).classes if name != "held_out" else None)
            loaded = data.load(
                name,
                specs[name],
                self.folder,
                self.evaluator.model,
                classes=classes,
                skip_corrupt=self.skip_corrupt,
                progress=progress,
            )
            data.check_head(loaded, specs[name].path or specs[name].format, self.num_classes(loaded))
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
        """An ingredient by name, `base`, or a checkpoint's file (an exported soup, say).

        Raises:
            KitchenError: none of these.
            CheckpointError, CompatibilityError: a file that is damaged, or does not fit the model.
        """
        if name == discovery.BASE:
            if self.base is None:
                raise KitchenError(f"{self.file}: this kitchen has no base; add `base: FILE`, or name an ingredient.")
            return self.base
        if name in self.names:
            return self.ingredients[self.names.index(name)]
        if name not in self._others:
            file = next((path for path in (Path(name), self.folder / name) if path.is_file()), None)
            if file is None:
                raise KitchenError(ingredients.unknown_name(name, self.names))
            state = self.evaluator.model.state_dict()
            self._others[name] = discovery.read_other(name, file, state, self.ties, self.store, self.ingredients[0])
        return self._others[name]

    def resolved(self, coefficients: Coefficients) -> list[tuple[Ingredient, float]]:
        """A mix by name as a mix of ingredients."""
        return list(resolve(coefficients, {name: self.resolve(name) for name, _ in coefficients}))

    def score_key(self, coefficients: Coefficients, split: str, batchnorm: BatchNorm) -> str:
        """What the score of a mix is kept under: its content, the data's, the model's and the precision."""
        return self.scorer.key(self.resolved(coefficients), self.split(split), batchnorm)

    def score_mix(
        self,
        coefficients: Coefficients,
        split_name: str = "held_out",
        batchnorm: BatchNorm = "average",
        progress: Progress = quiet,
    ) -> Score:
        """Score a mix on every example of a split; from the store where it was scored before, by any process."""
        score = self.try_mix(coefficients, split_name, batchnorm, progress)
        assert isinstance(score, Score)  # without a limit nothing is given up
        return score

    def try_mix(
        self,
        coefficients: Coefficients,
        split_name: str,
        batchnorm: BatchNorm,
        progress: Progress,
        limit: Limit | None = None,
    ) -> Score | Bound:
        """Score a mix until it is scored whole, or has more errors than the limit allows."""
        split = self.split(split_name, progress)
        items = self.resolved(coefficients)
        return self.scorer.score(items, split, self.num_classes(split), batchnorm, progress, limit)

    def known_score(
        self, coefficients: Coefficients, split_name: str, batchnorm: BatchNorm = "average"
    ) -> Score | None:
        """The score of a mix if it was measured before; nothing is computed."""
        return self.scorer.known(self.resolved(coefficients), self.split(split_name), batchnorm)

    def score_ingredients(
        self, split: str = "held_out", members: Sequence[str] | None = None, progress: Progress = quiet
    ) -> Mapping[str, Score]:
        """Score the ingredients one by one, in kitchen order."""
        chosen = ingredients.pick(self.ingredients, members)
        scores = {}
        for index, item in enumerate(chosen):

            def within(done: int, total: int, what: str, index: int = index, name: str = item.name) -> None:
                progress(index * total + done, len(chosen) * total, f"{what}: {name}")

            scores[item.name] = self.score_mix(((item.name, 1.0),), split, progress=within)
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
        top5 = None if score.top5_correct is None else score.top5_correct / score.num_examples
        row = {"ingredient": name, "split": score.split, "accuracy": score.accuracy, "correct": score.correct}
        row |= {"num_examples": score.num_examples, "loss": score.loss, "top5_accuracy": top5}
        row["macro_f1"] = score.macro_f1
        known = {key: as_number(value) for key, value in self.resolve(name).metadata.items() if key not in row}
        return row | known
