"""The tokens that a model of speech says, and the text that they stand for."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soupviz.errors import KitchenError, told

FILES = ("vocab.json", "vocab.txt", "tokens.txt", "units.txt")
"""What the file of a checkpoint's folder may be called, the first of them that is there."""

BLANKS = ("<pad>", "[PAD]", "<blank>", "<blk>", "<b>")
"""What files call the blank, where it is not their first token."""

SPACES = ("<space>", "[SPACE]")
WORD_BEGINS = "▁"
"""Before the first piece of a word, as SentencePiece has it."""

SPECIAL = re.compile(r"<[^<>]+>|\[[A-Z]+\]")
"""Tokens that stand for no text."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """tokens: by number, as the file has them. pieces: the text that each stands for. blank: the number of the blank.
    separator: between tokens, where each is a word."""

    tokens: tuple[str, ...]
    pieces: tuple[str, ...]
    blank: int
    separator: str = ""

    def __len__(self) -> int:
        return len(self.tokens)

    def text(self, numbers: Sequence[int]) -> str:
        """What tokens stand for, after repeats and blanks are gone."""
        return self.separator.join([self.pieces[number] for number in numbers]).strip()

    @property
    def told(self) -> str:
        """How it is read, in a sentence."""
        spaces = [token for token, piece in zip(self.tokens, self.pieces, strict=True) if piece == " "]
        silent = [t for place, t in enumerate(self.tokens) if not self.pieces[place] and place != self.blank]
        parts = [f"{len(self)} tokens, of which {self.tokens[self.blank]!r} ({self.blank}) is the blank"]
        parts += [f"{' and '.join(map(repr, spaces))} stands for a space"] if spaces and spaces != [" "] else []
        parts += [f"{', '.join(silent[:6])} for no text"] if silent else []
        parts += ["each is a word"] if self.separator else []
        return "; ".join(parts)


def read(given: Any, blank: int | None, folder: Path) -> Vocabulary:
    """A vocabulary from kitchen.yaml: a list of tokens, or the file that has them.

    Args:
        folder: what the file is relative to. blank: None: as the file calls it, else the first token.
    Raises:
        KitchenError: no such file, or nothing in it that is a vocabulary.
    """
    if isinstance(given, str):
        tokens = _in_file(folder / given)
    elif isinstance(given, (list, tuple)) and given:
        tokens = [str(token) for token in given]
    else:
        raise KitchenError(
            f"task.vocabulary is {given!r}; expected a list of tokens, or a file of them such as a checkpoint's "
            "vocab.json."
        )
    if len(tokens) < 2 or len(set(tokens)) < len(tokens):
        twice = next((token for token in tokens if tokens.count(token) > 1), "")
        raise KitchenError(
            f"task.vocabulary has {len(tokens)} tokens{f', and {twice!r} twice' if twice else ''}; expected several, "
            "each once."
        )
    if blank is None:
        blank = next((tokens.index(one) for one in BLANKS if one in tokens), 0)
    if not isinstance(blank, int) or isinstance(blank, bool) or not 0 <= blank < len(tokens):
        raise KitchenError(f"task.blank is {blank!r}; expected the number of a token, from 0 to {len(tokens) - 1}.")
    return _of_tokens(tokens, blank)


def _in_file(path: Path) -> list[str]:
    if path.is_dir():
        path = next((path / name for name in FILES if (path / name).is_file()), path / FILES[0])
    if not path.is_file():
        raise KitchenError(f"task.vocabulary: {path}: no such file; expected a vocab.json, or a token in each line.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        numbers = json.loads(text) if path.suffix == ".json" else _in_lines(text)
    except (ValueError, RecursionError) as error:
        raise KitchenError(f"task.vocabulary: {path} cannot be read: {told(error)}; save it as UTF-8.") from None
    if isinstance(numbers, list) and all(isinstance(token, str) for token in numbers):
        return numbers
    if not isinstance(numbers, Mapping) or sorted(map(str, numbers.values())) != sorted(map(str, range(len(numbers)))):
        raise KitchenError(
            f"task.vocabulary: {path} is no list of tokens, and no mapping of each token to its number from 0 without "
            "gaps; expected one of them."
        )
    return [str(token) for token, _ in sorted(numbers.items(), key=lambda item: int(item[1]))]


def _in_lines(text: str) -> list[str] | Mapping[str, int]:
    """A token in each line, or a token and its number, as espnet, icefall and wenet write them."""
    lines = text.split("\n")
    lines = [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]
    parts = [line.rsplit(None, 1) for line in lines]
    if all(len(part) == 2 and part[1].isdecimal() for part in parts):
        return {token: int(number) for token, number in parts}
    return lines


def _of_tokens(tokens: Sequence[str], blank: int) -> Vocabulary:
    others = [token for place, token in enumerate(tokens) if place != blank and not SPECIAL.fullmatch(token)]
    has_space = any(token.isspace() or WORD_BEGINS in token for token in others) or any(s in tokens for s in SPACES)
    bar_is_space = "|" in tokens and not has_space
    pieces = []
    for place, token in enumerate(tokens):
        if place == blank:
            pieces.append("")
        elif token in SPACES or (bar_is_space and token == "|"):
            pieces.append(" ")
        else:
            pieces.append("" if SPECIAL.fullmatch(token) else token.replace(WORD_BEGINS, " "))
    are_words = not (has_space or bar_is_space) and any(len(token) > 1 for token in others)
    return Vocabulary(tuple(tokens), tuple(pieces), blank, " " if are_words else "")


class Speller:
    """Writes texts in a vocabulary's tokens, for a loss that wants them."""

    def __init__(self, vocabulary: Vocabulary, normalized: Callable[[str], str]):
        self._normalized = normalized
        self._separator = vocabulary.separator
        self._numbers: dict[str, int] = {}
        for number, piece in enumerate(vocabulary.pieces):
            # What the normaliser makes of a token alone; of a space, and what begins a word, it takes the space away.
            bare = normalized(piece)
            told = (" " + bare if piece.startswith(" ") else bare) if piece else ""
            if told:
                self._numbers.setdefault(told, number)
        self._longest = max(map(len, self._numbers), default=1)
        self._begins = any(len(told) > 1 and told.startswith(" ") for told in self._numbers)

    def spelled(self, text: str) -> tuple[NDArray[np.int64], set[str]]:
        """The numbers of a text's tokens, the longest that fit first, and the characters that are in none."""
        wanted = self._normalized(text)
        if self._separator:
            words = wanted.split()
            return (
                np.array([self._numbers[word] for word in words if word in self._numbers], dtype=np.int64),
                {word for word in words if word not in self._numbers},
            )
        wanted = f" {wanted}" if self._begins and wanted else wanted
        found, lacking, place = [], set(), 0
        while place < len(wanted):
            length = next((n for n in range(self._longest, 0, -1) if wanted[place : place + n] in self._numbers), 0)
            if length:
                found.append(self._numbers[wanted[place : place + length]])
            elif wanted[place] != " ":
                lacking.add(wanted[place])
            place += length or 1
        return np.array(found, dtype=np.int64), lacking
