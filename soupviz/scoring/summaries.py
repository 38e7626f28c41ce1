"""What is known of many scores at once, without their units: for lists, which need none."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from soupviz.data.split import Split
from soupviz.mixing.aggregation import Aggregation
from soupviz.mixing.averaging import Mix, effective
from soupviz.scoring.kept import kept
from soupviz.scoring.scorer import Scorer
from soupviz.tasks.judging import lacking
from soupviz.tasks.score import Score

KEPT = 20_000
"""Of brief scores, by split and key: some 20 MB."""


class Summaries:
    """Of the scores of one model."""

    def __init__(self, scorer: Scorer):
        self.scorer = scorer
        self._brief: dict[tuple[str, str], Score] = {}

    def find(self, keys: Iterable[str], split: Split, *, brief: bool = False) -> dict[str, Score]:
        """By key, scores on one split that were measured before, without their examples; one look for all of them.

        Args:
            brief: without what they tell of each class; what was read once is not read again.
        """
        if not brief:
            return {key: self._summary(key, plain, split) for key, plain in self.scorer.store.summaries(keys).items()}
        there = self.scorer.store.scored(keys)
        if len(self._brief) > KEPT:
            self._brief.clear()
        new = [key for key in there if (split.name, key) not in self._brief]
        for key, plain in self.scorer.store.summaries(new, brief=True).items():
            self._brief[split.name, key] = self._summary(key, plain, split)
        return {key: found for key in there if (found := self._brief.get((split.name, key))) is not None}

    @property
    def looks_elsewhere(self) -> bool:
        """Whether there may be scores that are not kept under their keys: see `otherwise`."""
        return bool(self.scorer.other_models.items or self.scorer.evaluator.task.answers_key)

    def otherwise(self, wanted: Mapping[str, tuple[Mix, Aggregation]], split: Split) -> dict[str, Score]:
        """By key, scores that are not kept under it: of other kitchens' models, and of answers counted otherwise."""
        found: dict[str, Score] = {}
        waiting: dict[str, tuple[str, Mix, Split, Aggregation]] = {}
        answers_key = self.scorer.evaluator.task.answers_key
        for key, (mix, aggregation) in wanted.items():
            items = effective(mix)
            if other := self.scorer._other_model(items):
                if (one := other.summary(split)) is not None:
                    found[key] = one
            elif answers_key:
                waiting[self.scorer._key(items, split, aggregation, answers_key)] = (key, items, split, aggregation)
        for answers in self.scorer.store.begun(waiting):
            if (counted := self.scorer._recount(*waiting[answers])) is not None:
                found[waiting[answers][0]] = replace(counted, outcomes=None)
        return found

    def _summary(self, key: str, plain: Mapping[str, Any], split: Split) -> Score:
        """A score without its units. A metric that came to the task since is computed from them, and kept, once."""
        task = self.scorer.evaluator.task
        if not lacking(task, task.carried_over(plain)["values"]):
            return self.scorer._read(plain, split)
        whole, columns = self.scorer.store.score(key)
        assert whole is not None and columns is not None  # a finished score has its units beside it
        score = self.scorer._read(whole, split, self.scorer._outcomes(split, columns, whole))
        self.scorer.store.complete(key, kept(score, split))
        return replace(score, outcomes=None)
