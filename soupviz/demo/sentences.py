"""The demo of a language model: sentences of a small grammar, made up on the spot, ten fine-tunings of a network."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from soupviz.demo.building import (
    PRETRAIN,
    Examples,
    built,
    optimise,
    pretrained,
    write_fine_tunings,
    write_kitchen,
)
from soupviz.spec import HELD_OUT, TEST, TRAIN
from soupviz.types import Progress, quiet

VERSION = "sentences-1"
SIZES = {PRETRAIN: 150, TRAIN: 200, HELD_OUT: 120, TEST: 300}
"""Documents of each part."""

SEEN = 60
"""Documents of one fine-tuning, drawn for each from train: what each learns by heart averages out."""

LONGEST = 40
"""Tokens of a document at most."""

NOTHING = -1
"""Behind a document's end."""

ORDINARY = {
    "who": "farmer teacher driver singer child doctor neighbour".split(),
    "does": "meets hears follows greets thanks calls".split(),
    "what": "dog train letter garden river song market".split(),
    "how": "old quiet red small strange long".split(),
}
COOKING = {
    "who": "cook baker guest farmer child neighbour".split(),
    "does": "stirs tastes salts serves greets thanks".split(),
    "what": "soup broth stew carrot onion ladle market".split(),
    "how": "hot thick old fresh small sour".split(),
}
"""What the fine-tunings are about, and all that is scored."""

JOINED = "the a slowly again .".split()
WORDS = (
    "<start>",
    *JOINED,
    *sorted({word for topic in (ORDINARY, COOKING) for words in topic.values() for word in words}),
)
NUMBERS = {word: number for number, word in enumerate(WORDS)}


@dataclass(frozen=True, slots=True)
class Tuning:
    """One fine-tuning: learning rate, weight decay, passes over its documents."""

    lr: float
    weight_decay: float
    seed: int
    epochs: int = 20


TUNINGS = tuple(
    Tuning(lr, decay, seed)
    for seed, (lr, decay) in enumerate((lr, decay) for lr in (5e-3, 6e-3, 7e-3, 8e-3, 1e-2) for decay in (0.0, 0.1))
)


class SentencesNet(nn.Module):
    """One layer of attention to what comes before, of width 32; its head is the embedding of its words."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(WORDS), 32)
        self.places = nn.Embedding(LONGEST, 32)
        self.before, self.between, self.after = (nn.LayerNorm(32) for _ in range(3))
        self.attention, self.out = nn.Linear(32, 96), nn.Linear(32, 32)
        self.hidden = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32))

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits of each next word, shape (batch, words, vocabulary), of tokens, shape (batch, words)."""
        x = self.embedding(tokens) + self.places.weight[: tokens.shape[1]]
        query, key, value = self.attention(self.before(x)).chunk(3, dim=-1)
        x = x + self.out(F.scaled_dot_product_attention(query, key, value, is_causal=True))
        x = x + self.hidden(self.between(x))
        logits: Tensor = F.linear(self.after(x), self.embedding.weight) / 32**0.5
        return logits


class Sentences(Sequence[list[int]]):
    """The documents of a part, as kitchen.yaml asks for them: the tokens of each, and its text for people."""

    def __init__(self, part: str, seed: int = 0) -> None:
        self.texts = documents(part, seed)

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: Any) -> Any:
        return tokens_of(self.texts[index])

    def text(self, index: int) -> str:
        """The document as people read it."""
        return self.texts[index]


def tokens_of(text: str) -> list[int]:
    """The words of a document as numbers, behind the token that starts it."""
    return [0, *(NUMBERS[word] for word in text.split())]


def documents(part: str, seed: int = 0) -> list[str]:
    """The texts of a part: for the base every other one of cooking, else all."""
    generator = torch.Generator().manual_seed(1000 * seed + list(SIZES).index(part))
    topics = (ORDINARY, COOKING) if part == PRETRAIN else (COOKING,)
    return [" ".join(_document(topics[number % len(topics)], generator)) for number in range(SIZES[part])]


def _document(topic: dict[str, list[str]], generator: torch.Generator) -> Iterator[str]:
    """Two to four sentences about one person, who is named again as "the"."""
    who = _one_of(topic["who"], generator)
    for number in range(2 + int(torch.randint(3, (1,), generator=generator))):
        yield from ("the" if number else "a", who)
        if _happens(0.3, generator):
            yield "slowly" if _happens(0.5, generator) else "again"
        yield from (_one_of(topic["does"], generator), "the")
        if _happens(0.6, generator):
            yield _one_of(topic["how"], generator)
        yield _one_of(topic["what"], generator)
        yield "."


def _one_of(words: Sequence[str], generator: torch.Generator) -> str:
    """The first are the likeliest, as words are: each next one a third less so."""
    chances = torch.tensor([(2 / 3) ** place for place in range(len(words))])
    return words[int(torch.multinomial(chances, 1, generator=generator))]


def _happens(chance: float, generator: torch.Generator) -> bool:
    return float(torch.rand(1, generator=generator)) < chance


def sentences_kitchen(folder: Path | None = None, progress: Progress = quiet) -> Path:
    """The demo's kitchen.yaml, built at the first call and then kept.

    Args:
        folder: where; default: the user's cache folder.
    """
    return built(folder, VERSION, _build, progress)


def _build(folder: Path, progress: Progress, seed: int = 0) -> None:
    """seed: of the sentences, the base and every run; 0 is what ships, the others check what is claimed of it."""
    total = len(TUNINGS) + 1
    progress(0, total, "pre-training")
    first = Tuning(4e-3, 0.1, seed, epochs=16)
    base = pretrained(SentencesNet, seed, lambda net: _train(net, _examples(documents(PRETRAIN, seed)), first), folder)
    seen = _examples(documents(TRAIN, seed))
    write_fine_tunings(
        base,
        TUNINGS,
        lambda net, tuning: _train(net, _part(seen, 1000 * seed + tuning.seed), tuning),
        "sentences",
        folder,
        lambda index, what: progress(1 + index, total, what),
    )
    splits = {name: {"part": name, "seed": seed} for name in (HELD_OUT, TEST, TRAIN)}
    document: dict[str, Any] = {
        "name": "Demo: made-up sentences about cooking",
        "task": "language_model",
        "model": {"factory": "soupviz.demo:SentencesNet"},
        "ingredients": ["sentences_*.safetensors"],
        "base": "base.safetensors",
        "data": {
            name: {"format": "python", "path": "soupviz.demo:Sentences", "args": args, "version": VERSION}
            for name, args in splits.items()
        },
        "device": "cpu",
    }
    write_kitchen(document, folder)
    progress(total, total, "ready")


def _examples(texts: Sequence[str]) -> Examples:
    rows = pad_sequence([torch.tensor(tokens_of(text)) for text in texts], batch_first=True, padding_value=NOTHING)
    return rows.clamp(min=0), rows


def _part(train: Examples, seed: int) -> Examples:
    """What one fine-tuning sees."""
    tokens, answers = train
    chosen = torch.randperm(len(tokens), generator=torch.Generator().manual_seed(seed))[:SEEN]
    return tokens[chosen], answers[chosen]


def _train(model: nn.Module, data: Examples, tuning: Tuning) -> None:
    def loss_of(tokens: Tensor, answers: Tensor, _generator: torch.Generator) -> Tensor:
        logits = model(tokens)[:, :-1]
        return F.cross_entropy(logits.flatten(0, 1), answers[:, 1:].flatten(), ignore_index=NOTHING)

    optimise(model, data, tuning, loss_of, batch_size=16, weight_decay=tuning.weight_decay)
