"""A metric: a name, a unit, a direction, and a value that is computed from outcomes."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from soupviz.errors import DataError
from soupviz.models.usercode import guarded
from soupviz.tasks.outcomes import ANSWER, FINITE, LABEL, Column, Outcomes

Value = Fraction | float
Weights = NDArray[np.float64]
"""How often each unit counts in each of several resamples, shape (num_resamples, num_units)."""


class Metric(Protocol):
    """What search, statistics, charts and pages know of a score.

    label: in words. unit: what a value is shown in: "%" (of a share), "nats", "" for none. judges_nonfinite: whether a
    unit without a finite answer already counts as badly as any can; under other metrics a mix with such units is worse
    than every mix without.
    """

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def unit(self) -> str: ...
    @property
    def higher_is_better(self) -> bool: ...
    @property
    def judges_nonfinite(self) -> bool: ...

    def value(self, outcomes: Outcomes) -> Value | None:
        """Over all units: exact where columns are integers, else a float that no order of the units changes.

        None where it says nothing: of no unit that counts, or of columns that the task does not keep here.
        """

    def values(self, outcomes: Outcomes, weights: Weights) -> NDArray[np.float64]:
        """Of resamples, shape (num_resamples,)."""

    def bound(self, outcomes: Outcomes) -> Value | None:
        """The value if every unit that is not scored yet were perfect; None: no bound is known."""

    def ties(self) -> float:
        """Values no further apart than this are the same; 0 for exact ones."""


def others_of(metrics: Iterable[Metric], objective: Metric) -> list[Metric]:
    """The metrics of a task beside the objective, in the task's order."""
    return [metric for metric in metrics if metric.name != objective.name]


def has_bound(metric: Metric) -> bool:
    """Whether candidates may be given up before they are scored whole. A metric of the user's own need not say so."""
    return bool(getattr(metric, "has_bound", True))


def has_scale(metric: Metric) -> bool:
    """Whether a difference means the same in every kitchen: of shares, and of nats, which are logarithms of chances.

    Other metrics are in what the labels are measured in, and grow with them. One that is a share but not shown as one
    says so for itself.
    """
    return metric.unit in ("%", "nats") or bool(getattr(metric, "has_scale", False))


@dataclass(frozen=True, slots=True)
class SumMetric:
    """A metric that is a function of sums over units: a share, a mean, the ratio of a corpus, an F1 of counts.

    columns: names of outcomes' columns or targets. of: the value, from the columns' sums in that order and then the
    number of units, in arithmetic that numbers and arrays of resamples share. perfect: what the columns of a perfect
    unit hold: a number, or the name of the target that says it; those not named are targets themselves. band: of
    `ties`. is_share: whether it is the share of units that are right, of one column of True and False: what is known
    exactly of such shares then counts.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool
    columns: tuple[str, ...]
    of: Callable[..., Any]
    perfect: Mapping[str, float | str] = field(default_factory=dict)
    band: float = 0.0
    judges_nonfinite: bool = False
    is_share: bool = False

    def value(self, outcomes: Outcomes) -> Value | None:
        if not all(name in outcomes for name in self.columns):
            return None
        return self._of_sums([exact_sum(outcomes[name]) for name in self.columns], len(outcomes))

    def values(self, outcomes: Outcomes, weights: Weights) -> NDArray[np.float64]:
        return self.of_sums([weights @ term for term in self.terms(outcomes)], weights.sum(axis=-1))

    def terms(self, outcomes: Outcomes) -> list[NDArray[np.float64]]:
        """What is summed, of each unit; what is not finite counts as 0."""
        return [np.nan_to_num(outcomes[name].astype(np.float64)) for name in self.columns]

    def of_sums(self, sums: Sequence[NDArray[np.float64]], number: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of resamples, from the terms' sums in each and how many units there are in it."""
        with np.errstate(divide="ignore", invalid="ignore"):
            found: NDArray[np.float64] = np.asarray(self.of(*sums, number), dtype=np.float64)
        return found

    def bound(self, outcomes: Outcomes) -> Value | None:
        there = (name in (outcomes.columns if name in self.perfect else outcomes.targets) for name in self.columns)
        if not outcomes.num_scored or not all(there):
            return None
        return self._of_sums([self._at_best(outcomes, name) for name in self.columns], len(outcomes))

    def _at_best(self, outcomes: Outcomes, name: str) -> Any:
        waiting = ~outcomes.scored
        if name not in self.perfect:
            return exact_sum(outcomes.targets[name])
        seen, best = exact_sum(outcomes[name][outcomes.scored]), self.perfect[name]
        return seen + (
            exact_sum(outcomes.targets[best][waiting]) if isinstance(best, str) else Fraction(best) * int(waiting.sum())
        )

    def _of_sums(self, sums: list[Any], num_units: int) -> Value | None:
        try:
            with np.errstate(divide="ignore", invalid="ignore"):
                found = self.of(*sums, Fraction(num_units))
        except ZeroDivisionError:
            return None
        if isinstance(found, Fraction):
            return found
        return float(found) if math.isfinite(found) else None

    def ties(self) -> float:
        return self.band


@dataclass(frozen=True, slots=True)
class NumberMetric:
    """One number from all answers and labels, by a function of the user's own that nothing is known of.

    It has no bound, so every candidate is scored whole; resamples repeat rows, each a call of the function, so there
    are fewer of them and p-values are coarser. The task keeps the answers themselves, as `Task.outcomes` does unless
    it says otherwise. Only units with a finite answer are given to the function.

    function: of answers, shape (num_units, ...), and labels, both as arrays. band: of `ties`. draws: resamples at most.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool
    function: Callable[[NDArray[Any], NDArray[Any]], float]
    band: float = 1e-9
    draws: int = 500
    judges_nonfinite: bool = False
    has_bound: ClassVar[bool] = False

    def value(self, outcomes: Outcomes) -> Value | None:
        found = self._of_rows(outcomes, np.arange(len(outcomes))) if outcomes.is_whole else math.nan
        return found if math.isfinite(found) else None

    def values(self, outcomes: Outcomes, weights: Weights) -> NDArray[np.float64]:
        rows = np.arange(len(outcomes))
        return np.array([self._of_rows(outcomes, np.repeat(rows, np.rint(row).astype(np.int64))) for row in weights])

    def _of_rows(self, outcomes: Outcomes, rows: NDArray[np.int64]) -> float:
        rows = rows[outcomes[FINITE][rows]]
        if not len(rows):
            return math.nan
        with guarded(lambda told: DataError(f"the metric {self.name!r} failed on {len(rows)} units with {told}")):
            return float(self.function(outcomes[ANSWER][rows], outcomes[LABEL][rows]))

    def bound(self, outcomes: Outcomes) -> Value | None:
        return None

    def ties(self) -> float:
        return self.band


def value_once(metric: Metric, outcomes: Outcomes) -> float | None:
    """The value of a metric that is no function of sums, by its `values`, each unit counted once."""
    found = float(metric.values(outcomes, np.ones((1, len(outcomes))))[0])
    return None if math.isnan(found) else found


def exact_sum(column: Column) -> Any:
    """The sum over units, so that no order of them changes it: a Fraction of integers, else rounded once.

    What is not finite counts as 0. Of a column of shape (num_units, k) an array of k sums.
    """
    if column.ndim > 1:
        return np.array([exact_sum(column[:, index]) for index in range(column.shape[1])])
    if column.dtype.kind in "biu":
        return Fraction(int(column.sum(dtype=np.int64)))
    return math.fsum(np.nan_to_num(column, nan=0.0, posinf=0.0, neginf=0.0).tolist())


def badness(metric: SumMetric, outcomes: Outcomes) -> NDArray[np.float64]:
    """The value of each unit alone, with the sign that makes more of it worse; infinite without a finite answer.

    A unit of which it says nothing (an utterance without words) is as bad as the mean. Zeros where the task does not
    keep what the metric needs.
    """
    if not all(name in outcomes for name in metric.columns):
        return np.zeros(len(outcomes))
    columns = [outcomes[name].astype(np.float64) for name in metric.columns]
    with np.errstate(divide="ignore", invalid="ignore"):
        alone = np.broadcast_to(np.asarray(metric.of(*columns, np.ones(len(outcomes))), np.float64), len(outcomes))
    signed = -alone if metric.higher_is_better else alone
    known = np.isfinite(signed)
    filled = np.where(np.isnan(signed), signed[known].mean() if known.any() else 0.0, signed)
    return np.where(outcomes[FINITE], filled, np.inf) if FINITE in outcomes else filled


def is_share(metric: Metric) -> bool:
    """Whether a metric is the share of units that are right: exact tests and formulas hold. One of those that are wrong
    is a mean as any other."""
    return isinstance(metric, SumMetric) and metric.is_share and metric.higher_is_better


def bound_of(metric: Metric, outcomes: Outcomes) -> Value | None:
    """A metric's bound; of what nothing is known of yet, the share of units that are right can be one, and no more."""
    if outcomes.num_scored:
        return metric.bound(outcomes)
    return Fraction(1) if is_share(metric) else None
