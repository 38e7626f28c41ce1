"""Where models err apart: the errors that pairs have in common."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from soupviz.kitchen import Kitchen
from soupviz.types import Coefficients, Progress, quiet

Names = tuple[str, str]
"""A pair, in the order of the kitchen."""


BADLY = 0.75
"""Where answers are neither right nor wrong: those beyond this quantile of all models' are bad ones."""

AT_ONCE = 2**14
"""Units that are counted together, which float32 counts exactly."""


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
    """The answers of ingredients; what was not scored before is scored.

    Of each model no more is held than what is asked here: a hundred models' outcomes may be large.
    """
    task = kitchen.task
    values: list[float | None] = []
    wrong, choices, errors, hardness = [], [], [], []
    for score in kitchen.scores.each([(mixture, split, "average") for mixture in singles(names)], progress):
        values.append(score.whole(kitchen.objective))
        outcomes = score.outcomes
        assert outcomes is not None  # ingredients are scored whole
        if (found := task.wrong(outcomes)) is None:
            hardness.append(task.hardness(outcomes))
        else:
            wrong.append(found)
        if (chosen := task.choices(outcomes)) is None:
            errors.append(task.errors(outcomes))
        else:
            choices.append(chosen)
    return Answers(
        split,
        tuple(names),
        tuple(values),
        np.stack(wrong or _badly(hardness)),
        np.stack(choices) if choices else None,
        np.stack(errors) if errors else None,
    )


def _badly(hardness: Sequence[NDArray[np.float64]]) -> list[NDArray[np.bool_]]:
    """Of each model the units that it answers worse than three quarters of all answers of all models are."""
    bound = np.quantile(np.nan_to_num(np.concatenate(hardness)), BADLY)
    return [one > bound for one in hardness]


def pairs_of(answers: Answers) -> list[Pair]:
    """Every pair once, in the order of the names."""
    both = _both(answers.wrong)
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


def _both(wrong: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Of every two models, how many units both answer wrong; shape (n, n)."""
    found = np.zeros((len(wrong),) * 2, np.int64)
    for start in range(0, wrong.shape[1], AT_ONCE):
        part = wrong[:, start : start + AT_ONCE].astype(np.float32)
        found += np.rint(part @ part.T).astype(np.int64)
    return found


def _correlations(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's, of every two models, over the units of which all have a finite answer; shape (n, n)."""
    flat = errors.reshape(len(errors), -1)
    flat = flat[:, np.isfinite(flat).all(axis=0)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.atleast_2d(np.corrcoef(flat)) if flat.shape[1] > 1 else np.full((len(errors),) * 2, np.nan)
