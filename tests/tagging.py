"""Kitchens of the task token_classification: made-up sentences of names and places, and a tokenizer of no library."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kitchens import build_model, perturbed, save, write_yaml
from torch import nn

from soupviz.data.text import tokens

TAGS = ["O", "B-PER", "I-PER", "B-LOC"]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SIZE = 2 + 26 * 27

MODEL = """
from torch import nn


class Tagger(nn.Module):
    def __init__(self, tags=4, size=704, positions=None):
        super().__init__()
        self.embedding, self.mixed = nn.Embedding(size, 12), nn.Conv1d(12, 24, 3, padding=1)
        self.head = nn.Linear(24, tags)
        if positions:
            self.config = type("Config", (), {"max_position_embeddings": positions})

    def get_input_embeddings(self):
        return self.embedding

    def forward(self, input_ids, attention_mask):
        words = self.embedding(input_ids) * attention_mask[:, :, None]
        return {"logits": self.head(self.mixed(words.transpose(1, 2)).relu().transpose(1, 2))}


def build(tags=4, size=704, positions=None):
    return Tagger(tags, size, positions)
"""


def pieces(word: str) -> list[int]:
    """A word as tokens of two letters each; 0 is padding, 1 begins and ends a sentence."""
    places = [1 + LETTERS.find(letter) for letter in word]
    return [2 + (places[at] - 1) * 27 + (places[at + 1] if at + 1 < len(word) else 0) for at in range(0, len(word), 2)]


def toy(pads_left: bool = False) -> tokens.Tokenizer:
    def encode_words(sentences: Sequence[Sequence[str]], longest: int | None) -> tuple[tokens.Encoded, tokens.WordsOf]:
        ids, words = [], []
        for sentence in sentences:
            parts = [(token, place) for place, word in enumerate(sentence) for token in pieces(word)]
            row: list[tuple[int, int | None]] = [(1, None), *parts[: longest and longest - 2], (1, None)]
            ids.append([token for token, _ in row])
            words.append([place for _, place in row])
        return {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}, words

    def encode(texts: Sequence[str], pairs: Any, longest: int | None) -> tokens.Encoded:
        return encode_words([text.split() for text in texts], longest)[0]

    return tokens.Tokenizer(encode, {"input_ids": 0}, pads_left, SIZE, encode_words)


@contextmanager
def toy_tokenizer(pads_left: bool = False) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "load", lambda _where, _folder: toy(pads_left))
        yield


def sentences(seed: int, number: int) -> list[dict[str, Any]]:
    """Words of small letters; names begin with z, which tell by the word before whether they are a person's."""
    random = np.random.default_rng(seed)

    def word(first: str = "") -> str:
        return first + "".join(random.choice(list(LETTERS[:20]), random.integers(2, 7)))

    rows = []
    for _ in range(number):
        words, tags = [], []
        for _ in range(random.integers(2, 9)):
            kind = random.choice(3, p=[0.6, 0.25, 0.15])
            if kind == 0:
                words.append(word())
                tags.append("O")
            elif kind == 1:
                size = int(random.integers(1, 3))
                words += ["mr", *(word("z") for _ in range(size))]
                tags += ["O", "B-PER", *["I-PER"] * (size - 1)]
            else:
                words += ["in", word("z")]
                tags += ["O", "B-LOC"]
        rows.append({"tokens": words, "ner_tags": tags})
    return rows


def write_split(path: Path, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"format": "text", "path": path.name, "text": "tokens", "label": "ner_tags", "tokenizer": "tokenizer"}


def tagging_kitchen(
    folder: Path, *, num_ingredients: int = 4, number: int = 40, steps: int = 80, args: Any = None, **keys: Any
) -> Path:
    """A whole kitchen: a base that learned names, fine-tunes of it, held_out, test and train; opened within
    `toy_tokenizer`."""
    (folder / "tokenizer").mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(MODEL.lstrip(), encoding="utf-8")
    model = build_model(MODEL, **(args or {}))
    names = {"held_out": 1, "test": 2, "train": 3}
    splits = {name: write_split(folder / f"{name}.jsonl", sentences(seed, number)) for name, seed in names.items()}
    _learn(model, 10, steps, rate=0.02)
    base = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    save(base, folder / "base.safetensors")
    for index in range(num_ingredients):
        model.load_state_dict(perturbed(base, 0.02, seed=index))
        _learn(model, 20 + index, steps // 4, rate=0.004 * (1 + index % 3))
        save(model.state_dict(), folder / f"m_{index}.safetensors")
    document: dict[str, Any] = {
        "name": "names",
        "task": "token_classification",
        "model": {"factory": "model.py:build", "args": args or {}},
        "ingredients": ["m_*.safetensors"],
        "base": "base.safetensors",
        "classes": TAGS,
        "data": splits,
        "device": "cpu",
    }
    return write_yaml(folder, **(document | keys))


def _learn(model: nn.Module, seed: int, steps: int, rate: float) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    encode = toy().encode_words
    assert encode is not None
    for step in range(steps):
        [row] = sentences(1000 * seed + step, 1)
        found, [words] = encode([row["tokens"]], None)
        starts = [words.index(place) for place in range(len(row["tokens"]))]
        logits = model(torch.tensor(found["input_ids"]), torch.tensor(found["attention_mask"]))["logits"][0]
        tags = torch.tensor([TAGS.index(tag) for tag in row["ner_tags"]])
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits[starts], tags).backward()
        optimizer.step()
