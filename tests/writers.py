"""Kitchens of language models: a small transformer in plain PyTorch, documents of made-up words, and its tokenizer."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kitchens import build_model, save, write_yaml
from torch import nn
from torch.nn import functional as F

from soupviz.data.text import tokens

WORDS = tuple("the a small old grey cat dog bird sees hears follows feeds mouse fish horse quietly often and".split())
START, UNKNOWN = 0, 1
VOCABULARY = {"<s>": START, "<unk>": UNKNOWN} | {word: place for place, word in enumerate(WORDS, 2)}
POSITIONS = 24

WRITER = """
import torch
from torch import nn
from torch.nn import functional as F


class Writer(nn.Module):
    \"\"\"One layer of attention to what comes before; the head is the embedding.\"\"\"

    def __init__(self, vocabulary, positions, width, dropout):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(positions, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.attention, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.hidden = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens):
        x = self.embedding(tokens) + self.positions(torch.arange(tokens.shape[1], device=tokens.device))
        query, key, value = self.attention(self.norms[0](x)).chunk(3, dim=-1)
        x = x + self.out(F.scaled_dot_product_attention(query, key, value, is_causal=True))
        x = x + self.hidden(self.norms[1](x))
        return {"logits": self.head(self.norms[2](x))}


def build(vocabulary=20, positions=24, width=16, dropout=0.0):
    return Writer(vocabulary, positions, width, dropout)
"""


def by_hand(texts: Sequence[str], pairs: Sequence[str] | None = None, longest: int | None = None) -> tokens.Encoded:
    """What the tokenizer of `write_tokenizer` makes of texts, without any library."""
    assert pairs is None
    ids = [[START, *(VOCABULARY.get(word, UNKNOWN) for word in text.split())][:longest] for text in texts]
    return {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}


@contextmanager
def hand_made_tokens() -> Iterator[None]:
    """The tokenizer of these kitchens without a package for it."""
    found = tokens.Tokenizer(by_hand, {}, pads_left=False, size=len(VOCABULARY))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "load", lambda _where, _folder: found)
        yield


@pytest.fixture
def no_library() -> Iterator[None]:
    with hand_made_tokens():
        yield


def write_tokenizer(folder: Path) -> Path:
    """A folder with a tokenizer of whole words, which puts <s> before each text."""
    folder.mkdir(parents=True, exist_ok=True)
    special = {"id": "<s>", "ids": [START], "tokens": ["<s>"]}
    document = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None, "decoder": None,
        "added_tokens": [
            {"id": place, "content": token, "special": True, "single_word": False, "lstrip": False, "rstrip": False,
             "normalized": False} for place, token in enumerate(("<s>", "<unk>"))
        ],
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {
            "type": "TemplateProcessing", "special_tokens": {"<s>": special},
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        },
        "model": {"type": "WordLevel", "vocab": VOCABULARY, "unk_token": "<unk>"},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(document), encoding="utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def documents(number: int, seed: int, longest: int = 40, likes: int = 0) -> list[str]:
    """Texts in which each word makes some others likely; what these are differs a little by `likes`."""
    follows = np.random.default_rng(0).dirichlet(np.full(len(WORDS), 0.2), size=len(WORDS))
    own = np.random.default_rng(100 + likes).dirichlet(np.full(len(WORDS), 0.2), size=len(WORDS))
    follows = 0.8 * follows + 0.2 * own
    random, found = np.random.default_rng(seed), []
    for _ in range(number):
        words = [int(random.integers(len(WORDS)))]
        for _ in range(int(random.integers(2, longest))):
            words.append(int(random.choice(len(WORDS), p=follows[words[-1]])))
        found.append(" ".join(WORDS[word] for word in words))
    return found


def write_documents(path: Path, texts: Sequence[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path


def trained(model: nn.Module, texts: Sequence[str], steps: int, rate: float, seed: int) -> None:
    """Lower the loss per token over batches of 16 documents, cut at the model's positions."""
    rows = [torch.tensor(ids[:POSITIONS]) for ids in by_hand(texts)["input_ids"]]
    batch = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        part = batch[torch.randint(len(batch), (16,), generator=generator)]
        logits = model(part.clamp(min=0))["logits"]
        optimizer.zero_grad()
        F.cross_entropy(logits[:, :-1].flatten(0, 1), part[:, 1:].flatten()).backward()
        optimizer.step()


def writers_kitchen(
    folder: Path, *, num_ingredients: int = 4, num_documents: int = 60, steps: int = 60, **keys: Any
) -> Path:
    """A language model's kitchen: a base, fine-tunes of it on documents of their own kinds, and all splits."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(WRITER.lstrip(), encoding="utf-8")
    write_tokenizer(folder / "tokenizer")
    model = build_model(WRITER)
    trained(model, documents(80, seed=0), 2 * steps, 0.01, seed=0)
    base = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    save(base, folder / "base.safetensors")
    for index in range(num_ingredients):
        model.load_state_dict(base)
        trained(model, documents(40, seed=10 + index, likes=1 + index % 3), steps, 0.004 * (1 + index % 2), seed=index)
        save(model.state_dict(), folder / f"m_{index}.safetensors")
    splits = {"held_out": (1, 1), "test": (2, 1), "train": (3, 2), "shifts.later": (4, 3)}
    data: dict[str, Any] = {"shifts": {}}
    for split, (seed, likes) in splits.items():
        write_documents(folder / "data" / f"{split}.jsonl", documents(num_documents, seed, likes=likes))
        keys_of_split = {"format": "text", "path": f"data/{split}.jsonl", "tokenizer": "tokenizer", "max_length": 24}
        where = data["shifts"] if split.startswith("shifts.") else data
        where[split.removeprefix("shifts.")] = keys_of_split
    document: dict[str, Any] = {
        "name": "writers",
        "task": "language_model",
        "model": {"factory": "model.py:build"},
        "ingredients": ["m_*.safetensors"],
        "base": "base.safetensors",
        "data": data,
        "device": "cpu",
    }
    return write_yaml(folder, **(document | keys))


def questions(number: int, seed: int) -> list[dict]:
    """The end of a document, and the ends of others; the right option is its own."""
    random, texts = np.random.default_rng(seed), documents(number, seed, longest=14)
    found = []
    for text in texts:
        words = text.split()
        given, own = " ".join(words[:-2]) or words[0], " ".join(words[-2:])
        others = [" ".join(random.choice(WORDS, random.integers(1, 4))) for _ in range(random.integers(1, 4))]
        answer = int(random.integers(len(others) + 1))
        found.append({"context": given, "options": [*others[:answer], own, *others[answer:]], "answer": answer})
    return found


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def choices_kitchen(folder: Path) -> Path:
    """The same models, asked which option continues a context."""
    writers_kitchen(folder, num_documents=10)
    data: dict[str, Any] = {"shifts": {}}
    for seed, split in enumerate(("held_out", "test", "train", "shifts.later")):
        write_lines(folder / "data" / f"{split}.jsonl", questions(60, seed))
        where = data["shifts"] if split.startswith("shifts.") else data
        where[split.removeprefix("shifts.")] = {
            "format": "choices", "path": f"data/{split}.jsonl", "tokenizer": "tokenizer", "max_length": POSITIONS,
        }  # fmt: skip
    return write_yaml(
        folder, name="choices", task="multiple_choice", model={"factory": "model.py:build"},
        ingredients=["m_*.safetensors"], base="base.safetensors", data=data, device="cpu",
    )  # fmt: skip
