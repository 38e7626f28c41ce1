"""The formats whose examples come out of a data set in Python: torchvision's by name, or the user's own function."""

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from soupviz.config import SplitSpec
from soupviz.data.classes import named
from soupviz.data.images import decode
from soupviz.data.sources import LENGTHS, Contents, Source, ToUint8, identity_of
from soupviz.errors import DataError, told
from soupviz.files import file_digest
from soupviz.models import load_function
from soupviz.records import Progress

CHUNK = 256
LABELS = ("labels", "label", "label_ids")
"""What Hugging Face calls the label beside the inputs, the first of them that is there."""

UNPICKLING = ("LSUN", "LSUNClass")
"""Of torchvision's data sets those that unpickle what nobody checks; those of CIFAR are known by their checksums."""

TEXTS = "texts.json"
"""Beside the arrays of a data set that tells its examples as texts."""


def nth(dataset: str, index: int) -> str:
    """What an example of a torchvision dataset, which has no files, is called."""
    return f"{dataset}[{index}]"


def torchvision_source(
    name: str, dataset: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None
) -> Source:
    """A data set of torchvision's."""
    kind = _torchvision_class(name, dataset)
    root = folder / (spec.path or "data")
    reads_files = "root" in inspect.signature(kind).parameters
    arguments = spec.args | ({"download": True} if spec.download else {})
    try:
        examples = kind(*([root] if reads_files else []), **arguments)
        number = len(examples)
    except Exception as error:  # whatever its constructor raises: a wrong split, no files, a package that is missing
        raise DataError(
            f"data.{name}: torchvision's {dataset} in {root} with {arguments} failed: {told(error)} "
            "(download: true lets it download itself)"
        ) from error
    order = list(classes or getattr(examples, "classes", None) or []) or None
    names = [nth(dataset, index) for index in range(number)]

    def read(to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        labels: dict[int, int] = {}

        def image(index: int) -> Image.Image:
            picture, labels[index] = _pair(name, index, examples[index])
            return picture if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture))

        done = decode(name, image, names, to_uint8, target, progress)
        for index in done.kept:  # those that a killed process had decoded
            if index not in labels:
                labels[index] = _pair(name, index, examples[index])[1]
        found = np.array([labels[index] for index in done.kept])
        return Contents({"": "inputs"}, found, [names[index] for index in done.kept], done.corrupt, done.notes)

    files = sorted(path for path in root.rglob("*") if path.is_file()) if reads_files else []
    return Source([dataset, arguments, *identity_of(root, files)], order, True, read)


def _torchvision_class(name: str, dataset: str) -> Any:
    from torchvision import datasets

    kind = getattr(datasets, dataset, None)
    if not isinstance(kind, type):
        raise DataError(f"data.{name}: torchvision has no dataset {dataset!r}; check the spelling.")
    if dataset in UNPICKLING:
        raise DataError(
            f"data.{name}: torchvision's {dataset} unpickles a file that it finds in its folder, which may run any "
            "code. If you trust the folder, return the data set from a function of your own, with format: python."
        )
    return kind


def python_source(
    name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None, model: nn.Module
) -> Source:
    """What a function of the user's returns."""
    function = load_function(str(spec.path), folder)
    place = str(spec.path).rpartition(":")[0]
    source = file_digest(folder / place) if place.endswith(".py") else place

    def read(_to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        try:
            examples = function(**spec.args)
            number = len(examples)
        except (Exception, SystemExit) as error:  # a script that reads a command line of its own leaves
            raise DataError(f"data.{name}: {spec.path} failed with {told(error)}") from error
        columns, labels, texts = _collect(name, examples, number, progress)
        stacked, lengths = _stacked(name, columns, getattr(getattr(model, "config", None), "pad_token_id", None) or 0)
        arrays = {argument: f"inputs{index}" for index, argument in enumerate(columns)}
        for argument, file in arrays.items():
            np.save(target / f"{file}.npy", stacked[argument])
        if lengths is not None:
            np.save(target / f"{LENGTHS}.npy", lengths)
        keep_texts(target, _told_texts(name, examples, number) or next(iter(texts.values()), []))
        shown = f"data.{name}: {named(list(texts))} of its examples: texts, which are shown and not fed to the model."
        padding = "" if lengths is None else "right"
        return Contents(arrays, np.array(labels, dtype=np.int64), notes=[shown] if texts else [], padding=padding)

    # What a function yields may depend on files it opens: only a version named by the user makes it keepable.
    identity = [str(folder.resolve()), source, spec.path, spec.args, spec.version] if spec.version else None
    return Source(identity, classes, False, read)


def _example(name: str, examples: Any, index: int) -> Any:
    try:
        return examples[index]
    except Exception as error:  # whatever the data set raises
        raise DataError(f"data.{name}: reading example {index} failed with {told(error)}") from error


def _pair(name: str, index: int, example: Any) -> tuple[Any, int]:
    """An input and its label, from a pair or from a dict that holds the label too."""
    try:
        if isinstance(example, Mapping):
            place = next(key for key in LABELS if key in example)
            return {key: value for key, value in example.items() if key not in LABELS}, _whole(example[place])
        value, label = example
        return value, _whole(label)
    except Exception as error:  # whatever objects of the user's raise
        kind = f"a dict of {named(list(map(str, example)))}" if isinstance(example, Mapping) else type(example).__name__
        raise DataError(
            f"data.{name}: example {index} is {kind}; expected an input and the number of a class, or a dict with "
            f"that number as `labels` or `label` ({told(error)})"
        ) from error


def _whole(label: Any) -> int:
    number = int(label)
    if number != label:
        raise ValueError(f"the label is {label}; expected the number of a class")
    return number


def _collect(
    name: str, examples: Any, number: int, progress: Progress
) -> tuple[dict[str, list[Tensor]], list[int], dict[str, list[str]]]:
    """Inputs by argument, labels, and what is text beside the inputs."""
    columns: dict[str, list[Tensor]] = {}
    texts: dict[str, list[str]] = {}
    labels: list[int] = []
    for index in range(number):
        if index % CHUNK == 0:
            progress(index, number, f"reading {name}")
        value, label = _pair(name, index, _example(name, examples, index))
        labels.append(label)
        for argument, item in (value if isinstance(value, Mapping) else {"": value}).items():
            if isinstance(item, str) and isinstance(value, Mapping):
                texts.setdefault(argument, []).append(item)
                continue
            tensor = _tensor(name, index, argument, item)
            column = columns.setdefault(argument, [])
            if len(column) != index:
                raise _unlike(name, index, argument, tensor)
            column.append(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)
    if not labels:
        raise DataError(f"data.{name}: the dataset is empty; expected at least 2 examples.")
    return columns, labels, texts


def _stacked(
    name: str, columns: Mapping[str, Sequence[Tensor]], pad: int
) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """One array for each argument; sentences of varying length, whose mask says so, are padded to the longest.

    Args:
        pad: the token that is the padding's.
    """
    masks = columns.get("attention_mask", [])
    lengths = [mask.shape for mask in masks]
    is_ragged = len(set(lengths)) > 1 and all(mask.ndim == 1 for mask in masks)
    found = {}
    for argument, column in columns.items():
        if is_ragged and [tensor.shape for tensor in column] == lengths:
            value = pad if argument == "input_ids" else 0
            found[argument] = pad_sequence(list(column), batch_first=True, padding_value=value).numpy()
            continue
        for index, tensor in enumerate(column):
            if tensor.shape != column[0].shape:
                raise _unlike(name, index, argument, tensor)
        found[argument] = torch.stack(list(column)).numpy()
    return found, np.array(lengths)[:, 0] if is_ragged else None


def _unlike(name: str, index: int, argument: str, tensor: Tensor) -> DataError:
    return DataError(
        f"data.{name}: example {index} has {argument or 'an input'} of shape {tuple(tensor.shape)}, unlike those "
        "before it; pad the examples to one shape and give each the same keys."
    )


def _tensor(name: str, index: int, argument: str, item: Any) -> Tensor:
    try:
        return torch.as_tensor(item)
    except Exception as error:  # whatever an object of the user's raises
        raise DataError(
            f"data.{name}: example {index} has {argument or 'an input'} of type {type(item).__name__}, which is no "
            f"tensor ({told(error)}); give the data set a transform that makes tensors."
        ) from error


def _told_texts(name: str, examples: Any, number: int) -> list[str]:
    """What a data set of the python format tells of its examples for people to read, if it has a method `text`."""
    tell = getattr(examples, "text", None)
    if not callable(tell):
        return []
    try:
        texts = [tell(index) for index in range(number)]
    except Exception as error:
        raise DataError(f"data.{name}: text(index) of the dataset failed with {told(error)}") from error
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(
                f"data.{name}: text({index}) of the dataset gave {type(text).__name__}; expected a string, what is "
                "shown of the example."
            )
    return texts


def keep_texts(target: Path, texts: list[str]) -> None:
    """Keep what people are shown of the examples; nothing where there is nothing."""
    if texts:
        (target / TEXTS).write_text(json.dumps(texts), encoding="utf-8")


def texts_in(kept: Path) -> list[str]:
    """The texts that were kept of a split's examples; none where its data set tells none."""
    path = kept / TEXTS
    texts: list[str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return texts
