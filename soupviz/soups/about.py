"""What a model card's metadata says of a soup beside what was measured: where it comes from, and what opens it."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from soupviz.kitchen import Kitchen
from soupviz.spec import OF_IMAGES, SplitSpec
from soupviz.weights.ingredients import Ingredient
from soupviz.weights.lineage import Lineage, lineage_of

TRANSFORMERS, TIMM, PEFT, PYTORCH = "transformers", "timm", "peft", "pytorch"
"""Libraries, as the hub calls them."""

IMAGE, TEXT, AUDIO = "image", "text", "audio"
PIPELINES: Mapping[str, Mapping[str, str]] = {
    "classification": {IMAGE: "image-classification", TEXT: "text-classification", AUDIO: "audio-classification"},
    "multilabel": {IMAGE: "image-classification", TEXT: "text-classification", AUDIO: "audio-classification"},
    "language_model": {TEXT: "text-generation"},
    "multiple_choice": {TEXT: "multiple-choice"},
    "token_classification": {TEXT: "token-classification"},
    "transcription": {AUDIO: "automatic-speech-recognition"},
    "detection": {IMAGE: "object-detection"},
    "segmentation": {IMAGE: "image-segmentation"},
}
"""What the hub calls a task, by what its inputs are."""


def about(kitchen: Kitchen, items: Iterable[Ingredient]) -> dict[str, Any]:
    """Keys of the metadata that follow from the kitchen and its checkpoints; its own `card` beats them.

    Args:
        items: what the soup is made of.
    """
    model, told = kitchen.evaluator.model, {item.name: lineage_of(item.path) for item in items}
    base = lineage_of(kitchen.weights.base.path).model if kitchen.weights.base else ""
    found: dict[str, Any] = {
        "library_name": library_of(model) or PYTORCH,
        "pipeline_tag": pipeline_of(kitchen.task.name, kitchen.spec.data.held_out),
        **_bases(told.values(), base),
        "datasets": list(dict.fromkeys(name for one in told.values() for name in one.datasets)),
    }
    return {key: value for key, value in found.items() if value} | dict(kitchen.spec.card)


def library_of(model: nn.Module) -> str:
    """Which library's own classes a model is of, so that its folders are opened by that; empty for others."""
    config = getattr(model, "config", None)
    if hasattr(config, "save_pretrained") and hasattr(model, "save_pretrained"):
        return TRANSFORMERS
    return TIMM if isinstance(getattr(model, "pretrained_cfg", None), Mapping) else ""


def pipeline_of(task: str, spec: SplitSpec) -> str:
    """What the hub calls the task; empty where it has no word for it."""
    kind = spec.format.partition(":")[0]
    inputs = IMAGE if kind in OF_IMAGES else AUDIO if kind == "audio" else TEXT if kind in ("text", "choices") else ""
    return PIPELINES.get(task, {}).get(inputs, "")


def _bases(told: Iterable[Lineage], base: str) -> dict[str, Any]:
    """What was merged, where all of it is on the hub; else what it was fine-tuned from."""
    lineages = list(told)
    models = dict.fromkeys(one.model for one in lineages)
    if lineages and all(models):
        return {"base_model": list(models)} | ({"base_model_relation": "merge"} if len(lineages) > 1 else {})
    bases = list(dict.fromkeys([*([base] if base else []), *(name for one in lineages for name in one.bases)]))
    return {"base_model": bases, "base_model_relation": "finetune"} if bases else {}
