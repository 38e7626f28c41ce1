"""Kitchens of recordings: letters are tones, words are tones in a row, and a small network learns to read them."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from kitchens import build_model, save, write_yaml
from numpy.typing import NDArray
from torch import nn

RATE = 2000
HOP = 40
LETTERS = "abcd"
TOKENS = ["_", " ", *LETTERS]
NOISE = 0.5

NET = """
import torch
from torch import nn

HOP = 40


class Ear(nn.Module):
    def __init__(self, told="lengths", tokens=6):
        super().__init__()
        self.told = told
        self.first = nn.Conv1d(21, 24, 3, padding=1)
        self.head = nn.Linear(24, tokens)

    def frames(self, waves, lengths):
        parts = waves[:, : waves.shape[1] // HOP * HOP].unflatten(1, (-1, HOP))
        heard = torch.fft.rfft(parts).abs().add(0.1).log()
        inside = torch.arange(heard.shape[1], device=waves.device) < lengths[:, None]
        return self.head(self.first((heard * inside[:, :, None]).transpose(1, 2)).relu().transpose(1, 2))


class WithLengths(Ear):
    def forward(self, waves, lengths):
        frames = lengths // HOP
        return {"logits": self.frames(waves, frames), "lengths": frames}


class WithMask(Ear):
    def forward(self, input_values, attention_mask=None):
        return self.frames(input_values, attention_mask.sum(1) // HOP)

    def _get_feat_extract_output_lengths(self, lengths):
        return lengths // HOP


class LengthsUntold(Ear):
    def forward(self, waves, lengths):
        return self.frames(waves, lengths // HOP)


class Bare(Ear):
    def forward(self, waves):
        return self.frames(waves, torch.full((len(waves),), waves.shape[1] // HOP, device=waves.device))


class Leaking(Ear):
    def forward(self, waves, lengths):
        frames = lengths // HOP
        return {"logits": self.frames(waves, torch.full_like(lengths, waves.shape[1] // HOP)), "lengths": frames}


KINDS = {
    "lengths": WithLengths, "mask": WithMask, "untold": LengthsUntold, "bare": Bare, "leaking": Leaking
}


def build(told="lengths", tokens=6):
    return KINDS[told](told, tokens)
"""


def spoken(text: str, random: np.random.Generator, noise: float = NOISE) -> NDArray[np.float32]:
    """A text as samples: a tone for each letter, silence between words."""
    parts = [np.zeros(HOP)]
    for letter in text:
        length = HOP * int(random.integers(2, 5))
        time = np.arange(length) / RATE
        tone = np.zeros(length) if letter == " " else np.sin(2 * math.pi * (150 + 200 * LETTERS.index(letter)) * time)
        parts += [tone, np.zeros(HOP)]
    wave = np.concatenate(parts)
    return (0.25 * (wave + noise * random.normal(size=len(wave)))).astype(np.float32)


def texts(number: int, random: np.random.Generator) -> list[str]:
    def word() -> str:
        letters = [str(random.choice(list(LETTERS)))]
        for _ in range(int(random.integers(0, 3))):
            letters.append(str(random.choice([one for one in LETTERS if one != letters[-1]])))
        return "".join(letters)

    return [" ".join(word() for _ in range(int(random.integers(1, 5)))) for _ in range(number)]


def write_table(folder: Path, name: str, rows: Sequence[Mapping[str, str]]) -> Path:
    path = folder / f"{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def write_split(folder: Path, name: str, number: int, seed: int, noise: float = NOISE) -> Path:
    """Recordings, and the table that names them, with a speaker each."""
    random = np.random.default_rng(seed)
    (folder / name).mkdir(parents=True, exist_ok=True)
    rows = []
    for index, text in enumerate(texts(number, random)):
        soundfile.write(folder / name / f"{index}.wav", spoken(text, random, noise), RATE)
        rows.append({"file": f"{name}/{index}.wav", "transcript": text, "speaker": f"s{index % 5}"})
    return write_table(folder, name, rows)


def train(model: nn.Module, steps: int, seed: int, rate: float, noise: float = 0.7, told: str = "lengths") -> None:
    """Fits the network to tones of its own."""
    random = np.random.default_rng(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    model.train()
    for _ in range(steps):
        said = texts(8, random)
        waves = [torch.from_numpy(spoken(text, random, noise)) for text in said]
        lengths = torch.tensor([len(wave) for wave in waves])
        padded = nn.utils.rnn.pad_sequence(waves, batch_first=True)
        logits = model.frames(padded, lengths // HOP)  # type: ignore[operator]
        targets = torch.tensor([TOKENS.index(letter) for text in said for letter in text])
        loss = nn.functional.ctc_loss(
            logits.log_softmax(2).transpose(0, 1), targets, lengths // HOP,
            torch.tensor([len(text) for text in said]), zero_infinity=True,
        )  # fmt: skip
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()


def speech_kitchen(
    folder: Path,
    *,
    told: str = "lengths",
    num_ingredients: int = 4,
    num_units: int = 40,
    steps: int = 120,
    splits: Sequence[str] = ("held_out", "test", "train"),
    **keys: Any,
) -> Path:
    """A whole kitchen of transcription; returns its kitchen.yaml.

    Args:
        told: how the network is told of padding, one of the kinds above.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(NET.lstrip(), encoding="utf-8")
    model = build_model(NET, told=told)
    train(model, steps, seed=0, rate=0.01)
    base = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    save(base, folder / "base.safetensors")
    for index in range(num_ingredients):
        model.load_state_dict(base)
        train(model, steps // 4, seed=1 + index, rate=0.003 * (1 + index % 3))
        save(model.state_dict(), folder / f"m_{index}.safetensors")
    data: dict[str, Any] = {}
    for seed, split in enumerate(splits, 100):
        write_split(folder, split, num_units, seed)
        data[split] = {"format": "audio", "path": f"{split}.csv", "group": "speaker"}
    document: dict[str, Any] = {
        "name": "tones",
        "task": {"name": "transcription", "vocabulary": TOKENS},
        "model": {"factory": "model.py:build", "args": {"told": told}},
        "ingredients": ["m_*.safetensors"],
        "base": "base.safetensors",
        "data": data,
        "device": "cpu",
    }
    return write_yaml(folder, **(document | keys))
