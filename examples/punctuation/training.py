"""Words with the mark that follows them in the review, and a sweep of MiniLM with a head for these."""

import json
import random
from pathlib import Path
from typing import Any

from seqeval.metrics import f1_score
from torch import Tensor
from transformers import BertForTokenClassification

from examples import minilm
from examples.common import Order

MARKS = {",": "B-COMMA", "--": "B-DASH", "-": "B-DASH", "–": "B-DASH", "—": "B-DASH"} | dict.fromkeys(".!?", "B-STOP")
"""What a mark makes of the word before it; others are left out, and those behind the last word."""
CLASSES = ("O", "B-COMMA", "B-STOP", "B-DASH")
SIZES = {"held_out": 2000, "test": 2000, "train": 4000}
QUICK = {"held_out": 60, "test": 60, "train": 120}
RATES, SEEDS = (2e-4, 3e-4, 5e-4), (1, 2)
"""Where those of the reviews end: at 5e-5 nothing is learned but to leave all words alone."""


def tagged(review: str) -> tuple[list[str], list[str]]:
    """Its words, and of each the tag."""
    words: list[str] = []
    tags: list[str] = []
    for one in review.split():
        if any(character.isalnum() for character in one):
            words.append(one)
            tags.append("O")
        elif words and one in MARKS and tags[-1] == "O":
            tags[-1] = MARKS[one]
    return words, [*tags[:-1], "O"]


def write_data(order: Order) -> Path:
    """The reviews as tables of words and tags, in splits that share no sentence."""
    folder, source = order.folder / "data", order.source("movie-review-polarity")
    folder.mkdir(parents=True, exist_ok=True)
    files = [source / f"rt-polarity.{ending}" for ending in ("neg", "pos")]
    lines = sorted({line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()})
    reviews = [one for one in map(tagged, lines) if len(one[0]) > 1]
    random.Random(0).shuffle(reviews)
    for split, number in (QUICK if order.quick else SIZES).items():
        taken, reviews = reviews[:number], reviews[number:]
        rows = [json.dumps({"tokens": words, "tags": tags}) for words, tags in taken]
        (folder / f"{split}.jsonl").write_text("\n".join(rows), encoding="utf-8")
    return folder


def by_token(model: Any, states: Tensor) -> Tensor:
    return model.classifier(model.dropout(states))  # type: ignore[no-any-return]


def f1(predictions: Any, labels: Any) -> float:
    """Of the marks, as seqeval counts entities."""
    judged = [row != minilm.UNJUDGED for row in labels]
    told, true = (
        [[CLASSES[one] for one in row[there]] for row, there in zip(rows, judged, strict=True)]
        for rows in (predictions, labels)
    )
    return float(f1_score(true, told))


def train(order: Order, data: Path) -> Path:
    """The runs that are not there yet; the folder of all."""

    def read(split: str, tokenizer: Any) -> tuple[list[list[int]], list[list[int]]]:
        """The first token of a word has its tag."""
        rows = [json.loads(line) for line in (data / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]
        made = tokenizer([row["tokens"] for row in rows], is_split_into_words=True, truncation=True)
        labels = []
        for index, row in enumerate(rows):
            words, own = made.word_ids(index), []
            for word, before in zip(words, [None, *words], strict=False):
                own.append(minilm.UNJUDGED if word in (None, before) else CLASSES.index(row["tags"][word]))
            labels.append(own)
        return made["input_ids"], labels

    classifier = minilm.Classifier(BertForTokenClassification, CLASSES, by_token, "f1", f1)
    return minilm.sweep(order, classifier, minilm.settings(RATES, SEEDS), read)
