"""DESIGN.md's rules of the arithmetic, seen from outside: files go in, files and numbers come out."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from surface import NORMED, NUM_EXAMPLES, edited, fingerprint, recipe_beside, refused, tensors_of, tiny, told
from torch import Tensor

import soupviz as sv

BUFFERED = """
import torch
from torch import nn

class Buffered(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("order", torch.arange(5))
        self.register_buffer("mask", torch.ones(5, dtype=torch.bool))
        self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(x[:, self.order] * self.mask)

def build():
    return Buffered()
"""

TIED = """
from torch import nn

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.head = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.head(self.second(self.first(x).relu()))

def build():
    return Tied()
"""

SPECTRAL = """
from torch import nn
from torch.nn.utils import spectral_norm

def build():
    return nn.Sequential(spectral_norm(nn.Linear(5, 3)))
"""


def files_of(kitchen: Path, names: str) -> list[dict[str, Tensor]]:
    return [tensors_of(kitchen.parent / f"{name}.safetensors") for name in names]


def summed(states: list[Mapping[str, Tensor]], weights: list[float], key: str) -> Tensor:
    """The plain loop: float32, in the order of the mix, rounded once."""
    total = torch.zeros(states[0][key].shape)
    for state, weight in zip(states, weights, strict=True):
        total = torch.add(total, state[key].float(), alpha=weight)
    return total.to(states[0][key].dtype)


def hashes(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.safetensors")}


# 1: one definition of a mix


def test_a_mix_is_accumulated_in_float32_in_its_order_and_rounded_once(tmp_path):
    file = tiny(tmp_path, change=lambda _name, state: {key: tensor.bfloat16() for key, tensor in state.items()})
    soup = sv.greedy(sv.Kitchen.load(file), alpha=0.3)
    names = "".join(step.ingredient for step in soup.trajectory if step.accepted)
    weights = [soup.coefficients[name] for name in names]
    assert len(names) > 1
    states = files_of(file, names)
    for key, tensor in soup.state_dict().items():
        assert tensor.dtype == torch.bfloat16
        assert torch.equal(tensor, summed(states, weights, key))


def test_a_tensor_that_is_the_same_in_all_is_copied(tmp_path):
    def frozen(_name, state):
        return state | {"0.weight": torch.linspace(-1e9, 1e-9, 40).reshape(8, 5)}

    file = tiny(tmp_path, change=frozen, names=("a", "b", "c"))
    soup = sv.uniform(sv.Kitchen.load(file))
    assert torch.equal(soup.state_dict()["0.weight"], frozen("", {})["0.weight"])


def test_coefficients_of_zero_are_dropped(tmp_path, normed):
    """Statistics of the first of a mix are those of the first that counts."""
    opened = sv.Kitchen.load(normed)
    soup = sv.greedy(opened, alpha=1.0, batchnorm="first")
    kept = [name for name, weight in soup.coefficients.items() if weight]
    assert len(kept) == 1
    state = tensors_of(normed.parent / f"{kept[0]}.safetensors")
    assert fingerprint(soup.state_dict()) == fingerprint(state)


@pytest.mark.parametrize("recipe", ["greedy", "weighted", "task_arithmetic"])
def test_bake_makes_a_soup_again_bit_for_bit(kitchen, tmp_path, recipe):
    out = tmp_path / "soup.safetensors"
    told("soup", kitchen, "--recipe", recipe, "--out", out)
    kept = recipe_beside(out)["fingerprint"]
    assert kept == fingerprint(tensors_of(out))
    assert told("bake", out, "--out", tmp_path / "again.pt")["fingerprint"] == kept
    assert fingerprint(tensors_of(tmp_path / "again.pt")) == kept


def test_bake_refuses_a_recipe_that_makes_other_weights_than_were_exported(kitchen, tmp_path):
    out = tmp_path / "soup.safetensors"
    told("soup", kitchen, "--recipe", "uniform", "--members", "a,b", "--out", out)
    recipe = tmp_path / "recipe.yaml"
    edited(recipe, lambda keys: keys.update(mix=[["a", 0.25], ["b", 0.75]]))
    refused("bake", recipe, "--out", tmp_path / "again.safetensors")
    assert not (tmp_path / "again.safetensors").exists()


def test_bake_refuses_an_ingredient_that_changed(tmp_path):
    file = tiny(tmp_path / "kitchen", names=("a", "b"))
    out = tmp_path / "soup.safetensors"
    told("soup", file, "--recipe", "uniform", "--out", out)
    (file.parent / "a.safetensors").write_bytes((file.parent / "base.safetensors").read_bytes())
    assert "'a'" in refused("bake", out, "--out", tmp_path / "again.safetensors")


def test_inputs_are_never_changed(tmp_path):
    file = tiny(tmp_path)
    before = hashes(tmp_path)
    for command in (("score",), ("soup", "--recipe", "greedy"), ("interpolate", "a", "b", "--points", "3")):
        told(command[0], file, *command[1:])
    assert hashes(tmp_path) == before


# 2: what is no weight


def test_num_batches_tracked_takes_the_maximum(normed):
    soup = sv.uniform(sv.Kitchen.load(normed))
    counts = [int(state["1.num_batches_tracked"]) for state in files_of(normed, "abc")]
    assert int(soup.state_dict()["1.num_batches_tracked"]) == max(counts) > min(counts)


@pytest.mark.parametrize("key", ["order", "mask"])
def test_integers_and_booleans_that_disagree_are_refused_by_name(tmp_path, key):
    def change(name, state):
        plain = state | {"order": torch.arange(5), "mask": torch.ones(5, dtype=torch.bool)}
        return plain | {key: plain[key].flip(0) if key == "order" else ~plain[key]} if name == "b" else plain

    agreeing = tiny(tmp_path / "one", source=BUFFERED, names=("a",), change=change)
    assert torch.equal(sv.uniform(sv.Kitchen.load(agreeing)).state_dict()["order"], torch.arange(5))
    assert key in refused("score", tiny(tmp_path / "two", source=BUFFERED, names=("a", "b"), change=change))


def test_batchnorm_statistics_are_averaged_taken_from_the_first_or_estimated_anew(normed, tmp_path):
    states = files_of(normed, "abc")
    found = {}
    for aggregation in ("average", "first", "recalibrate"):
        out = tmp_path / aggregation / "soup.safetensors"
        out.parent.mkdir()
        soup = told("soup", normed, "--recipe", "uniform", "--batchnorm", aggregation, "--out", out)
        assert soup["recipe"]["batchnorm"].startswith(aggregation)
        found[aggregation] = tensors_of(out)
    third = [1 / 3] * 3
    assert torch.equal(found["average"]["1.running_mean"], summed(states, third, "1.running_mean"))
    assert torch.equal(found["first"]["1.running_mean"], states[0]["1.running_mean"])
    assert all(torch.equal(one["0.weight"], found["average"]["0.weight"]) for one in found.values())
    inputs = tensors_of(normed.parent / "data" / "train.safetensors")["inputs"]
    weight, bias = (found["average"][f"0.{name}"] for name in ("weight", "bias"))
    outputs = torch.nn.functional.conv2d(inputs, weight, bias, padding=1)
    again = found["recalibrate"]
    assert torch.allclose(again["1.running_mean"], outputs.mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(again["1.running_var"], outputs.var((0, 2, 3)), rtol=1e-2)


def test_a_buffer_that_follows_from_weights_is_computed_anew(tmp_path):
    file = tiny(tmp_path, source=SPECTRAL, names=("a", "b"))
    state = sv.uniform(sv.Kitchen.load(file)).state_dict()
    [u] = [value for key, value in state.items() if key.endswith("weight_u")]
    [weight] = [value for key, value in state.items() if key.endswith("weight_orig")]
    left = torch.linalg.svd(weight).U[:, 0]
    assert float((u @ left).abs()) == pytest.approx(1.0, abs=1e-3)


# 3: ties, keys, shapes, heads


def test_tied_weights_stay_tied(tmp_path):
    def tied(_name, state):
        return state | {"second.weight": state["first.weight"]}

    state = sv.uniform(sv.Kitchen.load(tiny(tmp_path, source=TIED, change=tied))).state_dict()
    assert torch.equal(state["first.weight"], state["second.weight"])


def test_a_head_of_another_shape_is_refused_with_key_shapes_and_file(tmp_path):
    def wider(name, state):
        return state | {"2.weight": torch.zeros(4, 8), "2.bias": torch.zeros(4)} if name == "b" else state

    line = refused("score", tiny(tmp_path, change=wider))
    assert all(word in line for word in ("b.safetensors", "(4", "(3")), line
    assert "2.weight" in line or "2.bias" in line


def test_a_missing_key_is_refused_by_name_and_file(tmp_path):
    def cut(name, state):
        return {key: value for key, value in state.items() if name != "c" or key != "0.bias"}

    line = refused("score", tiny(tmp_path, change=cut))
    assert "0.bias" in line
    assert "c.safetensors" in line


# 4: greedy


def by_hand(kitchen: Path, alpha, order: list[str]) -> dict[str, float]:
    """Greedy as the textbook has it: every candidate is scored whole, by plain PyTorch."""
    names: dict = {"__name__": "by_hand"}
    exec((kitchen.parent / "net.py").read_text(encoding="utf-8"), names)
    model = names["build"]().eval()
    data = tensors_of(kitchen.parent / "data" / "held_out.safetensors")
    states = {name: tensors_of(kitchen.parent / f"{name}.safetensors") for name in order}

    def correct(mix: dict[str, float]) -> int:
        chosen = [states[name] for name in mix]
        model.load_state_dict({key: summed(chosen, list(mix.values()), key) for key in chosen[0]})
        with torch.no_grad():
            return int((model(data["inputs"]).argmax(1) == data["labels"]).sum())

    start = max(order, key=lambda name: correct({name: 1.0}))
    mix, best = {start: 1.0}, correct({start: 1.0})
    for name in order:
        if name == start:
            continue
        share = 1 / (len(mix) + 1) if alpha == "mean" else alpha
        kept = {k: share if alpha == "mean" else (1 - share) * weight for k, weight in mix.items()}
        candidate = kept | {name: share}
        if (score := correct(candidate)) > best:
            mix, best = candidate, score
    return mix


@pytest.mark.parametrize("alpha", ["mean", 0.1, 0.5])
@pytest.mark.parametrize("order", ["best", "listed"])
def test_greedy_decides_as_the_textbook_does(kitchen, alpha, order):
    scores = told("score", kitchen)["ingredients"]
    names = list(scores)
    walked = sorted(names, key=lambda name: -scores[name]["correct"]) if order == "best" else names
    expected = by_hand(kitchen, alpha, walked)
    found = told("soup", kitchen, "--recipe", "greedy", "--alpha", alpha, "--order", order)
    assert {name: weight for name, weight in found["coefficients"].items() if weight} == pytest.approx(expected)


def test_a_tie_is_rejected(tmp_path):
    def same_answers(name, state):
        return {
            key: value * (1 + "abcd".find(name) / 100 if key.startswith("2.") else 1) for key, value in state.items()
        }

    file = tiny(tmp_path, scale=0.0, change=same_answers)
    found = told("soup", file, "--recipe", "greedy")
    assert [step["accepted"] for step in found["trajectory"]] == [True, False, False, False]
    assert [step["ingredient"] for step in found["trajectory"]] == ["a", "b", "c", "d"], "ties by kitchen order"


def test_the_order_accuracy_stays_an_alias_of_best(kitchen):
    alias, best = (told("soup", kitchen, "--recipe", "greedy", "--order", order) for order in ("accuracy", "best"))
    assert alias["trajectory"] == best["trajectory"]
    assert alias["recipe"]["order"] == best["recipe"]["order"] == "best"


def test_the_random_order_is_that_of_its_seed_which_stands_in_the_recipe(kitchen):
    def walked(seed: int) -> list[str]:
        found = told("soup", kitchen, "--recipe", "greedy", "--order", "random", "--seed", seed)
        assert found["recipe"]["seed"] == seed
        return [step["ingredient"] for step in found["trajectory"]]

    assert walked(1) == walked(1)
    assert len({tuple(walked(seed)) for seed in range(4)}) > 1


def test_a_fixed_alphas_coefficients_are_multiplied_out_in_float64(kitchen):
    found = told("soup", kitchen, "--recipe", "greedy", "--alpha", "0.1")
    kept = [step["ingredient"] for step in found["trajectory"] if step["accepted"]]
    expected: dict[str, float] = {kept[0]: 1.0}
    for name in kept[1:]:
        expected = {key: (1 - 0.1) * weight for key, weight in expected.items()} | {name: 0.1}
    for name, weight in expected.items():
        assert found["coefficients"][name] == pytest.approx(weight, rel=1e-15)


# 5: exactness


def test_a_batch_size_changes_no_decision(tmp_path, kitchen):
    file = tiny(tmp_path, name="tiny", batch_size=7, splits=("held_out", "test", "shifts.far"))
    mine, other = (told("soup", one, "--recipe", "greedy", "--alpha", "0.3") for one in (file, kitchen))
    assert mine["coefficients"] == other["coefficients"]
    decided = [[(step["ingredient"], step["accepted"], step["best_accuracy"]) for step in one["trajectory"]]
               for one in (mine, other)]  # fmt: skip
    assert decided[0] == decided[1]


def test_early_rejection_changes_no_decision_and_is_told_as_a_bound(tmp_path):
    """With batches of one, candidates are given up as soon as they cannot win."""
    early, whole = (tiny(tmp_path / name, batch_size=1) for name in ("early", "whole"))
    found = told("soup", early, "--recipe", "greedy")
    complete = told("soup", whole, "--recipe", "greedy", "--complete")
    given_up = 0
    for step, other in zip(found["trajectory"], complete["trajectory"], strict=True):
        assert (step["ingredient"], step["accepted"]) == (other["ingredient"], other["accepted"])
        assert other["num_examples_scored"] == NUM_EXAMPLES
        if step["accuracy"] is None:
            given_up += 1
            assert step["num_examples_scored"] < NUM_EXAMPLES
            assert other["accuracy"] <= step["accuracy_at_most"] <= step["best_accuracy"]
    assert given_up


def test_an_answer_that_is_not_finite_counts_as_wrong_and_no_objective_prefers_it(tmp_path):
    def overflowing(name, state):
        return state | {"0.weight": state["0.weight"] * 3e38} if name == "b" else state

    file = tiny(tmp_path, names=("a", "b", "c"), change=overflowing)
    scores = told("score", file)["ingredients"]
    assert scores["b"]["correct"] < scores["a"]["correct"]
    for objective in ("accuracy", "loss"):
        found = told("soup", file, "--recipe", "greedy", "--objective", objective)
        assert found["coefficients"]["b"] == 0.0


# 6: seeds


def test_what_is_random_has_a_seed_in_its_recipe_and_repeats(tmp_path):
    found = []
    for attempt in ("one", "two"):
        file = tiny(tmp_path / attempt)
        out = tmp_path / attempt / "made" / "soup.safetensors"
        out.parent.mkdir()
        assert told("soup", file, "--recipe", "dare", "--seed", "3", "--out", out)["recipe"]["seed"] == 3
        found.append(fingerprint(tensors_of(out)))
    assert found[0] == found[1]


# 7: the split that selected never reports


def test_the_selecting_data_travels_with_the_soup(kitchen, tmp_path):
    out = tmp_path / "soup.safetensors"
    found = told("soup", kitchen, "--recipe", "greedy", "--out", out)
    assert found["selected_on"] == ["held_out"]
    record = recipe_beside(out)
    assert record["selected_on"] == ["held_out"]
    assert set(record["selecting_data"]) == {"held_out"}
    assert len(record["selecting_data"]["held_out"]["fingerprint"]) == 64


def test_a_test_split_that_is_held_out_again_reports_on_nothing(tmp_path):
    file = edited(tiny(tmp_path), lambda keys: keys["data"].update(test=keys["data"]["held_out"]))
    assert told("soup", file, "--recipe", "greedy")["selected_on"] == ["held_out", "test"]


def test_shifts_that_are_selected_on_report_no_longer(kitchen):
    found = told("soup", kitchen, "--recipe", "greedy", "--objective", "with_shifts")
    assert found["selected_on"] == ["held_out", "shifts.far"]


# 8: the ends


def test_alpha_0_and_1_give_the_ends_bit_for_bit(tmp_path):
    def narrow(name, state):
        return {key: tensor.half() for key, tensor in state.items()}

    file = tiny(tmp_path, change=narrow)
    base = tensors_of(tmp_path / "base.safetensors")
    opened = sv.Kitchen.load(file)
    at_0 = sv.cook(opened, {"method": "wise_ft", "alpha": 0.0}).state_dict()
    at_1 = sv.cook(opened, {"method": "wise_ft", "alpha": 1.0, "members": ["b"]}).state_dict()
    assert fingerprint(at_0) == fingerprint(base)
    assert fingerprint(at_1) == fingerprint(tensors_of(tmp_path / "b.safetensors"))
    scores = told("score", file)["ingredients"]
    points = told("interpolate", file, "a", "b", "--points", "3")["points"]
    for point, name in ((points[0], "a"), (points[-1], "b")):
        assert (point["accuracy"], point["loss"]) == (scores[name]["accuracy"], scores[name]["loss"])


def test_scores_are_counts_over_the_examples(kitchen):
    for score in told("score", kitchen)["ingredients"].values():
        assert isinstance(score["correct"], int)
        assert score["accuracy"] == np.float64(score["correct"]) / NUM_EXAMPLES


def test_the_normed_kitchen_is_scored_as_plain_pytorch_scores_it(normed):
    names: dict = {"__name__": "plain"}
    exec(NORMED, names)
    model = names["build"]().eval()
    data = tensors_of(normed.parent / "data" / "held_out.safetensors")
    for name, score in told("score", normed)["ingredients"].items():
        model.load_state_dict(tensors_of(normed.parent / f"{name}.safetensors"))
        with torch.no_grad():
            logits = model(data["inputs"])
        assert score["correct"] == int((logits.argmax(1) == data["labels"]).sum())
        assert score["loss"] == pytest.approx(
            float(torch.nn.functional.cross_entropy(logits, data["labels"])), abs=1e-5
        )


def test_a_recipe_is_plain_data(kitchen, tmp_path):
    out = tmp_path / "soup.safetensors"
    told("soup", kitchen, "--recipe", "greedy", "--out", out)
    record = yaml.safe_load((tmp_path / "recipe.yaml").read_text(encoding="utf-8"))
    assert record["recipe"]["method"] == "greedy"
    assert [name for name, _ in record["mix"]] == [s["ingredient"] for s in record["trajectory"] if s["accepted"]]
