"""Runs of transformers' Trainer: checkpoint-N folders with trainer_state.json, config.json, a tokenizer."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from soupviz.recognition.files import BASES, mapping_in
from soupviz.recognition.runs import Found, MayRead, Run

GENERATE = {"decode": "generate"}
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
SPEECH = {"ForCTC": {}, "ForSpeechSeq2Seq": GENERATE, "ForConditionalGeneration": GENERATE}
"""Ends of the names of classes that transcribe, where a feature extractor lies beside them, and how they do."""
OF_THE_SHORT_SIDE = ("CLIP", "ConvNext")
"""Whose preprocessors mean the short side where they give one number; the others squash to a square."""
PILLOW_FILTERS = {0: "nearest", 2: "bilinear", 3: "bicubic"}


TASKS = {
    "ForTokenClassification": "token_classification",
    "ForSemanticSegmentation": "segmentation",
    "ForCausalLM": "language_model",
    "LMHeadModel": "language_model",
    "ForMultipleChoice": "multiple_choice",
}
"""By the end of a class's name; of other classes by what their configuration says of the problem."""

PROBLEMS = {"multi_label_classification": "multilabel", "regression": "regression"}


def recognise(folder: Path, may_read: MayRead) -> Run | None:
    """The run that a folder, or one of its checkpoints, holds; None where it is none of Trainer's."""
    # `save_model` leaves weights in the run's own folder too, beside its checkpoints.
    if _is_checkpoint(folder) and not _checkpoints_in(folder) and may_read(folder.parent):
        folder = folder.parent
    checkpoints = sorted(_checkpoints_in(folder), key=_step)
    if not checkpoints:
        return None
    last = checkpoints[-1]
    found, notes = described(last)
    found.setdefault("factory", Found(("transformers", last), f"{last.name}/config.json"))
    found["ingredients"] = Found(["checkpoint-*"], f"{len(checkpoints)} folders with trainer_state.json")
    if base := _base(folder, mapping_in(last / "config.json"), may_read):
        found["base"] = Found(base, "a folder of the same architecture beside the run")
    return Run("Trainer", folder, found, notes=notes, best=last)


def described(folder: Path, changes: Mapping[str, Any] | None = None) -> tuple[dict[str, Found], tuple[str, ...]]:
    """What save_pretrained wrote beside a model's weights, and what it says that kitchen.yaml cannot.

    Args:
        changes: what the model's configuration has otherwise than the folder's.
    """
    config = mapping_in(folder / "config.json") | dict(changes or {})
    where = f"{folder.name}/config.json"
    found = {}
    notes: list[str] = []
    if named := config.get("architectures"):
        found["factory"] = Found(("transformers", folder), f"{where}: architectures ({named[0]})")
        if task := _task(str(named[0]), config, where):
            found["task"] = task
    preprocessor = mapping_in(folder / "preprocessor_config.json")
    if "sampling_rate" in preprocessor:
        found["processor"] = Found(folder, f"{folder.name}/preprocessor_config.json")
        architecture = str(named[0]) if named else ""
        way = next((way for end, way in SPEECH.items() if architecture.endswith(end)), None)
        if way is not None:
            values = {"name": "transcription", "vocabulary": folder, **way}
            found["task"] = Found(values, f"{where}: architectures ({architecture})")
    elif preprocessor:
        values, told = transform(preprocessor)
        found["transform"] = Found(values, f"{folder.name}/preprocessor_config.json")
        notes += told
    if (classes := _classes(config)) and found.get("task", NO_TASK).value in NAMED:
        found["classes"] = Found(classes, f"{where}: id2label")
    if (folder / "tokenizer.json").is_file() or (folder / "tokenizer_config.json").is_file():
        found["tokenizer"] = Found(folder, f"{folder.name}/tokenizer_config.json")
    return found, tuple(notes)


def _checkpoints_in(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*checkpoint*") if _is_checkpoint(path)]


def _is_checkpoint(path: Path) -> bool:
    return (path / "trainer_state.json").is_file() and has_weights(path)


def has_weights(path: Path) -> bool:
    """Whether a folder holds a whole model."""
    return any((path / name).is_file() for name in WEIGHTS)


def _step(path: Path) -> tuple[int, str]:
    number = path.name.rpartition("-")[2]
    return int(number) if number.isdigit() else 0, path.name


def _base(folder: Path, config: Mapping[str, Any], may_read: MayRead) -> Path | None:
    """What the configuration says it was loaded from, or a folder beside the run, of the same architecture."""
    places = [folder / name for name in BASES] + [folder.parent / name for name in BASES]
    if named := config.get("_name_or_path"):
        places = [Path(named), *places] if Path(named).is_absolute() else [*places, folder / named]
    for place in places:
        if may_read(place) and has_weights(place):
            other = mapping_in(place / "config.json") if (place / "config.json").is_file() else {}
            if other.get("architectures") == config.get("architectures") and not _is_checkpoint(place):
                return place
    return None


NO_TASK = Found("", "")
NAMED = ("", "token_classification", "segmentation", "multilabel")
"""Tasks whose classes are the labels of the configuration; the first is that of classification."""


def _task(architecture: str, config: Mapping[str, Any], where: str) -> Found | None:
    """What a head is trained for, where that is no classification: by its class, or its `problem_type`.

    A sequence's head of one output without a problem_type is a regression's, as transformers trains it.
    """
    task = next((task for end, task in TASKS.items() if architecture.endswith(end)), None)
    if task:
        return Found(task, f"{where}: architectures ({architecture})")
    if not architecture.endswith("ForSequenceClassification"):
        return None
    if problem := PROBLEMS.get(str(config.get("problem_type"))):
        return Found(problem, f"{where}: problem_type")
    is_one = len(config.get("id2label") or ()) == 1 and not config.get("problem_type")
    return Found("regression", f"{where}: one output") if is_one else None


def _classes(config: Mapping[str, Any]) -> list[str] | None:
    """Labels in the order of the head, unless they are the placeholders LABEL_0, LABEL_1."""
    labels = config.get("id2label")
    if not isinstance(labels, Mapping) or all(str(name).startswith("LABEL_") for name in labels.values()):
        return None
    return [str(labels[key]) for key in sorted(labels, key=int)]


def transform(config: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """A preprocessor_config.json as kitchen.yaml's transform, and what it cannot say."""
    values: dict[str, Any] = {}
    notes = []
    size = config.get("size") or {}
    if isinstance(size, int):  # as old versions wrote it
        named = str(config.get("image_processor_type") or config.get("feature_extractor_type"))
        is_edge = any(name in named for name in OF_THE_SHORT_SIDE)
        size = {"shortest_edge": size} if is_edge else {"height": size, "width": size}
    crop = config.get("crop_size") or {}
    crop = crop if isinstance(crop, int) else crop.get("height")
    if config.get("do_resize", True) and size:
        edge = size.get("shortest_edge")
        if edge and config.get("crop_pct") and edge < 384:  # ConvNeXt: enlarged by it, then cut
            values |= {"resize": int(edge / config["crop_pct"]), "crop": edge}
        elif edge:
            values["resize"] = edge
        elif size.get("height") and size.get("width"):
            values["resize"] = [size["height"], size["width"]]
        else:
            notes.append(
                f"the preprocessor resizes to {size}, which no transform here says; its images stay as they are."
            )
        filter_name = PILLOW_FILTERS.get(config.get("resample", 2))
        if filter_name:
            values["interpolation"] = filter_name
        else:
            notes.append(f"the preprocessor resamples by Pillow's filter {config['resample']}; bilinear is taken.")
    if config.get("do_center_crop") and crop:
        values["crop"] = crop
    if config.get("do_normalize", True):
        values |= {
            name: [float(value) for value in config[key]]
            for name, key in (("mean", "image_mean"), ("std", "image_std"))
            if isinstance(config.get(key), list)
        }
    return values, notes
