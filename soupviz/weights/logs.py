"""What training frameworks logged of a checkpoint: learning rate, step, epoch and scores, in the log's own names.

Each reader takes the folder of a run, and what is known of the checkpoint by its name and its own values; it gives an
empty mapping where the folder is not its framework's.
"""

import csv
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from soupviz.errors import CheckpointError
from soupviz.weights.inert import plain, read_json, read_pickle, read_yaml
from soupviz.weights.names import counters_in
from soupviz.weights.tables import encoding_of, separator_of

EMA_MARK = " (EMA)"
"""Behind the name of a score that is not of the file's raw weights, but of their moving average."""
GIVEN = "given "
"""Before the name of a setting that a log also tells as it was at each epoch."""

TIMM_SETTINGS = ("opt", "weight_decay", "batch_size", "epochs", "seed", "smoothing", "mixup", "cutmix", "drop_path")
TRAINER_SETTINGS = (
    "weight_decay", "per_device_train_batch_size", "num_train_epochs", "seed", "warmup_steps", "lr_scheduler_type",
    "label_smoothing_factor",
)  # fmt: skip
ULTRALYTICS_SETTINGS = ("optimizer", "lr0", "lrf", "weight_decay", "batch", "epochs", "seed", "imgsz", "dropout")


def timm(folder: Path, name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Of args.yaml and summary.csv, whose scores are those of the moving average where the run kept one."""
    settings = _yaml(folder / "args.yaml")
    if "model" not in settings or "checkpoint_hist" not in settings:
        return {}
    found = {key: settings[key] for key in TIMM_SETTINGS if settings.get(key) is not None}
    if settings.get("lr") is not None:
        found[f"{GIVEN}lr"] = settings["lr"]
    epoch = counters_in(name).get("checkpoint")
    row = _row_of(folder / "summary.csv", "epoch", known.get("epoch") if epoch is None else epoch)
    mark = EMA_MARK if settings.get("model_ema") else ""
    return found | {f"{key}{mark}" if key.startswith("eval_") else key: value for key, value in row.items()}


def trainer(folder: Path, _name: str, _known: Mapping[str, Any]) -> dict[str, Any]:
    """Of trainer_state.json, and of the part of training_args.bin that can be read without running it."""
    state_file = folder / "trainer_state.json"
    if not state_file.is_file():
        return {}
    state = _state(state_file)
    step, history = state.get("global_step"), state.get("log_history")
    found = plain({"step": step, "epoch": state.get("epoch")})
    for entry in history if isinstance(history, list) else ():
        if isinstance(entry, dict) and entry.get("step") == step:
            found |= {key: value for key, value in plain(entry).items() if key.startswith("eval_")}
        if isinstance(entry, dict) and "learning_rate" in entry and (_number(entry.get("step")) or 0) <= (step or 0):
            found |= plain({"learning_rate": entry["learning_rate"]})
    found = {key: value for key, value in found.items() if not key.endswith(("_runtime", "_per_second"))}
    if (folder / "training_args.bin").is_file():
        settings = _pickle(folder / "training_args.bin")
        found |= {key: settings[key] for key in TRAINER_SETTINGS if key in settings}
        if "learning_rate" in settings:
            found[f"{GIVEN}learning_rate"] = settings["learning_rate"]
    return found


def lightning(folder: Path, name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Of hparams.yaml and metrics.csv; checkpoints lie beside them or in their folder `checkpoints`."""
    root = folder.parent if folder.name == "checkpoints" else folder
    table = root / "metrics.csv"
    if not table.is_file() and not (folder.name == "checkpoints" and (root / "hparams.yaml").is_file()):
        return {}
    found = plain(_yaml(root / "hparams.yaml"))
    epoch, step = counters_in(name).get("epoch"), counters_in(name).get("step")
    epoch = known.get("epoch") if epoch is None else epoch
    step = known.get("global_step") if step is None else step
    found |= {key: value for key, value in (("epoch", epoch), ("step", step)) if value is not None}
    for row in _rows_of(table):
        is_before = step is None or (_number(row.get("step")) or 0) < step  # a row's step counts from 0
        if epoch is not None and _number(row.get("epoch")) == epoch and is_before:
            found |= {key: value for key, value in row.items() if key not in ("epoch", "step")}
    return found


def ultralytics(folder: Path, name: str, known: Mapping[str, Any]) -> dict[str, Any]:
    """Of args.yaml and results.csv, which counts epochs from 1; `epoch7.pt` counts them from 0."""
    root = folder.parent if folder.name == "weights" else folder
    settings, table = _yaml(root / "args.yaml"), root / "results.csv"
    if "task" not in settings or not table.is_file():
        return {}
    found = {key: settings[key] for key in ULTRALYTICS_SETTINGS if settings.get(key) is not None}
    rows = _rows_of(table)
    stem, number = name.partition(".")[0], counters_in(name).get("epoch")
    if number is None and isinstance(known.get("epoch"), int) and known["epoch"] >= 0:
        number = known["epoch"]
    if number is not None:
        return found | _row_of(table, "epoch", number + 1)
    if stem == "last" and rows:
        return found | rows[-1]
    if stem == "best" and rows:  # of equally fit epochs the file holds the latest
        fitness = [sum(_number(row.get(f"metrics/accuracy_top{k}")) or 0 for k in (1, 5)) for row in rows]
        return found | rows[max(range(len(rows)), key=lambda index: (fitness[index], index))]
    return found


READERS = (timm, trainer, lightning, ultralytics)


def _row_of(table: Path, column: str, number: Any) -> dict[str, Any]:
    rows = (row for row in _rows_of(table) if _number(row.get(column)) == number)
    return next(rows, {}) if number is not None else {}


def _rows_of(table: Path) -> list[dict[str, str]]:
    """The rows of a CSV without their empty cells; none where there is no such file."""
    return read_rows(table, table.stat().st_mtime_ns) if table.is_file() else []


@lru_cache(maxsize=64)
def read_rows(table: Path, _mtime: int) -> list[dict[str, str]]:
    """A CSV's rows by column, without empty cells and cells beyond the header; names and values are stripped.

    Raises:
        CheckpointError: it is no CSV.
    """
    try:
        with table.open(newline="", encoding=encoding_of(table)) as file:
            separator = separator_of(file.readline())
            file.seek(0)
            rows: Iterable[dict[Any, Any]] = list(csv.DictReader(file, delimiter=separator))
    except (csv.Error, OSError, UnicodeError) as error:
        raise CheckpointError(f"{table}: not CSV ({error}); mend it or move it away.") from None
    return [
        {
            key.strip(): _with_point(value.strip(), separator)
            for key, value in row.items()
            if key and value and value.strip()
        }
        for row in rows
    ]


def _with_point(value: str, separator: str) -> str:
    """Where cells are set apart by semicolons, numbers may have a comma for a point."""
    return value.replace(",", ".") if separator == ";" and re.fullmatch(r"[-+]?\d+,\d+", value) else value


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        return None


def _state(path: Path) -> dict[str, Any]:
    values = read_json(path)
    return values if isinstance(values, dict) else {}


def _yaml(path: Path) -> dict[str, Any]:
    return _yaml_at(path, path.stat().st_mtime_ns) if path.is_file() else {}


@lru_cache(maxsize=64)
def _yaml_at(path: Path, _mtime: int) -> dict[str, Any]:
    return read_yaml(path)


def _pickle(path: Path) -> dict[str, Any]:
    return _pickle_at(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _pickle_at(path: Path, _mtime: int) -> dict[str, Any]:
    return read_pickle(path)
