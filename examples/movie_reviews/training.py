"""The sweep: Trainer's own folders of MiniLM with a head for two classes, whose lower layers stay as they were."""

import csv
import random
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import BertForSequenceClassification

from examples import minilm
from examples.common import Order

CLASSES = ("disliked", "liked")
SIZES = {"held_out": 2000, "test": 2000, "train": 4000}
QUICK = {"held_out": 60, "test": 60, "train": 120}
RATES, SEEDS = (5e-5, 1e-4, 2e-4), (1, 2, 3)


def write_data(order: Order) -> Path:
    """The reviews as tables of text and label, in splits that share no sentence."""
    folder, source = order.folder / "data", order.source("movie-review-polarity")
    folder.mkdir(parents=True, exist_ok=True)
    rows = {}
    for label, ending in zip(CLASSES, ("neg", "pos"), strict=True):
        for line in (source / f"rt-polarity.{ending}").read_text(encoding="utf-8").splitlines():
            rows.setdefault(line.strip(), label)
    shuffled = sorted(rows.items())
    random.Random(0).shuffle(shuffled)
    for split, number in (QUICK if order.quick else SIZES).items():
        taken, shuffled = shuffled[:number], shuffled[number:]
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("text", "label"), *taken])
    return folder


def pooled(model: Any, states: Tensor) -> Tensor:
    """Logits of a sentence, by its first token."""
    return model.classifier(model.dropout(model.bert.pooler(states)))  # type: ignore[no-any-return]


def accuracy(predictions: Any, labels: Any) -> float:
    return float((predictions == labels).mean())


def train(order: Order, data: Path) -> Path:
    """The runs that are not there yet; the folder of all."""

    def read(split: str, tokenizer: Any) -> tuple[list[list[int]], list[int]]:
        with (data / f"{split}.csv").open(newline="", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
        tokens = tokenizer([row["text"] for row in rows], truncation=True, max_length=minilm.LONGEST)["input_ids"]
        return tokens, [CLASSES.index(row["label"]) for row in rows]

    classifier = minilm.Classifier(BertForSequenceClassification, CLASSES, pooled, "accuracy", accuracy)
    return minilm.sweep(order, classifier, minilm.settings(RATES, SEEDS), read)
