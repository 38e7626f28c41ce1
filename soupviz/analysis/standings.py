"""Models by what the harness logged of each document: a metric, its interval, and each model against a rival."""

from dataclasses import dataclass

from soupviz.analysis.samples import Column
from soupviz.tasks.figures import interval
from soupviz.tasks.metric import Metric
from soupviz.tasks.paired import Compared, compare_many
from soupviz.tasks.task import Task


@dataclass(frozen=True, slots=True)
class Standing:
    """A model under one metric, and against a rival on the same documents; None for the rival itself."""

    model: str
    value: float | None
    between: tuple[float, float] | None
    compared: Compared | None


class Logged(Task):
    """The documents of a task of the harness, judged by one metric."""

    unit = "document"

    def __init__(self, metric: Metric) -> None:
        self.metrics = (metric,)


def standings(column: Column, rival: str) -> list[Standing]:
    """Every model under a metric, the best first, with what a test says of it and the rival, Holm-corrected."""
    task = Logged(column.metric)
    scores = {model: column.score(model) for model in column.outcomes}
    others = {model: score for model, score in scores.items() if model != rival}
    compared = compare_many(task, column.metric, scores[rival], others)
    sign = -1 if column.metric.higher_is_better else 1
    order = sorted(scores, key=lambda model: sign * (column.value(model) or 0.0))
    return [
        Standing(model, column.value(model), interval(column.metric, scores[model]), compared.get(model))
        for model in order
    ]
