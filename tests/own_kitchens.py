"""Whole kitchens of tasks that the package does not have, each from files of its own: what another would bring.

Transcription (a ratio over a corpus, of utterances of varying length), a language model (nats per token of documents),
detection (mAP by records, from what a detector returns), and one opaque number of all answers.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import metrics_from_outside
import torch
from kitchens import build_model, save, write_yaml
from torch import Tensor, nn

SPEECH_MODEL = """
import torch
from torch import nn


class Listener(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 24), nn.Linear(24, 6)

    def forward(self, frames, attention_mask):
        return {"logits": self.second(self.first(frames).relu()), "lengths": attention_mask.sum(1)}


def build():
    return Listener()
"""

SPEECH_DATA = """
import numpy as np
import torch

SOUNDS = 1.6 * np.random.default_rng(0).normal(size=(6, 4))  # the first is silence


def build(seed, number=60):
    random, examples = np.random.default_rng(seed), []
    for _ in range(number):
        words = random.integers(1, 6, random.integers(2, 9))
        spoken = np.concatenate([np.append(np.repeat(word, random.integers(1, 4)), 0) for word in words])
        frames = SOUNDS[spoken] + random.normal(size=(len(spoken), 4))
        inputs = {"frames": torch.tensor(frames, dtype=torch.float32), "attention_mask": torch.ones(len(spoken))}
        examples.append((inputs, torch.tensor(words)))
    return examples
"""

TRANSCRIPTION = """

class Transcription(sv.Task):
    unit = "utterance"
    has_ensembles = True  # logits, with silence behind an utterance's end
    metrics = (WER,)

    def answers(self, output):
        logits, lengths = output["logits"].clone(), output["lengths"]
        beyond = torch.arange(logits.shape[1], device=logits.device) >= lengths[:, None]
        logits[beyond] = 0.0  # of equals argmax takes the first: silence
        return logits

    def targets(self, labels):
        return {"words": (labels >= 0).sum(1).numpy()}

    def outcomes(self, answers, labels):
        finite = answers.flatten(1).isfinite().all(1).cpu().numpy()
        heard = [decoded(row) for row in answers.argmax(2).tolist()]
        return {"finite": finite, "edits": np.array([edits(one, spoken(row)) for one, row in zip(heard, labels)])}


def decoded(frames):
    kept = [frame for frame, before in zip(frames, [0, *frames]) if frame != before]
    return [frame for frame in kept if frame]


def spoken(label):
    return label[label >= 0].tolist()


def edits(heard, words):
    row = list(range(len(words) + 1))
    for index, one in enumerate(heard, 1):
        last, row[0] = row[0], index
        for column, word in enumerate(words, 1):
            last, row[column] = row[column], min(row[column] + 1, row[column - 1] + 1, last + (one != word))
    return row[-1]
"""

WRITER_MODEL = """
from torch import nn


class Writer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.hidden, self.head = nn.Embedding(9, 8), nn.Linear(8, 16), nn.Linear(16, 9)

    def forward(self, input_ids, attention_mask=None):
        return self.head(self.hidden(self.embedding(input_ids)).relu())


def build():
    return Writer()
"""

WRITER_DATA = """
import numpy as np
import torch

FOLLOWS = np.random.default_rng(0).dirichlet(np.full(8, 0.3), size=9)


def build(seed, number=60):
    random, examples = np.random.default_rng(seed), []
    for _ in range(number):
        tokens = [0]
        for _ in range(random.integers(3, 14)):
            tokens.append(1 + random.choice(8, p=FOLLOWS[tokens[-1]]))
        ids = torch.tensor(tokens)
        examples.append(({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, ids))
    return examples
"""

NEXT_TOKEN = """

PERPLEXITY = replace(NATS, name="perplexity", label="perplexity", unit="", of=lambda nats, tokens, _number: np.exp(
    np.asarray(nats, dtype=float) / np.asarray(tokens, dtype=float)))


class NextToken(sv.Task):
    unit = "document"
    metrics = (NATS, PERPLEXITY)

    def targets(self, labels):
        return {"tokens": (labels[:, 1:] >= 0).sum(1).numpy()}

    def outcomes(self, answers, labels):
        nats = self._nats(answers.double().cpu(), labels).sum(1)
        finite = nats.isfinite()
        return {"finite": finite.numpy(), "nats": nats.where(finite, torch.nan).numpy()}

    def loss(self, answers, labels):
        return self._nats(answers, labels).sum() / (labels[:, 1:] >= 0).sum()

    def _nats(self, answers, labels):
        predicted = answers[:, :-1]
        wanted = labels[:, 1:answers.shape[1]].to(answers.device)
        losses = cross_entropy(predicted.flatten(0, 1), wanted.flatten().long(), ignore_index=-1, reduction="none")
        return losses.view(wanted.shape)
"""

DETECTOR_MODEL = """
import torch
from torch import nn


class Detector(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 6, 3, padding=1), nn.Conv2d(6, 1, 3, padding=1)

    def heat(self, images):
        return self.second(self.first(images).relu())[:, 0].sigmoid()

    def forward(self, images):
        found = []
        for heat in self.heat(images):
            scores, places = heat.flatten().topk(6)
            kept = scores > 0.1
            scores, places = scores[kept], places[kept]
            corners = torch.stack([places % heat.shape[1], places // heat.shape[1]], dim=1).float()
            boxes = torch.cat([corners, corners + 1], dim=1)
            found.append({"boxes": boxes, "scores": scores, "labels": torch.ones_like(places)})
        return found


def build():
    return Detector()
"""

DETECTOR_DATA = """
import numpy as np
import torch

SIDE = 10


def build(seed, number=60):
    random, examples = np.random.default_rng(seed), []
    for _ in range(number):
        places = random.choice(SIDE * SIDE, random.integers(1, 5), replace=False)
        image = 0.45 * random.normal(size=(SIDE, SIDE))
        image.flat[places] += 1.5
        corners = np.stack([places % SIDE, places // SIDE], axis=1)
        boxes = np.concatenate([corners, corners + 1], axis=1).astype(np.float32)
        examples.append((torch.tensor(image[None], dtype=torch.float32), torch.tensor(boxes)))
    return examples
"""

DETECTION = """

class Detection(sv.Task):
    unit = "image"
    metrics = (MAP,)

    def answers(self, output):
        found = [torch.cat([one["boxes"], one["scores"][:, None]], dim=1) for one in output]
        return pad_sequence(found, batch_first=True)  # rows of 0: a score that no detection has

    def targets(self, labels):
        return {"truths": (labels[:, :, 0] >= 0).sum(1).numpy()}

    def outcomes(self, answers, labels):
        found = []
        for rows, truths in zip(answers.cpu(), labels):
            rows, waiting = rows[rows[:, 4] > 0], {tuple(one) for one in truths.tolist() if one[0] >= 0}
            hits = [(score, tuple(place) in waiting) for *place, score in rows.tolist()]
            found.append(np.array(hits, dtype=float).reshape(-1, 2))
        return {"found": records(found)}
"""

POINTS_MODEL = """
from torch import nn


def build():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 1))
"""

POINTS_DATA = """
import numpy as np
import torch


def build(seed, number=60):
    inputs = np.random.default_rng(seed).normal(size=(number, 6)).astype(np.float32)
    labels = np.sin(inputs[:, 0]) + inputs[:, 1] * inputs[:, 2]
    return [(torch.tensor(one), torch.tensor(label)) for one, label in zip(inputs, labels)]
"""

RANKED = """

def rank_correlation(answers, labels):
    ranks = [np.unique(one.ravel(), return_inverse=True)[1] for one in (answers, labels)]
    return np.corrcoef(*ranks)[0, 1]


class Ranked(sv.Task):
    labels = "numbers"
    metrics = (sv.NumberMetric("spearman", "rank correlation", "", True, rank_correlation, draws=200),)
"""

HEAD = """
from dataclasses import replace

import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence

import soupviz as sv
"""

Loss = Callable[[nn.Module, Any, Tensor], Tensor]


def _speech_loss(model: nn.Module, inputs: Any, label: Tensor) -> Tensor:
    said = model(inputs["frames"][None], inputs["attention_mask"][None])
    log_odds = said["logits"].log_softmax(2).transpose(0, 1)
    return nn.functional.ctc_loss(log_odds, label[None], [len(log_odds)], [len(label)], zero_infinity=True)


def _writer_loss(model: nn.Module, inputs: Any, label: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(inputs["input_ids"][None])[0, :-1], label[1:])


def _detector_loss(model: nn.Module, inputs: Any, label: Tensor) -> Tensor:
    heat = model.heat(inputs[None])  # type: ignore[operator]
    truth = torch.zeros_like(heat)
    truth[0, label[:, 1].long(), label[:, 0].long()] = 1.0
    return nn.functional.binary_cross_entropy(heat, truth, weight=1 + 9 * truth)


def _points_loss(model: nn.Module, inputs: Any, label: Tensor) -> Tensor:
    return (model(inputs[None])[0, 0] - label.float()).square()


KINDS: dict[str, tuple[str, str, str, str, Loss]] = {
    "wer": (SPEECH_MODEL, SPEECH_DATA, TRANSCRIPTION, "Transcription", _speech_loss),
    "nats": (WRITER_MODEL, WRITER_DATA, NEXT_TOKEN, "NextToken", _writer_loss),
    "map": (DETECTOR_MODEL, DETECTOR_DATA, DETECTION, "Detection", _detector_loss),
    "spearman": (POINTS_MODEL, POINTS_DATA, RANKED, "Ranked", _points_loss),
}
"""By the name of the metric: model, data, task, the task's name, and what training lowers."""

VALUES = {"wer": "word error rate", "nats": "loss per token", "map": "mAP", "spearman": "rank correlation"}
"""What the metrics are called."""


UNBEARABLE = "    judges_nonfinite: bool = False\n"
BEARABLE = f"{UNBEARABLE}    draws: int = 300\n"


def kitchen_from_outside(
    kind: str, folder: Path, *, num_ingredients: int = 4, num_units: int = 60, steps: int = 150, **keys: Any
) -> Path:
    """A kitchen of one of KINDS: a base, fine-tunes of it, and splits of inputs and labels of varying length."""
    folder.mkdir(parents=True, exist_ok=True)
    model_source, data, task, name, loss = KINDS[kind]
    # What ranks all records in a loop says how few resamples it can bear, as `sv.NumberMetric` does.
    metrics = Path(metrics_from_outside.__file__).read_text(encoding="utf-8").replace(UNBEARABLE, BEARABLE)
    for file, text in {"model.py": model_source, "data.py": data, "task.py": metrics + HEAD + task}.items():
        (folder / file).write_text(text.lstrip(), encoding="utf-8")
    made: dict[str, Any] = {}
    exec(data, made)
    model = build_model(model_source)
    _trained(model, loss, made["build"](0, 40), steps, seed=0, rate=0.01)
    base = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    save(base, folder / "base.safetensors")
    for index in range(num_ingredients):
        model.load_state_dict(base)
        _trained(model, loss, made["build"](10 + index, 20), steps // 3, seed=index, rate=0.004 * (1 + index % 3))
        save(model.state_dict(), folder / f"m_{index}.safetensors")
    splits = {"held_out": 1, "test": 2, "train": 3}
    document: dict[str, Any] = {
        "name": kind,
        "task": f"task.py:{name}",
        "model": {"factory": "model.py:build"},
        "ingredients": ["m_*.safetensors"],
        "base": "base.safetensors",
        "data": {split: _python(seed, num_units) for split, seed in splits.items()}
        | {"shifts": {"later": _python(4, num_units)}},
        "device": "cpu",
    }
    return write_yaml(folder, **(document | keys))


def _python(seed: int, number: int) -> dict[str, Any]:
    return {"format": "python", "path": "data.py:build", "args": {"seed": seed, "number": number}, "version": "1"}


def _trained(model: nn.Module, loss: Loss, examples: Any, steps: int, seed: int, rate: float) -> None:
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        inputs, label = examples[int(torch.randint(len(examples), (1,), generator=generator))]
        optimizer.zero_grad()
        loss(model, inputs, label).backward()
        optimizer.step()
