"""Scores as a table: a row for each ingredient."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from soupviz.tasks.score import Score
from soupviz.tasks.task import Task
from soupviz.weights.metadata import as_number

if TYPE_CHECKING:
    import pandas as pd


def table_of(scores: Mapping[str, Score], task: Task, metadata: Mapping[str, Mapping[str, Any]]) -> "pd.DataFrame":
    """Name and metrics, the kitchen's first; then metadata; then what else the task tells of a score.

    A terminal leaves out columns in the middle, where metadata is, whose names may be long.

    Args:
        scores: of ingredients by name, at least one. metadata: of each; what is called as a score's own is left out.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for name, score in scores.items():
        told = {"split": score.split} | dict(task.row(score))
        first = {"ingredient": name} | {metric: told[metric] for metric in score.values if metric in told}
        last = {key: value for key, value in told.items() if key not in first}
        rows.append({key: as_number(value) for key, value in metadata[name].items()} | first | last)
    table = pd.DataFrame(rows)
    between = table.columns.difference([*first, *last], sort=False)
    return table[[*first, *between, *last]]
