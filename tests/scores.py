"""Scores, bounds and decisions of classifiers by hand, made by the code that makes real ones."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from soupviz.recipes.trajectory import Step
from soupviz.tasks.classes.class_metrics import ACCURACY
from soupviz.tasks.classes.classification import Classification
from soupviz.tasks.judging import score_of
from soupviz.tasks.metric import Metric
from soupviz.tasks.objective import Objective
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.regression import RMSE, Regression
from soupviz.tasks.score import Bound, Score
from soupviz.tasks.task import Task
from soupviz.types import Coefficients

CLASSIFICATION = Classification()
BY_ACCURACY = Objective(ACCURACY)


def of_labels(labels: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
    return {"label": np.asarray(labels, dtype=np.int64)}


def some_outcomes(
    right: ArrayLike | None = None,
    *,
    labels: ArrayLike | None = None,
    predictions: ArrayLike | None = None,
    losses: ArrayLike = 0.0,
    margins: ArrayLike = 1.0,
    confidences: ArrayLike = 1.0,
    scored: ArrayLike = True,
) -> Outcomes:
    """Of a classifier: which examples are right, or its predictions, -1 where an answer is not finite.

    Args:
        right: default: where the prediction is the label. labels: default: 0 everywhere. predictions: default: the
            label, or the class after it where that is wrong; -1 where a loss is not finite.
    """
    number = len(np.asarray(predictions if right is None else right))
    label = np.zeros(number, dtype=np.int64) if labels is None else np.asarray(labels, dtype=np.int64)
    loss = np.broadcast_to(np.asarray(losses, dtype=np.float32), number).copy()
    if predictions is None:
        told = np.where(np.asarray(right, dtype=np.bool_), label, label + 1)
        told = np.where(np.isfinite(loss), told, -1)
    else:
        told = np.asarray(predictions)
    hits = told == label if right is None else np.asarray(right, dtype=np.bool_)
    finite = told >= 0
    columns = {
        "finite": finite,
        "right": hits,
        "prediction": told.astype(np.int32),
        "loss": np.where(finite, loss, np.float32(np.nan)),
        "margin": np.where(finite, np.broadcast_to(np.asarray(margins, dtype=np.float32), number), np.float32(np.inf)),
        "confidence": np.where(
            finite, np.broadcast_to(np.asarray(confidences, dtype=np.float32), number), np.float32(np.nan)
        ),
    }
    return Outcomes(np.broadcast_to(np.asarray(scored, dtype=np.bool_), number).copy(), of_labels(label), columns)


def judged(
    outcomes: Outcomes, split: str = "held_out", *, width: int | None = None, task: Task = CLASSIFICATION,
    objective: Metric = ACCURACY, precision: str = "float32", device: str = "cpu",
) -> Score:  # fmt: skip
    """What a task says of outcomes. width: of the head; default: the classes that occur, at least two."""
    if width is None:
        width = 1 + max(1, *(int(outcomes[name].max()) for name in ("label", "prediction")))
    return score_of(task, objective, split, outcomes, width, precision, device)


def a_score(
    right: ArrayLike | None = None, split: str = "held_out", *, width: int | None = None, **columns: Any
) -> Score:
    """A classifier's score on a split; the columns are those of `some_outcomes`."""
    return judged(some_outcomes(right, **columns), split, width=width)


def counted(right: int, num_examples: int = 100, split: str = "held_out", **columns: Any) -> Score:
    """A score with so many examples right, the first ones."""
    return a_score(np.arange(num_examples) < right, split, **columns)


def a_bound(num_examples: int, num_scored: int, num_wrong: int, split: str = "held_out") -> Bound:
    """What was given up after so many examples, of which so many were wrong."""
    positions = np.arange(num_examples)
    found = some_outcomes(positions >= num_wrong, scored=positions < num_scored)
    possible = {metric.name: metric.bound(found) for metric in CLASSIFICATION.metrics}
    return Bound(split, num_examples, found, possible)


def a_step(
    step: int, ingredient: str, accuracy: float | None, best: float, accepted: bool, *, num_scored: int = 100,
    num_units: int = 100, at_most: float | None = None, mix: Coefficients | None = None,
) -> Step:  # fmt: skip
    """A decision by accuracy. accuracy: None where scoring stopped early. at_most: default: the accuracy."""
    bound = accuracy if at_most is None else at_most
    return Step(
        step, ingredient, accuracy, best, accepted, num_scored, num_units, bound,
        {"accuracy": bound}, {"accuracy": best}, mix,
    )  # fmt: skip


def a_regression(errors: Sequence[float], split: str = "held_out") -> Score:
    """A score of a regression with these errors, one number for each unit; the targets are 0, 1, 2, ..."""
    found = np.array(errors, dtype=np.float64)[:, None]
    columns = {"finite": np.isfinite(found[:, 0]), "squared": found**2, "absolute": np.abs(found)}
    target = np.arange(len(errors), dtype=np.float64)[:, None]
    outcomes = Outcomes.of(columns, {"target": target, "target_squared": target**2})
    return judged(outcomes, split, task=Regression(), objective=RMSE, width=1)
