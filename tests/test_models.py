import importlib
import math
import re
import sys
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from kitchens import BATCHNORM, MLP, TIED, build_model
from torch import Tensor, nn

from soupviz.errors import ModelError
from soupviz.files import digest
from soupviz.models.building import build, image_size, load_function, logits_of, tied_keys, told_of
from soupviz.models.identity import fingerprint
from soupviz.spec import ModelSpec

EXPECTED = {
    "DigitsNet": (
        (1, 1, 8, 8),
        [14.104041, 6.281474, -8.931334, -13.011128, -1.223778, 11.827349, 10.208347, -3.909875, -13.07752, -6.045435],
    ),
    "DiabetesNet": ((1, 10), [346.085689]),
}
"""Of the sine of 0, 1, 2, ... as weights of each tensor, and their cosine as input."""


def spec(factory: str, **args) -> ModelSpec:
    return ModelSpec(factory=factory, args=args)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.py").write_text(MLP)
    return tmp_path


def print_of(factory: str, folder: Path, **args) -> str:
    return fingerprint(spec(factory, **args), build(spec(factory, **args), folder), folder)


# The four kinds of factory


def test_a_torchvision_model_by_name(tmp_path):
    model = build(spec("torchvision:shufflenet_v2_x0_5", num_classes=7), tmp_path)
    assert type(model).__name__ == "ShuffleNetV2"
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


def test_a_timm_model_by_name_without_pretrained_weights(tmp_path):
    pytest.importorskip("timm")
    model = build(spec("timm:test_resnet", num_classes=7), tmp_path)
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_a_function_of_a_file_beside_the_kitchen(folder):
    model = build(spec("model.py:build", classes=7), folder)
    assert model(torch.zeros(1, 6)).shape == (1, 7)


def test_a_file_may_lie_in_a_sub_folder_and_use_dataclasses(tmp_path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "net.py").write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom torch import nn\n\n"
        "@dataclass\nclass Size:\n    width: int\n\ndef build(width):\n    return nn.Linear(Size(width).width, 2)\n"
    )
    assert build(spec("code/net.py:build", width=3), tmp_path).in_features == 3


def test_a_function_of_an_installed_package(tmp_path):
    assert type(build(spec("soupviz.demo:DigitsNet"), tmp_path)).__name__ == "DigitsNet"


# Building


def test_a_built_model_is_in_evaluation_mode_and_the_same_every_time(folder):
    torch.manual_seed(5)
    first = build(spec("model.py:build"), folder)
    torch.manual_seed(6)
    second = build(spec("model.py:build"), folder)
    assert not first.training
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_building_leaves_the_callers_random_numbers_alone(folder):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build(spec("model.py:build"), folder)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("torchvision:resnet8", "torchvision has no model 'resnet8'"),
        ("model.py:biuld", r"model\.py has no function 'biuld'; check the spelling"),
        ("other.py:build", r"other\.py: no such file; the kitchen takes a function from it"),
        ("no_such_package.models:build", "No module named 'no_such_package'.*Install it, or check the spelling"),
        ("build", r"'build' names no function; expected path/to/file\.py:function or package\.module:function"),
        ("broken.py:build", r"broken\.py: running it failed with ZeroDivisionError: division by zero"),
        ("model.py:nn", r"has no function 'nn'"),
        ("none.py:build", "returned NoneType; expected an nn.Module"),
    ],
)
def test_a_factory_that_builds_nothing_is_refused(folder, factory, message):
    (folder / "broken.py").write_text("1 / 0")
    (folder / "none.py").write_text("def build(): return None")
    with pytest.raises(ModelError, match=message):
        build(spec(factory), folder)


def test_arguments_that_the_factory_does_not_take_are_shown(folder):
    with pytest.raises(ModelError, match=r"with args \{'depth': 3\} failed with TypeError: .*'depth'"):
        build(spec("model.py:build", depth=3), folder)


def test_a_timm_kitchen_without_timm_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ModelError, match="timm, which is not installed: pip install"):
        build(spec("timm:test_resnet"), tmp_path)


# Fingerprints


def test_a_fingerprint_is_the_same_for_the_same_model_wherever_it_lies(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "model.py").write_text(MLP)
    assert print_of("model.py:build", folder) == print_of("model.py:build", other)


def test_a_fingerprint_changes_with_source_and_arguments(folder):
    first = print_of("model.py:build", folder)
    assert print_of("model.py:build", folder, classes=4) != first
    (folder / "model.py").write_text(MLP.replace("ReLU", "GELU"))
    assert print_of("model.py:build", folder) != first


@pytest.mark.parametrize("changed", ["factory_of_tests.py", "blocks_of_tests.py"])
def test_a_fingerprint_changes_with_the_files_of_a_package(tmp_path, monkeypatch, changed):
    """Also where the function returns a torch class, or the classes are defined in another file."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "blocks_of_tests.py").write_text("from torch import nn\n\nclass Block(nn.Linear):\n    pass\n")
    (tmp_path / "factory_of_tests.py").write_text(
        "from torch import nn\nfrom blocks_of_tests import Block\n\n"
        "def build():\n    return nn.Sequential(Block(2, 2))\n"
    )
    for name in ("factory_of_tests", "blocks_of_tests"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    first = print_of("factory_of_tests:build", tmp_path)
    assert print_of("factory_of_tests:build", tmp_path) == first
    with (tmp_path / changed).open("a") as file:
        file.write("# changed\n")
    assert print_of("factory_of_tests:build", tmp_path) != first


# Models of soupviz's own


def test_the_demos_scores_are_kept_whatever_becomes_of_its_file(tmp_path):
    """The fingerprint that scores of the demo are kept under since 0.1.0."""
    assert print_of("soupviz.demo:DigitsNet", tmp_path).startswith("4bc7cd9a5661b3a5bd122f95d6cb3a3219358eef4507d97")


@pytest.mark.parametrize("network", sorted(EXPECTED))
def test_an_own_network_computes_what_it_did_when_its_scores_were_kept(tmp_path, network):
    """Where it is to compute something else, OWN_SOURCES gets another word for it, and this other numbers."""
    shape, expected = EXPECTED[network]
    net = build(spec(f"soupviz.demo:{network}"), tmp_path).double()
    for tensor in net.state_dict().values():
        tensor.copy_(torch.arange(tensor.numel(), dtype=torch.float64).sin().reshape(tensor.shape))
    inputs = torch.arange(math.prod(shape), dtype=torch.float64).cos().reshape(shape)
    assert net(inputs).flatten().tolist() == pytest.approx(expected, abs=1e-5)


def test_a_kitchen_that_names_ultralytics_as_it_was_called_builds_it_and_keeps_its_scores(tmp_path, monkeypatch):
    library = tmp_path / "ultralytics_of_tests.py"
    library.write_text(
        "from torch import nn\n\nclass ClassificationModel(nn.Linear):\n"
        "    def __init__(self, model, nc, verbose):\n        super().__init__(4, nc)\n\n"
        "    predict = nn.Linear.forward\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    tasks = importlib.import_module("ultralytics_of_tests")
    for name in ("ultralytics", "ultralytics.nn", "ultralytics.nn.tasks"):
        monkeypatch.setitem(sys.modules, name, tasks)
    args = {"model": "yolo11n-cls.yaml", "num_classes": 2}
    net = build(spec("soupviz.yolo:classifier", **args), tmp_path)
    assert net(torch.zeros(3, 4)).shape == (3, 2)
    was = "c6479fd3ce163d563021525c9db444edb99d15c0acd65fc09ee39bdee367d95f"  # of soupviz/yolo.py of 0.1.0
    for factory in ("soupviz.yolo:classifier", "soupviz.models.yolo:classifier"):
        assert print_of(factory, tmp_path, **args) == digest(["soupviz.yolo:classifier", args, [was, was]])


# Ties and outputs


def test_tied_keys_name_the_first_of_each_tie():
    assert tied_keys(build_model(TIED)) == {"second.weight": "first.weight"}
    assert tied_keys(build_model(MLP)) == {}
    assert tied_keys(build_model(BATCHNORM)) == {}
    linear = nn.Linear(2, 2)
    assert tied_keys(nn.Sequential(linear, linear)) == {"1.weight": "0.weight", "1.bias": "0.bias"}


def test_equal_values_are_no_tie():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].load_state_dict(model[0].state_dict())
    assert tied_keys(model) == {}


@dataclass
class Output:
    features: Tensor
    logits: Tensor


@pytest.mark.parametrize(
    ("wrap", "is_chosen"),
    [
        (lambda x: x, False),
        (lambda x: SimpleNamespace(logits=x), False),
        (lambda x: {"logits": x, "hidden": x + 1}, False),
        (lambda x: OrderedDict(aux=x + 1, out=x), False),
        (lambda x: Output(x + 1, x), False),
        (lambda x: (x,), False),
        (lambda x: [x, x + 1], True),
        (lambda x: (x, {"hidden": x}), True),
        (lambda x: namedtuple("Named", "features logits")(x + 1, x), False),
    ],
)
def test_logits_are_found_and_it_is_told_where_one_of_several_was_taken(wrap, is_chosen):
    logits = torch.zeros(2, 3)
    assert logits_of(wrap(logits)) is logits
    assert bool(told_of(wrap(logits))) == is_chosen


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ((), "returned tuple; expected a tensor of logits, alone or first of several, or under `logits` or `out`"),
        ((None, torch.zeros(2, 3)), "returned tuple; expected a tensor"),
        ({"scores": torch.zeros(2, 3)}, "returned a dict of scores; expected a tensor"),
        (
            torch.zeros(2, 3, 4),
            r"logits of shape \(2, 3, 4\); expected \(batch, classes\)",
        ),
        (torch.tensor(0.0), r"returned logits of shape \(\)"),
        (torch.zeros(2, 3, dtype=torch.complex64), "returned torch.complex64; expected real numbers"),
    ],
)
def test_what_is_no_logits_is_refused(output, message):
    with pytest.raises(ModelError, match=message):
        logits_of(output)


def test_answers_that_look_like_probabilities_are_told():
    logits = torch.tensor([[0.3, -2.0, 1.0], [0.1, 0.2, 0.9]])
    assert told_of(logits) == told_of(logits[1:]) == []
    assert "without the softmax" in told_of(logits.softmax(1))[0]
    assert "without the softmax" in told_of((logits.softmax(1).bfloat16(), logits))[1]
    assert told_of(torch.full((2, 1), 1.0)) == []


@pytest.mark.parametrize("shape", [(3, 1), (3,)])
def test_one_output_stands_for_two_logits_whose_softmax_is_its_sigmoid(shape):
    output = torch.tensor([-2.0, 0.0, 3.0], requires_grad=True)
    logits = logits_of(output.view(shape))
    output = output[:, None]
    assert logits.tolist() == [[0, -2], [0, 0], [0, 3]]
    assert logits.argmax(1).tolist() == [0, 0, 1]
    torch.testing.assert_close(logits.softmax(1)[:, 1:], output.sigmoid())
    loss = nn.functional.cross_entropy(logits, torch.tensor([1, 0, 1]))
    expected = nn.functional.binary_cross_entropy_with_logits(output[:, 0], torch.tensor([1.0, 0.0, 1.0]))
    torch.testing.assert_close(loss, expected)


def test_the_size_that_a_model_was_built_for_is_found_where_it_says_so():
    assert image_size(nn.Linear(2, 2)) is None
    for place in ("", "patch_embed", "config"):
        for size in (32, (48, 32)):
            model = nn.Module()
            part = nn.Module() if place == "patch_embed" else SimpleNamespace() if place else model
            part.image_size = size
            if place:
                setattr(model, place, part)
            assert image_size(model) == 32


def test_load_function_finds_any_callable(folder):
    assert load_function("model.py:build", folder)(classes=2)[-1].out_features == 2
    assert load_function("math:sqrt", folder)(9) == 3


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("raise KeyError('HOME2')", "importing soupviz_test_package failed with KeyError: 'HOME2'"),
        ("raise SystemExit(2)", "importing soupviz_test_package failed with SystemExit: 2"),
        ("import nothing_like_this", "No module named 'nothing_like_this'. Install it"),
        ("def build():\n    raise SystemExit('usage')", "failed with SystemExit: usage"),
    ],
)
def test_whatever_a_package_raises_is_one_clear_error(tmp_path, monkeypatch, source, said):
    (tmp_path / "soupviz_test_package.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "soupviz_test_package", raising=False)
    with pytest.raises(ModelError, match=re.escape(said)):
        build(ModelSpec(factory="soupviz_test_package:build"), tmp_path)
