"""Labels, read as a task wants them: numbers of classes, real numbers, 0 and 1 for each class, or as they are."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from soupviz.data.detection.objects import as_boxes
from soupviz.errors import DataError

Kind = Literal["classes", "numbers", "flags", "any", "texts", "tags", "boxes", "masks", "none", "options"]
"""classes: int64, shape (examples,). numbers: float32, shape (examples,) or (examples, outputs). flags: uint8, 0 or 1,
shape (examples, classes). any: numbers of any type and shape, as they are. texts: code points, int32, shape (examples,
longest). tags: int64, the class of each word, shape (examples, longest). boxes: float64, shape (examples, most, 7): x1,
y1, x2, y2, class, whether it stands for a crowd, area. masks: the class of each pixel, shape (examples, height, width).
none: nobody says them; the format gives what a task needs to know of each example whose input is itself predicted: of a
document how many tokens are predicted, and its bytes, int64, shape (examples, 2). options: int64, shape (examples, 1 +
most): the place of the right option, and the bytes of each."""

WANTED: dict[Kind, str] = {
    "classes": "the number of a class",
    "numbers": "a number, or a row of numbers,",
    "flags": "a row of 0 and 1, one for each class,",
    "any": "a number, or an array of numbers,",
    "texts": "a text",
    "tags": "the number of a class for each word",
    "boxes": "a row of x1, y1, x2, y2, class, crowd and area for each object",
    "masks": "the number of a class for each pixel",
    "none": "a text, which it predicts itself,",
    "options": "a context, options and an answer",
}

FORMATS_OF: dict[Kind, tuple[str, ...]] = {
    "none": ("text", "python"),
    "options": ("choices",),
    "tags": ("text", "arrays", "python"),
    "masks": ("masks", "arrays", "python"),
}
"""Of kinds that some formats have alone: which. The first of them has no other labels, but for `text`."""

TASKS_OF: dict[Kind, str] = {"options": "multiple_choice", "masks": "segmentation"}
"""Of formats with no other labels, the tasks that they are for."""

WITH_CLASSES = frozenset[Kind](("classes", "flags", "tags", "boxes", "masks", "any"))
"""Kinds that numbers of classes occur in, which `classes:` names."""

PADDING = -1
"""What labels of varying length are filled up with, where they are read as they are."""


def check_format(name: str, form: str, kind: Kind) -> None:
    """Refuse a format that cannot have such labels, or has only labels of another kind.

    Raises:
        DataError: naming a format that has them.
    """
    takers = FORMATS_OF.get(kind, ())
    others = [TASKS_OF[other] for other, formats in FORMATS_OF.items() if form == formats[0] and other in TASKS_OF]
    is_others = bool(others) and form not in takers and kind != "any"
    if (takers and form not in takers) or is_others:
        other = f"format {takers[0]}" if takers else f"another format, or the task {others[0]}"
        raise DataError(
            f"data.{name}: format {form} does not give {WANTED[kind].rstrip(',')} for each example, which the task "
            f"wants; take {other}."
        )


def refuse_folders(name: str, form: str, kind: Kind) -> None:
    """Refuse a format that says of each example only its class.

    Raises:
        DataError: the task wants other labels.
    """
    if kind not in ("classes", "any"):
        raise DataError(
            f"data.{name}: format {form} says of each example only its class, but the task wants {WANTED[kind]} for "
            "each; give them with a format that has such labels."
        )


def refuse_boxes(name: str, form: str, kind: Kind) -> None:
    """Refuse a format of boxes.

    Raises:
        DataError: the task wants other labels.
    """
    if kind not in ("boxes", "any"):
        raise DataError(
            f"data.{name}: format {form} has boxes, but the task wants {WANTED[kind]} for each example: take "
            "task: detection, or another format."
        )


def of_array(name: str, labels: np.ndarray, kind: Kind, num_inputs: int) -> np.ndarray:
    """The labels of all examples, checked.

    Raises:
        DataError: another shape or type, another number of them, or one that is none.
    """
    if kind == "texts" and labels.dtype.kind == "U":
        labels = _of_texts(labels.tolist())
    if kind == "boxes":
        return _boxes_of_all(name, labels, num_inputs)
    is_numeric = np.issubdtype(labels.dtype, np.number) or labels.dtype == np.bool_
    if kind == "classes" and labels.shape[1:] == (1,):
        labels = labels[:, 0]
    if kind == "flags" and labels.ndim == 1:
        labels = labels[:, None]
    dimensions = {"classes": (1,), "numbers": (1, 2), "flags": (2,), "masks": (3,)}.get(kind, range(1, 99))
    if not is_numeric or labels.ndim not in dimensions:
        raise DataError(
            f"data.{name}: labels have shape {labels.shape} and type {labels.dtype}; expected {WANTED[kind]} for each "
            "example."
        )
    if len(labels) != num_inputs:
        raise DataError(f"data.{name}: {num_inputs} inputs but {len(labels)} labels; expected as many.")
    if kind == "masks":
        return as_masks(name, labels)
    if kind not in ("classes", "numbers", "flags"):
        return labels
    with np.errstate(invalid="ignore", over="ignore"):  # what is no number is no whole one either
        read = labels.astype({"classes": np.int64, "numbers": np.float32, "flags": np.uint8}[kind])
    good = np.isfinite(read) if kind == "numbers" else read == labels
    good = good & (read <= 1) if kind == "flags" else good
    strange = np.flatnonzero(~good.all(axis=tuple(range(1, good.ndim))))
    if strange.size:
        raise DataError(
            f"data.{name}: the label of example {strange[0]} is {labels[strange[0]]}; expected {WANTED[kind]}"
            f"{' for each example' if kind != 'classes' else ''}."
        )
    return read


def as_masks(name: str, labels: np.ndarray) -> np.ndarray:
    """Masks as they are kept, uint8 where that holds their values, else int32.

    Raises:
        DataError: a value that is no whole number.
    """
    with np.errstate(invalid="ignore"):
        whole = labels.astype(np.int32)
    strange = np.flatnonzero((whole != labels).any(axis=(1, 2)))
    if strange.size:
        raise DataError(f"data.{name}: the mask of example {strange[0]} has values that are no whole numbers.")
    return whole.astype(np.uint8) if whole.min(initial=0) >= 0 and whole.max(initial=0) <= 255 else whole


def of_example(label: Any, kind: Kind) -> Any:
    """The label of one example, as a data set of Python tells it.

    Raises:
        ValueError: it is none; in words that end a message.
    """
    if kind == "classes":
        return _whole(label)
    if kind == "texts":
        if not isinstance(label, str):
            raise ValueError(f"the label is {type(label).__name__}: give the text itself")
        return as_codes(label)
    if kind == "boxes":
        return as_boxes(label)
    if isinstance(label, str):
        raise ValueError(f"the label is the text {label!r}: give it as a number")
    found = np.asarray(label.detach().cpu() if hasattr(label, "detach") else label)
    # Whatever stands for no tag, as the -100 of transformers' collators.
    return np.where(found < 0, PADDING, found) if kind == "tags" else found


def _whole(label: Any) -> int:
    if isinstance(label, str):
        raise ValueError(f"the label is the text {label!r}: give its place among the names of the classes, from 0")
    label = label.item() if hasattr(label, "item") else label  # of an array or tensor with one value
    number = int(label)
    if number != label:
        raise ValueError(f"the label is {label}; expected the number of a class")
    return number


def as_codes(text: str) -> np.ndarray:
    """A text as its code points, int32."""
    return np.array([ord(character) for character in text], dtype=np.int32)


def _of_texts(texts: Sequence[str]) -> np.ndarray:
    return np.stack(padded([as_codes(text) for text in texts]))


def as_text(codes: np.ndarray) -> str:
    """The text of code points, without what fills it up."""
    return "".join(map(chr, codes[codes != PADDING].tolist()))


def _boxes_of_all(name: str, labels: np.ndarray, num_inputs: int) -> np.ndarray:
    """Boxes of all images in one array, filled up with PADDING."""
    if labels.ndim != 3 or len(labels) != num_inputs or labels.dtype.kind not in "iuf":
        raise DataError(
            f"data.{name}: labels have shape {labels.shape} and type {labels.dtype}; expected {WANTED['boxes']}, for "
            f"each of {num_inputs} images, filled up with {PADDING}."
        )
    found = []
    for index, label in enumerate(labels):
        try:
            found.append(as_boxes(unpadded(label)))
        except ValueError as error:
            raise DataError(f"data.{name}: image {index}: {error}.") from None
    return np.stack(padded(found))


def padded(labels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Labels of varying length, as the words of a transcript or the boxes of an image, filled up with PADDING."""
    longest = max((len(label) for label in labels if label.ndim), default=0)
    return [
        np.concatenate([label, np.full((longest - len(label), *label.shape[1:]), PADDING, dtype=label.dtype)])
        if label.ndim and label.dtype.kind in "if" and len(label) < longest
        else label
        for label in labels
    ]


def unpadded(label: np.ndarray) -> np.ndarray:
    """One of the labels that `padded` gave, without what it was filled up with."""
    if not label.ndim or not len(label):
        return label
    filled = np.flatnonzero((label != PADDING).reshape(len(label), -1).any(axis=1))
    return label[: filled[-1] + 1] if len(filled) else label[:0]


def stacked(name: str, labels: Sequence[Any], kind: Kind) -> np.ndarray:
    """What `of_example` gave, as one array.

    Raises:
        DataError: their shapes differ, or one is no label.
    """
    if kind == "classes":
        return np.array(labels, dtype=np.int64)
    if kind not in ("numbers", "flags", "masks"):
        labels = padded(labels)
    for index, label in enumerate(labels):
        if label.shape != labels[0].shape:
            raise DataError(
                f"data.{name}: the label of example {index} has shape {label.shape}, unlike {labels[0].shape} of those "
                "before it; give each as many numbers."
            )
    return of_array(name, np.stack(labels), kind, len(labels))


def of_columns(name: str, columns: Sequence[str], cells: Sequence[Sequence[str]], kind: Kind) -> np.ndarray:
    """Labels from columns of a table, a number in each cell.

    Raises:
        DataError: a cell that holds no number, or no 0 or 1 where flags are wanted.
    """
    if kind == "texts":
        return _of_texts(cells[0])
    found = np.empty((len(cells[0]), len(columns)), dtype=np.float64)
    for place, (column, texts) in enumerate(zip(columns, cells, strict=True)):
        for row, text in enumerate(texts):
            try:
                found[row, place] = float(text)
            except ValueError:
                raise DataError(
                    f"data.{name}: {column!r} of example {row} is {text!r}; expected a number, as the task wants "
                    f"{WANTED[kind]} for each example."
                ) from None
    return of_array(name, found[:, 0] if len(columns) == 1 else found, kind, len(found))


def check_width(name: str, place: str, width: int, outputs: int) -> None:
    """Refuse labels with more or fewer numbers than the model says of each example.

    Raises:
        DataError: naming both.
    """
    if width != outputs:
        raise DataError(
            f"data.{name}: labels in {place} have {width} numbers for each example, but the model's head has {outputs} "
            "outputs. Check the model's args and the data's labels."
        )
