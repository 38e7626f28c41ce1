"""The formats by name, and `arrays`, the plainest of them."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from soupviz.data import datasets, images, sentences
from soupviz.data.sources import Contents, Source, ToUint8, identity_of
from soupviz.errors import DataError
from soupviz.spec import SplitSpec
from soupviz.types import Progress


def find(name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None, model: nn.Module) -> Source:
    """Look for a split's examples without reading them.

    Args:
        model: whose tokens, classes and arguments a text is made ready for.
    Raises:
        DataError: they are missing, empty, or their classes are not the kitchen's.
    """
    library, _, dataset = spec.format.partition(":")
    if library == "torchvision":
        return datasets.torchvision_source(name, dataset, spec, folder, classes)
    if spec.format == "text":
        return sentences.source(name, spec, folder, classes, model)
    if spec.format == "python":
        return datasets.python_source(name, spec, folder, classes, model)
    formats = {"imagefolder": images.source, "arrays": _arrays}
    return formats[spec.format](name, spec, folder, classes)


def _arrays(name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None) -> Source:
    path = folder / str(spec.path)
    if not path.is_file():
        raise DataError(f"data.{name}: {path}: no such file; expected .npz or .safetensors with inputs and labels.")

    def read(_to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        progress(0, 1, f"reading {name}")
        inputs, labels = _open_arrays(name, path)
        labels = _class_numbers(name, labels, len(inputs))
        np.save(target / "inputs.npy", inputs)
        return Contents({"": "inputs"}, labels)

    return Source(identity_of(path.parent, [path]), classes, False, read)


def _open_arrays(name: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return file["inputs"], file["labels"]
        from safetensors.torch import load_file

        tensors = load_file(path)
        inputs = tensors["inputs"]
        # NumPy has no bfloat16; float32 holds every one of its values.
        inputs = inputs.float() if inputs.dtype == torch.bfloat16 else inputs
        return inputs.numpy(), tensors["labels"].numpy()
    except KeyError as error:
        raise DataError(f"data.{name}: {path} lacks the array {error}; expected `inputs` and `labels`.") from None
    except Exception as error:  # zipfile, NumPy and safetensors each raise their own on damaged files
        raise DataError(f"data.{name}: {path} cannot be read as .npz or .safetensors: {error}.") from None


def _class_numbers(name: str, labels: np.ndarray, num_inputs: int) -> np.ndarray:
    """Labels as int64, shape (examples,), however whole numbers are written: as floats, as booleans, in a column."""
    if labels.shape[1:] == (1,):
        labels = labels[:, 0]
    if labels.ndim != 1 or not (np.issubdtype(labels.dtype, np.number) or labels.dtype == np.bool_):
        raise DataError(
            f"data.{name}: labels have shape {labels.shape} and type {labels.dtype}; expected the number of a "
            "class for each example."
        )
    if len(labels) != num_inputs:
        raise DataError(f"data.{name}: {num_inputs} inputs but {len(labels)} labels; expected as many.")
    with np.errstate(invalid="ignore"):  # what is no number is no whole one either
        numbers = labels.astype(np.int64)
    strange = np.flatnonzero(numbers != labels)
    if strange.size:
        raise DataError(
            f"data.{name}: the label of example {strange[0]} is {labels[strange[0]]}; expected the number of a class."
        )
    return numbers
