"""The formats by name, and `arrays`, the plainest of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from soupviz.data import datasets, groups, labels, ragged
from soupviz.data.audio import recordings
from soupviz.data.detection import coco, yolo
from soupviz.data.images import imagefolder, masks
from soupviz.data.sources import Contents, Source, ToUint8, identity_of
from soupviz.data.text import choices, documents, sentences, tagged
from soupviz.errors import DataError
from soupviz.files import machine_memory
from soupviz.spec import SplitSpec
from soupviz.types import Progress

GB = 1e9
BOXES = {"coco": coco.source, "yolo": yolo.source}
"""Formats whose labels are boxes."""


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
    labels.check_format(name, spec.format, kind)
    library, _, dataset = spec.format.partition(":")
    if library == "torchvision":
        labels.refuse_folders(name, spec.format, kind)
        return datasets.torchvision_source(name, dataset, spec, folder, classes)
    if spec.format == "choices":
        return choices.source(name, spec, folder, model)
    if spec.format == "text" and kind == "none":
        return documents.source(name, spec, folder, model)
    if spec.format == "text" and kind == "tags":
        return tagged.source(name, spec, folder, classes, model)
    if spec.format == "text":
        return sentences.source(name, spec, folder, classes, model, kind)
    if spec.format == "audio":
        return recordings.source(name, spec, folder, classes, model, kind)
    if spec.format == "python":
        return datasets.python_source(name, spec, folder, classes, model, kind)
    if spec.format == "masks":
        return masks.source(name, spec, folder, classes)
    if spec.format == "arrays":
        return _arrays(name, spec, folder, classes, kind)
    if spec.format in BOXES:
        labels.refuse_boxes(name, spec.format, kind)
        return BOXES[spec.format](name, spec, folder, classes)
    labels.refuse_folders(name, spec.format, kind)
    return imagefolder.source(name, spec, folder, classes)


def _arrays(name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None, kind: labels.Kind) -> Source:
    path = folder / str(spec.path)
    if not path.is_file():
        raise DataError(f"data.{name}: {path}: no such file; expected .npz or .safetensors with inputs and labels.")

    def read(_to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        progress(0, 1, f"reading {name}")
        inputs, answers = _open_arrays(name, path)
        answers = labels.of_array(name, answers, kind, len(inputs))
        if kind == "boxes":
            ragged.save(target, "inputs", list(inputs))
            return Contents({"": "inputs"}, answers, listed=[""])
        np.save(target / "inputs.npy", inputs)
        return Contents({"": "inputs"}, answers)

    def grouping(_kept: Path) -> list[str]:
        of_labels, found = _open_arrays(name, path, ("labels", str(spec.group)))
        return groups.of_array(f"data.{name}.group: {spec.group!r} of {path}", found, len(of_labels))

    return Source(identity_of(path.parent, [path]), classes, False, read, grouping=grouping)


def _open_arrays(name: str, path: Path, wanted: tuple[str, str] = ("inputs", "labels")) -> list[np.ndarray]:
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                _check_there(name, path, wanted, file.files)
                _check_size(name, path, file)
                return [file[key] for key in wanted]
        from safetensors import safe_open

        with safe_open(path, framework="pt") as opened:
            _check_there(name, path, wanted, list(opened.keys()))
            tensors = [opened.get_tensor(key) for key in wanted]
        # NumPy has no bfloat16; float32 holds every one of its values.
        return [one.float().numpy() if one.dtype == torch.bfloat16 else one.numpy() for one in tensors]
    except DataError:
        raise
    except Exception as error:  # zipfile, NumPy and safetensors each raise their own on damaged files
        raise DataError(f"data.{name}: {path} cannot be read as .npz or .safetensors: {error}.") from None


def _check_size(name: str, path: Path, file: np.lib.npyio.NpzFile) -> None:
    """A few megabytes of zeros that are packed can come to a terabyte."""
    size = sum(one.file_size for one in file.zip.infolist()) if file.zip else 0
    if size > (memory := machine_memory()):
        raise DataError(
            f"data.{name}: {path} comes to {size / GB:.1f} GB once it is unpacked, and this machine has "
            f"{memory / GB:.1f} GB of memory. Save its arrays as .safetensors, which are mapped, or fewer of them."
        )


def _check_there(name: str, path: Path, wanted: Sequence[str], there: Sequence[str]) -> None:
    missing = [key for key in wanted if key not in there]
    if missing:
        raise DataError(
            f"data.{name}: {path} lacks the array {missing[0]!r}; expected {' and '.join(wanted)}, it has "
            f"{', '.join(there) or 'none'}."
        )
