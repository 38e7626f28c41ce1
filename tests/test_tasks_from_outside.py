"""Tasks that the package does not have, each from files of its own: what is padded, and what no batch decides."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import json_of, run_command, save
from metrics_from_outside import WER
from own_kitchens import KINDS, VALUES, kitchen_from_outside
from torch import Tensor, nn

import soupviz as sv
from soupviz.data.examples import stacked
from soupviz.data.labels import PADDING, padded
from soupviz.tasks.outcomes import Outcomes
from soupviz.tasks.paired import compare

Build = Callable[[str], Path]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A kitchen of each kind, built when it is asked for first."""
    known: dict[str, Path] = {}

    def find(kind: str) -> Path:
        if kind not in known:
            known[kind] = kitchen_from_outside(kind, tmp_path_factory.mktemp(kind))
        return known[kind]

    return find


# Inputs and labels of varying length


def ragged(*lengths: int, width: int = 2) -> list[Tensor]:
    return [torch.arange(1.0, length * width + 1).reshape(length, width) for length in lengths]


def masks(*lengths: int) -> list[Tensor]:
    return [torch.ones(length) for length in lengths]


def test_what_varies_as_a_mask_does_is_padded_with_it_and_all_else_stays():
    pictures = [torch.ones(3, 2, 2) for _ in range(3)]
    found = stacked("held_out", {"x": ragged(1, 3, 2), "attention_mask": masks(1, 3, 2), "image": pictures}, 0, ["x"])
    assert found.arrays["x"].shape == (3, 3, 2) and not found.arrays["x"][0, 1:].any()
    assert found.arrays["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1], [1, 1, 0]]
    assert (found.lengths.tolist(), found.uncut) == ([1, 3, 2], ("image",))


@pytest.mark.parametrize("argument", ["", "x"])
def test_a_forward_that_takes_lengths_gets_those_before_padding(argument):
    found = stacked("held_out", {argument: ragged(2, 1)}, 0, ["x", "lengths"])
    assert set(found.arrays) == {"x", "lengths"}
    assert (found.arrays["lengths"].tolist(), found.arrays["lengths"].dtype) == ([2, 1], np.int64)
    assert found.arrays["x"][1].tolist() == [[1, 2], [0, 0]]
    alike = stacked("held_out", {argument: ragged(2, 2)}, 0, ["x", "lengths"])
    assert alike.arrays["lengths"].tolist() == [2, 2] and alike.lengths is None


def test_what_varies_without_a_word_to_the_model_is_refused():
    with pytest.raises(sv.SoupError, match="forward that takes `lengths`"):
        stacked("held_out", {"": ragged(2, 1)}, 0, ["x"])
    with pytest.raises(sv.SoupError, match=r"example 1 has x of shape \(1, 3\)"):
        stacked("held_out", {"x": [torch.ones(2, 2), torch.ones(1, 3)], "attention_mask": masks(2, 1)}, 0, ["x"])


def test_labels_of_varying_length_are_filled_up():
    words = padded([np.array([4, 5]), np.array([6])])
    boxes = padded([np.zeros((0, 4), np.float32), np.ones((2, 4), np.float32)])
    assert np.stack(words).tolist() == [[4, 5], [6, PADDING]]
    assert (np.stack(boxes)[0] == PADDING).all() and np.stack(boxes).dtype == np.float32


WAVES = """
from torch import nn


class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(2, 1)

    def forward(self, waves, lengths):
        return self.head(waves.sum(1) / lengths[:, None])


def build():
    return Mean()
"""


def test_a_unit_alone_is_answered_as_in_any_batch_where_the_model_takes_lengths(tmp_path):
    file = kitchen_from_outside("spearman", tmp_path, num_units=20)
    (tmp_path / "model.py").write_text(WAVES)
    (tmp_path / "data.py").write_text(
        "import torch\n\ndef build(seed, number):\n    generator = torch.Generator().manual_seed(seed)\n"
        "    lengths = [1 + index % 5 for index in range(number)]\n"
        "    return [(torch.randn(length, 2, generator=generator), float(length)) for length in lengths]\n"
    )
    for path in (*tmp_path.glob("m_*.safetensors"), tmp_path / "base.safetensors"):
        save({f"head.{key}": tensor for key, tensor in nn.Linear(2, 1).state_dict().items()}, path)
    kitchen = sv.Kitchen.load(file)
    held_out = kitchen.splits.load("held_out")
    answers = kitchen.scores.logits((("m_0", 1.0),))[:, 0]
    head = nn.Linear(2, 1)
    head.load_state_dict({key.removeprefix("head."): value for key, value in kitchen.ingredients[0].tensors.items()})
    with torch.no_grad():
        alone = [float(head(held_out.example(row)["waves"].mean(0))) for row in range(20)]
    assert [len(held_out.example(row)["waves"]) for row in range(6)] == [1, 2, 3, 4, 5, 1]
    assert answers == pytest.approx(alone, abs=1e-6)


# What a task says of one unit


def test_a_units_own_value_says_how_badly_it_was_answered_where_the_metric_is_a_sum(built):
    kitchen = sv.Kitchen.load(built("wer"))
    new, old = (kitchen.scores.score(((name, 1.0),)).outcomes for name in ("m_0", "m_1"))
    rate = new["edits"] / new["words"]
    assert kitchen.task.hardness(new) == pytest.approx(rate)
    before = old["edits"] / old["words"]
    assert kitchen.task.better(new, old) == ((rate < before).sum(), (rate > before).sum())


def test_a_unit_of_which_a_ratio_says_nothing_is_neither_good_nor_bad_and_what_is_not_finite_is_worst():
    task = Ratio()
    columns = {"finite": np.array([True, True, True, False]), "edits": np.array([1, 0, 0, 0])}
    found = Outcomes.of(columns, {"words": np.array([2, 4, 0, 4])})
    assert task.hardness(found).tolist() == [0.5, 0.0, pytest.approx(0.5 / 3), np.inf]


class Ratio(sv.Task):
    metrics = (WER,)


@pytest.mark.parametrize("kind", ["map", "spearman"])
def test_a_task_that_judges_units_only_together_counts_none(kind, built):
    kitchen = sv.Kitchen.load(built(kind))
    one, other = (kitchen.scores.score(((name, 1.0),)) for name in ("m_0", "m_1"))
    found = compare(kitchen.task, kitchen.objective, one, other)
    assert not kitchen.task.judges_units
    assert (found.better, found.worse) == (None, None)
    assert 0 < found.p_value <= 1 and found.low <= found.difference <= found.high


def test_detections_have_no_average(built, capsys):
    status, _, err = run_command(capsys, "soup", built("map"), "--recipe", "ensemble")
    assert status == 2 and "Detection answers cannot be averaged" in err
    found = json_of(capsys, "soup", built("wer"), "--recipe", "ensemble")
    assert found["scores"]["test"]["metric"] == "wer"


# Commands


WRONG = {
    kind: r"accura|\bcorrect\b|\bclass(?!es to look)" + ("" if kind == "spearman" else "|example") for kind in KINDS
}
"""Words of other tasks."""


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] if kind in ("map", "spearman") else []) for kind in KINDS]
)
def test_every_command_speaks_of_the_tasks_own_metric(kind, built, tmp_path, capsys):
    file, out = built(kind), tmp_path / "soup.safetensors"
    commands = [
        ("score", file, "--split", "test"),
        ("soup", file, "--recipe", "greedy", "--out", out),
        ("soup", file, "--recipe", "uniform"),
        ("sweep", file, "--alphas", "0.2,mean"),
        ("interpolate", file, "m_0", "m_1", "--points", 3),
        ("menu", file, "--budget", 12),
    ]
    told = ""
    for command in commands:
        status, said, err = run_command(capsys, *command)
        assert status == 0, (command, err)
        assert VALUES[kind].split()[0] in said.split("left out")[0], command
        told += said
    for command in (("inspect", file), ("bake", out, "--kitchen", file, "--out", tmp_path / "baked.safetensors")):
        status, said, err = run_command(capsys, *command)
        assert status == 0, err
        told += said
    page = tmp_path / "report.html"
    assert run_command(capsys, "report", file, "--out", page)[0] == 0
    text = re.sub(r"<(script|style)\b.*?</\1>|<[^>]+>|data:[^\"']+", " ", page.read_text("utf-8"), flags=re.DOTALL)
    assert VALUES[kind] in text
    text = text.replace("class by class", "").replace("has no classes", "")
    assert not re.findall(f".*(?:{WRONG[kind]}).*", f"{told} {text}", re.IGNORECASE)


def test_a_barrier_in_a_share_is_told_in_points(built, capsys):
    highest = json_of(capsys, "inspect", built("wer"))["barriers"]
    top = max(max(row) for row in highest)
    _, said, _ = run_command(capsys, "inspect", built("wer"))
    assert "(points" in said and f"{100 * top:.3f}" in said
