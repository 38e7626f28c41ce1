"""float32 means float32 while a model runs, by PyTorch's flags: no device that rounds to TF32 is needed to see them."""

import pytest
import torch
from kitchens import MLP, build_model, labelled, small_kitchen
from test_evaluation import evaluator, split_of

import soupviz as sv
from soupviz.kitchen import at_precision
from soupviz.scoring.evaluator import Trial
from soupviz.scoring.precision import arithmetic_of

NAMES = ("cuda.matmul", "cudnn.conv", "cudnn.rnn", "mkldnn.matmul", "mkldnn.conv", "mkldnn.rnn")


def flags() -> list[object]:
    """All of PyTorch's flags for float32, of the newer interface and of the older."""
    found: list[object] = []
    for name in NAMES:
        backend, _, operation = name.partition(".")
        found.append(getattr(getattr(torch.backends, backend), operation).fp32_precision)
    return [
        *found, torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
    ]  # fmt: skip


EXACT = ["ieee"] * 6 + ["highest", False, False]
TF32 = ["tf32"] * 6 + ["high", True, True]


@pytest.fixture
def flags_put_back():
    with arithmetic_of("float32"):  # puts back what a test changes
        yield


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_float32_is_exact_whatever_was_set_before_and_the_flags_come_back(precision, flags_put_back):
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    before = flags()
    with arithmetic_of(precision):
        assert flags() == EXACT
    assert flags() == before


def test_pytorchs_own_defaults_come_back():
    before = flags()
    with arithmetic_of("tf32"):
        assert flags() == TF32
        with arithmetic_of("float32"):
            assert flags() == EXACT
        assert flags() == TF32
    assert flags() == before


def test_who_set_the_newer_interface_alone_finds_it_as_it_was(flags_put_back):
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    with arithmetic_of("float32"):
        assert flags() == EXACT
    assert torch.backends.cuda.matmul.fp32_precision == "tf32"


@pytest.mark.parametrize(("precision", "expected"), [("float32", EXACT), ("tf32", TF32)])
def test_a_model_runs_with_the_flags_of_its_precision(precision, expected):
    seen = []
    model = build_model(MLP)
    used = evaluator(model, precision=precision)
    model.register_forward_hook(lambda *_told: seen.append(flags()))
    split = split_of(*labelled(build_model(MLP), (6,), 8, seed=1))
    used.evaluate(split, Trial(lambda: (), used.blank(split)))
    assert seen and all(one == expected for one in seen)


def test_tf32_is_a_precision_of_its_own(tmp_path):
    exact = sv.Kitchen.load(small_kitchen(tmp_path))
    fast = at_precision(exact, "tf32")
    mix = (("m_0", 1.0),)
    assert fast.scores.score(mix).precision == "tf32" != exact.scores.score(mix).precision
    assert fast.scores.key(mix, "held_out", "average") != exact.scores.key(mix, "held_out", "average")
    assert sv.Kitchen.load(small_kitchen(tmp_path / "asked", precision="tf32")).scores.score(mix).precision == "tf32"


def test_scores_and_runs_of_another_type_of_device_are_not_taken(tmp_path, evaluations, monkeypatch):
    """A GPU's are not here: the device is called by another name, and computes on the CPU."""
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path))
    soup = sv.uniform(kitchen)
    elsewhere = sv.Kitchen.load(tmp_path)
    monkeypatch.setattr(type(elsewhere.evaluator), "numerics", ("float32", "cuda"))
    counted = len(evaluations)
    again = sv.uniform(elsewhere)
    assert len(evaluations) == counted + len(soup.scores)
    assert again.key != soup.key
    assert {score.device for score in again.scores.values()} == {"cuda"}
    assert {score.device for score in soup.scores.values()} == {"cpu"}
