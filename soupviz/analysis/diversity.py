"""Where models err apart: errors that pairs have in common, and what averaging two gains over the mean of the two."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.tasks.ensembles import combined
from soupviz.tasks.task import judged
from soupviz.types import Coefficients, Progress, part_of, quiet

Names = tuple[str, str]
"""A pair, in the order of the kitchen."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """What several models say of each example of a split.

    predictions: class index, -1 where the logits are not all finite, int32, shape (num_models, num_examples).
    labels: int64, shape (num_examples,).
    """

    split: str
    names: tuple[str, ...]
    predictions: NDArray[np.int32]
    labels: NDArray[np.int64]

    def of(self, names: Sequence[str]) -> "Answers":
        """The answers of some of the models, in the order given."""
        rows = [self.names.index(name) for name in names]
        return Answers(self.split, tuple(names), self.predictions[rows], self.labels)


@dataclass(frozen=True, slots=True)
class Pair:
    """How two models do on the same examples, in counts.

    both_right, only_a, only_b (only that one is right) and both_wrong add up to the examples. same_wrong: of those
    that both get wrong, with the same prediction. different: examples with different predictions.
    """

    a: str
    b: str
    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    same_wrong: int
    different: int

    @property
    def names(self) -> Names:
        return self.a, self.b

    @property
    def num_examples(self) -> int:
        return self.both_right + self.only_a + self.only_b + self.both_wrong

    @property
    def accuracy_a(self) -> float:
        return (self.both_right + self.only_a) / self.num_examples

    @property
    def accuracy_b(self) -> float:
        return (self.both_right + self.only_b) / self.num_examples

    @property
    def mean_accuracy(self) -> float:
        return (self.accuracy_a + self.accuracy_b) / 2

    @property
    def disagreement(self) -> float:
        """The share of examples with different predictions, as the model-soups paper and DiWA count it."""
        return self.different / self.num_examples

    @property
    def overlap(self) -> float | None:
        """The share of errors in common, |E_a & E_b| / |E_a | E_b| (Jaccard); None where neither errs."""
        errors = self.only_a + self.only_b + self.both_wrong
        return self.both_wrong / errors if errors else None

    @property
    def expected_overlap(self) -> float | None:
        """The overlap of models that err as often, but independently: e_a e_b / (e_a + e_b - e_a e_b)."""
        a, b = 1 - self.accuracy_a, 1 - self.accuracy_b
        return a * b / (a + b - a * b) if a + b else None

    @property
    def ratio_error(self) -> float | None:
        """Errors that only one makes for each that both make, 1 / overlap - 1; None where they have none in common.

        Source:
            Aksela 2003, as DiWA uses it (Rame et al. 2022, arXiv 2205.09739).
        """
        return (self.only_a + self.only_b) / self.both_wrong if self.both_wrong else None

    @property
    def q_statistic(self) -> float | None:
        """Yule's Q of being right: 0 where errors are independent, 1 where they fall together.

        Source:
            Kuncheva and Whitaker 2003, equation 7.
        """
        together, apart = self.both_right * self.both_wrong, self.only_a * self.only_b
        return (together - apart) / (together + apart) if together + apart else None


def singles(names: Sequence[str]) -> list[Coefficients]:
    """Each model alone, as a mix."""
    return [((name, 1.0),) for name in names]


def gather(kitchen: Kitchen, names: Sequence[str], split: str, progress: Progress = quiet) -> Answers:
    """The answers of ingredients; what was not scored before is scored."""
    rows = []
    for index, mixture in enumerate(singles(names)):
        score = kitchen.scores.score(mixture, split, progress=part_of(progress, index, len(names)))
        assert score.outcomes is not None
        rows.append(score.outcomes["prediction"])
    return Answers(split, tuple(names), np.stack(rows), kitchen.splits.load(split).labels.numpy())


def pairs_of(answers: Answers) -> list[Pair]:
    """Every pair once, in the order of the names."""
    right = (answers.predictions == answers.labels).astype(np.float64)
    both = np.rint(right @ right.T).astype(np.int64)
    alone = np.diagonal(both)
    found = []
    for i, a in enumerate(answers.names):
        different = (answers.predictions[i] != answers.predictions[i + 1 :]).sum(axis=1)
        for j, b in enumerate(answers.names[i + 1 :], start=i + 1):
            both_right, only_a, only_b = int(both[i, j]), int(alone[i] - both[i, j]), int(alone[j] - both[i, j])
            unlike = int(different[j - i - 1])
            found.append(
                Pair(
                    a=a,
                    b=b,
                    both_right=both_right,
                    only_a=only_a,
                    only_b=only_b,
                    both_wrong=len(answers.labels) - both_right - only_a - only_b,
                    # Who agrees is right with the other, or wrong in the same way.
                    same_wrong=len(answers.labels) - unlike - both_right,
                    different=unlike,
                )
            )
    return found


def midpoints(kitchen: Kitchen, names: Sequence[str]) -> dict[Names, Coefficients]:
    """The plain average of each pair: the mix that a barrier is taken from. Two copies are their own average.

    Args:
        names: in kitchen order, which is part of what a score is kept under.
    """
    prints = {name: kitchen.weights.resolve(name).fingerprint for name in names}
    return {
        (a, b): mean_of([a, b]) if prints[a] != prints[b] else ((a, 1.0),) for a, b in itertools.combinations(names, 2)
    }


def score_midpoints(
    kitchen: Kitchen,
    mixes: Mapping[Names, Coefficients],
    split: str,
    treatment: str = "average",
    *,
    progress: Progress = quiet,
    on_score: Callable[[Names, int], None] = lambda _names, _correct: None,
) -> dict[Names, int]:
    """How many examples each midpoint gets right: one evaluation for each that was not scored before.

    Args:
        on_score: told each count as soon as it is there.
    """
    found = {}
    for index, (names, mixture) in enumerate(mixes.items()):
        within = part_of(progress, index, len(mixes))
        found[names] = kitchen.scores.score(mixture, split, treatment, within).correct
        within(1, 1, f"averaging {names[0]} and {names[1]}")
        on_score(names, found[names])
    return found


def without_logits(kitchen: Kitchen, names: Sequence[str], split: str) -> list[str]:
    """The ingredients whose logits are not kept: each takes an evaluation. The split must have been read."""
    keys = {name: kitchen.scores.key(((name, 1.0),), split, "average") for name in names}
    return [name for name, key in keys.items() if kitchen.store.logits(key) is None]


def score_ensembles(
    kitchen: Kitchen,
    names: Sequence[str],
    split: str,
    *,
    progress: Progress = quiet,
    on_score: Callable[[Names, int], None] = lambda _names, _correct: None,
) -> dict[Names, int]:
    """How many examples the averaged probabilities of each pair get right, from the logits of each ingredient."""
    labels = kitchen.splits.load(split).labels
    logits = {
        name: kitchen.scores.logits(((name, 1.0),), split, progress=part_of(progress, index, 2 * len(names)))
        for index, name in enumerate(names)
    }
    pairs = list(itertools.combinations(names, 2))
    found = {}
    for index, (a, b) in enumerate(pairs):
        together = combined([logits[a], logits[b]], [0.5, 0.5], "probabilities")
        found[a, b] = int(judged(kitchen.task, together, labels, split)["right"].sum())
        on_score((a, b), found[a, b])
        progress(len(pairs) + index + 1, 2 * len(pairs), f"asking {a} and {b} together")
    return found


@dataclass(frozen=True, slots=True)
class Gain:
    """A pair, and how many examples what was made of the two gets right: their midpoint, or their ensemble."""

    pair: Pair
    correct: int

    @property
    def gain(self) -> float:
        """Accuracy less the mean accuracy of the two, a fraction.

        Source:
            Rame et al. 2022 (arXiv 2205.09739), figure 1: the gain of averaged weights over their mean accuracy.
        """
        return self.correct / self.pair.num_examples - self.pair.mean_accuracy


def gains(pairs: Sequence[Pair], correct: Mapping[Names, int]) -> list[Gain]:
    """The pairs of which that is known."""
    return [Gain(pair, correct[pair.names]) for pair in pairs if pair.names in correct]
