"""What the language model evaluation harness logs of each document (`--log_samples`), as scores that can be compared.

It writes a folder for each model, and in it `samples_TASK_DATE.jsonl` for each task of a run: a line for each document
and filter, with the values of the metrics. The harness compares models as if each had seen documents of its own; here
two models are compared document by document.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soupviz.data.classes import named
from soupviz.errors import DataError
from soupviz.plain_data import json_of
from soupviz.tasks.metric import SumMetric
from soupviz.tasks.outcomes import FINITE, Outcomes
from soupviz.tasks.score import Score
from soupviz.weights.names import short_names

LOGGED = re.compile(r"samples_(?P<task>.+)_(?P<date>\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(\.\d+)?)\.jsonl")
RESULTS = re.compile(r"results_(?P<date>.+)\.json")
BESIDE = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics", "doc_hash", "prompt_hash",
    "target_hash", "schema_version",
}  # fmt: skip
"""Keys of a line that are no metrics."""


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """A metric of a task: of each model that was evaluated on it what became of each document, in one order."""

    name: str
    task: str
    metric: SumMetric
    outcomes: Mapping[str, Outcomes]

    @property
    def num_documents(self) -> int:
        return len(next(iter(self.outcomes.values())))

    def value(self, model: str) -> float | None:
        found = self.metric.value(self.outcomes[model]) if model in self.outcomes else None
        return None if found is None else float(found)

    def score(self, model: str) -> Score:
        outcomes = self.outcomes[model]
        return Score(self.task, len(outcomes), {self.metric.name: self.metric.value(outcomes)}, outcomes=outcomes)


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """What was logged. models: the folder of each, by its name. notes: what there is to tell."""

    models: Mapping[str, Path]
    columns: tuple[Column, ...]
    notes: tuple[str, ...] = ()


def is_logged(name: str) -> bool:
    """Whether a file of this name is one that the harness logs documents in."""
    return LOGGED.fullmatch(name) is not None


def sample_files(place: Path) -> list[Path]:
    """What the harness wrote into a folder, or into the folders of models in it; nothing where it is none of its."""
    found = [path for depth in ("", "*/", "*/*/") for path in place.glob(f"{depth}samples_*.jsonl")]
    logged = sorted(path for path in found if is_logged(path.name) and path.is_file())
    folders = dict.fromkeys(path.parent for path in logged)
    return [*logged, *(path for folder in folders for path in sorted(folder.glob("results_*.json")))]


def read_samples(files: Iterable[Path]) -> Samples:
    """What lies in such files, the newest of each model and task.

    Raises:
        DataError: a damaged file, or models whose documents, or whose metrics, are not the same.
    """
    given = list(files)
    newest, older = _newest([path for path in given if is_logged(path.name)])
    folders = list(dict.fromkeys(folder for folder, _ in newest))
    names = dict(zip(folders, short_names([_written_out(folder) for folder in folders]), strict=True))
    rising = _directions([path for path in given if RESULTS.fullmatch(path.name)])
    tasks: dict[str, dict[str, _File]] = {}
    for (folder, task), path in newest.items():
        tasks.setdefault(task, {})[names[folder]] = _read(path)
    columns, notes = [], [f"{older} older files of the same tasks are passed over."] if older else []
    for task, of_models in sorted(tasks.items()):
        found, told = _columns(task, of_models, rising.get(task, {}))
        columns += found
        notes += told
    return Samples({name: folder for folder, name in names.items()}, tuple(columns), tuple(notes))


@dataclass(frozen=True, slots=True)
class _File:
    """values: by filter and metric, then by document. hashes: of each document's content and of its prompt."""

    path: Path
    values: Mapping[tuple[str, str], Mapping[str, float]]
    hashes: Mapping[str, tuple[Any, Any]]
    left_out: frozenset[str]


def _newest(files: Sequence[Path]) -> tuple[dict[tuple[Path, str], Path], int]:
    """By folder and task, and how many are older."""
    dated = sorted((str(LOGGED.fullmatch(path.name)["date"]), path) for path in files)  # type: ignore[index]
    found = {(path.parent, str(LOGGED.fullmatch(path.name)["task"])): path for _, path in dated}  # type: ignore[index]
    return dict(sorted(found.items())), len(files) - len(found)


def _written_out(folder: Path) -> Path:
    """Of a model's folder: the harness writes the model's own path as one name, with __ between."""
    return Path(folder.parent, *filter(None, folder.name.split("__")))


def _directions(files: Sequence[Path]) -> dict[str, dict[str, bool]]:
    """By task and metric whether more is better, as the results beside the samples say."""
    found: dict[str, dict[str, bool]] = {}
    for path in files:
        try:
            told = json_of(path.read_text(encoding="utf-8")).get("higher_is_better", {})
            for task, of_metrics in told.items():
                found.setdefault(task, {}).update({name: one for name, one in of_metrics.items() if one is not None})
        except (OSError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: expected the results that the harness writes beside samples: {error}.") from None
    return found


def _read(path: Path) -> _File:
    values: dict[tuple[str, str], dict[str, float]] = {}
    hashes: dict[str, tuple[Any, Any]] = {}
    left_out: set[str] = set()
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            row = _row(where, line)
            document, kept = str(row["doc_id"]), str(row.get("filter", ""))
            hashes[document] = row.get("doc_hash"), row.get("prompt_hash")
            for name in row.get("metrics") or row.keys() - BESIDE:
                value = row.get(name)
                if not isinstance(value, (bool, int, float)):
                    left_out.add(str(name))
                    continue
                column = values.setdefault((kept, name), {})
                if document in column:
                    raise DataError(f"{where} has document {document} again; expected one line for each and filter.")
                column[document] = float(value)
    if not values:
        raise DataError(f"{path}: no document with the value of a metric; expected what lm_eval --log_samples writes.")
    return _File(path, values, hashes, frozenset(left_out - {name for _, name in values}))


def _row(where: str, line: str) -> dict[str, Any]:
    try:
        row = json_of(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: this is not JSON ({error}).") from None
    if not isinstance(row, dict) or "doc_id" not in row:
        raise DataError(f"{where} has no doc_id; expected what lm_eval --log_samples writes.")
    return row


def _columns(task: str, files: Mapping[str, _File], rising: Mapping[str, bool]) -> tuple[list[Column], list[str]]:
    """The metrics of a task that all its models have, and what there is to tell."""
    (first, one), *others = files.items()
    for model, other in others:
        _check_same(task, (first, one), (model, other))
    shared = [key for key in one.values if all(key in other.values for _, other in others)]
    if not shared:
        told = "; ".join(
            f"{model} has {named(sorted({name for _, name in file.values}))}" for model, file in files.items()
        )
        raise DataError(
            f"{task}: no metric is there of every model: {told}. Evaluate all with the same version of the task."
        )
    several = len({kept for kept, _ in shared}) > 1
    columns = []
    for kept, name in shared:
        documents = list(one.values[kept, name])
        found = {
            model: np.array([file.values[kept, name][document] for document in documents])
            for model, file in files.items()
        }
        columns.append(_column(task, name, f" ({kept})" if several else "", found, rising.get(name, True)))
    prompts = {tuple(prompt for _, prompt in file.hashes.values()) for file in files.values()}
    notes = (
        [f"{task}: the prompts differ between models (few-shot examples, or a chat template)."]
        if len(prompts) > 1
        else []
    )
    if left := sorted(frozenset().union(*(file.left_out for file in files.values()))):
        notes.append(f"{task}: {named(left)}: no number of one document, left out.")
    return columns, notes


def _check_same(task: str, one: tuple[str, _File], other: tuple[str, _File]) -> None:
    """Refuse models that were not evaluated on the same documents.

    Raises:
        DataError: naming both, and a document.
    """
    (first, known), (second, found) = one, other
    if known.hashes.keys() != found.hashes.keys():
        only = [document for document in known.hashes if document not in found.hashes] or [
            document for document in found.hashes if document not in known.hashes
        ]
        raise DataError(
            f"{task}: {first} has {len(known.hashes)} documents and {second} {len(found.hashes)}; document {only[0]} "
            "is of one alone. Evaluate both with the same --limit, or put one of them aside."
        )
    for document, (content, _) in known.hashes.items():
        if content != found.hashes[document][0]:
            raise DataError(
                f"{task}: document {document} of {first} is another one than of {second} (doc_hash); expected the same "
                "version of the data for both."
            )
    for key, values in known.values.items():
        if key in found.values and values.keys() != found.values[key].keys():
            raise DataError(f"{task}: {key[1]} of {first} and of {second} are not of the same documents.")


def _column(task: str, name: str, of: str, found: Mapping[str, np.ndarray], is_rising: bool) -> Column:
    """Right and wrong where all values are 0 or 1; else numbers, which are averaged."""
    every = np.concatenate(list(found.values()))
    finite = every[np.isfinite(every)]
    is_share = bool(np.isin(every, (0.0, 1.0)).all()) and is_rising
    unit = "%" if len(finite) and finite.min() >= 0 and finite.max() <= 1 else ""
    metric = SumMetric(
        name, name, unit, is_rising, ("value",), lambda value, number: value / number, {"value": 1} if is_share else {},
        band=0.0 if is_share else 1e-9, is_share=is_share,
    )  # fmt: skip
    outcomes = {
        model: Outcomes.of({"value": values == 1 if is_share else values, FINITE: np.isfinite(values)})
        for model, values in found.items()
    }
    return Column(f"{task} {name}{of}", task, metric, outcomes)
