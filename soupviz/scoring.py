"""Scores of mixes: from the store where they were measured before, else evaluated, and kept as they come."""

import time
from collections.abc import Sequence

from soupviz.data import Split
from soupviz.evaluation import Evaluator, Task
from soupviz.files import digest
from soupviz.ingredients import Ingredient, shared_keys
from soupviz.limits import Limit
from soupviz.metrics import summarize
from soupviz.mixing import BatchNorm, Mix, effective, is_affine, mix_tensors
from soupviz.records import Bound, PerExample, Progress, Score
from soupviz.store import Store

KEEP_EVERY = 1.0
"""Seconds of evaluation that a killed process may lose."""

LAYOUT = 3
"""Of what is kept of each example; another layout makes old scores unfindable."""


class Scorer:
    """One model's scores. `shared` says which weights all ingredients have in common."""

    def __init__(self, evaluator: Evaluator, store: Store, model_fingerprint: str):
        self.evaluator = evaluator
        self.store = store
        self.model_fingerprint = model_fingerprint
        self._shared: frozenset[str] = frozenset()
        self._pool: dict[str, bool] = {}
        self._reference: Ingredient | None = None

    def share(self, ingredients: Sequence[Ingredient]) -> None:
        """Look for weights that are the same in all ingredients: what comes of them is computed once for all soups."""
        self._reference = ingredients[0]
        self._shared = shared_keys(ingredients) if len(ingredients) > 1 else frozenset()
        self._pool = {item.fingerprint: True for item in ingredients}
        self.evaluator.paths.share(self._shared)

    def _is_shared(self, items: Mix) -> bool:
        """Whether a mix has the shared weights bit for bit; ingredients from elsewhere are compared once."""
        if self._reference is None or not self._shared or not is_affine(items):
            return False
        for item, _ in items:
            if item.fingerprint not in self._pool:
                self._pool[item.fingerprint] = self._shared <= shared_keys([self._reference, item])
        return all(self._pool[item.fingerprint] for item, _ in items)

    def key(self, items: Mix, split: Split, batchnorm: BatchNorm) -> str:
        """What a score is kept under: the mix, the fingerprints, the data, the model and the precision."""
        mixed = [[item.fingerprint, weight.hex()] for item, weight in items]
        # One ingredient taken whole is the same weights under every treatment of the statistics.
        treatment = batchnorm if len(mixed) > 1 or items[0][1] != 1.0 else "average"
        context = [split.fingerprint, self.model_fingerprint, self.evaluator.precision]
        return digest([LAYOUT, mixed, treatment, *context])

    def known(self, items: Mix, split: Split, batchnorm: BatchNorm) -> Score | None:
        """The score of a mix if it was measured before; nothing is computed."""
        return self.store.score(self.key(effective(items), split, batchnorm), split.name)[0]

    def score(
        self, items: Mix, split: Split, num_classes: int, batchnorm: BatchNorm, progress: Progress, limit: Limit | None
    ) -> Score | Bound:
        """Score a mix on every example; with a limit, give it up as soon as it provably has too many errors."""
        items = effective(items)
        key = self.key(items, split, batchnorm)
        score, partial = self.store.score(key, split.name)
        if score is not None:
            return score
        found = partial or PerExample.blank(len(split))
        task = Task(
            weights=lambda: mix_tensors(items, batchnorm),
            found=found,
            max_errors=limit.max_errors if limit else None,
            is_shared=self._is_shared(items),
        )
        if not task.is_over:
            self._evaluate(key, split, task, limit, progress)
        if not found.scored.all():
            return Bound(split.name, len(split), found.num_scored, found.num_errors)
        labels = split.labels.numpy()
        score = summarize(split.name, found, labels, num_classes, self.evaluator.precision)
        self.store.keep_score(key, score)
        return score

    def _evaluate(self, key: str, split: Split, task: Task, limit: Limit | None, progress: Progress) -> None:
        """Evaluate, keeping what is done every second, and when the work ends before all examples are scored."""
        kept_at = time.monotonic()

        def on_batch() -> None:
            nonlocal kept_at
            if time.monotonic() - kept_at > KEEP_EVERY and not task.is_over:
                self.store.keep_partial(key, task.found)
                kept_at = time.monotonic()
            progress(task.found.num_scored, len(split), f"scoring {split.name}")

        try:
            self.evaluator.evaluate(split, task, order=limit.order if limit else None, on_batch=on_batch)
        finally:
            if task.found.scored.any() and not task.found.scored.all():
                self.store.keep_partial(key, task.found)
