"""The format `text` for tags: a sentence in words in each row of a table, or a word in each line."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from soupviz.data import tables
from soupviz.data.arguments import arguments_of
from soupviz.data.datasets import keep_texts
from soupviz.data.labels import PADDING
from soupviz.data.sources import Contents, Source, ToUint8, identity_of
from soupviz.data.text import capacity, conll, sentences, tokens
from soupviz.errors import DataError
from soupviz.spec import SplitSpec
from soupviz.types import Progress

STARTS = "word_starts"
"""The array of where each word's first token is, shape (sentences, most words): from the first token of a sentence, or
below 0 from behind its last one where sentences are padded on the left; NOWHERE where there is no word, or no token of
it is left."""

NOWHERE = np.iinfo(np.int64).min

CUT = -2
"""What a tag becomes whose word lies beyond the last token that the model is given: CUT - tag."""

NO_BREAK = "\u00a0"
"""Instead of the spaces within a word, where words are put together as a text."""


def source(name: str, spec: SplitSpec, folder: Path, classes: tuple[str, ...] | None, model: nn.Module) -> Source:
    """Words and tags, made into tokens when they are read: a word's tag is that of its first token."""
    where, path = f"data.{name}", folder / str(spec.path)
    if spec.pair or not isinstance(spec.label, str):
        odd = "pair" if spec.pair else "label"
        raise DataError(f"{where}.{odd}: tags are those of one column of words, in one column `label`; remove `pair`.")
    group = spec.group if isinstance(spec.group, str) else None
    if path.suffix.lower() in conll.SUFFIXES:
        table = conll.read(where, path)
    else:
        table = tables.read(where, path, [one for one in (spec.text, spec.label, group) if one])
    words, tags = table.lists("text", spec.text), table.lists("label", spec.label)
    _check(table, words, tags)
    flat = [tag for row in tags for tag in row]
    numbers, order, is_sorted, notes = sentences.of_classes(where, path, flat, classes, model)
    groups = table.groups(spec)
    tokenizer_folder = tokens.folder_at(where, folder / str(spec.tokenizer))
    longest = spec.max_length or tokens.longest(where, tokenizer_folder) or capacity.positions(model)

    def read(_to_uint8: ToUint8, target: Path, progress: Progress) -> Contents:
        tokenizer = tokens.load(where, tokenizer_folder)
        rows: tokens.Encoded = {}
        of_words: tokens.WordsOf = []
        for start in range(0, len(words), sentences.CHUNK):
            progress(start, len(words), f"reading {name}")
            part, found = tokens.encoded_words(where, tokenizer, words[start : start + sentences.CHUNK], longest)
            of_words += found
            for argument, values in part.items():
                rows.setdefault(argument, []).extend(values)
        arrays, told = sentences.kept(where, rows, tokenizer, model, target)
        starts = _starts(of_words, [len(row) for row in words], tokenizer.pads_left)
        np.save(target / f"{STARTS}.npy", starts)
        keep_texts(target, [" ".join(word.replace(" ", NO_BREAK) for word in row) for row in words])
        answers = _tags(numbers, [len(row) for row in words], starts)
        return Contents(
            arrays | {STARTS: STARTS},
            answers,
            notes=[*told, *_cut_off(where, answers, longest)],
            padding="left" if tokenizer.pads_left else "right",
            uncut=[STARTS],
            of_task=[STARTS],
        )

    known, _ = arguments_of(model)
    said = [*identity_of(path.parent, [path]), spec.text, spec.label, order, longest, sorted(known)]
    identity = [*said, *capacity.of_model(model), str(tokenizer_folder.resolve()), tokens.identity(tokenizer_folder)]
    return Source(identity, order, False, read, is_sorted, [*table.notes, *notes], groups)


def _check(table: tables.Table, words: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]) -> None:
    if not words:
        raise DataError(f"{table.where} has no rows; expected at least 2.")
    for number, one, other in zip(table.numbers, words, tags, strict=True):
        if len(one) != len(other) or not one:
            raise DataError(
                f"{table.where}, {table.unit} {number}, has {len(one)} words and {len(other)} tags; expected one tag "
                "for each word, and at least one of both."
            )


def _starts(of_words: tokens.WordsOf, sizes: Sequence[int], pads_left: bool) -> np.ndarray:
    """Where each word's first token is."""
    found = np.full((len(sizes), max(sizes)), NOWHERE, dtype=np.int64)
    for row, words in zip(found, of_words, strict=True):
        for place in range(len(words) - 1, -1, -1):
            if (word := words[place]) is not None:
                row[word] = place - len(words) if pads_left else place
    return found


def _tags(numbers: np.ndarray, sizes: Sequence[int], starts: np.ndarray) -> np.ndarray:
    """The tag of each word; CUT - tag where none of its tokens is left."""
    found = np.full(starts.shape, PADDING, dtype=np.int64)
    there = np.arange(starts.shape[1]) < np.array(sizes)[:, None]
    found[there] = numbers
    return np.where(there & (starts == NOWHERE), CUT - found, found)


def _cut_off(where: str, answers: np.ndarray, longest: int | None) -> list[str]:
    """What there is to tell of words without a token: empty ones, and those beyond the last token that fits."""
    lost = answers <= CUT
    if not lost.any():
        return []
    number, beyond = lost.any(axis=1).sum(), f", as {longest} fit at most, or they make none" if longest else ""
    return [f"{where}: {lost.sum():,} words of {number:,} sentences have no token{beyond}: they count as wrong."]
