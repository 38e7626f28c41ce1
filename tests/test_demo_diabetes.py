"""The demo of a regression: 442 patients, ten fine-tunings, and the whole journey under RMSE."""

import numpy as np
import pytest
import torch
from kitchens import json_of
from safetensors.torch import load_file
from sklearn.datasets import load_diabetes

import soupviz as sv
from soupviz import trust
from soupviz.demo.diabetes import SIZES, TUNINGS, diabetes_kitchen
from soupviz.tasks.paired import compare
from soupviz.yaml_file import read_kitchen_file


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return diabetes_kitchen(tmp_path_factory.mktemp("demo") / "diabetes")


@pytest.fixture(scope="module")
def kitchen(file) -> sv.Kitchen:
    return sv.Kitchen.load(file)


def test_the_demo_is_a_regression_of_442_patients(kitchen):
    assert (kitchen.task.name, kitchen.objective.name) == ("regression", "rmse")
    assert kitchen.names == [f"diabetes_{index:02d}" for index in range(len(TUNINGS))]
    assert len(TUNINGS) == 10
    assert sum(SIZES.values()) == 442
    assert [len(kitchen.splits.load(name)) for name in kitchen.splits.names] == [100, 132, 160]
    _, answers = load_diabetes(return_X_y=True)
    told = torch.cat([kitchen.splits.load(name).labels for name in kitchen.splits.names])
    assert set(told.tolist()) <= set(answers.tolist())


def test_its_parts_share_no_patient(file):
    parts = [load_file(file.parent / f"{name}.safetensors")["inputs"] for name in ("train", "held_out", "test")]
    everyone = torch.cat(parts)
    assert len(torch.unique(everyone, dim=0)) == len(everyone) == 442 - SIZES["pretrain"]


def test_fine_tuning_helps(kitchen):
    """Each says more than the mean of the labels; most say more than the base."""
    base = kitchen.scores.score((("base", 1.0),)).value
    spread = float(np.std(kitchen.splits.load("held_out").labels.numpy()))
    values = [score.value for score in kitchen.scores.of_ingredients().values()]
    assert max(values) < spread
    assert sum(value < base for value in values) >= 6


def test_the_soups_lower_the_error_on_held_out_and_the_verdict_on_test_is_honest(kitchen):
    """What docs/explanation/demo.md says of seed 0."""
    scores = kitchen.scores.of_ingredients()
    best = min(scores, key=lambda name: scores[name].value)
    soup = sv.greedy(kitchen)
    assert soup.scores["held_out"].value < scores[best].value
    values = [step.best_value for step in soup.trajectory]
    assert values == sorted(values, reverse=True)
    rival = kitchen.scores.score(((best, 1.0),), "test")
    found = compare(kitchen.task, kitchen.objective, kitchen.scores.score(soup.mix, "test"), rival)
    assert found.difference < 0 < found.high and found.p_value > 0.05


def test_opening_it_asks_for_nothing(file):
    assert trust.request(file, read_kitchen_file(file), lambda path: path).code == ()


def test_the_command_builds_it(tmp_path, capsys):
    told = json_of(capsys, "demo", tmp_path / "there", "--task", "regression")
    assert told == {"kitchen": str(tmp_path / "there" / "kitchen.yaml")}
    assert sv.Kitchen.load(told["kitchen"]).task.name == "regression"
