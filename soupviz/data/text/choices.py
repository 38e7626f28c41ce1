"""The format `choices`: a table of questions, each a context, the options that may follow it, and the right one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from soupviz.data import labels, tables
from soupviz.data.arguments import arguments_of
from soupviz.data.datasets import keep_texts
from soupviz.data.sources import Contents, Source, ToUint8, identity_of
from soupviz.data.text import capacity, option_pairs, tokens, windows
from soupviz.errors import DataError
from soupviz.plain_data import json_of
from soupviz.spec import SplitSpec
from soupviz.types import Progress

CHUNK = 250

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""What options are called where people read them."""

SHOWN = 400
"""Characters of a context that people are shown: its last ones, which the options follow."""


@dataclass(frozen=True, slots=True)
class Question:
    """where: its row, for messages. right: the position of the right option."""

    where: str
    context: str
    options: tuple[str, ...]
    right: int

    @property
    def shown(self) -> str:
        """The question as people read it."""
        context = self.context if len(self.context) <= SHOWN else f"…{self.context[-SHOWN:]}"
        return " ".join(
            [context, *(f"({letter(place)}) {option.strip()}" for place, option in enumerate(self.options))]
        )

    def pairs(self) -> list[tuple[str, str]]:
        """Of each option what is given, and what is predicted: white space that ends the context begins the option.

        Source:
            `_encode_pair` and the task's `target_delimiter` of the language model evaluation harness. Differs: a space
            is put between them only where there is no white space.
        """
        given = self.context.rstrip()
        between = self.context[len(given) :]
        space = "" if between or not given else " "
        return [(given, between + (option if option[:1].isspace() else space + option)) for option in self.options]


def letter(place: int) -> str:
    """What an option is called: A, B, ..., and beyond Z its number from 1."""
    return LETTERS[place] if place < len(LETTERS) else str(place + 1)


def source(name: str, spec: SplitSpec, folder: Path, model: nn.Module) -> Source:
    """Questions, made into tokens when they are read."""
    where = f"data.{name}"
    path = folder / str(spec.path)
    columns = [spec.options] if isinstance(spec.options, str) else list(spec.options)
    group = spec.group if isinstance(spec.group, str) else None
    table = tables.read(where, path, [one for one in (spec.context, *columns, spec.answer, group) if one])
    questions, notes = _questions(table, spec, columns)
    groups = table.groups(spec)
    tokenizer_folder = tokens.folder_at(where, folder / str(spec.tokenizer))
    longest = spec.max_length or tokens.longest(where, tokenizer_folder) or capacity.positions(model)
    known, _ = arguments_of(model)
    is_scored = option_pairs.scores_options(model)

    def read(_to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        tokenizer = tokens.load(where, tokenizer_folder)
        keep_texts(target, [question.shown for question in questions])
        if is_scored:
            pairs = [(question.context, question.options) for question in questions]
            arguments, told = option_pairs.save(where, target, tokenizer, pairs, longest, model)
            answers = _labels(questions, by_length=False)
            return Contents({one: one for one in arguments}, answers, notes=told, listed=arguments)
        units: list[windows.Rows] = []
        cut = 0
        for start in range(0, len(questions), CHUNK):
            progress(start, len(questions), f"reading {name}")
            for unit, shortened in _encoded(where, tokenizer, questions[start : start + CHUNK], longest):
                units.append(unit)
                cut += shortened
        told = windows.checked(where, units, tokenizer.size, model)
        if cut:
            told.append(
                f"{where}: {cut} options are read without the beginning of their context: {longest} tokens fit."
            )
        arrays = windows.save(target, units, model)
        return Contents(arrays, _labels(questions), notes=told, listed=list(arrays), of_task=[windows.TARGETS])

    identity: list[Any] = [*identity_of(path.parent, [path]), spec.context, columns, spec.answer, longest]
    identity += [option_pairs.HEADS] if is_scored else []
    identity += [sorted(known), *capacity.of_model(model)]
    identity += [str(tokenizer_folder.resolve()), tokens.identity(tokenizer_folder)]
    return Source(identity, None, False, read, notes=[*table.notes, *notes], groups=groups)


def _questions(table: tables.Table, spec: SplitSpec, columns: Sequence[str]) -> tuple[list[Question], list[str]]:
    """Every row, and what there is to tell of how the answers were read."""
    contexts, answers = table.column("context", spec.context), table.column("answer", spec.answer)
    places = [f"{table.where}, {table.unit} {number}" for number in table.numbers]
    if isinstance(spec.options, str):
        cells = table.cells("options", spec.options)
        lists = [_listed(place, spec.options, cell) for place, (_, cell) in zip(places, cells, strict=True)]
    else:
        lists = [list(row) for row in zip(*(table.column("options", column) for column in columns), strict=True)]
    for place, options in zip(places, lists, strict=True):
        if len(options) < 2 or not all(option.strip() for option in options):
            raise DataError(f"{place}, has the options {options}; expected at least 2, each with a text.")
    if not lists:
        raise DataError(f"{table.where} has no rows; expected at least 2.")
    by_text = all(answer in options for answer, options in zip(answers, lists, strict=True))
    right = []
    for place, answer, options in zip(places, answers, lists, strict=True):
        if by_text:
            right.append(options.index(answer))
        elif answer.isdecimal() and int(answer) < len(options):
            right.append(int(answer))
        else:
            raise DataError(
                f"{place}, has the answer {answer!r}; expected the position of one of its {len(options)} options, from "
                f"0 to {len(options) - 1}, or in every row the text of one."
            )
    is_either = by_text and all(answer.isdecimal() for answer in answers)
    notes = [f"{table.where}: its answers are read as texts of options, not as positions."] if is_either else []
    notes += _alike(table.where, places, lists)
    rows = zip(places, contexts, lists, right, strict=True)
    return [Question(place, context, tuple(options), answer) for place, context, options, answer in rows], notes


def _alike(where: str, places: Sequence[str], lists: Sequence[Sequence[str]]) -> list[str]:
    """What there is to tell of questions that have an option twice."""
    found = [place for place, one in enumerate(lists) if len({option.strip() for option in one}) < len(one)]
    if not found:
        return []
    return [
        f"{where}: {len(found)} of {len(lists)} questions have two options that are the same (the first is "
        f"{places[found[0]].removeprefix(f'{where}, ')}): these are as likely, and the first of them is taken. Mend or "
        "remove them."
    ]


def _listed(place: str, column: str, cell: Any) -> list[str]:
    """The options in one cell: a list, or the JSON of one where the table has only texts."""
    found = cell
    if isinstance(cell, str):
        try:
            found = json_of(cell)
        except ValueError:
            found = cell
    found = found.tolist() if isinstance(found, np.ndarray) else found
    if not isinstance(found, list) or not all(isinstance(option, str) for option in found):
        raise DataError(
            f"{place}, has {str(cell)[:80]!r} in {column!r}; expected a list of texts, or name one column for each "
            "option: options: [first, second]."
        )
    return found


def _encoded(
    where: str, tokenizer: tokens.Tokenizer, questions: Sequence[Question], longest: int | None
) -> list[tuple[windows.Rows, int]]:
    """Rows of each question, an option in each, and how many of them are cut.

    An option's tokens are those of the whole behind as many as the context alone has.
    """
    pairs = [question.pairs() for question in questions]
    flat = [pair for of_question in pairs for pair in of_question]
    wholes = tokens.encoded(where, tokenizer, [[given + option for given, option in flat]], None)[windows.TOKENS]
    contexts = tokens.encoded(where, tokenizer, [[of_question[0][0] for of_question in pairs]], None)[windows.TOKENS]
    found, place = [], 0
    for question, of_question, context in zip(questions, pairs, contexts, strict=True):
        rows = wholes[place : place + len(of_question)]
        place += len(of_question)
        found.append(_rows(question, rows, len(context), longest))
    return found


def _rows(
    question: Question, wholes: Sequence[Sequence[int]], given: int, longest: int | None
) -> tuple[windows.Rows, int]:
    rows, cut = [], 0
    for option, whole in zip(question.options, wholes, strict=True):
        number = len(whole) - given
        kept = list(whole if longest is None else whole[-longest:])
        if number < 1 or not given:
            told = "the option adds no token to it" if given else "the first token of an option has none before it"
            raise DataError(
                f"{question.where}: the context {question.context[-40:]!r} has {given} tokens, and with the option "
                f"{option[:40]!r} {len(whole)}: {told}; expected both to have some."
            )
        if number >= len(kept):
            raise DataError(
                f"{question.where}: the option {option[:40]!r} has {number} tokens, of which {longest} fit with one "
                "before it; give a larger max_length, if the model takes it, or a shorter option."
            )
        cut += len(kept) < len(whole)
        rows.append((kept, len(kept) - number))
    return windows.stacked(rows), cut


def _labels(questions: Sequence[Question], *, by_length: bool = True) -> np.ndarray:
    """Of each question the right option, then the bytes of each option's own text, or 1 for each; filled up."""
    rows = [
        np.array([question.right, *(len(option.encode()) if by_length else 1 for option in question.options)])
        for question in questions
    ]
    return np.stack(labels.padded(rows))
