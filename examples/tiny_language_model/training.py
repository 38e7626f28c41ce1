"""One run at a constant learning rate, checkpoint by checkpoint, and a branch of it whose learning rate falls to 0."""

import copy
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from transformers.utils import logging

from examples.common import Order, fresh, say

END = "<|endoftext|>"
WORDS, LONGEST, BATCH, RATE = 2000, 96, 32, 2e-3
NUM_OPTIONS, LAST_WORDS = 4, 6


@dataclass(frozen=True, slots=True)
class Schedule:
    """before: steps until a decay would start. kept: checkpoints of the steps that it would take. every: steps between
    them."""

    before: int
    kept: int
    every: int

    @property
    def decay(self) -> int:
        return self.kept * self.every


WHOLE, QUICK = Schedule(before=1200, kept=10, every=40), Schedule(before=4, kept=3, every=2)
SIZES = {"held_out": 1000, "test": 2000}


def schedule_of(order: Order) -> Schedule:
    return QUICK if order.quick else WHOLE


def write_data(order: Order) -> tuple[Path, list[str]]:
    """The reviews without their labels: a table of each split that judges, and the sentences to train on."""
    folder, source = order.folder / "data", order.source("movie-review-polarity")
    folder.mkdir(parents=True, exist_ok=True)
    files = [source / f"rt-polarity.{ending}" for ending in ("neg", "pos")]
    reviews = sorted({line.strip() for file in files for line in file.read_text(encoding="utf-8").splitlines()})
    random.Random(0).shuffle(reviews)
    for split, number in SIZES.items():
        taken, reviews = reviews[: 40 if order.quick else number], reviews[number:]
        lines = [json.dumps({"text": text}) for text in taken]
        (folder / f"{split}.jsonl").write_text("\n".join(lines), encoding="utf-8")
        write_questions(folder / f"{split}_orders.jsonl", taken)
    return folder, reviews[: 400 if order.quick else None]


def write_questions(file: Path, reviews: Sequence[str]) -> None:
    """Of each review in which of four orders its last words stand; those that are too short are left out."""
    rng, lines = random.Random(0), []
    for words in map(str.split, reviews):
        if len(words) < 2 * LAST_WORDS or len(set(words[-LAST_WORDS:])) < LAST_WORDS:
            continue
        right = words[-LAST_WORDS:]
        orders = {tuple(right)}
        while len(orders) < NUM_OPTIONS:
            orders.add(tuple(rng.sample(right, LAST_WORDS)))
        options = [" ".join(order) for order in sorted(orders)]
        context = " ".join(words[:-LAST_WORDS])
        lines.append(json.dumps({"context": context, "options": options, "answer": options.index(" ".join(right))}))
    file.write_text("\n".join(lines), encoding="utf-8")


def tokenizer_of(folder: Path, reviews: Sequence[str]) -> PreTrainedTokenizerFast:
    """Byte pairs of the sentences, each between two ends; written once."""
    if not (folder / "tokenizer.json").is_file():
        pairs = Tokenizer(models.BPE())
        pairs.pre_tokenizer, pairs.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=WORDS, special_tokens=[END], initial_alphabet=alphabet, show_progress=False
        )
        pairs.train_from_iterator(reviews, trainer)
        pairs.post_processor = processors.TemplateProcessing(f"{END} $0 {END}", special_tokens=[(END, 0)])
        made = PreTrainedTokenizerFast(
            tokenizer_object=pairs, bos_token=END, eos_token=END, pad_token=END, model_max_length=LONGEST
        )
        made.save_pretrained(folder)
    return PreTrainedTokenizerFast.from_pretrained(folder)


def batches(tokens: Sequence[Tensor], seed: int) -> Sequence[list[Tensor]]:
    """An epoch of sentences of about one length together, in a random order."""
    rng = random.Random(seed)
    order = sorted(range(len(tokens)), key=lambda index: len(tokens[index]) + rng.uniform(-3, 3))
    found = [[tokens[index] for index in order[start : start + BATCH]] for start in range(0, len(order), BATCH)]
    rng.shuffle(found)
    return found


def loss_of(model: GPT2LMHeadModel, rows: Sequence[Tensor]) -> Tensor:
    """Nats per token that is predicted."""
    ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    return nn.functional.cross_entropy(logits[mask[:, 1:] > 0], ids[:, 1:][mask[:, 1:] > 0])


class Training:
    """A model on its way: weights, optimizer, and the place in the data."""

    def __init__(self, tokens: Sequence[Tensor], model: GPT2LMHeadModel):
        self.tokens, self.model, self.step = tokens, model, 0
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.1, betas=(0.9, 0.95))
        self._left: list[list[Tensor]] = []
        self._epoch = 0

    def go(self, rates: Sequence[float]) -> None:
        """A step at each of the learning rates."""
        self.model.train()
        for rate in rates:
            if not self._left:
                self._left, self._epoch = list(batches(self.tokens, self._epoch)), self._epoch + 1
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss = loss_of(self.model, self._left.pop())
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.step += 1

    def save(self, folder: Path, tokenizer: PreTrainedTokenizerFast, half: Path) -> None:
        """A folder as Trainer writes one, under its name only when it is whole."""
        self.model.save_pretrained(fresh(half))
        tokenizer.save_pretrained(half)
        state = {"global_step": self.step, "log_history": [{"step": self.step, "learning_rate": RATE}]}
        (half / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
        half.rename(folder)


def train(order: Order, reviews: Sequence[str]) -> Path:
    """The folder with checkpoint-N of the constant run, and `decayed`; both saw the same data in the same order."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    folder, plan = order.folder / "runs", schedule_of(order)
    tokenizer = tokenizer_of(order.folder / "tokenizer", reviews)
    if (folder / "decayed").is_dir():
        return folder
    folder.mkdir(exist_ok=True)
    tokens = [torch.tensor(row) for row in tokenizer(list(reviews), truncation=True, max_length=LONGEST)["input_ids"]]
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=LONGEST, n_embd=128, n_layer=3, n_head=4, resid_pdrop=0.1,
        embd_pdrop=0.1, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    run, half = Training(tokens, GPT2LMHeadModel(config)), order.folder / "half"
    warm = min(50, plan.before)
    run.go([RATE * (step + 1) / warm for step in range(warm)] + [RATE] * (plan.before - warm))
    branch = copy.deepcopy(run)
    for _ in range(plan.kept):
        run.go([RATE] * plan.every)
        run.save(folder / f"checkpoint-{run.step}", tokenizer, half)
        say(f"checkpoint-{run.step}")
    branch.go([RATE * (1 - step / plan.decay) for step in range(plan.decay)])
    branch.save(folder / "decayed", tokenizer, half)
    return folder
