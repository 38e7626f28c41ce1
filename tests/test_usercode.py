"""Code that is not soupviz's own may raise and print what it likes."""

import json
import subprocess
import sys
import warnings

import pytest
import torch
from kitchens import MLP, build_model, json_of, run_command, save, small_kitchen

import soupviz as sv
from soupviz.errors import Cancelled, DataError, ModelError, told
from soupviz.models.routes import answers_from
from soupviz.models.usercode import guarded

NET = """
import sys, torch, warnings
from torch import nn
{beside}

class Net(nn.Sequential):
    def forward(self, x):
        {forward}
        return super().forward(x)

def build(features=6, classes=3):
    {build}
    return Net(nn.Linear(features, 16), nn.ReLU(), nn.Linear(16, classes))
"""


def net(beside: str = "", forward: str = "pass", build: str = "pass") -> str:
    return NET.format(beside=beside, forward=forward, build=build)


def change_model(file, source: str) -> None:
    (file.parent / "model.py").write_text(source)


MUTE = "class Mute(Exception):\n    def __str__(self):\n        raise ValueError\n"
LOUD = "class Loud(BaseException):\n    pass\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (net(forward="sys.exit(3)"), "the model does not take its examples (shapes [(6,)]): SystemExit: 3"),
        (net(forward="raise GeneratorExit"), "GeneratorExit in "),
        (net(beside=LOUD, forward="raise Loud('b')"), "Loud: b"),
        (net(beside=MUTE, forward="raise Mute"), ": Mute in "),
        (net(forward="warnings.simplefilter('error'); warnings.warn('old')"), "UserWarning: old"),
        (
            net(forward="x = x[:1]"),
            "data.held_out: the model returned logits of 1 examples for a batch of 2; expected one row",
        ),
        (net(build="sys.exit(4)"), "with args {} failed with SystemExit: 4"),
        (net(beside=MUTE, build="raise Mute"), "with args {} failed with Mute in "),
        (net(beside="sys.exit('usage')"), "model.py: running it failed with SystemExit: usage"),
        (MLP.replace("nn.Linear(features, 16)", "nn.LazyLinear(16)"), "whose 0.weight has no shape before its first"),
        (MLP.replace("classes))", "classes)).to('meta')"), "whose 0.weight is on the meta device"),
        (net() + "    \nNet.state_dict = lambda self, **_: sys.exit(5)\n", "own state_dict failed with SystemExit: 5"),
    ],
)
def test_whatever_the_users_model_raises_is_one_line(tmp_path, capsys, source, said):
    file = small_kitchen(tmp_path, num_ingredients=1)
    change_model(file, source)
    with warnings.catch_warnings():
        status, out, err = run_command(capsys, "score", file, "--json")
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("soupviz: ")
    assert said in err


def test_what_the_user_and_soupviz_raise_passes_as_it_is():
    for wanted in (KeyboardInterrupt, Cancelled, ModelError, ZeroDivisionError):
        with pytest.raises(wanted), guarded(DataError, ZeroDivisionError):
            raise wanted
    with pytest.raises(DataError, match="StopIteration"), guarded(DataError):
        next(iter(()))


def test_an_error_that_cannot_be_told_is_told_by_its_name():
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert told(MuteError()) == "MuteError"


def test_a_forward_that_leaves_in_a_later_batch_is_one_error_of_a_search_too(tmp_path):
    file = small_kitchen(tmp_path, num_ingredients=2)
    change_model(file, net(forward="len(x) < 4 or sys.exit(3)"))
    with pytest.raises(DataError, match="SystemExit: 3"):
        sv.greedy(sv.Kitchen.load(file))


def test_a_row_too_few_is_refused_wherever_logits_are_asked_for():
    with pytest.raises(ModelError, match="logits of 2 examples for a batch of 3"):
        answers_from(lambda x: x[1:], {"": torch.zeros(3, 4)})


# What a model returns


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ("(y, x)", "the model returns 2 things: the first is taken"),
        ("{'out': y, 'aux': y}", ""),
        ("y.softmax(1)", "outputs sum to 1"),
    ],
)
def test_logits_are_found_in_what_a_model_returns_and_a_choice_is_told(tmp_path, capsys, returned, said):
    file = small_kitchen(tmp_path, num_ingredients=1)
    expected = json_of(capsys, "score", file)["ingredients"]["m_0"]["correct"]
    change_model(file, net().replace("return super().forward(x)", f"y = super().forward(x); return {returned}"))
    status, out, err = run_command(capsys, "score", file, "--json")
    assert status == 0
    assert json.loads(out)["ingredients"]["m_0"]["correct"] == expected
    assert said in err


def test_a_binary_head_without_a_dimension_of_classes_is_scored_as_one_with_it(tmp_path, capsys):
    correct = []
    for name, shape in (("one", "y"), ("none", "y.squeeze(1)")):
        file = small_kitchen(tmp_path / name, args={"classes": 2}, num_ingredients=1)
        source = net().replace("nn.Linear(16, classes)", "nn.Linear(16, 1)")
        change_model(file, source.replace("return super().forward(x)", f"y = super().forward(x); return {shape}"))
        tensors = build_model(MLP, classes=1).state_dict()
        save(tensors, tmp_path / name / "m_0.safetensors")
        save(tensors, tmp_path / name / "base.safetensors")
        correct.append(json_of(capsys, "score", file)["ingredients"]["m_0"])
    assert correct[0] == correct[1]


# Printing


def test_what_user_code_prints_leaves_stdout_to_the_answer(tmp_path, capsys):
    chatty = net(beside="print('import')", forward="print('forward')", build="print('build')")
    file = small_kitchen(tmp_path, source=chatty, num_ingredients=2)
    assert set(json_of(capsys, "score", file)["ingredients"]) == {"m_0", "m_1"}
    _, out, err = run_command(capsys, "score", file)
    assert "m_0" in out
    assert not {"import", "forward", "build"} & set(out.split())
    assert {"import", "build"} <= set(err.split())


def test_help_is_printed_where_it_was_asked_for(capsys):
    assert "KITCHEN" in run_command(capsys, "score", "--help")[1]


def test_code_that_writes_to_the_descriptor_of_stdout_leaves_it_to_the_answer():
    code = """
import os
from soupviz.cli.answering import answer, answering
print("before")
with answering():
    os.write(1, b"from C\\n")
    print("from Python")
    answer("{}")
print("after")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["before", "{}", "after"]
    assert json.loads(done.stdout.splitlines()[1]) == {}
    assert done.stderr.splitlines() == ["from C", "from Python"]
