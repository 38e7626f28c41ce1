"""From a model's answers to outcomes, and from outcomes to a score."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from soupviz.errors import DataError
from soupviz.models.usercode import guarded
from soupviz.tasks.metric import Metric, others_of
from soupviz.tasks.outcomes import FINITE, Column, Outcomes
from soupviz.tasks.score import Score
from soupviz.tasks.task import Task


def judged(task: Task, answers: Tensor, labels: Tensor, split: str) -> Mapping[str, Column]:
    """What a task says of some units of a split, checked: a row for each, and whether its answer is finite.

    Raises:
        DataError: labels that do not go with the answers, or columns that do not go with the units.
    """
    try:
        # A bug of soupviz's own is not the data's.
        own = guarded(lambda told: DataError(f"the task {task.name} failed with {told}"))
        with own if task.source else nullcontext():
            columns = dict(task.outcomes(answers, labels))
    except DataError as error:
        raise DataError(f"data.{split}: {error}") from None
    columns.setdefault(FINITE, np.ones(len(labels), dtype=np.bool_))
    for name, values in columns.items():
        if len(values) != len(labels):
            raise DataError(
                f"data.{split}: {task.name} gave {len(values)} rows of {name!r} for {len(labels)} units; expected one "
                "for each."
            )
    return columns


def score_of(
    task: Task, objective: Metric, split: str, outcomes: Outcomes, width: int, precision: str, device: str
) -> Score:
    """All that a task's metrics say of outcomes.

    Args:
        objective: of the kitchen; it comes first. width: how many numbers the model says of each unit.
    """
    metrics = [objective, *others_of(task.metrics, objective)]
    facts = task.facts(outcomes, width)
    return Score(
        split=split,
        num_units=len(outcomes),
        values={metric.name: metric.value(outcomes) for metric in metrics},
        num_nonfinite=outcomes.num_nonfinite,
        num_close=facts.get("num_close"),
        precision=precision,
        device=device,
        facts={name: value for name, value in facts.items() if name != "num_close"},
        outcomes=outcomes,
    )


def lacking(task: Task, values: Mapping[str, Any]) -> list[Metric]:
    """The metrics that a kept score's values say nothing of: the task has had them only since."""
    return [metric for metric in task.metrics if metric.name not in values]


def completed(task: Task, score: Score) -> Score:
    """A kept score with the metrics that it lacks, where its outcomes are there to compute them from."""
    if score.outcomes is None:
        return score
    added = {metric.name: metric.value(score.outcomes) for metric in lacking(task, score.values)}
    return replace(score, values=dict(score.values) | added) if added else score
