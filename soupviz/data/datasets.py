"""The formats whose examples come out of a data set in Python: torchvision's by name, or the user's own function."""

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from soupviz.data import labels, ragged
from soupviz.data.arguments import arguments_of
from soupviz.data.classes import named
from soupviz.data.examples import Columns, collect, group_of, number_of, pair, stacked, tokens_of
from soupviz.data.images.imagefolder import decode
from soupviz.data.sources import LENGTHS, Contents, Source, ToUint8, identity_of
from soupviz.data.text import windows
from soupviz.errors import DataError
from soupviz.extras import needed
from soupviz.files import file_digest, replacing
from soupviz.models.building import load_function
from soupviz.models.usercode import guarded
from soupviz.spec import SplitSpec
from soupviz.types import Progress

if TYPE_CHECKING:
    from PIL import Image

UNPICKLING = ("LSUN", "LSUNClass")
"""Of torchvision's data sets those that unpickle what nobody checks; those of CIFAR are known by their checksums."""

TEXTS = "texts.json"
"""Beside the arrays of a data set that tells its examples as texts."""

GROUPS = "groups.json"
"""Beside them what belongs together, by the name of the column that says so."""


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

    def refusal(told: str) -> DataError:
        return DataError(
            f"data.{name}: torchvision's {dataset} in {root} with {arguments} failed: {told} "
            "(download: true lets it download itself)"
        )

    with guarded(refusal):  # whatever its constructor raises: a wrong split, no files, a package that is missing
        examples = kind(*([root] if reads_files else []), **arguments)
        number = len(examples)
    order = list(classes or getattr(examples, "classes", None) or []) or None
    names = [nth(dataset, index) for index in range(number)]

    def read(to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        answers: dict[int, int] = {}

        def image(index: int) -> "Image.Image":
            from PIL import Image

            picture, answers[index] = pair(name, index, examples, number)
            return picture if isinstance(picture, Image.Image) else Image.fromarray(np.asarray(picture))

        done = decode(name, image, names, to_uint8, target, progress)
        for index in done.kept:  # those that a killed process had decoded
            if index not in answers:
                answers[index] = pair(name, index, examples, number)[1]
        found = np.array([answers[index] for index in done.kept])
        return Contents({"": "inputs"}, found, [names[index] for index in done.kept], done.corrupt, done.notes)

    files = sorted(path for path in root.rglob("*") if path.is_file()) if reads_files else []
    return Source([dataset, arguments, *identity_of(root, files)], order, True, read, names=names)


def _torchvision_class(name: str, dataset: str) -> Any:
    with needed(f"data.{name}: torchvision:{dataset}", DataError):
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
    name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None, model: nn.Module, kind: labels.Kind
) -> Source:
    """What a function of the user's returns."""
    function = load_function(str(spec.path), folder)
    place = str(spec.path).rpartition(":")[0]
    source = file_digest(folder / place) if place.endswith(".py") else place

    arguments, takes_all = arguments_of(model)
    taken = frozenset(arguments), takes_all
    group = spec.group if isinstance(spec.group, str) else None

    def dataset() -> tuple[Any, int]:
        with guarded(lambda told: DataError(f"data.{name}: {spec.path} failed with {told}")):
            examples = function(**spec.args)
        return examples, number_of(f"data.{name}: {spec.path}", examples)

    def grouping(kept: Path) -> list[str]:
        assert group is not None
        if group not in _groups_in(kept):  # kept before anybody asked for them
            examples, number = dataset()
            found = [
                group_of(name, index, pair(name, index, examples, number, kind)[0], group) for index in range(number)
            ]
            _keep_groups(kept, group, found)
        return _groups_in(kept)[group]

    def read(_to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        examples, number = dataset()
        if kind == "none":
            return _documents(name, spec, examples, number, target, model, progress)
        found = collect(name, examples, number, taken, progress, kind, group)
        answers = labels.stacked(name, found.labels, kind)
        if group is not None:
            _keep_groups(target, group, found.groups)
        keep_texts(target, _told_texts(name, examples, number) or next(iter(found.texts.values()), []))
        if kind == "boxes":
            return _listed(name, found, answers, target)
        pad = getattr(getattr(model, "config", None), "pad_token_id", None) or 0
        inputs = stacked(name, found.tensors, pad, list(arguments))
        arrays = {argument: f"inputs{index}" for index, argument in enumerate(inputs.arrays)}
        for argument, file in arrays.items():
            np.save(target / f"{file}.npy", inputs.arrays[argument])
        if inputs.lengths is not None:
            np.save(target / f"{LENGTHS}.npy", inputs.lengths)
        padding = "" if inputs.lengths is None else "right"
        return Contents(arrays, answers, notes=found.notes(name), padding=padding, uncut=inputs.uncut)

    # What a function yields may depend on files it opens: only a version named by the user makes it keepable.
    identity: list[Any] | None = None
    if spec.version:
        identity = [str(folder.resolve()), source, spec.path, spec.args, [sorted(arguments), takes_all], spec.version]
        if takes_all and group is not None and group not in arguments:  # which is then no input
            identity.append(group)
    return Source(identity, classes, False, read, grouping=grouping)


def _documents(
    name: str, spec: SplitSpec, examples: Any, number: int, target: Path, model: nn.Module, progress: Progress
) -> Contents:
    """The tokens of documents, each of which is one window."""
    texts = _told_texts(name, examples, number)
    keep_texts(target, texts)
    units = []
    for index in range(number):
        progress(index, number, f"reading {name}")
        document, _ = pair(name, index, examples, number, "none")
        units.append(windows.windows(tokens_of(name, index, document), None, None))
    sizes = [len(text.encode()) for text in texts] or [0] * number
    return windows.of_documents(f"data.{name}: {spec.path}", units, sizes, target, model)


def _listed(name: str, found: Columns, answers: np.ndarray, target: Path) -> Contents:
    """Images of their own sizes, which a detector takes as a list."""
    if len(found.tensors) > 1:
        raise DataError(
            f"data.{name}: its examples have {named(list(found.tensors))}; expected an image and its boxes."
        )
    (images,) = found.tensors.values()
    if unlike := next((image for image in images if image.ndim != 3 or image.dtype != images[0].dtype), None):
        raise DataError(
            f"data.{name}: an image has shape {tuple(unlike.shape)} and type {unlike.dtype}; expected (channels, "
            "height, width), and one type."
        )
    ragged.save(target, "inputs", [image.numpy() for image in images])
    return Contents({"": "inputs"}, answers, notes=found.notes(name), listed=[""])


def _groups_in(kept: Path) -> dict[str, list[str]]:
    path = kept / GROUPS
    found: dict[str, list[str]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _keep_groups(kept: Path, column: str, groups: list[str]) -> None:
    text = json.dumps(_groups_in(kept) | {column: groups})
    with replacing(kept / GROUPS) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _told_texts(name: str, examples: Any, number: int) -> list[str]:
    """What a data set of the python format tells of its examples for people to read, if it has a method `text`."""
    tell = getattr(examples, "text", None)
    if not callable(tell):
        return []
    with guarded(lambda told: DataError(f"data.{name}: text(index) of the dataset failed with {told}")):
        texts = [tell(index) for index in range(number)]
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
