"""Examples that a data set of Python yields, one by one, as arrays and labels."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from soupviz.data import labels as reading
from soupviz.data.classes import named
from soupviz.data.names import as_name
from soupviz.data.sources import LENGTHS
from soupviz.errors import DataError
from soupviz.models.usercode import guarded
from soupviz.types import Progress

CHUNK = 256
LABELS = ("labels", "label", "label_ids")
"""What Hugging Face calls the label beside the inputs, the first of them that is there."""


@dataclass(slots=True)
class Columns:
    """Examples by column: inputs by argument, labels, what is text beside them, what is left out and why, groups."""

    tensors: dict[str, list[Tensor]] = field(default_factory=dict)
    labels: list[Any] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)

    def notes(self, name: str) -> list[str]:
        shown = (
            f"data.{name}: {named(list(self.texts))} of its examples: texts, which are shown and not fed to the model."
        )
        found = [shown] if self.texts else []
        for reason in dict.fromkeys(self.left_out.values()):
            columns = named([column for column, why in self.left_out.items() if why == reason])
            found.append(f"data.{name}: {reason} {columns}: left out.")
        return found


def number_of(where: str, examples: Any) -> int:
    """How many examples a data set has.

    Raises:
        DataError: it has no length, or cannot be asked for one example.
    """
    with guarded(lambda told: DataError(f"{where} failed with {told}")):
        if hasattr(examples, "__len__") and hasattr(examples, "__getitem__"):
            return len(examples)
    raise DataError(
        f"{where} gave {type(examples).__name__}; expected a map-style data set, with a length and examples by number. "
        "Of one to iterate over make a list; of a DataLoader give its .dataset."
    )


def pair(name: str, index: int, examples: Any, number: int, labels: reading.Kind = "classes") -> tuple[Any, Any]:
    """An example's input and its label, from a pair or from a dict that holds the label too."""
    with guarded(lambda told: DataError(f"data.{name}: reading example {index} of {number} failed with {told}")):
        example = examples[index]

    def refusal(told: str) -> DataError:
        kind = f"a dict of {named(list(map(str, example)))}" if isinstance(example, Mapping) else type(example).__name__
        return DataError(
            f"data.{name}: example {index} is {kind}; expected an input and {reading.WANTED[labels]} or a dict "
            f"with that as `labels` or `label` ({told})"
        )

    if labels == "none":  # what stands beside its tokens is no answer
        return (example[0] if isinstance(example, tuple) else example), None
    with guarded(refusal):  # whatever objects of the user's raise
        if isinstance(example, Mapping):
            place = next((key for key in LABELS if key in example), LABELS[0])
            return {key: value for key, value in example.items() if key not in LABELS}, reading.of_example(
                example[place], labels
            )
        value, label = example
        return value, reading.of_example(label, labels)


def collect(
    name: str,
    examples: Any,
    number: int,
    taken: tuple[Set[str], bool],
    progress: Progress,
    labels: reading.Kind = "classes",
    group: str | None = None,
) -> Columns:
    """Every example of a data set.

    Args:
        taken: the arguments that the model's forward names, and whether it takes any other. Where it does not, and an
            example has some of them, these are all that is made into tensors; else what can be. labels: of which kind.
        group: the column that says what belongs together; it is fed to a model only that names it.
    """
    known, takes_all = taken
    found = Columns()
    for index in range(number):
        if index % CHUNK == 0:
            progress(index, number, f"reading {name}")
        value, label = pair(name, index, examples, number, labels)
        found.labels.append(label)
        if group is not None:
            found.groups.append(group_of(name, index, value, group))
        columns = value if isinstance(value, Mapping) else {"": value}
        columns = {key: item for key, item in columns.items() if key != group or key in known}
        wanted = (set() if takes_all else columns.keys() & known) or columns.keys()
        for argument, item in columns.items():
            if isinstance(item, str) and isinstance(value, Mapping):
                found.texts.setdefault(argument, []).append(item)
            elif argument not in wanted:
                found.left_out[argument] = "the model's forward does not take"
            elif argument not in found.left_out:
                _add(found, name, index, argument, item, is_needed=not argument or argument in known)
    if not found.labels:
        raise DataError(f"data.{name}: the dataset is empty; expected at least 2 examples.")
    if not found.tensors:
        told = " ".join(found.notes(name)) or f"data.{name}: there is nothing beside the label."
        raise DataError(f"data.{name}: its examples have no inputs that are tensors. {told}")
    for argument, column in found.tensors.items():
        if len(column) != number:
            raise DataError(
                f"data.{name}: example {len(column)} has no {argument}, which those before it have; give each the "
                "same keys."
            )
    found.texts = {argument: texts for argument, texts in found.texts.items() if len(texts) == number}
    return found


def tokens_of(name: str, index: int, document: Any) -> list[int]:
    """The tokens of a document: itself, or `input_ids` of a dictionary; those that its `attention_mask` leaves.

    Raises:
        DataError: it is no row of whole numbers.
    """

    def refusal(told: str) -> DataError:
        return DataError(
            f"data.{name}: example {index} is {type(document).__name__}; expected the tokens of a document as a row of "
            f"whole numbers from 0, alone or as `input_ids` of a dict ({told})"
        )

    with guarded(refusal):  # whatever objects of the user's raise
        is_dict = isinstance(document, Mapping)
        row = np.asarray(document["input_ids"] if is_dict else document)
        if is_dict and "attention_mask" in document:
            row = row[np.asarray(document["attention_mask"]).astype(bool)]
        if row.ndim != 1 or (row.size and (row.dtype.kind not in "iu" or row.min() < 0)):
            raise ValueError(f"it has shape {row.shape} and type {row.dtype}")
        return [int(token) for token in row]


def group_of(name: str, index: int, inputs: Any, group: str) -> str:
    """The group of an example, by the key of its dictionary.

    Raises:
        DataError: it is no dictionary, or has no such key, or nothing that names a group in it.
    """
    where = f"data.{name}.group: {group!r} of example {index}"
    if isinstance(inputs, Mapping) and group in inputs:
        return as_name(where, inputs[group])
    has = f"has {named(list(map(str, inputs)))}" if isinstance(inputs, Mapping) else "is no dictionary"
    raise DataError(
        f"{where} is not there: it {has}. Give each example that key, or name a CSV: "
        f"group: {{file: FILE.csv, column: {group}}}."
    )


def _add(found: Columns, name: str, index: int, argument: str, item: Any, *, is_needed: bool) -> None:
    def refusal(told: str) -> DataError:
        return DataError(
            f"data.{name}: example {index} has {argument or 'an input'} of type {type(item).__name__}, which is no "
            f"tensor ({told}); give the data set a transform that makes tensors."
        )

    try:
        with guarded(refusal):  # whatever an object of the user's raises
            tensor = torch.as_tensor(item)
    except DataError:
        if is_needed or index:
            raise
        found.left_out[argument] = f"no tensor can hold the {type(item).__name__} of"
        return
    column = found.tensors.setdefault(argument, [])
    if len(column) != index:
        raise unlike(name, index, argument, tensor)
    column.append(tensor.float() if tensor.dtype == torch.bfloat16 else tensor)


def unlike(name: str, index: int, argument: str, tensor: Tensor) -> DataError:
    return DataError(
        f"data.{name}: example {index} has {argument or 'an input'} of shape {tuple(tensor.shape)}, unlike those "
        "before it; pad the examples to one shape and give each the same keys. Where only the first dimension varies, "
        "they are padded here if the model can tell: by an attention_mask of each, or a forward that takes `lengths`."
    )


@dataclass(frozen=True, slots=True)
class Stacked:
    """Inputs as one array for each argument.

    lengths: of each example, where these vary: the first dimension of its inputs, before they were padded at the end.
    uncut: the arguments that were not padded, as they have no such dimension.
    """

    arrays: Mapping[str, np.ndarray]
    lengths: np.ndarray | None = None
    uncut: tuple[str, ...] = ()


def stacked(name: str, columns: Mapping[str, Sequence[Tensor]], pad: int, known: Sequence[str]) -> Stacked:
    """Inputs of one shape as they are; those of varying length padded to the longest, where the model can tell.

    It can by an `attention_mask` beside them, or where its forward takes `lengths`, which are then made.

    Args:
        pad: the token that is the padding's. known: the arguments of the model's forward, in order.
    """
    columns = dict(columns)
    takes_lengths = LENGTHS in known and LENGTHS not in columns
    if takes_lengths and "" in columns:
        columns = {known[0]: columns[""]}
    lengths = _lengths(columns, takes_lengths)
    is_ragged = len(set(lengths)) > 1
    found, uncut = {}, []
    for argument, column in columns.items():
        if is_ragged and [tensor.shape[:1] for tensor in column] == lengths:
            _check_alike(name, argument, column, from_dimension=1)
            value = pad if argument == "input_ids" else 0
            found[argument] = pad_sequence(list(column), batch_first=True, padding_value=value).numpy()
            continue
        _check_alike(name, argument, column)
        found[argument] = torch.stack(list(column)).numpy()
        uncut.append(argument)
    if takes_lengths and lengths:
        found[LENGTHS] = np.array(lengths, dtype=np.int64)[:, 0]
        uncut.append(LENGTHS)
    return Stacked(found, np.array(lengths)[:, 0], tuple(uncut)) if is_ragged else Stacked(found)


def _lengths(columns: Mapping[str, Sequence[Tensor]], takes_lengths: bool) -> list[torch.Size]:
    """Of each example the length by which it is padded, as a shape; empty where nothing tells the model of padding."""
    masks = columns.get("attention_mask", [])
    if masks and all(mask.ndim == 1 for mask in masks):
        return [mask.shape for mask in masks]
    if not takes_lengths:
        return []
    shapes = [[tensor.shape[:1] for tensor in column] for column in columns.values()]
    found = next((lengths for lengths in shapes if len(set(lengths)) > 1), shapes[0])
    return found if all(found) else []  # of single numbers nothing has a length


def _check_alike(name: str, argument: str, column: Sequence[Tensor], from_dimension: int = 0) -> None:
    for index, tensor in enumerate(column):
        if tensor.shape[from_dimension:] != column[0].shape[from_dimension:]:
            raise unlike(name, index, argument, tensor)
