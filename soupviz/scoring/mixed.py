"""The weights of a mix as they are scored: its running statistics averaged, or re-estimated on training data."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor

from soupviz.data.split import Split
from soupviz.mixing.aggregation import Aggregation, num_examples
from soupviz.mixing.averaging import Mix, effective, mix_tensors
from soupviz.scoring.batchnorm import reestimate
from soupviz.scoring.evaluator import Evaluator
from soupviz.scoring.kept import content
from soupviz.scoring.other_models import OtherModels


class MixedWeights:
    """Of one model; batch_size is the kitchen's, before memory may have halved it."""

    def __init__(self, evaluator: Evaluator, other_models: OtherModels):
        self.batch_size = evaluator.batch_size
        self._evaluator = evaluator
        self._other_models = other_models
        self._estimated: tuple[Any, Mapping[str, Tensor]] | None = None

    def of(
        self, items: Mix, aggregation: Aggregation, keys: Iterable[str] | None = None
    ) -> Iterator[tuple[str, Tensor]]:
        """A mix tensor by tensor, its running statistics as the aggregation says."""
        self._other_models.refuse([item.name for item, _ in items])
        statistics = (
            self._statistics(items, aggregation.train, num_examples(aggregation.name)) if aggregation.train else {}
        )
        for key, tensor in mix_tensors(items, aggregation.of_statistics, keys):
            yield key, statistics[key].to(tensor) if key in statistics else tensor

    def _statistics(self, items: Mix, train: Split, number: int) -> Mapping[str, Tensor]:
        """Re-estimated once for each mix in turn: a search scores it on one split, a soup on several."""
        mixed = (content(effective(items)), train.fingerprint, number)
        if self._estimated is None or self._estimated[0] != mixed:
            self._evaluator.load(mix_tensors(items))
            self._estimated = mixed, reestimate(self._evaluator, train, number, self.batch_size)
        return self._estimated[1]
