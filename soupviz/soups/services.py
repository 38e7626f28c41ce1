"""What recipes that learn, or look at activations, ask of a kitchen: data in batches, and a place for the result."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from soupviz.data.split import Split
from soupviz.kitchen import Kitchen
from soupviz.learning.averages import fisher_average, regmean
from soupviz.learning.coefficients import Learned, Normalise, learn
from soupviz.learning.curvature import fisher_diagonal, gram_matrices
from soupviz.learning.distilling import Distillation, distill
from soupviz.learning.training_state import Epoch
from soupviz.mixing.alignment import align, repair
from soupviz.mixing.averaging import BatchNorm, mean_of, mix
from soupviz.mixing.formulas import Formula
from soupviz.mixing.spectral import settled
from soupviz.models.architecture import RUNNING_STATISTICS, weights_of
from soupviz.models.layers import Grouping, layer_groups
from soupviz.recipes.services import Ahead, Attempt, Sample
from soupviz.recipes.trajectory import Step
from soupviz.scoring.evaluator import Trial
from soupviz.soups.blending import blend
from soupviz.spec import HELD_OUT, TRAIN
from soupviz.tasks.score import Score
from soupviz.types import Coefficients, Progress, stages
from soupviz.weights.ingredients import Ingredient

LEARNING_BATCH = 64
"""Examples in a step of a learned soup."""

STEP_PASSES = 3
"""Passes forward that a pass of learning is taken to be as long as."""

EXAMPLE = 8
"""Examples on which an aligned network is shown to compute what it computed before."""


class KitchenServices:
    """One kitchen's, for one cooking; not for two threads at once, as its evaluator is not."""

    def __init__(
        self, kitchen: Kitchen, progress: Progress, statistics: BatchNorm = "average", earlier: Sequence[Step] = ()
    ):
        """Take up a cooking.

        Args:
            statistics: what becomes of running statistics. earlier: the decisions of this cooking before it was
                stopped.
        """
        self.kitchen = kitchen
        self.progress = progress
        self.statistics = statistics
        self.earlier = {step.step: step for step in earlier}

    def learn(
        self, names: Sequence[str], sample: Sample, *, by_layer: bool, normalise: Normalise, epochs: int, rate: float
    ) -> tuple[Coefficients, Learned]:
        """A learned soup: one coefficient for each ingredient, or for each ingredient and layer group."""
        split, rows = self._rows(sample)
        size = min(LEARNING_BATCH, len(rows))
        ties = self.kitchen.architecture.ties
        groups = layer_groups(self._items(names)[0].tensors, ties)

        def batches(epoch: int) -> Iterator[tuple[Mapping[str, Tensor], Tensor]]:
            order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1000 * sample.seed + epoch))
            for part in torch.split(rows[order], size):
                yield split.take(part, self._device), split.labels[part].to(self._device)

        found = learn(
            self.kitchen.evaluator.model,
            [item.tensors for item in self._items(names)],
            batches,
            group_of=groups.__getitem__ if by_layer else lambda _key: "",
            normalise=normalise,
            epochs=epochs,
            learning_rate=rate,
            batchnorm=self.statistics,
            task=self.kitchen.task,
            num_batches=-(-len(rows) // size),
            progress=self.progress,
        )
        if not by_layer:
            return tuple(zip(names, found.coefficients[""], strict=True)), found
        shares = {group: list(weights) for group, weights in found.coefficients.items()}
        parameters = {"groups": shares, "ties": ties}
        formula = Formula(kind="layered", parts=mean_of(names), parameters=parameters, batchnorm=self.statistics)
        return self.kitchen.weights.adopt(formula), found

    def blend(self, a: Coefficients, b: Coefficients, weights: Mapping[str, float], by: Grouping) -> Coefficients:
        """A mix of two mixes with a weight for every layer group."""
        return blend(self.kitchen, a, b, weights, by=by, batchnorm=self.statistics)

    def fisher(self, names: Sequence[str], sample: Sample) -> Coefficients:
        """The average in which each number counts by its Fisher information."""
        items = self._items(names)
        told = self._teller("Fisher information", items, sample)

        def fisher_of(index: int) -> Mapping[str, Tensor]:
            model = self.kitchen.evaluator.model
            # One label drawn for each example: one gradient instead of one for each class.
            return fisher_diagonal(
                model, items[index].tensors, self._inputs(sample), exact_up_to=0, seed=sample.seed, on_batch=told
            )

        tensors = fisher_average([item.tensors for item in items], fisher_of)
        return self.kitchen.weights.keep("fisher", self._with_statistics(tensors, items), mean_of(names))

    def regmean(self, names: Sequence[str], sample: Sample, shrink: float) -> Coefficients:
        """The linear layers whose outputs come nearest to every ingredient's own."""
        items = self._items(names)
        told = self._teller("inputs of the linear layers", items, sample)

        def grams_of(index: int) -> Mapping[str, Tensor]:
            model = self.kitchen.evaluator.model
            return gram_matrices(model, items[index].tensors, self._inputs(sample), on_batch=told)

        tensors = regmean([item.tensors for item in items], grams_of, shrink=shrink)
        return self.kitchen.weights.keep("regmean", self._with_statistics(tensors, items), mean_of(names))

    def rebasin(self, names: Sequence[str], sample: Sample | None, seed: int) -> tuple[Coefficients, Mapping[str, Any]]:
        """The mean of the ingredients, all but the first with their units in the first one's order.

        Args:
            sample: examples for REPAIR; None: without.
        Returns:
            The mix, and which layers REPAIR corrected or left.
        """
        model = self.kitchen.evaluator.model
        first, *others = self._items(names)
        split = self.kitchen.splits.load(HELD_OUT)
        example = next(self.kitchen.task.inputs(split.take(torch.arange(min(EXAMPLE, len(split))), self._device)))
        aligned = [first]
        for number, item in enumerate(others):
            self.progress(number, len(others), f"aligning {item.name}")
            # Each is permuted anew, tensor by tensor, whenever it is looked at: many large models fit into memory.
            permuted = align(model, first.tensors, item.tensors, example, seed=seed)
            aligned.append(Ingredient(item.name, item.path, permuted, ""))
        share = 1.0 / len(names)
        tensors = mix([(item, share) for item in aligned], self.statistics)
        notes: dict[str, Any] = {}
        if sample is not None:
            self.progress(len(others), len(others), "repairing activations")
            ends = [item.tensors for item in aligned]
            repaired = repair(model, ends, [share] * len(ends), tensors, self._inputs(sample))
            tensors = dict(repaired.tensors)
            notes = {"repaired": list(repaired.corrected), "left": dict(repaired.left)}
        return self.kitchen.weights.keep("rebasin", tensors, mean_of(names)), notes

    @property
    def other_models(self) -> list[str]:
        """Models of other architectures, which may teach."""
        return list(self.kitchen.other_models.items)

    def attempt(self, aggregation: str) -> Attempt:
        """How a mix is scored, for a search under another aggregation than the recipe's own."""

        def told(_done: int, total: int, what: str) -> None:
            self.progress(0, total, what)  # short beside the learning that follows

        return lambda mixture, limit: self.kitchen.scores.attempt(mixture, HELD_OUT, aggregation, told, limit)

    def ahead(self, aggregation: str) -> Ahead:
        """Told what such a search will probably ask next."""
        return self.kitchen.scores.ahead_on(HELD_OUT, aggregation)

    def distil(
        self,
        start: tuple[Coefficients, str],
        teacher: tuple[Coefficients, str],
        parameters: Distillation,
        num_examples: int,
        name: str,
        on_epoch: Callable[[int, Score], None],
    ) -> tuple[Coefficients, list[Epoch]]:
        """A student that starts from a mix and learns a teacher's answers on train.

        Args:
            start, teacher: a mix and its aggregation. num_examples: of train; 0: all.
            name: of the file that the training goes on from when it was stopped.
            on_epoch: told of each epoch's score on held_out; not again of those before the training was stopped.
        Returns:
            The student, and every epoch.
        """
        sample = Sample(TRAIN, num_examples or len(self.kitchen.splits.load(TRAIN, self.progress)), parameters.seed)
        split, rows = self._rows(sample)
        asking, learning = stages(self.progress, 1, STEP_PASSES * parameters.epochs)
        answers = self.kitchen.scores.logits(teacher[0], TRAIN, teacher[1], asking)
        model = copy.deepcopy(self.kitchen.evaluator.model).requires_grad_(True)
        model.load_state_dict(dict(self.kitchen.scores.mixed(*start)), strict=False)  # but for what is no weight
        checkpoint = self.kitchen.store.folder / "made" / f"{name}.training.pt"
        checkpoint.parent.mkdir(exist_ok=True)
        like = self.kitchen.weights.resolve(self.kitchen.names[0]).shapes

        def weights() -> dict[str, Tensor]:
            return {key: tensor.detach().cpu().to(like[key].dtype) for key, tensor in weights_of(model).items()}

        def scored(epoch: Epoch) -> None:
            on_epoch(epoch.number, self._score(weights()))

        history = distill(
            model,
            lambda part: split.take(rows[part], self._device),
            split.labels[rows],
            torch.from_numpy(np.array(answers[rows.numpy()])),
            parameters,
            device=self._device,
            task=self.kitchen.task,
            checkpoint=checkpoint,
            on_epoch=scored,
            progress=learning,
        )
        kept = self.kitchen.weights.keep("student", weights(), self._own(dict((*start[0], *teacher[0]))))
        checkpoint.unlink(missing_ok=True)
        return kept, history

    def _own(self, mixture: Mapping[str, float]) -> Coefficients:
        """Without models of other kitchens: weights are pinned to the checkpoints of this kitchen."""
        return tuple((name, weight) for name, weight in mixture.items() if name not in self.kitchen.other_models.items)

    def _with_statistics(self, tensors: dict[str, Tensor], items: Sequence[Ingredient]) -> dict[str, Tensor]:
        """An average's weights, their running statistics those of the first where the recipe takes these.

        What follows from its weights, as the vectors of a spectral norm do, is computed from them.
        """
        tensors = tensors | settled(tensors, [item.tensors for item in items])
        if self.statistics == "average":
            return tensors
        first = items[0].tensors
        return tensors | {key: first[key].clone() for key in tensors if key.endswith(RUNNING_STATISTICS)}

    def _score(self, tensors: Mapping[str, Tensor]) -> Score:
        """Of weights that nobody keeps, on held_out."""
        split = self.kitchen.splits.load(HELD_OUT)
        trial = Trial(lambda: tensors.items(), self.kitchen.evaluator.blank(split))
        self.kitchen.evaluator.evaluate(split, trial)
        return self.kitchen.scores.scorer.summarized(split, trial.found, self.kitchen.scores.width(split))

    def _items(self, names: Sequence[str]) -> list[Ingredient]:
        return [self.kitchen.weights.resolve(name) for name in names]

    def _rows(self, sample: Sample) -> tuple[Split, Tensor]:
        """A split, and which of its examples: drawn with the sample's seed, in the split's order.

        Of held_out never more than half: what is chosen by all of it afterwards must not have learned all of it.
        """
        split = self.kitchen.splits.load(sample.split, self.progress)
        most = len(split) // 2 if sample.split == HELD_OUT else len(split)
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(sample.seed))
        return split, order[: min(sample.num_examples, max(1, most))].sort().values

    def _inputs(self, sample: Sample) -> Callable[[], Iterator[Mapping[str, Tensor]]]:
        split, rows = self._rows(sample)

        def batches() -> Iterator[Mapping[str, Tensor]]:
            for part in torch.split(rows, self._batch_size):
                yield from self.kitchen.task.inputs(split.take(part, self._device))

        return batches

    def _teller(self, what: str, items: Sequence[Ingredient], sample: Sample) -> Callable[[], None]:
        """Called after each batch of each ingredient; tells how many are done."""
        _, rows = self._rows(sample)
        total = len(items) * -(-len(rows) // self._batch_size)
        done = 0

        def told() -> None:
            nonlocal done
            done += 1
            self.progress(min(done, total), total, what)

        return told

    @property
    def _device(self) -> torch.device:
        return self.kitchen.device

    @property
    def _batch_size(self) -> int:
        return self.kitchen.evaluator.batch_size
