"""Having mixes evaluated: by whom, from which layer on, and what is kept while it runs."""

import time
from collections.abc import Sequence

from soupviz.data.split import Split
from soupviz.mixing.aggregation import Aggregation
from soupviz.mixing.averaging import Mix, is_affine
from soupviz.mixing.named import NamedWeights
from soupviz.scoring.evaluator import Evaluator
from soupviz.scoring.executors.crew import Crew
from soupviz.scoring.executors.executor import Evaluation, Executor, Inline
from soupviz.scoring.kept import columns_of
from soupviz.scoring.limits import Limit
from soupviz.scoring.mixed import MixedWeights
from soupviz.store.database import Store
from soupviz.tasks.outcomes import Outcomes
from soupviz.types import Progress
from soupviz.weights.ingredients import Ingredient, shared_keys

KEEP_EVERY = 1.0
"""Seconds of evaluation that a killed process may lose."""


class Evaluations:
    """One kitchen's. Weights that are the same in all ingredients are known, and what comes of them computed once."""

    def __init__(
        self, evaluator: Evaluator, store: Store, mixed: MixedWeights, weights: NamedWeights, crew: Crew | None
    ):
        self.crew = crew
        self._evaluator = evaluator
        self._store = store
        self._weights = weights
        self._inline = Inline(evaluator, mixed)
        self._shared: frozenset[str] = frozenset()
        self._pool: dict[str, bool] = {}
        self._reference: Ingredient | None = None

    def share(self, ingredients: Sequence[Ingredient]) -> None:
        """Look for weights that are the same in all ingredients: what comes of them is computed once for all soups."""
        self._reference = ingredients[0]
        self._shared = shared_keys(ingredients) if len(ingredients) > 1 else frozenset()
        self._pool = {item.fingerprint: True for item in ingredients}
        self._evaluator.routes.share(self._shared)

    def share_as(self, other: "Evaluations") -> None:
        """The weights that all ingredients share, as another kitchen of the same ones has found them: none is read."""
        self._reference, self._shared, self._pool = other._reference, other._shared, dict(other._pool)
        self._evaluator.routes.share(self._shared)

    def is_shared(self, items: Mix, aggregation: Aggregation) -> bool:
        """Whether a mix has the shared weights bit for bit; ingredients from elsewhere are compared once.

        Re-estimated statistics are not those that the ingredients share, and the activations behind them are others.
        """
        if self._reference is None or not self._shared or not is_affine(items) or aggregation.train is not None:
            return False
        for item, _ in items:
            if item.fingerprint not in self._pool:
                self._pool[item.fingerprint] = self._shared <= shared_keys([self._reference, item])
        return all(self._pool[item.fingerprint] for item, _ in items)

    @property
    def executor(self) -> Executor:
        """Who evaluates the data that a kitchen reads."""
        return self.crew or self._inline

    def asked(
        self,
        items: Mix,
        split: Split,
        aggregation: Aggregation,
        limit: Limit | None = None,
        *,
        keeps_answers: bool = False,
    ) -> Evaluation:
        return Evaluation(
            items,
            split,
            aggregation,
            order=limit.order if limit else None,
            gives_up=limit.gives_up if limit else None,
            is_shared=self.is_shared(items, aggregation),
            keeps_answers=keeps_answers,
            made_of=self._weights.handed_on,
        )

    def run(self, key: str, asked: Evaluation, found: Outcomes, progress: Progress) -> None:
        """Evaluate, keeping what is done every second, and when the work ends before all units are scored.

        Args:
            key: what is kept under. found: what is known so far, which is written into.
        """
        kept_at = time.monotonic()
        is_fresh = not found.num_scored
        split = asked.split

        def on_batch() -> None:
            nonlocal kept_at
            if time.monotonic() - kept_at > KEEP_EVERY and not asked.is_over(found):
                self._store.keep_partial(key, columns_of(found))
                kept_at = time.monotonic()
            progress(found.num_scored, len(split), f"scoring {split.name}")

        # Workers read what a kitchen reads; other data is here alone.
        executor = self.executor if split.read is not None else self._inline
        try:
            logits = executor.evaluate(asked, found, on_batch)
            if logits is not None and is_fresh and found.is_whole:
                self._store.keep_logits(key, logits.numpy())
        finally:
            if found.num_scored and not found.is_whole:
                self._store.keep_partial(key, columns_of(found))
