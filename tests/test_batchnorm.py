"""Running statistics re-estimated: against torch's own update_bn, by hand, and everywhere a mix is used."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import BATCHNORM, build_model, json_of, labelled, run_command, small_kitchen, write_arrays
from safetensors.torch import load_file
from torch import Tensor, nn

import soupviz as sv
from soupviz.data.split import Split
from soupviz.errors import DataError, ExportError, ModelError, RecipeError
from soupviz.kitchen import Kitchen, checked_by
from soupviz.mixing.averaging import mean_of, mix
from soupviz.recipes.greedy import with_newcomer
from soupviz.scoring import batchnorm
from soupviz.scoring.batchnorm import SEED, norms_of, padding_told
from soupviz.scoring.evaluator import Evaluator
from soupviz.types import Coefficients

BATCH = 16
TRAIN = 64
DROPOUT = """
from torch import nn

def build(features=6, classes=3):
    hidden = [nn.Linear(features, 16), nn.Dropout(0.5), nn.BatchNorm1d(16), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(16, classes))
"""
PAIR: Coefficients = (("m_0", 0.5), ("m_2", 0.5))


def split_of(inputs: Tensor, name: str = "train") -> Split:
    labels = torch.zeros(len(inputs), dtype=torch.int64)
    return Split(name, {"": inputs}, labels, None, None, "")


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def evaluator_of(model: nn.Module, batch_size: int = 1000) -> Evaluator:
    return Evaluator(model, torch.device("cpu"), batch_size=batch_size)


def reestimate(evaluator: Evaluator, train: Split, number: int) -> dict[str, Tensor]:
    """In batches of the evaluator's size."""
    return batchnorm.reestimate(evaluator, train, number, evaluator.batch_size)


def by_torch(model: nn.Module, inputs: Tensor, batch_size: int, number: int | None = None) -> dict[str, Tensor]:
    """Statistics of a copy by torch.optim.swa_utils.update_bn, over the batches that are drawn with the seed."""
    order = torch.randperm(len(inputs), generator=torch.Generator().manual_seed(SEED))[:number]
    other = copy.deepcopy(model)
    torch.optim.swa_utils.update_bn(list(inputs[order].split(batch_size)), other)
    return {key: tensor for key, tensor in other.state_dict().items() if key.endswith(("mean", "var"))}


def close(found, expected) -> None:
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, rtol=1e-5, atol=1e-6)


# The statistics


@pytest.mark.parametrize("number", [64, 48, 16, 1000])
def test_they_are_those_of_torchs_update_bn_over_equal_batches(number):
    model, inputs = build_model(BATCHNORM), random(64, 3, 8, 8)
    expected = by_torch(model, inputs, BATCH, number)
    close(reestimate(evaluator_of(model, BATCH), split_of(inputs), number), expected)


def test_in_one_batch_they_are_mean_and_unbiased_variance_by_hand():
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3))
    inputs = 3 * random(20, 4) + torch.tensor([0.0, 1.0, -5.0, 100.0])
    found = reestimate(evaluator_of(model), split_of(inputs), 20)
    assert found.keys() == {"0.running_mean", "0.running_var"}
    array = inputs.double().numpy()
    np.testing.assert_allclose(found["0.running_mean"], array.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found["0.running_var"], array.var(axis=0, ddof=1), rtol=1e-4)


def test_a_layer_behind_another_sees_what_that_gives_in_training():
    """The second layer's statistics are of what the first one gives with its batch's own."""
    model = nn.Sequential(nn.BatchNorm1d(4, affine=False), nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    inputs = 3 * random(30, 4) + 7
    found = reestimate(evaluator_of(model), split_of(inputs), 30)
    first = (inputs - inputs.mean(0)) / (inputs.var(0, unbiased=False) + 1e-5).sqrt()
    with torch.no_grad():
        second = model[1](first)
    torch.testing.assert_close(found["2.running_mean"], second.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["2.running_var"], second.var(0), rtol=1e-4, atol=1e-5)


def test_examples_that_lie_class_by_class_are_mixed():
    """Within a class the variance is 1, over all of them about 100 * 8 / 12."""
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 3))
    inputs = random(300, 2) + 10 * torch.arange(3).repeat_interleave(100)[:, None]
    found = reestimate(evaluator_of(model, 30), split_of(inputs), 300)
    torch.testing.assert_close(found["0.running_var"], inputs.var(0), rtol=0.05, atol=0)


def test_nothing_of_the_old_statistics_is_left():
    one, other = build_model(BATCHNORM), build_model(BATCHNORM)
    other[1].running_mean.fill_(1000.0)
    other[1].running_var.fill_(1e6)
    inputs = split_of(random(40, 3, 8, 8))
    close(reestimate(evaluator_of(other, 10), inputs, 40), reestimate(evaluator_of(one, 10), inputs, 40))


def test_dropout_is_off():
    model = build_model(DROPOUT)
    inputs = random(50, 6)
    found = reestimate(evaluator_of(model), split_of(inputs), 50)
    with torch.no_grad():
        hidden = model[0](inputs)
    torch.testing.assert_close(found["2.running_mean"], hidden.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["2.running_var"], hidden.var(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_no_batch_is_of_one_example(batch_size):
    """Which has no variance, and which BatchNorm refuses: nine in batches of four are 3, 3 and 3."""
    seen: list[int] = []
    model = build_model(DROPOUT)
    model.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    reestimate(evaluator_of(model, batch_size), split_of(random(9, 6)), 9)
    assert sum(seen) == 9
    assert min(seen) >= 2
    assert max(seen) - min(seen) <= 1


class OverTime(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(3)

    def forward(self, states):
        return self.norm(states.transpose(1, 2)).mean(dim=2)


def of_lengths(lengths: list[int]) -> Split:
    """Numbers around 5, filled up with zeros."""
    longest = max(lengths)
    inputs = 5 + random(len(lengths), longest, 3)
    there = torch.arange(longest) < torch.tensor(lengths)[:, None]
    told = torch.tensor(lengths)
    return replace(split_of(inputs * there[:, :, None]), padding="right", lengths=told)


def test_units_are_batched_with_those_of_their_length_so_that_padding_does_not_enter():
    """Of two lengths, mixed, batches have none: the statistics are those of all that is there, whatever hangs on
    length, and not drawn to 0."""
    train = of_lengths([3, 12] * 20)
    train.arrays[""][::2, :3] += 4
    found = reestimate(evaluator_of(OverTime(), 10), train, 40)
    there = torch.cat([train.arrays[""][length::2, :size].flatten(0, 1) for length, size in enumerate((3, 12))])
    torch.testing.assert_close(found["norm.running_mean"], there.mean(dim=0), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found["norm.running_var"], there.var(dim=0), rtol=0.03, atol=0)


def test_how_much_padding_statistics_count_is_told_with_train():
    model = OverTime()
    assert padding_told(model, of_lengths([3, 12] * 20), 10) == []
    [told] = padding_told(model, of_lengths([6, 12, 12, 12] * 4), 16)
    assert "12.5%" in told and "padding" in told
    assert padding_told(nn.Linear(3, 2), of_lengths([6, 12]), 2) == []
    assert padding_told(model, split_of(random(4, 5, 3)), 2) == []
    train = of_lengths([6, 12, 12, 12] * 4)
    check = checked_by(evaluator_of(model, 16))
    assert any("12.5%" in note for note in check(train, "data.train").notes)
    assert not check(replace(train, name="test"), "data.test").notes


def test_instancenorm_that_keeps_statistics_is_reestimated_too():
    """It has no cumulative average of its own: the mean over examples, and over batches."""
    model = nn.Sequential(nn.InstanceNorm1d(3, track_running_stats=True), nn.Flatten(), nn.Linear(15, 3))
    inputs = 2 * random(12, 3, 5) + 4
    found = reestimate(evaluator_of(model, 4), split_of(inputs), 12)
    torch.testing.assert_close(found["0.running_mean"], inputs.mean((0, 2)), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["0.running_var"], inputs.var(2).mean(0), rtol=1e-4, atol=1e-5)


def test_layers_without_statistics_are_no_norms():
    model = nn.ModuleDict(
        {
            "batch": nn.BatchNorm2d(3), "none": nn.BatchNorm2d(3, track_running_stats=False),
            "instance": nn.InstanceNorm2d(3), "group": nn.GroupNorm(1, 3), "layer": nn.LayerNorm(3),
        }
    )  # fmt: skip
    assert list(norms_of(model)) == ["batch"]
    assert list(norms_of(nn.BatchNorm1d(2))) == [""]


def test_the_model_is_left_in_evaluation_mode_with_its_momentum():
    model = build_model(BATCHNORM)
    model[1].momentum = 0.3
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items() if key not in norm_keys(model)}
    evaluator = evaluator_of(model, 10)
    reestimate(evaluator, split_of(random(30, 3, 8, 8)), 30)
    with pytest.raises(ModelError, match="3 channels, but got 4"):  # and also where it does not get through
        reestimate(evaluator, split_of(random(30, 4, 8, 8)), 30)
    assert not any(module.training for module in model.modules())
    assert model[1].momentum == 0.3
    assert all(torch.equal(tensor, model.state_dict()[key]) for key, tensor in weights.items())


def norm_keys(model: nn.Module) -> set[str]:
    return {key for key in model.state_dict() if key.endswith(("running_mean", "running_var", "num_batches_tracked"))}


def test_statistics_that_were_given_out_do_not_change_afterwards():
    model = build_model(BATCHNORM)
    evaluator = evaluator_of(model, 10)
    found = reestimate(evaluator, split_of(random(30, 3, 8, 8)), 30)
    before = {key: tensor.clone() for key, tensor in found.items()}
    reestimate(evaluator, split_of(5 + random(30, 3, 8, 8, seed=1)), 30)
    close(found, before)


# In a kitchen


def batchnorm_kitchen(folder: Path, **options) -> Kitchen:
    return Kitchen.load(
        small_kitchen(
            folder, source=BATCHNORM, shape=(3, 8, 8), num_examples=60, train=TRAIN, scale=0.2, batch_size=BATCH,
            **options,
        )
    )  # fmt: skip


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Kitchen:
    return batchnorm_kitchen(tmp_path_factory.mktemp("batchnorm"))


def independent(kitchen: Kitchen, mixture: Coefficients) -> nn.Module:
    """A model of its own with the mix's weights, its statistics by torch."""
    model = build_model(BATCHNORM)
    model.load_state_dict(mix(kitchen.scores.resolved(mixture)))
    found = by_torch(model, kitchen.splits.load("train").inputs[""], BATCH)
    model.load_state_dict(found, strict=False)
    return model


def correct(model: nn.Module, split: Split) -> int:
    with torch.no_grad():
        return int((model(split.inputs[""]).argmax(1) == split.labels).sum())


def test_a_mixs_weights_have_them_and_are_else_the_mix(kitchen):
    weights = dict(kitchen.scores.mixed(PAIR, "recalibrate"))
    expected = independent(kitchen, PAIR).state_dict()
    plain = dict(kitchen.scores.mixed(PAIR))
    assert list(weights) == list(plain)
    for key, tensor in weights.items():
        if key.endswith(("running_mean", "running_var")):
            torch.testing.assert_close(tensor, expected[key], rtol=1e-4, atol=1e-5)
            assert not torch.allclose(tensor, plain[key], rtol=1e-2)
        else:
            assert torch.equal(tensor, plain[key])


@pytest.mark.parametrize("split", ["held_out", "test"])
def test_a_soup_is_scored_with_them(kitchen, split):
    soup = sv.uniform(kitchen, batchnorm="recalibrate")
    model = independent(kitchen, soup.mix)
    assert soup.scores[split].correct == correct(model, kitchen.splits.load(split))
    assert soup.clamped == 0
    with torch.no_grad():
        logits = model(kitchen.splits.load(split).inputs[""])
    np.testing.assert_allclose(kitchen.scores.logits(soup.mix, split, "recalibrate"), logits, rtol=1e-3, atol=1e-4)


def test_a_number_of_examples_is_taken_as_said(kitchen):
    weights = dict(kitchen.scores.mixed(PAIR, f"recalibrate:{BATCH}"))
    model = build_model(BATCHNORM)
    model.load_state_dict(mix(kitchen.scores.resolved(PAIR)))
    expected = by_torch(model, kitchen.splits.load("train").inputs[""], BATCH, BATCH)
    close({key: weights[key] for key in expected}, expected)


def test_greedy_reestimates_for_every_candidate(kitchen):
    """Each count of its trajectory is that of an own model whose statistics torch has re-estimated."""
    soup = sv.greedy(kitchen, batchnorm="recalibrate", complete=True)
    held_out = kitchen.splits.load("held_out")
    first, *others = soup.trajectory
    mixture: Coefficients = ((first.ingredient, 1.0),)
    best = correct(independent(kitchen, mixture), held_out)
    assert first.correct == best
    assert best == max(correct(independent(kitchen, ((name, 1.0),)), held_out) for name in kitchen.names)
    for step in others:
        candidate = with_newcomer(mixture, step.ingredient, "mean")
        found = correct(independent(kitchen, candidate), held_out)
        assert (step.correct, step.accepted) == (found, found > best)
        mixture, best = (candidate, found) if found > best else (mixture, best)
    assert soup.mix == mixture


def test_an_ingredient_alone_is_scored_apart_with_its_own_statistics_and_with_new_ones(tmp_path):
    kitchen = batchnorm_kitchen(tmp_path, change=shifted)
    alone: Coefficients = (("m_0", 1.0),)
    plain = kitchen.scores.score(alone)
    assert kitchen.scores.known(alone, "held_out", "recalibrate") is None
    anew = kitchen.scores.score(alone, aggregation="recalibrate")
    model = build_model(BATCHNORM)
    model.load_state_dict(dict(kitchen.weights.resolve("m_0").tensors))
    assert plain.correct == correct(model, kitchen.splits.load("held_out"))
    assert anew.correct == correct(independent(kitchen, alone), kitchen.splits.load("held_out"))
    assert plain.loss != anew.loss
    assert kitchen.scores.known(alone, "held_out") == plain
    assert kitchen.scores.known(alone, "held_out", "recalibrate") == anew


def shifted(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Statistics that do not fit the weights."""
    return {key: tensor + 1.0 if key.endswith("running_mean") else tensor for key, tensor in tensors.items()}


def test_they_mend_statistics_that_do_not_fit(tmp_path):
    kitchen = batchnorm_kitchen(tmp_path, change=shifted)
    average, anew = (sv.uniform(kitchen, batchnorm=name).scores["test"] for name in ("average", "recalibrate"))
    assert anew.correct > average.correct
    assert anew.loss < average.loss


def test_a_path_beyond_its_ends_has_none_that_are_negative(kitchen):
    mixture: Coefficients = (("m_3", 6.0), ("m_0", -5.0))
    assert kitchen.scores.count_clamped(mixture) > 0
    assert kitchen.scores.count_clamped(mixture, "recalibrate") == 0
    assert kitchen.scores.count_clamped(mixture, "first") == 0
    weights = dict(kitchen.scores.mixed(mixture, "recalibrate"))
    assert bool((weights["1.running_var"] > 0).all())


def test_a_curve_reestimates_at_every_point(kitchen):
    curve = sv.interpolate(kitchen, "m_0", "m_2", points=3, batchnorm="recalibrate")
    held_out = kitchen.splits.load("held_out")
    for alpha, found in zip(curve["alpha"], curve["correct"], strict=True):
        mixture = tuple((name, share) for name, share in (("m_0", 1 - alpha), ("m_2", alpha)) if share)
        assert found == correct(independent(kitchen, mixture), held_out)


def test_bfloat16_statistics_are_rounded_to_the_ingredients_dtype(tmp_path):
    kitchen = batchnorm_kitchen(
        tmp_path,
        change=lambda tensors: {key: t.bfloat16() if t.is_floating_point() else t for key, t in tensors.items()},
    )
    weights = dict(kitchen.scores.mixed(PAIR, "recalibrate"))
    assert {weights[key].dtype for key in ("1.running_mean", "1.running_var")} == {torch.bfloat16}


def test_a_train_split_that_the_model_does_not_take_is_refused_in_words(tmp_path):
    kitchen = batchnorm_kitchen(tmp_path)
    write_arrays(tmp_path / "train.safetensors", random(20, 4, 8, 8), torch.zeros(20, dtype=torch.int64))
    with pytest.raises(DataError, match=r"data\.train: the model does not take its examples \(shapes .*4, 8, 8"):
        sv.uniform(kitchen, batchnorm="recalibrate")


# Exported


def test_an_exported_soup_holds_them(kitchen, tmp_path):
    soup = sv.uniform(kitchen, batchnorm="recalibrate")
    [path, _, card] = sv.export(soup, tmp_path / "soup.safetensors")
    model = build_model(BATCHNORM)
    model.load_state_dict(load_file(path), strict=True)
    for split in ("held_out", "test"):
        assert correct(model, kitchen.splits.load(split)) == soup.scores[split].correct
    close(
        {key: tensor for key, tensor in load_file(path).items() if key.endswith(("mean", "var"))},
        {key: t for key, t in independent(kitchen, soup.mix).state_dict().items() if key.endswith(("mean", "var"))},
    )
    text = card.read_text(encoding="utf-8")
    assert "BatchNorm running statistics: recalibrate." in text
    assert "--kitchen KITCHEN" in text
    assert "bit for bit" not in text


def test_baking_needs_the_kitchen_and_repeats_them(kitchen, tmp_path, capsys):
    soup = sv.greedy(kitchen, alpha=0.3, batchnorm="recalibrate:40")
    [path, recipe, _] = sv.export(soup, tmp_path / "soup.safetensors")
    with pytest.raises(ExportError, match=r"its running statistics were re-estimated on train data; .*--kitchen"):
        sv.bake(recipe, tmp_path / "again.safetensors")
    status, _, err = run_command(capsys, "bake", path, "--out", tmp_path / "again.safetensors")
    assert (status, err.count("\n")) == (2, 1)
    assert "re-estimated on train" in err
    assert not (tmp_path / "again.safetensors").exists()
    json_of(capsys, "bake", path, "--out", tmp_path / "again.safetensors", "--kitchen", kitchen.file)
    again, before = load_file(tmp_path / "again.safetensors"), load_file(path)
    assert again.keys() == before.keys()
    for key, tensor in before.items():
        torch.testing.assert_close(again[key], tensor)
        if not key.endswith(("running_mean", "running_var")):
            assert torch.equal(again[key], tensor)


def test_the_command_line_cooks_with_them(kitchen, capsys):
    found = json_of(capsys, "soup", kitchen.file, "--recipe", "uniform", "--batchnorm", "recalibrate:40")
    assert found["recipe"]["batchnorm"] == "recalibrate:40"
    expected = sv.uniform(kitchen, batchnorm="recalibrate:40").scores["test"]
    assert found["scores"]["test"]["correct"] == expected.correct


def test_other_train_data_are_other_scores(tmp_path):
    kitchen = batchnorm_kitchen(tmp_path)
    key = kitchen.scores.key(mean_of(["m_0", "m_1"]), "held_out", "recalibrate")
    write_arrays(tmp_path / "train.safetensors", *labelled(build_model(BATCHNORM), (3, 8, 8), TRAIN, seed=9))
    again = Kitchen.load(kitchen.file)
    assert again.scores.key(mean_of(["m_0", "m_1"]), "held_out", "recalibrate") != key
    assert again.scores.key(mean_of(["m_0", "m_1"]), "held_out", "average") == kitchen.scores.key(
        mean_of(["m_0", "m_1"]), "held_out", "average"
    )


def test_a_frozen_backbone_is_re_estimated_too_though_its_activations_were_kept(tmp_path):
    """What all soups share is computed once; with re-estimated statistics it is no longer the same."""
    backbone = build_model(BATCHNORM).state_dict()
    frozen = {key: tensor for key, tensor in backbone.items() if not key.startswith("5.")}
    file = small_kitchen(
        tmp_path, source=BATCHNORM, shape=(3, 8, 8), num_ingredients=3, num_examples=80, train=64,
        change=lambda tensors: tensors | {key: tensor.clone() for key, tensor in frozen.items()},
    )  # fmt: skip
    kitchen = Kitchen.load(file)
    halves = (("m_0", 0.5), ("m_1", 0.5))
    kitchen.scores.score(halves)
    assert kitchen.evaluator.routes.has_cut
    score = kitchen.scores.score(halves, "held_out", "recalibrate")
    model = build_model(BATCHNORM)
    model.load_state_dict(dict(kitchen.scores.mixed(halves, "recalibrate")))
    split = kitchen.splits.load("held_out")
    with torch.no_grad():
        logits = model(split.inputs[""])
    assert score.loss == pytest.approx(float(torch.nn.functional.cross_entropy(logits, split.labels)), abs=1e-5)
    assert score.loss != pytest.approx(kitchen.scores.score(halves).loss, abs=1e-4)


def test_memory_that_halved_the_batch_changes_no_statistics(tmp_path):
    """They are kept under the kitchen's batch size, whatever an evaluation before has come down to."""
    expected = dict(batchnorm_kitchen(tmp_path).scores.mixed(PAIR, "recalibrate"))
    kitchen = batchnorm_kitchen(tmp_path)
    kitchen.evaluator.batch_size = BATCH // 4
    found = dict(kitchen.scores.mixed(PAIR, "recalibrate"))
    assert all(torch.equal(tensor, found[key]) for key, tensor in expected.items())


def test_a_batch_of_train_that_does_not_fit_into_memory_is_refused_with_the_remedy():
    class Full(nn.BatchNorm1d):
        def forward(self, input: Tensor) -> Tensor:
            if len(input) > 5:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            return super().forward(input)

    with pytest.raises(RecipeError, match=r"on 10 examples of train .* set a lower batch_size in kitchen\.yaml"):
        reestimate(evaluator_of(nn.Sequential(Full(4)), 10), split_of(random(20, 4)), 20)
