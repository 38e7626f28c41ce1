"""Tasks by name, and those of a user's own file."""

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from soupviz.errors import KitchenError
from soupviz.files import file_digest
from soupviz.models.building import load_function
from soupviz.models.usercode import guarded
from soupviz.tasks.boxes.detection import Detection
from soupviz.tasks.classes.classification import Classification
from soupviz.tasks.classes.multilabel import Multilabel
from soupviz.tasks.masks.segmentation import Segmentation
from soupviz.tasks.metric import Metric
from soupviz.tasks.regression import Regression
from soupviz.tasks.speech.transcription import Transcription
from soupviz.tasks.task import Task
from soupviz.tasks.text.language_model import LanguageModel
from soupviz.tasks.text.multiple_choice import MultipleChoice
from soupviz.tasks.text.token_classification import TokenClassification

KINDS = (
    Classification, Multilabel, Regression, TokenClassification, LanguageModel, MultipleChoice, Transcription,
    Detection, Segmentation,
)  # fmt: skip
TASKS: dict[str, type[Task]] = {kind.name: kind for kind in KINDS}


def find_task(name: str, parameters: Mapping[str, Any], folder: Path) -> Task:
    """A task by its name, or `file.py:Task` relative to the folder.

    Raises:
        KitchenError: no such task, other parameters than it takes, or what the file has is no task.
    """
    kind: Any = TASKS.get(name)
    is_own = kind is None
    if is_own:
        if ":" not in name:
            raise KitchenError(f"task is {name!r}; known are {', '.join(TASKS)}, and file.py:Task for one of your own.")
        kind = load_function(name, folder)
    elif unknown := sorted(parameters.keys() - set(kind.takes)):
        raise KitchenError(f"task {name} takes no {unknown[0]}; it takes {', '.join(kind.takes) or 'nothing beside'}.")
    with guarded(lambda told: KitchenError(f"task {name!r} with {dict(parameters)} failed with {told}.")):
        task = kind(**parameters) if is_own else kind.configured(parameters, folder)
    if not isinstance(task, Task):
        raise KitchenError(f"task {name!r} is {type(task).__name__}; expected a subclass of soupviz.Task.")
    if not task.metrics:
        raise KitchenError(f"task {name!r} has no metrics; give it one at least, the objective first.")
    if is_own:
        task.source = [name, dict(parameters), *_source(kind)]
    return task


def find_metric(task: Task, name: str | None) -> Metric:
    """The metric that a kitchen names, or the task's first.

    Raises:
        KitchenError: the task has no such metric.
    """
    found = [metric for metric in task.metrics if name in (None, metric.name)]
    if not found:
        known = ", ".join(metric.name for metric in task.metrics)
        raise KitchenError(f"metric is {name!r}, which {task.name} does not have; known are {known}.")
    return found[0]


def _source(kind: Any) -> list[str]:
    """The digest of the file that defines a user's own task; of one that is defined in none, its module's name."""
    try:
        return [file_digest(Path(inspect.getfile(kind)))]
    except (TypeError, OSError):
        return [str(getattr(kind, "__module__", ""))]
