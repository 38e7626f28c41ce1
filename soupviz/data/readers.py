"""The formats by name, and `arrays`, the plainest of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from soupviz.data import datasets, images, labels, sentences
from soupviz.data.sources import Contents, Source, ToUint8, identity_of
from soupviz.errors import DataError
from soupviz.spec import SplitSpec
from soupviz.types import Progress


def find(
    name: str,
    spec: SplitSpec,
    folder: Path,
    classes: tuple[str, ...] | None,
    model: nn.Module,
    kind: labels.Kind = "classes",
) -> Source:
    """Look for a split's examples without reading them.

    Args:
        model: whose tokens, classes and arguments a text is made ready for. kind: of the labels.
    Raises:
        DataError: they are missing, empty, their classes are not the kitchen's, or the format has no such labels.
    """
    found = _find(name, spec, folder, classes, model, kind)
    # Classes were all there was: what is kept of them is found as before.
    is_earlier = kind == "classes" or found.identity is None
    return found if is_earlier else replace(found, identity=[found.identity, kind])


def _find(
    name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None, model: nn.Module, kind: labels.Kind
) -> Source:
    library, _, dataset = spec.format.partition(":")
    if library == "torchvision":
        labels.refuse_folders(name, spec.format, kind)
        return datasets.torchvision_source(name, dataset, spec, folder, classes)
    if spec.format == "text":
        return sentences.source(name, spec, folder, classes, model, kind)
    if spec.format == "python":
        return datasets.python_source(name, spec, folder, classes, model, kind)
    if spec.format == "arrays":
        return _arrays(name, spec, folder, classes, kind)
    labels.refuse_folders(name, spec.format, kind)
    return images.source(name, spec, folder, classes)


def _arrays(name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None, kind: labels.Kind) -> Source:
    path = folder / str(spec.path)
    if not path.is_file():
        raise DataError(f"data.{name}: {path}: no such file; expected .npz or .safetensors with inputs and labels.")

    def read(_to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        progress(0, 1, f"reading {name}")
        inputs, answers = _open_arrays(name, path)
        answers = labels.of_array(name, answers, kind, len(inputs))
        np.save(target / "inputs.npy", inputs)
        return Contents({"": "inputs"}, answers)

    return Source(identity_of(path.parent, [path]), classes, False, read)


def _open_arrays(name: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                return file["inputs"], file["labels"]
        from safetensors.torch import load_file

        tensors = load_file(path)
        inputs, answers = (
            # NumPy has no bfloat16; float32 holds every one of its values.
            tensors[key].float().numpy() if tensors[key].dtype == torch.bfloat16 else tensors[key].numpy()
            for key in ("inputs", "labels")
        )
        return inputs, answers
    except KeyError as error:
        raise DataError(f"data.{name}: {path} lacks the array {error}; expected `inputs` and `labels`.") from None
    except Exception as error:  # zipfile, NumPy and safetensors each raise their own on damaged files
        raise DataError(f"data.{name}: {path} cannot be read as .npz or .safetensors: {error}.") from None
