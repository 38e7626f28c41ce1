"""Strings of recordings by speakers that are kept apart, one long run of the net, and fine-tunes from its end."""

import csv
import random
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import soundfile
import torch
from torch import Tensor, nn

from examples.common import Order, missing_runs, save, say
from examples.spoken_digits.model import RATE, VOCABULARY, Net
from examples.sweeping import FineTune, fine_tune

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SPEAKERS = {"train": ("george", "jackson", "lucas", "yweweler"), "held_out": ("nicolas",), "test": ("theo",)}
EPOCHS, STEPS, BATCH, RATE_OF_RUN = 12, 60, 16, 2e-3
STEPS_OF_FINE_TUNES = 40


FINE_TUNES = (
    FineTune(1e-3, 4, 1),
    FineTune(2e-3, 4, 2),
    FineTune(3e-3, 4, 3),
    FineTune(1e-3, 6, 4),
    FineTune(2e-3, 5, 5),
)


def read_recordings(folder: Path) -> dict[str, list[tuple[int, Tensor]]]:
    """Digits with their waveforms, by speaker."""
    found: dict[str, list[tuple[int, Tensor]]] = {}
    for file in sorted(folder.glob("*.wav")):
        digit, speaker, _ = file.stem.split("_")
        wave, _ = soundfile.read(file, dtype="float32")
        found.setdefault(speaker, []).append((int(digit), torch.from_numpy(wave)))
    return found


def joined(chosen: Sequence[tuple[int, Tensor]], rng: random.Random) -> tuple[str, Tensor]:
    """A string of digits with short silences between them, and what is said."""
    parts = [part for _, wave in chosen for part in (torch.zeros(rng.randrange(80, 800)), wave)]
    return " ".join(WORDS[digit] for digit, _ in chosen), torch.cat([*parts, torch.zeros(400)])


def write_data(order: Order, recordings: dict[str, list[tuple[int, Tensor]]]) -> Path:
    """Every recording of the speakers who judge, once, in strings of two to six: audio files and tables."""
    folder = order.folder / "data"
    for split in ("held_out", "test"):
        rng, rows = random.Random(split), []
        (folder / split).mkdir(parents=True, exist_ok=True)
        for speaker in SPEAKERS[split]:
            left = list(recordings[speaker])
            rng.shuffle(left)
            left = left[:30] if order.quick else left
            while left:
                number = rng.randint(2, 6)
                text, wave = joined(left[:number], rng)
                left = left[number:]
                rows.append((f"{split}/{len(rows):03d}.wav", text, speaker))
                soundfile.write(folder / rows[-1][0], wave.numpy(), RATE, subtype="PCM_16")
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("file", "transcript", "speaker"), *rows])
    return folder


def batch_of(strings: Sequence[tuple[str, Tensor]]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Waves and their lengths, letters and theirs."""
    waves = nn.utils.rnn.pad_sequence([wave for _, wave in strings], batch_first=True)
    letters = [torch.tensor([VOCABULARY.index(letter) for letter in text]) for text, _ in strings]
    return waves, lengths_of([wave for _, wave in strings]), torch.cat(letters), lengths_of(letters)


def lengths_of(tensors: Sequence[Tensor]) -> Tensor:
    return torch.tensor([len(one) for one in tensors])


def loss_of(net: Net, strings: Sequence[tuple[str, Tensor]]) -> Tensor:
    waves, lengths, letters, numbers = batch_of(strings)
    told = net(waves, lengths)
    logs = told["logits"].log_softmax(2).transpose(0, 1)
    return nn.functional.ctc_loss(logs, letters, told["lengths"], numbers, zero_infinity=True)


def heard(by_speaker: Sequence[list[tuple[int, Tensor]]], rng: random.Random) -> tuple[str, Tensor]:
    """A new string of one of the speakers, faster and higher or the reverse, louder or softer, with some noise."""
    text, wave = joined(rng.choices(rng.choice(by_speaker), k=rng.randint(1, 5)), rng)
    wave = nn.functional.interpolate(wave[None, None], scale_factor=rng.uniform(0.8, 1.25), mode="linear")[0, 0]
    return text, wave * 2 ** rng.uniform(-1.5, 1.5) + torch.randn(len(wave)) * 10 ** rng.uniform(-4, -2.3)


def epoch(net: Net, optimizer: torch.optim.Optimizer, rng: random.Random, voices: Sequence[list], steps: int) -> None:
    net.train()
    for _ in range(steps):
        loss = loss_of(net, [heard(voices, rng) for _ in range(BATCH)])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()


def train_run(order: Order, voices: Sequence[list], held_out: Sequence[tuple[str, Tensor]]) -> Path:
    """One run at a constant learning rate, a checkpoint after each epoch, with its loss on held_out."""
    folder, epochs = order.folder / "run", 3 if order.quick else EPOCHS
    names = [f"epoch_{number:02d}.safetensors" for number in range(1, epochs + 1)]
    if not missing_runs(folder, names):
        return folder
    torch.manual_seed(0)
    net, rng = Net(), random.Random(0)
    optimizer = torch.optim.AdamW(net.parameters(), lr=RATE_OF_RUN, weight_decay=0.01)
    for number, name in enumerate(names, 1):
        epoch(net, optimizer, rng, voices, 4 if order.quick else STEPS)
        net.eval()
        with torch.no_grad():
            losses = [float(loss_of(net, [one])) for one in held_out]
        mean = sum(losses) / len(losses)
        save(net.state_dict(), folder / name, epoch=number, eval_loss=mean, lr=RATE_OF_RUN)
        say(f"{name}: loss {mean:.4f} on held_out")
    return folder


def train(order: Order, recordings: dict[str, list[tuple[int, Tensor]]]) -> tuple[Path, Path]:
    """The folders of the run and of the fine-tunes, with what was not there yet."""
    voices = [recordings[speaker] for speaker in SPEAKERS["train"]]
    rng = random.Random(1)
    held_out = [
        joined(rng.choices(recordings[speaker], k=4), rng) for speaker in SPEAKERS["held_out"] for _ in range(100)
    ]
    run = train_run(order, voices, held_out[: 5 if order.quick else None])
    each = partial(epoch, voices=voices, steps=4 if order.quick else STEPS_OF_FINE_TUNES)
    last = sorted(run.glob("*.safetensors"))[-1]
    return run, fine_tune(order, order.folder / "fine_tunes", last, FINE_TUNES, Net, each)
