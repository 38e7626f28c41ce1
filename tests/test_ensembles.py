"""Ensembles: against plain numpy loops over probabilities or logits, and what they cannot do."""

from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import BATCHNORM, build_model, run_command, small_kitchen, write_arrays
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.special import softmax

import soupviz as sv
from soupviz.errors import CurveError, RecipeError
from soupviz.kitchen import Kitchen
from soupviz.recipes import parse
from soupviz.soups.curves import end_mix, trace
from soupviz.tasks.ensembles import combined

OUTPUTS = ("probabilities", "logits")
CHOICES = ("uniform", "greedy", "weighted")
Arrays = dict[str, NDArray[np.float64]]


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Kitchen:
    return Kitchen.load(small_kitchen(tmp_path_factory.mktemp("ensembles"), num_ingredients=6, scale=0.3))


def outputs(kitchen: Kitchen, output: str, split: str = "held_out") -> Arrays:
    """What each ingredient says, by a model of the test's own, in float64."""
    found = {}
    for item in kitchen.ingredients:
        model = build_model((kitchen.folder / "model.py").read_text())
        model.load_state_dict(dict(item.tensors))
        with torch.no_grad():
            logits = model(kitchen.splits.load(split).inputs[""]).double().numpy()
        found[item.name] = softmax(logits, axis=1) if output == "probabilities" else logits
    return found


def count(kitchen: Kitchen, said: NDArray[np.float64], split: str = "held_out") -> int:
    return int((said.argmax(1) == kitchen.splits.load(split).labels.numpy()).sum())


def plain_greedy(kitchen: Kitchen, said: Arrays) -> list[str]:
    """Best first; keep whoever makes strictly more of the plain average right."""
    alone = {name: count(kitchen, one) for name, one in said.items()}
    first, *others = sorted(said, key=lambda name: -alone[name])
    chosen, best = [first], alone[first]
    for name in others:
        found = count(kitchen, np.mean([said[one] for one in [*chosen, name]], axis=0))
        if found > best:
            chosen, best = [*chosen, name], found
    return chosen


# Combining


def test_probabilities_are_averaged_by_hand():
    members = [np.log([[0.8, 0.2], [0.5, 0.5]]), np.log([[0.4, 0.6], [0.1, 0.9]])]
    found = combined([one.astype(np.float32) for one in members], [0.75, 0.25], "probabilities")
    np.testing.assert_allclose(found.exp(), [[0.7, 0.3], [0.4, 0.6]], rtol=1e-6)
    assert found.dtype == torch.float32


def test_logits_are_averaged_by_hand():
    members = [np.array([[1.0, -3.0]], np.float32), np.array([[5.0, 1.0]], np.float32)]
    assert combined(members, [0.75, 0.25], "logits").tolist() == [[2.0, -2.0]]


def test_probabilities_do_not_depend_on_what_is_added_to_all_logits_and_logits_do():
    generator = np.random.default_rng(0)
    one, other = (generator.normal(size=(5, 3)).astype(np.float32) for _ in range(2))
    for output, is_same in (("probabilities", True), ("logits", False)):
        found, moved = combined([one, other], [0.5, 0.5], output), combined([one + 10, other], [0.5, 0.5], output)
        assert torch.allclose(found, moved, atol=1e-5) is is_same


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_in_one_member_is_not_finite_in_the_ensemble(output, bad):
    one, other = np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32)
    one[1, 0] = bad
    found = combined([other, one], [0.5, 0.5], output)
    assert found.isfinite().all(dim=1).tolist() == [True, False, True]


def test_members_that_are_all_but_certain_are_believed():
    """A probability of e^-200 is 0 in float32, and its logarithm would not be finite."""
    members = [np.array([[200.0, 0.0, 1.0]], np.float32), np.array([[300.0, 0.0, 2.0]], np.float32)]
    found = combined(members, [0.5, 0.5], "probabilities")
    assert found.isfinite().all()
    assert found.argmax(dim=1).tolist() == [0]
    assert found[0, 1].item() == pytest.approx(-200 + np.log(0.5), rel=1e-6)


def test_members_are_left_as_they_were():
    one = np.arange(6, dtype=np.float32).reshape(2, 3)
    one.setflags(write=False)  # as mapped from the store
    for output in OUTPUTS:
        combined([one, one], [0.5, 0.5], output)
    assert one.ravel().tolist() == list(range(6))


# Against plain loops


@pytest.mark.parametrize("split", ["held_out", "test"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_uniform_ensemble_has_the_counts_of_a_plain_loop(kitchen, output, split):
    soup = sv.cook(kitchen, {"method": "ensemble", "output": output})
    said = np.mean(list(outputs(kitchen, output, split).values()), axis=0)
    assert soup.scores[split].correct == count(kitchen, said, split)
    probabilities = said if output == "probabilities" else softmax(said, axis=1)
    labels = kitchen.splits.load(split).labels.numpy()
    expected = -np.log(probabilities[np.arange(len(labels)), labels]).mean()
    assert soup.scores[split].loss == pytest.approx(expected, rel=1e-5)
    assert soup.coefficients == dict.fromkeys(kitchen.names, 1 / 6)
    assert soup.passes == 6


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_greedy_ensemble_is_a_plain_greedy_over_averaged_outputs(kitchen, output):
    soup = sv.cook(kitchen, {"method": "ensemble", "output": output, "choice": "greedy"})
    said = outputs(kitchen, output)
    chosen = plain_greedy(kitchen, said)
    assert [name for name, _ in soup.mix] == chosen
    assert [weight for _, weight in soup.mix] == pytest.approx([1 / len(chosen)] * len(chosen))
    assert 1 < len(chosen) < 6
    assert soup.passes == len(chosen)
    assert soup.scores["held_out"].correct == count(kitchen, np.mean([said[name] for name in chosen], axis=0))
    assert [step.ingredient for step in soup.trajectory if step.accepted] == chosen
    assert all(step.correct is not None for step in soup.trajectory)  # from logits, to the last example


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_weighted_ensemble_goes_by_a_softmax_of_accuracy(kitchen, output):
    soup = sv.cook(kitchen, {"method": "ensemble", "output": output, "choice": "weighted"})
    said = outputs(kitchen, output)
    weights = softmax([count(kitchen, one) / 200 / 0.01 for one in said.values()])
    assert list(soup.coefficients.values()) == pytest.approx(weights)
    mean = sum(weight * one for weight, one in zip(weights, said.values(), strict=True))
    assert soup.scores["held_out"].correct == count(kitchen, mean)


@pytest.mark.parametrize("choice", CHOICES)
def test_an_ensemble_of_one_is_that_one(kitchen, choice):
    soup = sv.cook(kitchen, {"method": "ensemble", "choice": choice, "members": ["m_2"]})
    assert soup.mix == (("m_2", 1.0),)
    assert soup.scores["test"] == kitchen.scores.score((("m_2", 1.0),), "test")
    assert soup.passes == 1


@pytest.mark.parametrize("output", OUTPUTS)
def test_its_logits_are_what_its_probabilities_come_from(kitchen, output):
    soup = sv.cook(kitchen, {"method": "ensemble", "output": output})
    said = np.mean(list(outputs(kitchen, output).values()), axis=0)
    probabilities = said if output == "probabilities" else softmax(said, axis=1)
    found = softmax(kitchen.scores.logits(soup.mix, "held_out", output), axis=1)
    np.testing.assert_allclose(found, probabilities, rtol=1e-4, atol=1e-6)


def test_members_keep_their_own_statistics(tmp_path):
    """An average of weights would average them, too."""
    options = {"source": BATCHNORM, "shape": (3, 8, 8), "num_examples": 60, "scale": 0.3}
    kitchen = Kitchen.load(small_kitchen(tmp_path, **options))
    soup = sv.cook(kitchen, {"method": "ensemble"})
    assert soup.scores["held_out"].correct == count(
        kitchen, np.mean(list(outputs(kitchen, "probabilities").values()), axis=0)
    )
    assert soup.clamped == 0


def test_what_becomes_of_statistics_is_no_question_for_an_ensemble():
    words = r"batchnorm is '(first|recalibrate)', but an ensemble mixes no weights: each member keeps its own "
    for batchnorm in ("first", "recalibrate"):
        with pytest.raises(RecipeError, match=words):
            parse({"method": "ensemble", "batchnorm": batchnorm})


# What it costs


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("choice", CHOICES)
def test_once_the_ingredients_were_scored_no_model_runs_again(tmp_path, choice, output, evaluations):
    kitchen = Kitchen.load(small_kitchen(tmp_path, num_examples=50))
    kitchen.score("held_out")
    kitchen.score("test")
    assert len(evaluations) == 2 * 4
    for opened in (kitchen, Kitchen.load(kitchen.file)):
        sv.cook(opened, {"method": "ensemble", "choice": choice, "output": output})
    assert len(evaluations) == 2 * 4


def test_an_ensemble_scores_each_member_once(tmp_path, evaluations):
    kitchen = Kitchen.load(small_kitchen(tmp_path, num_examples=50))
    sv.cook(kitchen, {"method": "ensemble", "choice": "greedy"})
    after = len(evaluations)
    assert 4 + 1 <= after <= 2 * 4  # each on held_out, and those that were chosen on test
    for choice in CHOICES:
        for output in OUTPUTS:
            sv.cook(kitchen, {"method": "ensemble", "choice": choice, "output": output})
    assert len(evaluations) == 2 * 4


# Not finite


@pytest.mark.parametrize("output", OUTPUTS)
def test_examples_whose_logits_are_not_finite_count_as_wrong(tmp_path, output):
    file = small_kitchen(tmp_path, num_examples=40)
    arrays = load_file(tmp_path / "held_out.safetensors")
    arrays["inputs"][5] = 3e38
    write_arrays(tmp_path / "held_out.safetensors", arrays["inputs"], arrays["labels"])
    kitchen = Kitchen.load(file)
    score = sv.cook(kitchen, {"method": "ensemble", "output": output}).scores["held_out"]
    finite = np.arange(40) != 5
    logits = [one[finite] for one in outputs(kitchen, "logits").values()]
    said = np.mean([softmax(one, axis=1) if output == "probabilities" else one for one in logits], axis=0)
    expected = int((said.argmax(1) == arrays["labels"].numpy()[finite]).sum())
    assert (score.num_nonfinite, score.correct, score.num_examples) == (1, expected, 40)
    assert score.outcomes["prediction"][5] == -1
    assert np.isfinite(score.loss)


# What it cannot do


@pytest.fixture(scope="module")
def ensemble(kitchen) -> sv.Soup:
    return sv.cook(kitchen, {"method": "ensemble"})


def test_it_has_no_weights_to_mix_or_to_write(kitchen, ensemble, tmp_path):
    words = r"an ensemble of 6 models has no weights of its own, so there is nothing to write or to mix; distil it"
    with pytest.raises(RecipeError, match=words):
        ensemble.state_dict()
    with pytest.raises(RecipeError, match=words):
        kitchen.scores.mixed(ensemble.mix, "logits")
    for suffix in (".safetensors", ".pt"):
        with pytest.raises(RecipeError, match=words):
            sv.export(ensemble, tmp_path / f"soup{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_says_so_before_it_cooks(tmp_path, capsys):
    file = small_kitchen(tmp_path, num_examples=40)
    status, _, err = run_command(capsys, "soup", file, "--recipe", "ensemble", "--out", tmp_path / "soup.pt")
    assert (status, err.count("\n")) == (2, 1)
    assert "an ensemble has no weights of its own to write" in err
    assert Kitchen.load(file).store.runs() == []
    assert not Path(tmp_path / "soup.pt").exists()


def test_no_path_runs_from_it_or_to_it(kitchen, ensemble):
    words = r"'ensemble \(uniform, probabilities\)' is an ensemble of 6 models: it has no weights, so that no line runs"
    for ends in ((ensemble, "m_0"), ("m_0", ensemble), (ensemble, sv.uniform(kitchen)), (ensemble, ensemble)):
        with pytest.raises(CurveError, match=words):
            sv.interpolate(kitchen, *ends, points=3)
        with pytest.raises(CurveError, match=words):
            trace(kitchen, *ends, [0.5])
    with pytest.raises(CurveError, match=words):
        end_mix(ensemble)


@pytest.mark.parametrize("output", OUTPUTS)
def test_points_of_a_path_are_mixes_of_weights(kitchen, output):
    with pytest.raises(RecipeError, match=f"batchnorm is '{output}'; expected average, first"):
        sv.interpolate(kitchen, "m_0", "m_1", points=3, batchnorm=output)
