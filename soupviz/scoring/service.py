"""Scores of mixes by name: the one place that is asked what a mix does on a split."""

import marshal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from soupviz.data.loading import Splits
from soupviz.data.split import Split
from soupviz.errors import RecipeError
from soupviz.mixing.aggregation import OUTPUTS, Aggregation, check_batchnorm, num_examples
from soupviz.mixing.averaging import count_clamped, resolve
from soupviz.mixing.named import NamedWeights
from soupviz.scoring.batchnorm import norms_of
from soupviz.scoring.executors.executor import Evaluation, Executor
from soupviz.scoring.executors.usage import Usage
from soupviz.scoring.limits import Limit
from soupviz.scoring.scorer import Scorer
from soupviz.scoring.summaries import Summaries
from soupviz.spec import HELD_OUT, TRAIN
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.score import Bound, Score
from soupviz.types import Coefficients, Progress, Wanted, quiet
from soupviz.weights.ingredients import Ingredient, pick

Asked = tuple[Coefficients, str, str, Limit | None]
"""A score that is asked for, mix, split and aggregation, and when it is given up."""

KEYS_KEPT = 50_000
"""Of scores that were asked for: some 10 MB."""


class Scores:
    """One kitchen's: weights and splits by name, what is known of them, and measuring what is not."""

    def __init__(self, scorer: Scorer, weights: NamedWeights, splits: Splits, file: Path):
        self.scorer = scorer
        self.weights = weights
        self.splits = splits
        self._file = file
        self._ahead: dict[Wanted, tuple[Limit | None, list[Evaluation]]] = {}
        self._keys: dict[bytes, str] = {}
        self._summaries = Summaries(scorer)

    def resolved(self, mix: Coefficients) -> list[tuple[Ingredient, float]]:
        """A mix by name as a mix of ingredients, whose files are those that were opened."""
        found = self._named(mix)
        for item, _ in found:
            item.check_unchanged()
        return found

    def _named(self, mix: Coefficients) -> list[tuple[Ingredient, float]]:
        """The same of weights as they were opened: what is kept of them is asked for, and no file is looked at."""
        return list(resolve(mix, {name: self.weights.resolve(name) for name, _ in mix}))

    def aggregation(self, name: str, progress: Progress = quiet) -> Aggregation:
        """What a recipe says becomes of its ingredients, with the data that it needs.

        Raises:
            RecipeError: no such aggregation, or one that this kitchen has no data or no layers for.
        """
        if name not in OUTPUTS:
            check_batchnorm(name)
        if not num_examples(name):
            return Aggregation(name)
        if not norms_of(self.scorer.evaluator.model):
            raise RecipeError(
                f"batchnorm is {name!r}, but the model of {self._file} keeps no running statistics; leave it at "
                "average."
            )
        if TRAIN not in self.splits.names:
            raise RecipeError(
                f"batchnorm is {name!r}: {self._file} has no train; add `train:` under `data:` to it, or take average."
            )
        return Aggregation(name, self.splits.load(TRAIN, progress))

    def mixed(
        self, mix: Coefficients, aggregation: str = "average", keys: Iterable[str] | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """A mix's weights, tensor by tensor, in the ingredients' dtype."""
        prepared = self.aggregation(aggregation)
        if prepared.is_output:
            raise RecipeError(
                f"an ensemble of {len(mix)} models has no weights of its own, so there is nothing to write or to mix; "
                "distil it into one model, or take a soup."
            )
        return self.scorer.mixed.of(self.resolved(mix), prepared, keys)

    def count_clamped(self, mix: Coefficients, aggregation: str = "average") -> int:
        """How many running variances of a mix are clamped at 0; none where they are re-estimated, or not averaged."""
        return count_clamped(self.resolved(mix)) if aggregation == "average" else 0

    def key(self, mix: Coefficients, split: str, aggregation: str) -> str:
        """What the score of a mix is kept under: its content, the data's, the model's and the precision."""
        # Of a mix of a hundred the digest takes a hundredth of the memory; this format knows no shared parts.
        asked = blake2b(marshal.dumps((mix, split, aggregation), 2), digest_size=16).digest()
        if asked not in self._keys:
            if len(self._keys) >= KEYS_KEPT:
                self._keys.clear()
            prepared = self.aggregation(aggregation)
            self._keys[asked] = self.scorer.key(self._named(mix), self.splits.load(split), prepared)
        return self._keys[asked]

    def score(
        self, mix: Coefficients, split: str = HELD_OUT, aggregation: str = "average", progress: Progress = quiet
    ) -> Score:
        """Score a mix on every unit of a split; from the store where it was scored before, by any process."""
        found = self.attempt(mix, split, aggregation, progress)
        assert isinstance(found, Score)  # without a limit nothing is given up
        return found

    def attempt(
        self, mix: Coefficients, split: str, aggregation: str, progress: Progress, limit: Limit | None = None
    ) -> Score | Bound:
        """Score a mix until it is scored whole, or the limit says that it cannot win."""
        loaded = self.splits.load(split, progress)
        prepared = self.aggregation(aggregation, progress)
        return self.scorer.score(self.resolved(mix), loaded, self.width(loaded), prepared, progress, limit)

    def ahead(self, likely: Iterable[Asked]) -> None:
        """Say what will probably be asked next, in its order, so that workers begin it; what was said before is off.

        Args:
            likely: no more of it is looked at than workers can begin.
        """
        executor = self.executor
        before, self._ahead = self._ahead, {}
        for mix, split, aggregation, limit in islice(likely, executor.num_ahead):
            known = before.get((mix, split, aggregation))
            if known is None or known[0] is not limit or aggregation in OUTPUTS:  # of whose members some may be known
                items, loaded, prepared = self.resolved(mix), self.splits.load(split), self.aggregation(aggregation)
                known = limit, self.scorer.evaluations_for(items, loaded, prepared, limit)
            self._ahead[mix, split, aggregation] = known
        executor.foresee([one for _, evaluations in self._ahead.values() for one in evaluations])

    @property
    def executor(self) -> Executor:
        """Who evaluates."""
        return self.scorer.evaluations.executor

    @property
    def made_by(self) -> dict[str, Any]:
        """Who evaluates, as plain data."""
        return {"executor": {"name": self.executor.name, "workers": self.executor.num_workers}}

    @property
    def num_to_start(self) -> int:
        """Workers that have to be started before anything is scored: each loads PyTorch, the model and its data."""
        return 0 if self.executor.is_started else self.executor.num_workers

    def utilisation(self, num_units: int) -> float:
        """What share of the time workers compute at best while so many units are scored whole: the last ones are idle;
        what waits for a decision, a mix or the driver makes it less."""
        workers = self.executor.num_workers
        num_batches = -(-num_units // self.scorer.evaluator.batch_size)
        return num_batches / (workers * -(-num_batches // workers)) if num_batches else 1.0

    def seconds_for(self, num_units: int) -> float | None:
        """What scoring so many units takes at best, by workers that are there; None: no speed was measured yet."""
        rate = self.scorer.evaluator.rate
        return num_units / (rate * self.executor.num_workers * self.utilisation(num_units)) if rate else None

    def usage(self) -> Usage:
        """What workers have done so far."""
        return self.executor.usage()

    def ahead_on(self, split: str, aggregation: str) -> Callable[[Iterable[tuple[Coefficients, Limit | None]]], None]:
        """What is told of mixes and limits on one split."""
        return lambda likely: self.ahead((mix, split, aggregation, limit) for mix, limit in likely)

    @contextmanager
    def looking_ahead(self) -> Iterator[None]:
        """Within it workers may begin what they are told of; after it they begin nothing more."""
        try:
            yield
        finally:
            self.ahead([])

    def each(self, wanted: Sequence[Wanted], progress: Progress = quiet) -> Iterator[Score]:
        """Score several mixes, none of which depends on another's score; in order, each as soon as it is there.

        Args:
            progress: is told of all as of one.
        """
        with self.looking_ahead():
            for index, (mix, split, aggregation) in enumerate(wanted):
                name = mix[0][0] if len(mix) == 1 else ""

                def within(done: int, total: int, what: str, index: int = index, name: str = name) -> None:
                    progress(index * total + done, len(wanted) * total, f"{what}: {name}" if name else what)

                self.ahead((*one, None) for one in wanted[index:])
                yield self.score(mix, split, aggregation, within)

    def score_all(self, wanted: Sequence[Wanted], progress: Progress = quiet) -> None:
        """Score several mixes, for whoever looks at them later."""
        for _ in self.each(wanted, progress):
            pass

    def known(self, mix: Coefficients, split: str, aggregation: str = "average") -> Score | None:
        """The score of a mix if it was measured before; nothing is computed."""
        return self.scorer.known(self._named(mix), self.splits.load(split), self.aggregation(aggregation))

    def recalled(self, summary: Mapping[str, Any], split: str) -> Score:
        """A score from its summary as plain data, as a run keeps it."""
        return replace(self.scorer.recalled(summary, split), grouped=self.splits.grouped(split))

    def partial(self, mix: Coefficients, split: str, aggregation: str = "average") -> Outcomes | None:
        """What became of the units of a mix that was given up; None: it was not, or is scored whole."""
        return self.scorer.partial(self._named(mix), self.splits.load(split), self.aggregation(aggregation))

    def summaries(
        self, mixes: Sequence[tuple[Coefficients, str]], split: str, *, brief: bool = False
    ) -> list[Score | None]:
        """Of mixes, each with its aggregation, the scores that were measured before, without their outcomes.

        Args:
            brief: without what they tell of each class.
        """
        loaded = self.splits.load(split)
        keys = [self.key(mix, split, aggregation) for mix, aggregation in mixes]
        found = self._summaries.find(keys, loaded, brief=brief)
        missing = {key: one for key, one in zip(keys, mixes, strict=True) if key not in found}
        if missing and self._summaries.looks_elsewhere:
            asked = {key: (self._named(mix), self.aggregation(how)) for key, (mix, how) in missing.items()}
            found |= self._summaries.otherwise(asked, loaded)
        return [found.get(key) for key in keys]

    def logits(
        self, mix: Coefficients, split: str = HELD_OUT, aggregation: str = "average", progress: Progress = quiet
    ) -> NDArray[np.float32]:
        """A mix's answers, shape (num_units, width), kept in the store from then on."""
        loaded = self.splits.load(split, progress)
        prepared = self.aggregation(aggregation, progress)
        return self.scorer.logits(self.resolved(mix), loaded, self.width(loaded), prepared, progress)

    def of_ingredients(
        self, split: str = HELD_OUT, members: Sequence[str] | None = None, progress: Progress = quiet
    ) -> Mapping[str, Score]:
        """Score the ingredients that were not scored yet; all scores in kitchen order, without their outcomes.

        Args:
            members: names; default: all.
        """
        chosen = pick(tuple(self.weights.ingredients.values()), members)
        mixes: list[Coefficients] = [((item.name, 1.0),) for item in chosen]
        self.splits.load(split, progress)
        known = self.summaries([(mix, "average") for mix in mixes], split)
        unknown: list[Wanted] = [
            (mix, split, "average") for mix, score in zip(mixes, known, strict=True) if score is None
        ]
        found = self.each(unknown, progress)
        return {
            item.name: replace(score or next(found), outcomes=None) for item, score in zip(chosen, known, strict=True)
        }

    def width(self, split: Split) -> int:
        """How many numbers the model says of each unit."""
        return self.scorer.evaluator.width(split)
