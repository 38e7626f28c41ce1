"""MLflow: a run of an experiment, on a server or in a database of its own."""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from soupviz.tracking.tracked import CURVE, Tracked

NAME = re.compile(r"[^\w\-. :/]")
"""What MLflow does not take in names."""

AT_ONCE = 100
"""Parameters that one call takes; of metrics it takes more."""


def write(run: Tracked, place: str) -> str:
    """Log a soup.

    Args:
        place: a tracking server's address, or a folder, which gets a database; empty: as MLflow itself is told.
    Source:
        https://mlflow.org/docs/latest/api_reference/python_api/mlflow.client.html
    """
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    uri, artifacts = _where(place)
    client: Any = MlflowClient(tracking_uri=uri)
    found = client.get_experiment_by_name(run.project)
    experiment = found.experiment_id if found else client.create_experiment(run.project, artifact_location=artifacts)
    now = int(time.time() * 1000)
    made = client.create_run(experiment, run_name=run.name)
    number = made.info.run_id
    parameters = [Param(name, str(value)) for name, value in _named(run.parameters.items())]
    for some in _batches(parameters):
        client.log_batch(number, params=some)
    metrics = [Metric(name, value, now, 0) for name, value in _named(run.metrics.items())]
    for index, step in enumerate([*run.steps]):
        metrics += [Metric(name, value, now, index) for name, value in _named(step.items())]
    for point in run.curve:  # a step is a whole number: alpha in thousandths
        at = round(1000 * point[f"{CURVE}/alpha"])
        metrics += [Metric(name, value, now, at) for name, value in _named(point.items())]
    for some in _batches(metrics):
        client.log_batch(number, metrics=some)
    client.log_batch(number, tags=[RunTag("soupviz.verdict", run.sentence), RunTag("soupviz.key", run.key)])
    for file in run.files:
        client.log_artifact(number, str(file))
    client.set_terminated(number)
    return f"run {number} of {run.project!r}, {uri or 'where MLflow is told to'}"


def _where(place: str) -> tuple[str | None, str | None]:
    """The address, and where artifacts lie if it is a folder of ours."""
    if not place or ":" in place or place == "databricks":
        return place or None, None
    folder = Path(place).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()


def _named(items: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Pairs with names that MLflow takes, each once."""
    seen: dict[str, int] = {}
    for name, value in items:
        plain = NAME.sub("_", name)
        seen[plain] = seen.get(plain, 0) + 1
        yield (plain if seen[plain] == 1 else f"{plain}_{seen[plain]}"), value


def _batches(items: Sequence[Any]) -> Iterator[list[Any]]:
    rest = iter(items)
    while some := list(islice(rest, AT_ONCE)):
        yield some
