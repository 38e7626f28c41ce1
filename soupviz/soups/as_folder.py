"""A soup as a folder that transformers or timm opens: what lies beside its weights, and the lines that load it."""

import copy
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from soupviz.errors import ExportError
from soupviz.kitchen import Kitchen
from soupviz.remote.trees import settings_at
from soupviz.soups.about import TIMM, TRANSFORMERS, library_of
from soupviz.soups.forms import MODEL_CONFIG
from soupviz.spec import HELD_OUT, TransformSpec

FACTORY = f"{TRANSFORMERS}:"

COPIED = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "source.spm", "target.spm",
    "chat_template.jinja", "preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json",
    "feature_extractor_config.json", "normalizer.json", "generation_config.json",
)  # fmt: skip
"""Files by which transformers makes of a text, an image or a recording what the model takes, and how it generates."""

LARGEST = 200_000_000
"""Bytes of such a file; what is larger is something else."""

LOAD = {
    TRANSFORMERS: 'from transformers import {kind}\n\nmodel = {kind}.from_pretrained("{name}")',
    TIMM: 'import timm\n\nmodel = timm.create_model("local-dir:{name}", pretrained=True)',
}


@dataclass(frozen=True, slots=True)
class Beside:
    """Files that lie beside a soup's weights, by name, and the lines that load the whole."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    loader: str = ""


NOTHING = Beside()


def check_opened(kitchen: Kitchen, shard_size: str | int | None = None) -> str:
    """The library that opens a folder of the kitchen's model.

    Raises:
        ExportError: neither transformers nor timm knows the model, or shards for timm, which reads one file.
    """
    library = library_of(kitchen.evaluator.model)
    if not library:
        raise ExportError(
            f"a folder is opened by transformers or timm, and {kitchen.spec.model.factory!r} makes a model of neither; "
            "write the soup dense, as a file."
        )
    if library == TIMM and shard_size is not None:
        raise ExportError("timm reads the weights of a folder from one file; give no shard size.")
    return library


def beside(kitchen: Kitchen, like: Mapping[str, Tensor], name: str) -> Beside:
    """What lies beside the weights of a soup.

    Args:
        like: tells the dtypes of the weights. name: of the folder.
    """
    library = check_opened(kitchen)
    model: Any = kitchen.evaluator.model
    loader = LOAD[library].format(kind=type(model).__name__, name=name)
    if library == TIMM:
        return Beside({MODEL_CONFIG: _timm_config(kitchen, model)}, loader)
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]
    config.dtype = next((one.dtype for one in like.values() if one.is_floating_point()), torch.float32)
    if (names := _class_names(kitchen, getattr(config, "num_labels", 0))) and _are_defaults(config.id2label):
        config.id2label = dict(enumerate(names))
        config.label2id = {label: index for index, label in enumerate(names)}
    return Beside(_copied(kitchen) | {MODEL_CONFIG: config.to_json_string().encode()}, loader)


def _copied(kitchen: Kitchen) -> dict[str, bytes]:
    """The first of each of these files that is found."""
    found: dict[str, bytes] = {}
    for folder in _folders(kitchen):
        for name in COPIED:
            file = folder / name
            if name not in found and file.is_file() and file.stat().st_size <= LARGEST:
                found[name] = file.read_bytes()
    return found


def _folders(kitchen: Kitchen) -> Iterator[Path]:
    """Where they are looked for: what the data was read by, then the model's own folder, then its checkpoints'."""
    for spec in kitchen.spec.split_specs().values():
        yield from (settings_at(place, kitchen.folder) for place in (spec.tokenizer, spec.processor) if place)
    if kitchen.spec.model.factory.startswith(FACTORY):
        yield settings_at(kitchen.spec.model.factory.removeprefix(FACTORY), kitchen.folder)
    for item in (*kitchen.ingredients, *([kitchen.weights.base] if kitchen.weights.base else [])):
        yield item.path if item.path.is_dir() else item.path.parent


def _timm_config(kitchen: Kitchen, model: Any) -> bytes:
    """The description that timm itself writes of a model, with the images as the kitchen makes them."""
    from timm.models._hub import save_config_for_hf

    told: dict[str, Any] = {"pretrained_cfg": _preprocessing(kitchen, model.pretrained_cfg)}
    if names := _class_names(kitchen, model.num_classes):
        told["label_names"] = names
    # pretrained_cfg has the overlay already, and timm refuses it as an argument of what it opens with one of its own.
    left_out = ("num_classes", "pretrained", "pretrained_cfg_overlay")
    arguments = {key: value for key, value in kitchen.spec.model.args.items() if key not in left_out}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, MODEL_CONFIG)
        save_config_for_hf(model, str(file), model_config=told, model_args=arguments or None)
        return file.read_bytes()


def _preprocessing(kitchen: Kitchen, own: Mapping[str, Any]) -> dict[str, Any]:
    """How the images of held_out are made, in timm's words, where it is not timm's own way."""
    spec = kitchen.spec.data.held_out
    transform = spec.transform or TransformSpec.model_validate({})
    if not spec.takes_transform or transform.preset is not None:
        return {}
    size, channels = transform.crop or transform.resize, transform.channels
    found: dict[str, Any] = {
        "mean": list(transform.mean or [0.0] * channels),
        "std": list(transform.std or [1.0] * channels),
        "interpolation": transform.interpolation,
    }
    if isinstance(size, int):
        found["input_size"] = [*(own.get("input_size") or (channels,))[:1], size, size]
        found["crop_pct"] = size / transform.resize if isinstance(transform.resize, int) else 1.0
    return found


def _class_names(kitchen: Kitchen, number: int) -> list[str]:
    """What the classes are called, where there are as many as the model has outputs."""
    names = [str(name) for name in kitchen.splits.load(HELD_OUT).classes or ()]
    return names if len(names) == number else []


def _are_defaults(names: Mapping[int, str]) -> bool:
    return all(str(name) == f"LABEL_{index}" for index, name in names.items())
