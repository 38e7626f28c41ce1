"""Folders of peft: LoRA adapters of one run (checkpoint-N folders of Trainer, say) or of several, and their base."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from soupviz.recognition import trainer
from soupviz.recognition.files import first_readable, mapping_in, places
from soupviz.recognition.runs import Found, MayRead, Run
from soupviz.sources import is_file
from soupviz.weights.adapters.bases import cached
from soupviz.weights.adapters.config import CONFIG, config_of
from soupviz.weights.names import natural_key

ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")
HEADS = {
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
    "CAUSAL_LM": "ForCausalLM",
}
"""What the class of a task's model ends with, by peft's task_type."""

LABELLED = ("SEQ_CLS", "TOKEN_CLS")
"""Whose last layer has an output for each label."""

END = re.compile(r"(For[A-Z]\w+|LMHeadModel|Model)$")


def recognise(folder: Path, may_read: MayRead) -> Run | None:
    """The adapters that lie in a folder side by side, a folder each; None where there are none."""
    if config_of(folder) and may_read(folder.parent):
        folder = folder.parent
    found = sorted((place.parent for place in folder.glob(f"*/{CONFIG}")), key=lambda path: natural_key(path.name))
    found = [place for place in found if weights_in(place)]
    if not found:
        return None
    described, notes = of_adapter(found[-1], folder, may_read)
    ingredients = Found(["*/adapter_model.*"], f"{len(found)} folders with {CONFIG}")
    return Run("peft", folder, {**described, "ingredients": ingredients}, notes=notes, best=found[-1])


def weights_in(folder: Path) -> Path | None:
    """The file with an adapter's factors."""
    return next((folder / name for name in ADAPTERS if (folder / name).is_file()), None)


def of_adapter(folder: Path, run: Path, may_read: MayRead) -> tuple[dict[str, Found], tuple[str, ...]]:
    """What an adapter's folder and its base say of a kitchen: the base, the model, the task, the tokenizer."""
    values = mapping_in(folder / CONFIG)
    named = str(values.get("base_model_name_or_path") or "")
    known = [*places(run, named), cached(values)] if named else []
    base = next((place for place in known if place and _is_model(place, may_read)), None)
    if base is None:
        told = (
            f"the adapters change {named!r}, which is neither a folder here nor in the cache of the hub"
            if named
            else "the adapters name no base"
        )
        return {}, (f"{told}; fetch that model, and name it as base: and model.factory: transformers:FOLDER.",)
    where = f"{folder.name}/{CONFIG}"
    changes = _head(values, mapping_in(base / "config.json"), folder)
    found, notes = trainer.described(base, changes)
    found["factory"] = Found(("transformers", base), f"{where}: base_model_name_or_path")
    found["base"] = Found(base, f"{where}: base_model_name_or_path")
    if arguments := {key: value for key, value in changes.items() if key != "id2label"}:
        found["args"] = Found(arguments, f"{where}: task_type {values.get('task_type')}, and the head in it")
    found |= {key: one for key, one in trainer.described(folder)[0].items() if key in ("tokenizer", "processor")}
    return found, notes


def _is_model(place: Path, may_read: MayRead) -> bool:
    return may_read(place) and is_file(place / "config.json") and trainer.has_weights(place)


def _head(values: Mapping[str, Any], config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What the adapted model's configuration has otherwise than its base's: the class with a head, and its labels."""
    named = str((config.get("architectures") or [""])[0])
    task = str(values.get("task_type"))
    mapping = values.get("auto_mapping")
    own = mapping.get("base_model_class") if isinstance(mapping, Mapping) else None
    end = HEADS.get(task, "")
    stands = not end or named.endswith(end) or (task == "CAUSAL_LM" and named.endswith("LMHeadModel"))
    name = own or (named if stands else END.sub("", named) + end)
    changes: dict[str, Any] = {} if name == named else {"architectures": [name]}
    labels = _labels(folder) if task in LABELLED else None
    if labels and labels != len(config.get("id2label") or ()):
        changes |= {"num_labels": labels, "id2label": {str(number): f"LABEL_{number}" for number in range(labels)}}
    return changes


def _labels(folder: Path) -> int | None:
    """The outputs of the head that was trained beside the factors."""
    file = weights_in(folder)
    opened = first_readable([file] if file else [])
    tensors = opened.candidates[0].tensors if opened else {}
    matrices = [tensor for key, tensor in tensors.items() if tensor.ndim == 2 and ".lora_" not in key]
    heads = [tensor for tensor in matrices if tensor.shape[0] < tensor.shape[1]]
    return int(heads[-1].shape[0]) if heads else None
