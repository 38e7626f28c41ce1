"""The demo of transcription: melodies that are made up, whose notes a small network writes down, eight fine-tunings."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from soupviz.demo.building import PRETRAIN, built, optimise, pretrained, write_fine_tunings, write_kitchen
from soupviz.extras import needed
from soupviz.spec import HELD_OUT, TEST, TRAIN
from soupviz.types import Progress, quiet

VERSION = "tones-1"
RATE = 4000
HOP = 100
"""Samples of a frame: 25 ms."""

NOTES = "cdega"
SEMITONES = (0, 2, 4, 7, 9)
LOWEST = 523.0
"""Hertz of the note c."""

TOKENS = ("_", " ", *NOTES)
SIZES = {PRETRAIN: 40, TRAIN: 160, HELD_OUT: 120, TEST: 240}
PLAYERS = 12
"""In each split players of its own, with instruments of their own."""

NOISE = 1.6
NOISIER = "noisier"
"""The shift: other melodies, in more noise."""

WRONG_NOTES = 0.05
SEEN = 80
"""Melodies of one fine-tuning: a half of train of its own, some notes written down wrongly, so that what each learns by
mistake averages out."""

BATCH = 4
WIDTH = 32


@dataclass(frozen=True, slots=True)
class Tuning:
    """One fine-tuning: learning rate, noise that is added to what it hears, passes over its melodies."""

    lr: float
    noise: float
    seed: int
    epochs: int = 5


TUNINGS = tuple(
    Tuning(lr, noise, seed)
    for seed, (lr, noise) in enumerate((lr, noise) for lr in (2e-3, 4e-3, 6e-3, 8e-3) for noise in (0.0, 0.3))
)


@dataclass(frozen=True, slots=True, eq=False)
class Melodies:
    """Recordings with what is played in them. waves: padded, shape (number, longest)."""

    waves: Tensor
    lengths: Tensor
    texts: Sequence[str]
    players: Sequence[str]

    @classmethod
    def of(cls, waves: Sequence[NDArray[np.float32]], texts: Sequence[str], players: Sequence[str]) -> "Melodies":
        tensors = [torch.from_numpy(wave) for wave in waves]
        lengths = torch.tensor([len(wave) for wave in tensors])
        return cls(pad_sequence(tensors, batch_first=True), lengths, texts, players)


class TonesNet(nn.Module):
    """Two convolutions on the spectrum of each 25 ms; logits of a blank, a rest and five notes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv1d(HOP // 2 + 1, WIDTH, 3, padding=1)
        self.second = nn.Conv1d(WIDTH, WIDTH, 3, padding=1)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(2))
        self.head = nn.Linear(WIDTH, len(TOKENS))

    def forward(self, waves: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Logits of frames, shape (batch, time, tokens), of samples, shape (batch, samples), and how many are heard."""
        frames = lengths // HOP
        parts = waves[:, : waves.shape[1] // HOP * HOP].reshape(waves.shape[0], -1, HOP)
        spectrum = torch.fft.rfft(parts * torch.hann_window(HOP, device=waves.device)).abs().add(0.1).log()
        inside = (torch.arange(parts.shape[1], device=waves.device) < frames[:, None])[:, :, None]
        hidden = spectrum
        for layer, norm in zip((self.first, self.second), self.norms, strict=True):
            hidden = F.gelu(norm(layer((hidden * inside).transpose(1, 2)).transpose(1, 2)))
        return {"logits": self.head(hidden), "lengths": frames}


def tones_kitchen(folder: Path | None = None, progress: Progress = quiet) -> Path:
    """The demo's kitchen.yaml, built at the first call and then kept.

    Args:
        folder: where; default: the user's cache folder.
    """
    return built(folder, VERSION, _build, progress)


def _build(folder: Path, progress: Progress, seed: int = 0) -> None:
    """seed: of the melodies, the base and every run; 0 is what ships, the others check what is claimed of it."""
    total = len(TUNINGS) + 2
    progress(0, total, "playing melodies")
    splits = {name: _played(number, 1000 * seed + place) for place, (name, number) in enumerate(SIZES.items())}
    splits[NOISIER] = _played(SIZES[HELD_OUT], 1000 * seed + len(SIZES), 1.1 * NOISE)
    for name in (TRAIN, HELD_OUT, TEST, NOISIER):
        _write(splits[name], name, folder)
    progress(1, total, "pre-training")
    first = Tuning(1e-2, 0.1, seed, epochs=40)
    base = pretrained(TonesNet, seed, lambda net: _train(net, splits[PRETRAIN], first), folder)
    write_fine_tunings(
        base,
        TUNINGS,
        lambda net, tuning: _train(net, _seen(splits[TRAIN], 1000 * seed + tuning.seed), tuning),
        "tones",
        folder,
        lambda index, what: progress(2 + index, total, what),
    )
    document: dict[str, Any] = {
        "name": "Demo: melodies, made up",
        "task": {"name": "transcription", "vocabulary": list(TOKENS)},
        "model": {"factory": "soupviz.demo:TonesNet"},
        "ingredients": ["tones_*.safetensors"],
        "base": "base.safetensors",
        "data": {name: _table(name) for name in (TRAIN, HELD_OUT, TEST)} | {"shifts": {NOISIER: _table(NOISIER)}},
        "device": "cpu",
    }
    write_kitchen(document, folder)
    progress(total, total, "ready")


def _table(name: str) -> dict[str, str]:
    """A split as kitchen.yaml names it."""
    return {"format": "audio", "path": f"{name}.csv", "group": "player"}


def _played(number: int, seed: int, noise: float = NOISE) -> Melodies:
    """Melodies: motifs of one to three notes with rests between them, by players of whom each has an instrument."""
    random = np.random.default_rng(seed)
    overtones = random.dirichlet((3.0, 1.5), size=PLAYERS)
    tunings = random.uniform(-0.35, 0.35, size=PLAYERS)
    texts, waves, players = [], [], []
    for index in range(number):
        motifs = [_motif(random) for _ in range(random.integers(2, 5))]
        player = index % PLAYERS
        parts = [np.zeros(HOP)]
        for motif in motifs:
            for note in motif:
                parts.append(_note(note, overtones[player], tunings[player], random))
            parts.append(np.zeros(int(random.integers(4, 7)) * HOP))
        wave = np.concatenate(parts)
        noisy = 0.3 * wave + 0.1 * noise * random.normal(size=len(wave))
        waves.append(np.clip(noisy, -1, 1).astype(np.float32))
        texts.append(" ".join("".join(NOTES[note] for note in motif) for motif in motifs))
        players.append(f"player {player + 1}")
    return Melodies.of(waves, texts, players)


def _motif(random: np.random.Generator) -> list[int]:
    """One to three notes, none twice in a row."""
    notes = [int(random.integers(len(NOTES)))]
    for _ in range(int(random.integers(0, 3))):
        notes.append((notes[-1] + int(random.integers(1, len(NOTES)))) % len(NOTES))
    return notes


def _note(note: int, overtones: NDArray[np.float64], tuning: float, random: np.random.Generator) -> NDArray[np.float64]:
    """A tone of 50 to 100 ms that dies away, as loud as each of its overtones is."""
    time = np.arange(HOP * int(random.integers(2, 5))) / RATE
    pitch = LOWEST * 2 ** ((SEMITONES[note] + tuning) / 12)
    tone = sum(share * np.sin(2 * math.pi * pitch * (k + 1) * time) for k, share in enumerate(overtones))
    return np.asarray(np.exp(-4 * time) * tone)


def _write(melodies: Melodies, name: str, folder: Path) -> None:
    """Recordings in a folder, and the table that names them."""
    with needed("the demo of speech"):
        import soundfile
    (folder / name).mkdir()
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("file", "transcript", "player"))
        for index, (text, player) in enumerate(zip(melodies.texts, melodies.players, strict=True)):
            place = f"{name}/{index:03d}.wav"
            samples = melodies.waves[index, : melodies.lengths[index]].numpy()
            soundfile.write(folder / place, samples, RATE, subtype="PCM_16")
            table.writerow((place, text, player))


def _seen(train: Melodies, seed: int) -> Melodies:
    """What one fine-tuning hears, and how it is written down for it."""
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(train.texts))[:SEEN]

    def misheard(text: str) -> str:
        return "".join(
            str(random.choice(list(NOTES))) if one != " " and random.random() < WRONG_NOTES else one for one in text
        )

    rows = torch.from_numpy(chosen)
    texts = [misheard(train.texts[row]) for row in chosen.tolist()]
    return Melodies(train.waves[rows], train.lengths[rows], texts, [train.players[row] for row in chosen.tolist()])


def _train(model: nn.Module, data: Melodies, tuning: Tuning) -> None:
    spelled = [torch.tensor([TOKENS.index(note) for note in text]) for text in data.texts]

    def loss_of(rows: Tensor, _answers: Tensor, generator: torch.Generator) -> Tensor:
        lengths = data.lengths[rows]
        waves = data.waves[rows, : int(lengths.max())]
        noise = 0.1 * tuning.noise * torch.randn(waves.shape, generator=generator)
        found = model(waves + noise, lengths)
        targets = [spelled[row] for row in rows.tolist()]
        return F.ctc_loss(
            found["logits"].log_softmax(2).transpose(0, 1), torch.cat(targets), found["lengths"],
            torch.tensor([len(target) for target in targets]), zero_infinity=True,
        )  # fmt: skip

    rows = torch.arange(len(data.texts))
    optimise(model, (rows, rows), tuning, loss_of, batch_size=BATCH)
