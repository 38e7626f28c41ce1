"""The records of recognition: what was found and where, what has to be asked, and what the user answered."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soupviz.errors import KitchenError
from soupviz.plain_data import json_of

MayRead = Callable[[Path], bool]
"""Whether a path may be looked at that nobody named: what lies above or beside a folder that somebody did."""

FACTORY, DATA, TEXT, LABEL, TASK, VOCABULARY = "factory", "data", "text", "label", "task", "vocabulary"
"""What may have to be asked; also the names of the command line's options."""


@dataclass(frozen=True, slots=True)
class Found:
    """A value for kitchen.yaml, and the file (and key) that it is from, or why it is proposed."""

    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One value of the proposed kitchen.yaml, by its place there, and where it is from."""

    key: str
    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Question:
    """What nobody can know but the user. choices: what may be meant, the likeliest first."""

    key: str
    text: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answers:
    """What the user said; an empty one is to be found out, or asked."""

    data: Path | None = None
    factory: str = ""
    arguments: Mapping[str, Any] | None = None
    text: str = ""
    label: str = ""
    weights: str = ""
    task: str = ""
    vocabulary: Path | None = None
    sweep: Path | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """What a framework's folder says of a kitchen; paths are absolute, patterns relative to the folder.

    found: by key of kitchen.yaml: factory, args, ingredients, base, classes, weights; and `transform` of image
    folders, `tokenizer` of texts, `processor` of recordings. data: where the run's own files say that its data is.
    held_out: names of the split that its evaluation took. hyperparameters: what a factory's parameters may be.
    ema_scores: whether its logged scores are of the moving averages that the files hold beside the raw weights.
    convert: files that have to be converted on the user's word before they can be read. best: the one checkpoint that
    stands for the run among others of a sweep: the best where the framework keeps that, else the last.
    class_order: in which it read class folders. counted: the factory's argument that is their number.
    num_outputs: of the last layer, where the files alone say how large that is.
    """

    framework: str
    folder: Path
    found: Mapping[str, Found]
    data: tuple[Path, ...] = ()
    held_out: tuple[str, ...] = ()
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    ema_scores: bool = False
    convert: tuple[Path, ...] = ()
    best: Path | None = None
    notes: tuple[str, ...] = ()
    class_order: Callable[[Sequence[str]], list[str]] = sorted
    counted: str = ""
    num_outputs: int | None = None


def parse_arguments(text: str) -> dict[str, Any]:
    """A factory's keyword arguments, written as a JSON object; none where nothing is written.

    Raises:
        KitchenError: they are none.
    """
    try:
        values = json_of(text or "{}")
    except ValueError as error:
        raise KitchenError(
            f'the model\'s arguments are not JSON ({error}); expected such as {{"num_classes": 10}}.'
        ) from None
    if not isinstance(values, dict):
        raise KitchenError(f'the model\'s arguments are {text!r}; expected an object such as {{"num_classes": 10}}.')
    return values
