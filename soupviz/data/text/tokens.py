"""Sentences as tokens, by a tokenizer that lies in a folder; nothing is ever downloaded."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from soupviz.data.sources import content
from soupviz.errors import DataError, told
from soupviz.extras import lacking
from soupviz.models.usercode import guarded

UNBOUNDED = 10**9
"""A tokenizer without a longest input says a number above this one."""

Encoded = dict[str, list[list[int]]]
"""Rows of numbers of varying length, by argument of the model."""

WordsOf = list[list[int | None]]


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """encode: texts, perhaps with their pairs, to rows of numbers, cut to the longest. padding: by argument; else 0.
    size: how many tokens there are. encode_words: sentences in words, to rows of numbers, and of each token the word
    that it is of, None of those that the tokenizer adds."""

    encode: Callable[[Sequence[str], Sequence[str] | None, int | None], Encoded]
    padding: Mapping[str, int]
    pads_left: bool
    size: int = 0
    encode_words: Callable[[Sequence[Sequence[str]], int | None], tuple[Encoded, WordsOf]] | None = None


def identity(folder: Path) -> list[Any]:
    """Of all that a tokenizer is made of: the text files of its folder."""
    kinds = (".json", ".txt", ".model", ".jinja", ".vocab", ".spm", ".tiktoken", ".merges")
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.suffix in kinds)
    return [[path.name, *content(path)] for path in files if path.name != "trainer_state.json"]


def folder_at(where: str, folder: Path) -> Path:
    """The folder of a tokenizer, which is there.

    Raises:
        DataError: it is not.
    """
    if not folder.is_dir():
        raise DataError(
            f"{where}.tokenizer: {folder} is no folder; expected one with tokenizer.json, as Trainer saves."
        )
    return folder


def _settings(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def longest(where: str, folder: Path) -> int | None:
    """Where the tokenizer of a folder cuts: by its own truncation, else at its longest input; None: nowhere.

    Raises:
        DataError: its files are no JSON.
    """
    try:
        cut = _settings(folder, "tokenizer.json").get("truncation")
        most = cut["max_length"] if cut else _settings(folder, "tokenizer_config.json").get("model_max_length")
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        raise DataError(f"{where}.tokenizer: {folder} holds no tokenizer that can be read: {told(error)}") from error
    return int(most) if most and most < UNBOUNDED else None


def load(where: str, folder: Path) -> Tokenizer:
    """The tokenizer of a folder, by transformers where that is installed, else by tokenizers.

    Raises:
        DataError: nothing in it is a tokenizer, or neither library is installed.
    """

    def refusal(told: str) -> DataError:
        return DataError(f"{where}.tokenizer: {folder} holds no tokenizer that can be read: {told}")

    for by in (_by_transformers, _by_tokenizers):
        # Whatever either library raises on files that are missing or damaged.
        with suppress(ImportError), guarded(refusal, ImportError):
            return by(folder)
    raise DataError(f"{where}.tokenizer: {folder} needs {lacking('transformers')}")


def _by_transformers(folder: Path) -> Tokenizer:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)

    def encode(texts: Sequence[str], pairs: Sequence[str] | None, longest: int | None) -> Encoded:
        cut = {"truncation": True, "max_length": longest} if longest else {"truncation": False}
        return dict(tokenizer(list(texts), pairs and list(pairs), padding=False, verbose=False, **cut))

    def encode_words(sentences: Sequence[Sequence[str]], longest: int | None) -> tuple[Encoded, WordsOf]:
        cut = {"truncation": True, "max_length": longest} if longest else {"truncation": False}
        found = tokenizer(list(map(list, sentences)), is_split_into_words=True, padding=False, verbose=False, **cut)
        return dict(found), [found.word_ids(row) for row in range(len(sentences))]

    padding = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}
    return Tokenizer(encode, padding, tokenizer.padding_side == "left", len(tokenizer), encode_words)


def _by_tokenizers(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer as Tokens

    tokens = Tokens.from_file(str(folder / "tokenizer.json"))
    padding = tokens.padding or {}
    settings = _settings(folder, "tokenizer_config.json")
    pad = padding.get("pad_token") or settings.get("pad_token") or "[PAD]"
    pad = pad["content"] if isinstance(pad, dict) else pad
    side = settings.get("padding_side") or padding.get("direction", "right")
    tokens.no_padding()

    def encoded_by(texts: Sequence[Any], longest: int | None, **how: Any) -> tuple[Encoded, list[Any]]:
        if longest:
            tokens.enable_truncation(longest)
        else:
            tokens.no_truncation()
        found = tokens.encode_batch(list(texts), **how)
        rows = {
            "input_ids": [one.ids for one in found],
            "token_type_ids": [one.type_ids for one in found],
            "attention_mask": [one.attention_mask for one in found],
        }
        return rows, found

    def encode(texts: Sequence[str], pairs: Sequence[str] | None, longest: int | None) -> Encoded:
        return encoded_by(texts if pairs is None else list(zip(texts, pairs, strict=True)), longest)[0]

    def encode_words(sentences: Sequence[Sequence[str]], longest: int | None) -> tuple[Encoded, WordsOf]:
        rows, found = encoded_by(list(map(list, sentences)), longest, is_pretokenized=True)
        return rows, [one.word_ids for one in found]

    size = tokens.get_vocab_size()
    padding_of = {"input_ids": tokens.token_to_id(pad) or 0}
    return Tokenizer(encode, padding_of, side.lower() == "left", size, encode_words)


def encoded(where: str, tokenizer: Tokenizer, parts: Sequence[Sequence[str]], longest: int | None) -> Encoded:
    """Texts, or pairs of them, as rows of numbers.

    Raises:
        DataError: the tokenizer fails on them.
    """
    with guarded(lambda told: DataError(f"{where}: the tokenizer fails on these sentences with {told}")):
        return tokenizer.encode(parts[0], parts[1] if len(parts) > 1 else None, longest)


def encoded_words(
    where: str, tokenizer: Tokenizer, sentences: Sequence[Sequence[str]], longest: int | None
) -> tuple[Encoded, WordsOf]:
    """Sentences in words as rows of numbers, and the word of each.

    Raises:
        DataError: the tokenizer fails on them, or cannot tell words.
    """
    with guarded(lambda told: DataError(f"{where}: the tokenizer fails on these words with {told}")):
        assert tokenizer.encode_words is not None  # of a tokenizer that was loaded
        return tokenizer.encode_words(sentences, longest)


def padded(rows: Encoded, tokenizer: Tokenizer) -> dict[str, np.ndarray]:
    """One array for each argument, shape (examples, the longest); what is missing is padding."""
    width = max(len(row) for row in next(iter(rows.values())))
    arrays = {}
    for name, values in rows.items():
        array = np.full((len(values), width), tokenizer.padding.get(name, 0), dtype=np.int64)
        for place, row in enumerate(values):
            where = slice(width - len(row), None) if tokenizer.pads_left else slice(len(row))
            array[place, where] = row
        arrays[name] = array
    return arrays
