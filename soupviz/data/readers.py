"""The four data formats: where a split's examples are, and how they are read into arrays on disk."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.lib.format import open_memmap
from PIL import Image
from torch import Tensor

from soupviz.config import SplitSpec
from soupviz.errors import DataError
from soupviz.files import file_digest
from soupviz.models import load_function
from soupviz.records import Progress

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".ppm", ".pgm", ".tif", ".tiff", ".webp", ".gif")
CHUNK = 256
LOG = "decoded.jsonl"
"""Beside the pixels while they are decoded: a line for each chunk that is."""
TEXTS = "texts.json"
"""Beside the arrays of a data set that tells its examples as texts."""

ToUint8 = Callable[[Image.Image, int], np.ndarray]
Contents = tuple[dict[str, str], np.ndarray, list[str], dict[str, str]]
"""Array files by argument name, labels, the file of each example, and corrupt files with the reason."""


@dataclass(frozen=True, slots=True)
class Source:
    """A split that was found but not read: identity is what its content depends on, None when that is unknown."""

    identity: Any
    classes: Sequence[str] | None
    is_images: bool
    read: Callable[[ToUint8, Path, Progress], Contents]


def find(name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None) -> Source:
    """Look for a split's files without decoding them.

    Raises:
        DataError: they are missing, empty, or their folders differ from the classes.
    """
    library, _, dataset = spec.format.partition(":")
    if library == "torchvision":
        return _torchvision(name, dataset, spec, folder, classes)
    readers = {"imagefolder": _imagefolder, "arrays": _arrays, "python": _python}
    return readers[spec.format](name, spec, folder, classes)


def _imagefolder(name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None) -> Source:
    root = folder / str(spec.path)
    if not root.is_dir():
        raise DataError(f"data.{name}: {root} is not a folder; expected one with a sub-folder per class.")
    found = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    order = list(classes or found)
    if set(found) != set(order):
        extra, missing = sorted(set(found) - set(order)), sorted(set(order) - set(found))
        differences = [f"has {extra} besides"] * bool(extra) + [f"lacks {missing}"] * bool(missing)
        raise DataError(
            f"data.{name}: the class folders of {root} differ from the kitchen's classes: it "
            f"{' and '.join(differences)}. Every split has the same classes, in held_out's or `classes:` order."
        )
    paths, labels = [], []
    for label, class_name in enumerate(order):
        files = sorted(p for p in (root / class_name).rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
        paths += files
        labels += [label] * len(files)
    if not paths:
        raise DataError(f"data.{name}: {root} holds no images; expected files such as {root}/CLASS/x.jpg.")
    stats = [path.stat() for path in paths]
    names = [path.relative_to(root).as_posix() for path in paths]
    identity = [[n, s.st_size, s.st_mtime_ns] for n, s in zip(names, stats, strict=True)] + order

    def read(to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        def image(index: int) -> Image.Image:
            return Image.open(paths[index])

        kept, corrupt = _decode(name, image, [str(p) for p in paths], to_uint8, target, progress)
        return {"": "inputs"}, np.array(labels)[kept], [names[index] for index in kept], corrupt

    return Source(identity, order, True, read)


def _decode(
    name: str,
    image: Callable[[int], Image.Image],
    names: Sequence[str],
    to_uint8: ToUint8,
    target: Path,
    progress: Progress,
) -> tuple[list[int], dict[str, str]]:
    """Decode in parallel into inputs.npy; returns the positions kept, and the corrupt ones with the reason."""

    def one(index: int) -> np.ndarray | str:
        try:
            with image(index) as opened:
                return to_uint8(opened, index)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return f"{type(error).__name__}: {error}"

    done, corrupt = _taken_up(target)
    kept = [index for index in range(done) if names[index] not in corrupt]
    pixels = open_memmap(target / "all.npy", mode="r+") if kept else None
    with ThreadPoolExecutor(os.cpu_count()) as pool, (target / LOG).open("a", encoding="utf-8") as log:
        for start in range(done, len(names), CHUNK):
            progress(start, len(names), f"decoding {name}")
            span = range(start, min(start + CHUNK, len(names)))
            broken: dict[str, str] = {}
            for index, result in zip(span, pool.map(one, span), strict=True):
                if isinstance(result, str):
                    broken[names[index]] = result
                    continue
                if pixels is None:
                    shape = (len(names), *result.shape)
                    _check_room(name, target, len(names) * result.nbytes)
                    pixels = open_memmap(target / "all.npy", mode="w+", dtype=np.uint8, shape=shape)
                if result.shape != pixels.shape[1:]:
                    raise DataError(
                        f"data.{name}: {names[index]} has shape {result.shape} (channels, height, width), "
                        f"{names[kept[0]]} has {pixels.shape[1:]}; give the transform a resize and a crop."
                    )
                pixels[len(kept)] = result
                kept.append(index)
            corrupt |= broken
            log.write(json.dumps({"done": span.stop, "corrupt": broken}) + "\n")
            log.flush()
    progress(len(names), len(names), f"decoding {name}")
    if pixels is None:
        first, reason = next(iter(corrupt.items()))
        raise DataError(f"data.{name}: none of {len(names)} images can be decoded; {first}: {reason}.")
    if corrupt:
        np.save(target / "inputs.npy", pixels[: len(kept)])
        (target / "all.npy").unlink()
    else:
        (target / "all.npy").replace(target / "inputs.npy")
    (target / LOG).unlink()
    return kept, corrupt


def _check_room(name: str, target: Path, num_bytes: int) -> None:
    # The file is mapped into memory: a disk that is full would kill the process instead of raising an error.
    free = shutil.disk_usage(target).free
    if free < num_bytes:
        raise DataError(
            f"data.{name}: the disk is full: the decoded split needs {num_bytes / 1e6:.1f} MB in {target.parent}, "
            f"{free / 1e6:.1f} MB are free. Free some space, or name another folder in SOUPVIZ_CACHE."
        )


def _taken_up(target: Path) -> tuple[int, dict[str, str]]:
    """How far a decoding that was killed had come, and which files it found corrupt."""
    done = 0
    corrupt: dict[str, str] = {}
    whole = ""
    if (target / LOG).is_file():
        for line in (target / LOG).read_text(encoding="utf-8").splitlines(keepends=True):
            if not line.endswith("\n"):  # it was being written
                break
            entry = json.loads(line)
            done, corrupt, whole = entry["done"], corrupt | entry["corrupt"], whole + line
        (target / LOG).write_text(whole, encoding="utf-8")
    return done, corrupt


def nth(dataset: str, index: int) -> str:
    """What an example of a torchvision dataset, which has no files, is called."""
    return f"{dataset}[{index}]"


def _torchvision(name: str, dataset: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None) -> Source:
    from torchvision import datasets

    kind = getattr(datasets, dataset, None)
    if kind is None:
        raise DataError(f"data.{name}: torchvision has no dataset {dataset!r}; check the spelling.")
    root = folder / (spec.path or "data")
    arguments = spec.args | ({"download": True} if spec.download else {})
    try:
        examples = kind(root, **arguments)
    except (RuntimeError, TypeError, OSError) as error:
        raise DataError(
            f"data.{name}: torchvision's {dataset} in {root} with {arguments} failed: {error} "
            "(download: true lets it download itself)"
        ) from None
    order = list(classes or getattr(examples, "classes", None) or []) or None
    names = [nth(dataset, index) for index in range(len(examples))]
    files = sorted((p.relative_to(root).as_posix(), p.stat().st_size) for p in root.rglob("*") if p.is_file())

    def read(to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        labels: dict[int, int] = {}

        def image(index: int) -> Image.Image:
            picture, label = examples[index]
            labels[index] = int(label)
            return picture if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture))

        kept, corrupt = _decode(name, image, names, to_uint8, target, progress)
        taken_up = {i: int(examples[i][1]) for i in kept if i not in labels}
        return {"": "inputs"}, np.array([(labels | taken_up)[i] for i in kept]), [names[i] for i in kept], corrupt

    return Source([dataset, arguments, files], order, True, read)


def _arrays(name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None) -> Source:
    path = folder / str(spec.path)
    if not path.is_file():
        raise DataError(f"data.{name}: {path}: no such file; expected .npz or .safetensors with inputs and labels.")
    stat = path.stat()

    def read(_to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        progress(0, 1, f"reading {name}")
        inputs, labels = _open_arrays(name, path)
        _check_labels(name, labels, len(inputs))
        np.save(target / "inputs.npy", inputs)
        return {"": "inputs"}, labels.astype(np.int64), [], {}

    return Source([str(path.resolve()), stat.st_size, stat.st_mtime_ns], classes, False, read)


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


def _check_labels(name: str, labels: np.ndarray, num_inputs: int) -> None:
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"data.{name}: labels have shape {labels.shape} and type {labels.dtype}; expected one integer per example."
        )
    if len(labels) != num_inputs:
        raise DataError(f"data.{name}: {num_inputs} inputs but {len(labels)} labels; expected as many.")


def _python(name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None) -> Source:
    function = load_function(str(spec.path), folder)
    place = str(spec.path).rpartition(":")[0]
    source = file_digest(folder / place) if place.endswith(".py") else place

    def read(_to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        try:
            examples = function(**spec.args)
        except Exception as error:
            raise DataError(f"data.{name}: {spec.path} failed with {type(error).__name__}: {error}") from error
        columns, labels = _collect(name, examples, progress)
        arrays = {argument: f"inputs{index}" for index, argument in enumerate(columns)}
        for argument, file in arrays.items():
            np.save(target / f"{file}.npy", columns[argument])
        _keep_texts(name, examples, target)
        return arrays, np.array(labels, dtype=np.int64), [], {}

    # What a function yields may depend on files it opens: only a version named by the user makes it keepable.
    return Source([source, spec.path, spec.args, spec.version] if spec.version else None, classes, False, read)


def _collect(name: str, examples: Any, progress: Progress) -> tuple[dict[str, np.ndarray], list[int]]:
    columns: dict[str, list[Tensor]] = {}
    labels: list[int] = []
    for index in range(len(examples)):
        if index % CHUNK == 0:
            progress(index, len(examples), f"reading {name}")
        value, label = examples[index]
        labels.append(int(label))
        for argument, item in (value if isinstance(value, dict) else {"": value}).items():
            tensor = torch.as_tensor(item)
            column = columns.setdefault(argument, [])
            if len(column) != index or (column and tensor.shape != column[0].shape):
                raise DataError(
                    f"data.{name}: example {index} has {argument or 'an input'} of shape {tuple(tensor.shape)}, "
                    f"unlike those before it; pad the examples to one shape and give each the same keys."
                )
            column.append(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)
    if not labels:
        raise DataError(f"data.{name}: the dataset is empty; expected at least 2 examples.")
    return {argument: torch.stack(column).numpy() for argument, column in columns.items()}, labels


def _keep_texts(name: str, examples: Any, target: Path) -> None:
    """What a data set of the python format tells of its examples for people to read, if it has a method `text`."""
    tell = getattr(examples, "text", None)
    if not callable(tell):
        return
    texts = [tell(index) for index in range(len(examples))]
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(
                f"data.{name}: text({index}) of the dataset gave {type(text).__name__}; expected a string, what is "
                "shown of the example."
            )
    (target / TEXTS).write_text(json.dumps(texts), encoding="utf-8")


def texts_in(kept: Path) -> list[str]:
    """The texts that were kept of a split's examples; none where its data set tells none."""
    path = kept / TEXTS
    texts: list[str] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return texts
