"""Temperature scaling of a soup: told by split, written into the card, divided into the last layer."""

import numpy as np
import pytest
import torch
from kitchens import BATCHNORM, TIED, json_of, small_kitchen
from safetensors.torch import load_file

import soupviz as sv
from soupviz.errors import ExportError
from soupviz.soups import scaling
from soupviz.soups.content import Content, scaled_keys
from soupviz.soups.provenance import read_record
from soupviz.soups.scaling import calibrate, last_linear
from soupviz.tasks.calibration import Decisions, fit_temperature, measure

CONVOLUTIONAL = """
from torch import nn

def build(channels=3, classes=3):
    return nn.Sequential(nn.Conv2d(channels, classes, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
"""
TIED_HEAD = """
from torch import nn

class Net(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.body = nn.Linear(width, width)
        self.head = nn.Linear(width, width)
        self.head.weight = self.body.weight

    def forward(self, x):
        return self.head(self.body(x).relu())

def build(features=6):
    return Net(features)
"""


@pytest.fixture
def soup(tmp_path):
    return sv.uniform(sv.Kitchen.load(small_kitchen(tmp_path, scale=0.3)))


def logits_of(soup, state):
    """What the kitchen's model says with these weights, on test."""
    kitchen = soup.kitchen
    model = kitchen.evaluator.model
    model.load_state_dict(state)
    with torch.no_grad():
        return model(kitchen.splits.load("test").inputs[""]).numpy()


def test_the_temperature_is_fitted_on_held_out_and_measured_on_every_split(soup):
    scaled = calibrate(soup)
    kitchen = soup.kitchen
    known = {
        split: Decisions(kitchen.scores.logits(soup.mix, split), kitchen.splits.load(split).labels.numpy())
        for split in ("held_out", "test")
    }
    assert scaled.temperature == pytest.approx(fit_temperature(known["held_out"]))
    assert list(scaled.after) == ["held_out", "test"]
    assert scaled.after["held_out"].nll <= scaled.before["held_out"].nll
    assert scaled.after["test"] == measure(known["test"], scaled.temperature)
    assert scaled.reported == "test"
    for split in known:
        assert scaled.before[split].accuracy == scaled.after[split].accuracy == soup.scores[split].accuracy


def test_it_is_fitted_without_a_forward_pass_the_second_time(soup, monkeypatch):
    first = calibrate(soup)
    monkeypatch.setattr(
        "soupviz.scoring.evaluator.Evaluator.evaluate", lambda *_args, **_more: pytest.fail("evaluated")
    )
    assert calibrate(soup) == first


def test_the_last_layer_divided_by_the_temperature_divides_the_logits_and_changes_no_prediction(soup, tmp_path):
    temperature = 1.7
    sv.export(soup, tmp_path / "plain.safetensors")
    sv.export(soup, tmp_path / "scaled.safetensors", temperature=temperature, bake_temperature=True)
    plain, scaled = (logits_of(soup, load_file(tmp_path / f"{name}.safetensors")) for name in ("plain", "scaled"))
    np.testing.assert_allclose(scaled * temperature, plain, rtol=1e-5, atol=1e-6)
    assert (scaled.argmax(1) == plain.argmax(1)).all()


def test_a_soup_with_its_temperature_is_baked_again_bit_for_bit(soup, tmp_path):
    file = tmp_path / "scaled.safetensors"
    sv.export(soup, file, temperature=1.7, bake_temperature=True)
    sv.bake(file, tmp_path / "again.safetensors")
    first, again = (load_file(tmp_path / f"{name}.safetensors") for name in ("scaled", "again"))
    assert all(torch.equal(first[key], again[key]) for key in first)
    record = read_record(tmp_path / "again.safetensors")
    assert (record.temperature, record.scaled_layer) == (1.7, "2")


def test_in_the_card_alone_the_weights_stay_what_they_are(soup, tmp_path):
    sv.export(soup, tmp_path / "told.safetensors", temperature=1.7)
    told = load_file(tmp_path / "told.safetensors")
    assert all(torch.equal(told[key], tensor) for key, tensor in soup.state_dict().items())
    assert "Temperature fitted on held_out: 1.7000. Divide the logits by it" in (tmp_path / "README.md").read_text()


def test_the_last_linear_layer_is_found_behind_batchnorm_and_in_a_model_with_tied_weights(tmp_path):
    file = small_kitchen(tmp_path / "conv", source=BATCHNORM, shape=(3, 8, 8), num_examples=40)
    assert last_linear(sv.Kitchen.load(file)) == "5"
    tied = small_kitchen(tmp_path / "tied", source=TIED, num_examples=40)
    assert last_linear(sv.Kitchen.load(tied)) == "head"


def test_a_model_without_a_linear_head_keeps_its_temperature_in_the_card(tmp_path):
    file = small_kitchen(tmp_path, source=CONVOLUTIONAL, shape=(3, 8, 8), num_examples=40)
    soup = sv.uniform(sv.Kitchen.load(file))
    with pytest.raises(ExportError, match="logits do not come straight from a linear layer"):
        sv.export(soup, tmp_path / "out.safetensors", temperature=2.0, bake_temperature=True)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_head_that_shares_its_weights_is_not_divided(tmp_path):
    file = small_kitchen(tmp_path, source=TIED_HEAD, num_examples=40)
    with pytest.raises(ExportError, match="divided into head: it shares its weights with another layer"):
        last_linear(sv.Kitchen.load(file))


def test_dividing_keeps_the_dtype_and_every_other_tensor():
    weights = {"head.weight": torch.ones(2, dtype=torch.bfloat16), "headless.weight": torch.ones(2)}
    content = Content(weights, lambda keys: [(key, weights[key]) for key in keys], "head", 2.0)
    found = dict(content.tensors())
    assert torch.equal(found["head.weight"], torch.full((2,), 0.5, dtype=torch.bfloat16))
    assert found["headless.weight"] is weights["headless.weight"]


def test_of_a_normalised_weight_its_length_alone_is_divided():
    assert scaled_keys(["0.weight", "0.bias"], "") == frozenset()
    assert scaled_keys(["weight", "bias"], "") == {"weight", "bias"}
    assert scaled_keys(["fc.weight_g", "fc.weight_v", "fc.bias", "of.fc.bias"], "fc") == {"fc.weight_g", "fc.bias"}
    new = [f"fc.parametrizations.weight.original{number}" for number in (0, 1)]
    assert scaled_keys(new, "fc") == {new[0]}


HEADS = """
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(6, 3), nn.Linear(3, 3)

    def forward(self, x):
        return self.head(self.head(self.first(x)).relu())

def build(features=6, classes=3, head="parametrised"):
    if head == "used twice":
        return Shared()
    last = nn.Linear(16, classes)
    if head == "weight_g":
        import warnings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            last = nn.utils.weight_norm(last)
    elif head == "parametrised":
        last = parametrizations.weight_norm(last)
    elif head == "orthogonal":
        last = parametrizations.orthogonal(last)
    return nn.Sequential(nn.Linear(features, 16), nn.ReLU(), last)
"""


@pytest.mark.parametrize("head", ["weight_g", "parametrised"])
def test_a_temperature_behind_a_weight_norm_divides_the_logits(tmp_path, head):
    file = small_kitchen(tmp_path, source=HEADS, args={"head": head}, scale=0.3)
    soup = sv.uniform(sv.Kitchen.load(file))
    sv.export(soup, tmp_path / "plain.safetensors")
    sv.export(soup, tmp_path / "scaled.safetensors", temperature=1.7, bake_temperature=True)
    plain, scaled = (logits_of(soup, load_file(tmp_path / f"{name}.safetensors")) for name in ("plain", "scaled"))
    np.testing.assert_allclose(scaled * 1.7, plain, rtol=1e-5, atol=1e-6)
    sv.bake(tmp_path / "scaled.safetensors", tmp_path / "again.safetensors")


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("orthogonal", "its weight is computed from others, of which none can be divided alone"),
        ("used twice", "the logits would not be divided by it, as the layer is used elsewhere"),
    ],
)
def test_a_layer_that_cannot_be_divided_is_refused_with_the_remedy(tmp_path, head, message):
    soup = sv.uniform(sv.Kitchen.load(small_kitchen(tmp_path, source=HEADS, args={"head": head}, num_examples=40)))
    with pytest.raises(ExportError, match=rf"{message}.*Write the soup without it"):
        sv.export(soup, tmp_path / "out.safetensors", temperature=1.7, bake_temperature=True)
    assert not (tmp_path / "out.safetensors").exists()


def halves(tensors):
    return {key: tensor.bfloat16() for key, tensor in tensors.items()}


def test_a_temperature_is_not_rounded_into_bfloat16_and_float32_has_it_exactly(tmp_path):
    soup = sv.uniform(sv.Kitchen.load(small_kitchen(tmp_path, scale=0.3, change=halves)))
    with pytest.raises(ExportError, match=r"divided into 2: its weights are bfloat16.*\(--dtype float32\)"):
        sv.export(soup, tmp_path / "out.safetensors", temperature=1.7, bake_temperature=True)
    wide = tmp_path / "wide.safetensors"
    sv.export(soup, wide, dtype="float32", temperature=1.7, bake_temperature=True)
    head = soup.state_dict()["2.weight"].float()
    assert torch.equal(load_file(wide)["2.weight"], head / 1.7)
    sv.bake(wide, tmp_path / "again.safetensors")


def test_a_temperature_that_would_change_an_answer_is_refused(soup, tmp_path, monkeypatch):
    """As rounding might: one example of held_out gets another class."""
    answers = scaling._answers
    asked = []

    def rounded(*given):
        asked.append(given)
        chosen, logits = answers(*given)
        return (np.concatenate([chosen[:-1], 1 - chosen[-1:]]) if len(asked) == 2 else chosen), logits

    monkeypatch.setattr(scaling, "_answers", rounded)
    with pytest.raises(ExportError, match="1 of 200 examples of held_out would get another answer"):
        sv.export(soup, tmp_path / "out.safetensors", temperature=1.7, bake_temperature=True)


def test_the_command_line_tells_before_and_after(tmp_path, capsys):
    file = small_kitchen(tmp_path, scale=0.3)
    found = json_of(capsys, "soup", file, "--recipe", "uniform", "--calibrate")["calibration"]
    assert found["temperature"] > 0
    assert set(found["splits"]) == {"held_out", "test"}
    assert found["splits"]["test"]["before"].keys() >= {"ece", "adaptive_ece", "nll", "brier"}
