"""Nets of CTC and taggers, whose models are called once a batch, by their graphs: the same answers and decisions."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import build_model, change_yaml, perturbed, save, write_yaml
from speech_kitchens import TOKENS, speech_kitchen, spoken, texts, write_split
from tagging import tagging_kitchen, toy_tokenizer
from torch import nn

import soupviz as sv
from soupviz.models.routes import Routes
from soupviz.tasks.finding import find_task

NET = """
from torch import nn

HOP = 40


class Net(nn.Module):
    def __init__(self, tokens):
        super().__init__()
        self.first, self.norm = nn.Conv1d(1, 16, 2 * HOP, stride=HOP, padding=HOP), nn.BatchNorm1d(16)
        self.second, self.after = nn.Conv1d(16, 16, 3, padding=1), nn.BatchNorm1d(16)
        self.head = nn.Linear(16, tokens)

    def heard(self, waves):
        states = self.norm(self.first(waves.unsqueeze(1))).relu()
        return self.head(self.after(self.second(states)).relu().transpose(1, 2))


class Bare(Net):
    def forward(self, waves):
        return self.heard(waves)


class Told(Net):
    def forward(self, waves, lengths):
        return {"logits": self.heard(waves), "lengths": lengths // HOP + 1}


def build(tokens=6, told="bare"):
    return {"bare": Bare, "told": Told}[told](tokens)
"""


def hearing_kitchen(folder: Path, told: str) -> Path:
    """Random ingredients whose first layer is the base's, that say something else of each recording."""
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(NET.lstrip(), encoding="utf-8")
    model = build_model(NET, told=told)
    random = np.random.default_rng(0)
    waves = [torch.from_numpy(spoken(text, random)) for text in texts(40, random)]
    with torch.no_grad():
        model.train()
        for _ in range(30):  # until its statistics are those of recordings
            model.heard(nn.utils.rnn.pad_sequence(waves, batch_first=True))
        model.head.weight.mul_(6)
    base = model.state_dict()
    for index in range(4):
        changed = perturbed(base, 0.05, seed=index)
        kept = {key: base[key] for key in base if key.startswith(("first", "norm"))}
        save(changed | kept, folder / f"m_{index}.safetensors")
    for seed, split in enumerate(("held_out", "test")):
        write_split(folder, split, 24, seed)
    return write_yaml(
        folder, name="tones", task={"name": "transcription", "vocabulary": TOKENS},
        model={"factory": "model.py:build", "args": {"told": told}}, ingredients=["m_*.safetensors"],
        data={split: {"format": "audio", "path": f"{split}.csv"} for split in ("held_out", "test")}, device="cpu",
    )  # fmt: skip


@pytest.fixture(scope="module", params=["bare", "told"])
def built(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hearing_kitchen(tmp_path_factory.mktemp("traced") / "k", request.param)


@pytest.fixture
def file(built: Path, tmp_path: Path) -> Path:
    return shutil.copytree(built.parent, tmp_path / "k") / "kitchen.yaml"


def plainly(kitchen: sv.Kitchen) -> sv.Kitchen:
    """A kitchen whose soups all run through the model's own code."""
    kitchen.evaluator.routes.take_none("asked for")
    kitchen.evaluator._inspect = lambda _split: None
    return kitchen


def found_by(kitchen: sv.Kitchen):
    scores = {name: kitchen.scores.score(((name, 1.0),)) for name in kitchen.names}
    soup = sv.greedy(kitchen)
    heard = {name: [row.tolist() for row in score.outcomes["hypothesis"]] for name, score in scores.items()}
    return heard, [(step.ingredient, step.accepted, step.value) for step in soup.trajectory], soup.coefficients


@pytest.mark.parametrize("size", [1, 7, 256])
def test_a_net_of_ctc_runs_through_its_graph_and_says_the_same(file: Path, tmp_path: Path, size: int) -> None:
    change_yaml(file, lambda keys: keys.update(batch_size=size))
    other = shutil.copytree(file.parent, tmp_path / "plain") / "kitchen.yaml"
    kitchen, plain = sv.Kitchen.load(file), plainly(sv.Kitchen.load(other))
    found = found_by(kitchen)
    assert found == found_by(plain)
    assert any(any(rows) for rows in found[0].values()) and len(set(map(str, found[0].values()))) > 1
    routes = kitchen.evaluator.routes
    assert "2 BatchNorm layers are folded" in routes.note and routes.has_cut
    assert routes.whole is not kitchen.evaluator.model


def test_a_net_told_of_padding_is_cut_to_each_batch_and_not_in_two(tmp_path: Path) -> None:
    """Its recordings are of about one length in each batch, so that there is no row to keep of every one."""
    kitchen = sv.Kitchen.load(speech_kitchen(tmp_path / "k", num_ingredients=2, num_units=8, steps=2))
    kitchen.score()
    assert not kitchen.evaluator.routes.has_cut


def test_a_graph_that_tells_of_other_frames_is_not_used() -> None:
    class Moody(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 3)

        def forward(self, waves, lengths):
            return {
                "logits": self.head(waves),
                "lengths": lengths if isinstance(lengths, torch.Tensor) else lengths + 1,
            }

    routes = Routes(Moody().eval())
    inputs = torch.randn(3, 5, 4)
    routes.inspect(lambda number: {"waves": inputs[:number], "lengths": torch.tensor([5, 3, 2])[:number]})
    assert "differs from the model" in routes.note


def test_a_tagger_runs_through_its_graph_and_says_the_same(tmp_path: Path) -> None:
    with toy_tokenizer():
        file = tagging_kitchen(tmp_path / "k", num_ingredients=3)
        other = shutil.copytree(file.parent, tmp_path / "plain") / "kitchen.yaml"
        kitchen, plain = sv.Kitchen.load(file), plainly(sv.Kitchen.load(other))
        for name in kitchen.names:
            one, two = (each.scores.score(((name, 1.0),)) for each in (kitchen, plain))
            assert (one.outcomes["said"] == two.outcomes["said"]).all() and one.values["f1"] == two.values["f1"]
        assert kitchen.evaluator.routes.note.startswith("traced")


def test_what_is_called_otherwise_is_not_traced() -> None:
    made = {"vocabulary": TOKENS}
    assert find_task("transcription", made, Path()).calls_once
    assert not find_task("transcription", made | {"decode": "generate"}, Path()).calls_once
    assert find_task("classification", {}, Path()).calls_once
    assert not find_task("multiple_choice", {}, Path()).calls_once
