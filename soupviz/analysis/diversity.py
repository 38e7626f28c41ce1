"""Where models err apart: errors that pairs have in common, and what averaging two gains over the mean of the two."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.tasks.judging import judged
from soupviz.tasks.metric import Metric
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.task import Task
from soupviz.types import Coefficients, Progress, part_of, quiet

Names = tuple[str, str]
"""A pair, in the order of the kitchen."""


BADLY = 0.75
"""Where answers are neither right nor wrong: those beyond this quantile of all models' are bad ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Answers:
    """How several models answer each unit of a split.

    values: of the objective. wrong: whether an answer is wrong or, where a task knows neither right nor wrong, among
    the worst quarter of all; shape (num_models, num_units). choices: what was chosen, whole numbers, shape (num_models,
    num_units, k), errors: how far off, of the same shape; each None where the other says it.
    """

    split: str
    names: tuple[str, ...]
    values: tuple[float | None, ...]
    wrong: NDArray[np.bool_]
    choices: NDArray[np.int64] | None = None
    errors: NDArray[np.float64] | None = None

    def of(self, names: Sequence[str]) -> "Answers":
        """The answers of some of the models, in the order given."""
        rows = [self.names.index(name) for name in names]
        return replace(
            self,
            names=tuple(names),
            values=tuple(self.values[row] for row in rows),
            wrong=self.wrong[rows],
            choices=None if self.choices is None else self.choices[rows],
            errors=None if self.errors is None else self.errors[rows],
        )


@dataclass(frozen=True, slots=True)
class Pair:
    """How two models do on the same units, in counts.

    value_a, value_b: of the objective. both_right, only_a, only_b (only that one is right) and both_wrong add up to the
    units. same_wrong: of those that both get wrong, with the same choice; None where answers are no choices.
    different: units with different choices, or of which only one is wrong. correlation: of their errors, Pearson's;
    None where answers are choices.
    """

    a: str
    b: str
    value_a: float | None
    value_b: float | None
    both_right: int
    only_a: int
    only_b: int
    both_wrong: int
    same_wrong: int | None
    different: int
    correlation: float | None = None

    @property
    def names(self) -> Names:
        return self.a, self.b

    @property
    def num_units(self) -> int:
        return self.both_right + self.only_a + self.only_b + self.both_wrong

    @property
    def mean_value(self) -> float | None:
        return None if self.value_a is None or self.value_b is None else (self.value_a + self.value_b) / 2

    @property
    def disagreement(self) -> float:
        """The share of units with different choices, as the model-soups paper and DiWA count it."""
        return self.different / self.num_units

    @property
    def overlap(self) -> float | None:
        """The share of errors in common, |E_a & E_b| / |E_a | E_b| (Jaccard); None where neither errs."""
        errors = self.only_a + self.only_b + self.both_wrong
        return self.both_wrong / errors if errors else None

    @property
    def expected_overlap(self) -> float | None:
        """The overlap of models that err as often, but independently: e_a e_b / (e_a + e_b - e_a e_b)."""
        a, b = ((only + self.both_wrong) / self.num_units for only in (self.only_b, self.only_a))
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
    scores = list(kitchen.scores.each([(mixture, split, "average") for mixture in singles(names)], progress))
    values = tuple(score.whole(kitchen.objective) for score in scores)
    outcomes = [score.outcomes for score in scores if score.outcomes is not None]
    return answers_of(kitchen.task, split, names, values, outcomes)


def answers_of(
    task: Task, split: str, names: Sequence[str], values: Sequence[float | None], outcomes: Sequence[Outcomes]
) -> Answers:
    """What a task says of the outcomes of several models."""
    wrong = [found for one in outcomes if (found := task.wrong(one)) is not None]
    choices = [chosen for one in outcomes if (chosen := task.choices(one)) is not None]
    return Answers(
        split,
        tuple(names),
        tuple(values),
        np.stack(wrong or badly(task, outcomes)),
        np.stack(choices) if choices else None,
        None if choices else np.stack([task.errors(one) for one in outcomes]),
    )


def badly(task: Task, outcomes: Sequence[Outcomes]) -> list[NDArray[np.bool_]]:
    """Of each model the units that it answers worse than three quarters of all answers of all models are."""
    hardness = [task.hardness(one) for one in outcomes]
    bound = np.quantile(np.nan_to_num(np.concatenate(hardness)), BADLY)
    return [one > bound for one in hardness]


def pairs_of(answers: Answers) -> list[Pair]:
    """Every pair once, in the order of the names."""
    wrong = answers.wrong.astype(np.float64)
    both = np.rint(wrong @ wrong.T).astype(np.int64)
    alone, number = np.diagonal(both), answers.wrong.shape[1]
    related = None if answers.errors is None else _correlations(answers.errors)
    found = []
    for i, a in enumerate(answers.names):
        for j, b in enumerate(answers.names[i + 1 :], start=i + 1):
            both_wrong, only_a, only_b = int(both[i, j]), int(alone[j] - both[i, j]), int(alone[i] - both[i, j])
            both_right = number - both_wrong - only_a - only_b
            unlike, same_wrong = only_a + only_b, None
            if answers.choices is not None:
                unlike = int((answers.choices[i] != answers.choices[j]).any(axis=1).sum())
                # Who agrees is right with the other, or wrong in the same way.
                same_wrong = number - unlike - both_right
            related_as = None if related is None or np.isnan(related[i, j]) else float(related[i, j])
            value_a, value_b = answers.values[i], answers.values[j]
            found.append(
                Pair(a, b, value_a, value_b, both_right, only_a, only_b, both_wrong, same_wrong, unlike, related_as)
            )
    return found


def _correlations(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's, of every two models, over the units of which all have a finite answer; shape (n, n)."""
    flat = errors.reshape(len(errors), -1)
    flat = flat[:, np.isfinite(flat).all(axis=0)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.atleast_2d(np.corrcoef(flat)) if flat.shape[1] > 1 else np.full((len(errors),) * 2, np.nan)


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
    aggregation: str = "average",
    *,
    progress: Progress = quiet,
    on_score: Callable[[Names, float | None], None] = lambda _names, _value: None,
) -> dict[Names, float | None]:
    """The objective of each midpoint: one evaluation for each that was not scored before.

    Args:
        on_score: told each value as soon as it is there; None where it is not finite.
    """
    found: dict[Names, float | None] = {}
    wanted = [(mixture, split, aggregation) for mixture in mixes.values()]
    for names, score in zip(mixes, kitchen.scores.each(wanted, progress), strict=True):
        found[names] = score.whole(kitchen.objective)
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
    on_score: Callable[[Names, float | None], None] = lambda _names, _value: None,
) -> dict[Names, float | None]:
    """The objective of the ensemble of each pair, from the answers of each ingredient; of a task that has ensembles."""
    labels = kitchen.splits.load(split).labels
    logits = {
        name: kitchen.scores.logits(((name, 1.0),), split, progress=part_of(progress, index, 2 * len(names)))
        for index, name in enumerate(names)
    }
    pairs = list(itertools.combinations(names, 2))
    found: dict[Names, float | None] = {}
    targets = kitchen.task.targets(labels)
    for index, (a, b) in enumerate(pairs):
        together = kitchen.task.averaged([logits[a], logits[b]], [0.5, 0.5], kitchen.task.outputs[0])
        value = kitchen.objective.value(Outcomes.of(judged(kitchen.task, together, labels, split), targets))
        found[a, b] = None if value is None else float(value)
        on_score((a, b), found[a, b])
        progress(len(pairs) + index + 1, 2 * len(pairs), f"asking {a} and {b} together")
    return found


@dataclass(frozen=True, slots=True)
class Gain:
    """A pair, and the objective of what was made of the two: of their midpoint, or of their ensemble.

    gain: by how much it is better than the two are on average; an error that falls is a gain.
    Source:
        Rame et al. 2022 (arXiv 2205.09739), figure 1: the gain of averaged weights over the mean of the two.
    """

    pair: Pair
    value: float
    gain: float


def gains(pairs: Sequence[Pair], values: Mapping[Names, float | None], metric: Metric) -> list[Gain]:
    """The pairs of which that is known."""
    found = []
    for pair in pairs:
        value, mean = values.get(pair.names), pair.mean_value
        if value is not None and mean is not None:
            found.append(Gain(pair, value, value - mean if metric.higher_is_better else mean - value))
    return found
