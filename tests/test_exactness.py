"""Whatever the task, a search decides as the plain loop over whole scores does: neither what is given up early nor the
size of batches has a part in it."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from detectors import detection_kitchen
from kitchens import (
    MLP,
    build_model,
    change_yaml,
    perturbed,
    regression_kitchen,
    save,
    small_kitchen,
    write_arrays,
    write_yaml,
)
from own_kitchens import kitchen_from_outside
from shapes import shapes_kitchen
from speech_kitchens import RATE, speech_kitchen, spoken, texts, write_table
from tagging import tagging_kitchen, toy_tokenizer
from workers import without_processes
from writers import choices_kitchen, hand_made_tokens, writers_kitchen

import soupviz as sv

SIZES = (1, 7, 256)

VOICE = """
import torch
from torch import nn

HOP = 40


class Voice(nn.Module):
    \"\"\"What a recording sounds like on the whole: the mean of its frames.\"\"\"

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(21, 16), nn.Linear(16, 3)

    def forward(self, waves, lengths):
        frames = torch.fft.rfft(waves[:, : waves.shape[1] // HOP * HOP].unflatten(1, (-1, HOP))).abs()
        number = lengths // HOP
        inside = torch.arange(frames.shape[1]) < number[:, None]
        return self.head((self.first(frames).relu() * inside[:, :, None]).sum(1) / number[:, None])


def build():
    return Voice()
"""


def voices_kitchen(folder: Path) -> Path:
    """Recordings in three classes, as the base hears them, but for some."""
    (folder / "waves").mkdir(parents=True)
    (folder / "model.py").write_text(VOICE.lstrip(), encoding="utf-8")
    model, random, rows = build_model(VOICE), np.random.default_rng(0), []
    for index, text in enumerate(texts(80, random)):
        wave = spoken(text, random)
        soundfile.write(folder / "waves" / f"{index}.wav", wave, RATE, subtype="FLOAT")
        with torch.no_grad():
            heard = int(model(torch.from_numpy(wave)[None], torch.tensor([len(wave)])).argmax())
        label = int(random.integers(3)) if random.random() < 0.2 else heard
        rows.append({"file": f"waves/{index}.wav", "label": f"class {label}"})
    write_table(folder, "table", rows)
    for index in range(5):
        save(perturbed(model.state_dict(), 0.5, seed=index), folder / f"m_{index}.safetensors")
    split = {"format": "audio", "path": "table.csv"}
    return write_yaml(
        folder, name="voices", model={"factory": "model.py:build"}, ingredients=["m_*.safetensors"],
        data={"held_out": split}, device="cpu",
    )  # fmt: skip


def pictures_kitchen(folder: Path) -> Path:
    return small_kitchen(folder, scale=0.3, num_ingredients=6)


def flags_kitchen(folder: Path) -> Path:
    """Of each example which of the base's outputs are above 0, but for some."""
    file = small_kitchen(folder, scale=0.3, num_ingredients=6, task="multilabel")
    model = build_model(MLP)
    for seed, split in enumerate(("held_out", "test")):
        generator = torch.Generator().manual_seed(seed)
        inputs = torch.randn(150, 6, generator=generator)
        with torch.no_grad():
            labels = (model(inputs) > 0) ^ (torch.rand(150, 3, generator=generator) < 0.1)
        write_arrays(folder / f"{split}.safetensors", inputs, labels.long())
    return file


def heights_kitchen(folder: Path) -> Path:
    return regression_kitchen(folder, scale=0.3, num_ingredients=6)


def outside(kind: str) -> Callable[[Path], Path]:
    return lambda folder: kitchen_from_outside(kind, folder, num_ingredients=5, steps=100)


Make = Callable[[Path], Path]
KITCHENS: dict[str, tuple[Make, dict[str, Any]]] = {
    "classification": (pictures_kitchen, {}),
    "multilabel": (flags_kitchen, {"alpha": 0.2}),
    "regression": (heights_kitchen, {}),
    "token_classification": (lambda folder: tagging_kitchen(folder, steps=60), {}),
    "language_model": (lambda folder: writers_kitchen(folder, steps=40), {}),
    "multiple_choice": (choices_kitchen, {"alpha": 0.2}),
    "transcription": (lambda folder: speech_kitchen(folder, num_ingredients=5, steps=100), {"alpha": 0.3}),
    "speech classification": (voices_kitchen, {}),
    "detection": (lambda folder: detection_kitchen(folder, num_units=24), {"alpha": 0.5}),
    "segmentation": (lambda folder: shapes_kitchen(folder, steps=120), {"alpha": 0.1}),
    "outside: wer": (outside("wer"), {}),
    "outside: nats": (outside("nats"), {}),
    "outside: map": (outside("map"), {}),
}
"""By task a kitchen, and the search's keys."""

TOKENIZERS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "token_classification": toy_tokenizer,
    "language_model": hand_made_tokens,
    "multiple_choice": hand_made_tokens,
}


@pytest.fixture(scope="module", params=KITCHENS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A kitchen of each task, of which nothing is scored."""
    task: str = request.param
    with TOKENIZERS.get(task, nullcontext)():
        yield task, KITCHENS[task][0](tmp_path_factory.mktemp("exact") / "k")


def of_size(file: Path, size: int, target: Path, **opened: Any) -> sv.Kitchen:
    """A copy that answers so many units at a time; what does not decide is left out."""
    copied = shutil.copytree(file.parent, target) / file.name

    def change(keys: dict[str, Any]) -> None:
        keys.update(batch_size=size, data={"held_out": keys["data"]["held_out"]})

    return sv.Kitchen.load(change_yaml(copied, change), **opened)


def plain_loop(kitchen: sv.Kitchen, alpha: float | str = "mean") -> list[tuple[str, bool, Any]]:
    """Every candidate is scored on every unit, and kept where it is better by more than the metric's band.

    Returns:
        of each its name, whether it is kept, and how good its mix is: the more the better.
    """
    sign = 1 if kitchen.objective.higher_is_better else -1

    def goodness(mix: dict[str, float | Fraction]) -> Any:
        return sign * kitchen.scores.score(tuple((name, float(weight)) for name, weight in mix.items())).value

    singles = {name: goodness({name: 1.0}) for name in kitchen.names}
    order = sorted(singles, key=lambda name: -singles[name])
    mix: dict[str, float | Fraction] = {order[0]: 1.0}
    best, decisions = singles[order[0]], [(order[0], True, singles[order[0]])]
    for name in order[1:]:
        share = Fraction(1, len(mix) + 1) if alpha == "mean" else alpha
        tried = {one: share if alpha == "mean" else weight * (1 - share) for one, weight in mix.items()} | {name: share}
        found = goodness(tried)
        decisions.append((name, found - best > kitchen.objective.ties(), found))
        if decisions[-1][1]:
            mix, best = tried, found
    return decisions


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two columns say the same: counts and choices exactly, floats but for their last digits."""
    if one.dtype == object:
        return all(len(a) == len(b) and same(a, b) for a, b in zip(one, other, strict=True))
    if one.dtype.kind == "f":
        return np.allclose(one, other, rtol=1e-4, atol=1e-5, equal_nan=True)
    return np.array_equal(one, other)


def test_a_search_is_the_plain_loop_whatever_is_given_up_and_whatever_the_batch(made, tmp_path):
    task, file = made
    keys = KITCHENS[task][1]
    plain = plain_loop(of_size(file, 1, tmp_path / "plain"), **keys)
    decisions = [(name, kept) for name, kept, _ in plain]
    assert 1 < sum(kept for _, kept in decisions) < len(decisions)
    soups, columns, given_up = [], [], 0
    for size in SIZES:
        kitchen = of_size(file, size, tmp_path / str(size))
        soup = sv.greedy(kitchen, **keys)
        assert [(step.ingredient, step.accepted) for step in soup.trajectory] == decisions
        sign = 1 if kitchen.objective.higher_is_better else -1
        for step, (_, _, whole) in zip(soup.trajectory, plain, strict=True):
            if step.value is None:
                given_up += 1
                assert float(whole) - 1e-9 <= sign * step.bound <= sign * step.best_value + 1e-9
            else:
                assert float(step.value) == pytest.approx(float(sign * whole), rel=1e-5)
        soups.append(soup)
        columns.append([kitchen.scores.score(mix).outcomes for mix in (soup.mix, ((decisions[-1][0], 1.0),))])
    assert given_up or task == "outside: map"  # whose models are too much alike for its bound
    assert all(soup.coefficients == soups[0].coefficients for soup in soups)
    for of_mixes in columns[1:]:
        for found, first in zip(of_mixes, columns[0], strict=True):
            assert found.columns.keys() == first.columns.keys()
            assert [name for name, column in found.columns.items() if not same(column, first[name])] == []


def test_three_workers_decide_and_count_as_one_process_does(made, tmp_path, monkeypatch):
    """Every figure of every decision, which tells after how many units a candidate was given up too."""
    started = without_processes(monkeypatch)
    task, file = made
    alone = of_size(file, 7, tmp_path / "one")
    shared = of_size(file, 7, tmp_path / "shared", executor="processes", workers=3)
    first, second = (sv.greedy(kitchen, **KITCHENS[task][1]) for kitchen in (alone, shared))
    assert second.trajectory == first.trajectory
    assert second.coefficients == first.coefficients
    assert all(started[0].answered)
    one, other = (kitchen.scores.score(first.mix).outcomes for kitchen in (alone, shared))
    assert [name for name, column in one.columns.items() if not same(column, other[name])] == []
