"""Scores of mixes: from the store where they were measured before, else evaluated, and kept as they come."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soupviz.data.split import Split
from soupviz.files import digest
from soupviz.mixing.aggregation import Aggregation
from soupviz.mixing.averaging import Mix, effective
from soupviz.mixing.named import NamedWeights
from soupviz.scoring.evaluations import Evaluations
from soupviz.scoring.evaluator import Evaluator
from soupviz.scoring.executors.crew import Crew
from soupviz.scoring.executors.executor import Evaluation
from soupviz.scoring.kept import SCORED, check_room, columns_of, content, kept, outcomes_in
from soupviz.scoring.limits import Limit
from soupviz.scoring.mixed import MixedWeights
from soupviz.scoring.other_models import OtherModel, OtherModels
from soupviz.store.database import Store
from soupviz.tasks.judging import completed, judged, score_of
from soupviz.tasks.metric import Metric, bound_of
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.score import Bound, Score
from soupviz.types import Progress, part_of

LOGITS_BYTES = 2**26
"""Logits of an ingredient that are kept whenever it is scored, if the store has room; others are when asked for."""

AVERAGE = Aggregation("average")

LAYOUT = 4
"""Of what is kept of each example; another layout makes old scores unfindable."""


class Scorer:
    """One model's scores."""

    def __init__(
        self,
        evaluator: Evaluator,
        store: Store,
        model_fingerprint: str,
        other_models: OtherModels,
        objective: Metric,
        weights: NamedWeights,
        crew: Crew | None = None,
    ):
        self.evaluator = evaluator
        self.objective = objective
        self.store = store
        self.other_models = other_models
        self.mixed = MixedWeights(evaluator, other_models)
        self.evaluations = Evaluations(evaluator, store, self.mixed, weights, crew)
        self.model_fingerprint = model_fingerprint

    def _other_model(self, items: Mix) -> OtherModel | None:
        """The model of another kitchen that a mix consists of."""
        return self.other_models.find(items[0][0].name) if len(items) == 1 else None

    def key(self, items: Mix, split: Split, aggregation: Aggregation) -> str:
        """What a score is kept under: the mix, the fingerprints, the data, the model, precision and device type."""
        task = self.evaluator.task
        return self._key(items, split, aggregation, [*task.key, *task.source])

    def _key(self, items: Mix, split: Split, aggregation: Aggregation, of_task: Sequence[Any]) -> str:
        items = effective(items)
        # One ingredient taken whole is the same weights under every way of averaging statistics, and the same outputs.
        is_whole = len(items) == 1 and items[0][1] == 1.0 and aggregation.train is None
        context: list[Any] = [split.fingerprint, self.model_fingerprint, *self.evaluator.numerics]
        if aggregation.train is not None:  # statistics within batches depend on how large these are
            context.append(self.mixed.batch_size)
        found = [self.other_models.find(item.name) for item, _ in items]
        context += [other.context(split.name) for other in found if other]
        return digest([LAYOUT, content(items), "average" if is_whole else aggregation.key, *context, *of_task])

    def _recount(self, key: str, items: Mix, split: Split, aggregation: Aggregation) -> Score | None:
        """The score from what was kept of the same answers when the task counted otherwise; kept under the key."""
        task = self.evaluator.task
        if not task.answers_key:
            return None
        _, columns = self.store.score(self._key(items, split, aggregation, task.answers_key))
        if columns is None:
            return None
        held = task.recounted({name: values for name, values in columns.items() if name != SCORED}, split.labels)
        return self._keep(key, split, Outcomes.of(held, task.targets(split.labels), split.group_of), 0)

    def known(self, items: Mix, split: Split, aggregation: Aggregation) -> Score | None:
        """The score of a mix if it was measured before; nothing is computed."""
        if other := self._other_model(effective(items)):
            return other.known(split)
        key = self.key(items, split, aggregation)
        plain, columns = self.store.score(key)
        if plain is None or columns is None:
            return self._recount(key, items, split, aggregation)
        return self._read(plain, split, self._outcomes(split, columns, plain))

    def partial(self, items: Mix, split: Split, aggregation: Aggregation) -> Outcomes | None:
        """What became of the units that were scored before weights were given up; None: they were not, or are whole."""
        plain, columns = self.store.score(self.key(effective(items), split, aggregation))
        return None if plain is not None or columns is None else self._outcomes(split, columns)

    def _outcomes(
        self, split: Split, columns: Mapping[str, NDArray[Any]], plain: Mapping[str, Any] | None = None
    ) -> Outcomes:
        return outcomes_in(columns, self.evaluator.task, split, plain)

    def recalled(self, summary: Mapping[str, Any], split: str) -> Score:
        """A score from its summary as plain data, as a run keeps it."""
        if "metrics" in summary:
            return Score.from_summary(summary)
        return Score.from_plain(self.evaluator.task.carried_over(summary), split)

    def _read(self, plain: Mapping[str, Any], split: Split, outcomes: Outcomes | None = None) -> Score:
        """A score as the store has it, with the kitchen's objective first."""
        task = self.evaluator.task
        score = completed(task, Score.from_plain(task.carried_over(plain), split.name, outcomes))
        first = {self.objective.name: score.values[self.objective.name]}
        return replace(score, values=first | dict(score.values), grouped=split.grouped)

    def score(
        self,
        items: Mix,
        split: Split,
        num_classes: int,
        aggregation: Aggregation,
        progress: Progress,
        limit: Limit | None = None,
    ) -> Score | Bound:
        """Score a mix on every unit; with a limit, give it up as soon as it provably cannot win."""
        items = effective(items)
        if other := self._other_model(items):
            return other.score(split, progress)
        key = self.key(items, split, aggregation)
        plain, columns = self.store.score(key)
        found = self.evaluator.blank(split) if columns is None else self._outcomes(split, columns, plain)
        if plain is not None:
            return self._read(plain, split, found)
        if (recounted := self._recount(key, items, split, aggregation)) is not None:
            return recounted
        if aggregation.is_output and not (len(items) == 1 and items[0][1] == 1.0):
            logits = self._of_each(items, split, num_classes, progress)
            task = self.evaluator.task
            answers = task.averaged(logits, [weight for _, weight in items], aggregation.name)
            held = judged(task, answers, split.labels, split.name)
            found = Outcomes.of(held, task.targets(split.labels), split.group_of)
        else:
            asked = self._asked(items, split, aggregation, limit)
            if not asked.is_over(found):
                self.evaluations.run(key, asked, found, progress)
        if not found.is_whole:
            best_possible = {metric.name: bound_of(metric, found) for metric in self.evaluator.task.metrics}
            return Bound(split.name, len(split), found, best_possible)
        if answers_key := self.evaluator.task.answers_key:
            self.store.keep_partial(self._key(items, split, aggregation, answers_key), columns_of(found))
        return self._keep(key, split, found, num_classes)

    def _asked(self, items: Mix, split: Split, aggregation: Aggregation, limit: Limit | None) -> Evaluation:
        # What every ensemble is made of is kept at the first look; of other mixes it is computed when asked for.
        keeps = limit is None and len(items) == 1 and self._keeps_logits(split)
        return self.evaluations.asked(items, split, aggregation, limit, keeps_answers=keeps)

    def evaluations_for(
        self, items: Mix, split: Split, aggregation: Aggregation, limit: Limit | None = None
    ) -> list[Evaluation]:
        """What has to be evaluated for a score, as far as it is not known: the mix, or each member of an ensemble."""
        items = effective(items)
        if self._other_model(items):
            return []
        if aggregation.is_output and not (len(items) == 1 and items[0][1] == 1.0):
            members: list[Mix] = [[(item, 1.0)] for item, _ in items if not self.other_models.find(item.name)]
            unknown = [one for one in members if self.store.logits(self.key(one, split, AVERAGE)) is None]
            return [self.evaluations.asked(one, split, AVERAGE, keeps_answers=True) for one in unknown]
        counted_otherwise = self.evaluator.task.answers_key
        keys = [self.key(items, split, aggregation)]
        keys += [self._key(items, split, aggregation, counted_otherwise)] if counted_otherwise else []
        if self.store.begun(keys):
            return []
        return [self._asked(items, split, aggregation, limit)]

    def _keeps_logits(self, split: Split) -> bool:
        """Whether an ingredient's logits are kept though nobody asked for them: not too many, for it and for all."""
        taken = self.evaluator.answer_bytes(split)
        return taken <= LOGITS_BYTES and self.store.has_room(taken)

    def _of_each(self, items: Mix, split: Split, num_classes: int, progress: Progress) -> list[NDArray[np.float32]]:
        """The logits of each member of an ensemble alone."""
        self.evaluations.executor.foresee(self.evaluations_for(items, split, Aggregation("logits")))
        try:
            return [
                self.logits([(item, 1.0)], split, num_classes, AVERAGE, part_of(progress, index, len(items)))
                for index, (item, _) in enumerate(items)
            ]
        finally:
            self.evaluations.executor.foresee([])

    def _keep(self, key: str, split: Split, found: Outcomes, num_classes: int) -> Score:
        score = self.summarized(split, found, num_classes)
        self.keep({key: score}, split)
        return score

    def summarized(self, split: Split, found: Outcomes, num_classes: int) -> Score:
        """What the task's metrics say of outcomes."""
        task, numerics = self.evaluator.task, self.evaluator.numerics
        return replace(score_of(task, self.objective, split.name, found, num_classes, *numerics), grouped=split.grouped)

    def keep(self, scores: Mapping[str, Score], split: Split) -> None:
        """Keep finished scores under their keys."""
        self.store.keep_scores({key: kept(score, split) for key, score in scores.items()})

    def logits(
        self, items: Mix, split: Split, num_classes: int, aggregation: Aggregation, progress: Progress
    ) -> NDArray[np.float32]:
        """Logits of every example, shape (num_examples, num_classes), from the store where they were kept before.

        Those of an ensemble are what its probabilities come from: averaged logits, or the logarithm of averaged
        probabilities.
        """
        items = effective(items)
        if other := self._other_model(items):
            return other.logits(split, progress)
        if aggregation.is_output and len(items) > 1:
            each = self._of_each(items, split, num_classes, progress)
            return self.evaluator.task.averaged(each, [weight for _, weight in items], aggregation.name).numpy()
        key = self.key(items, split, aggregation)
        kept = self.store.logits(key)
        if kept is None:
            check_room(split.name, self.evaluator.answer_bytes(split), self.evaluator.task.unit)
            found = self.evaluator.blank(split)
            asked = self.evaluations.asked(items, split, aggregation, keeps_answers=True)
            self.evaluations.run(key, asked, found, progress)
            self._keep(key, split, found, num_classes)
            kept = self.store.logits(key)
            assert kept is not None
        return kept
