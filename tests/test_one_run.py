"""Checkpoints of one run: n best, one window, the best window, running means, an emulated decay; each by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import MLP, build_model, change_yaml, perturbed, save, small_kitchen
from own_kitchens import kitchen_from_outside
from safetensors.torch import load_file
from test_menu_recipes import RUN, Taste

import soupviz as sv
from soupviz.errors import RecipeError
from soupviz.mixing.averaging import mean_of, mix
from soupviz.mixing.formulas import PRECISE_SUM, Formula, made
from soupviz.recipes import MENU, parse
from soupviz.recipes.averages import NBest
from soupviz.recipes.overtime import DECAYS, Lawa, Wsm, decayed
from soupviz.recipes.windows import RunningMeans, Windows, between
from soupviz.soups.provenance import read_record
from soupviz.soups.restore import restore
from soupviz.weights.ingredients import Ingredient, fingerprint
from soupviz.weights.logged import logged_loss

LOGGED = {"m_0": 0.4, "m_1": 0.2, "m_2": 0.3, "m_3": 0.5}


def at(*steps: float) -> list[tuple[float, str]]:
    return [(step, f"c{step:g}") for step in steps]


def weights(mixture) -> list[float]:
    return [weight for _, weight in mixture]


# n best


def test_the_n_best_are_averaged_and_equally_good_ones_stand_in_kitchen_order():
    taste = Taste(5)
    best = sorted(taste.names, key=lambda name: -taste.score(((name, 1.0),)).correct)
    assert NBest(n=2).plan(taste.pool) == mean_of(best[:2])
    assert NBest(n=50).plan(taste.pool) == mean_of(best)


def test_another_metric_chooses_others():
    taste = Taste(6, seed=3)
    by_loss = sorted(taste.names, key=lambda name: taste.score(((name, 1.0),)).loss)
    assert NBest(n=3, metric="loss").plan(taste.pool) == mean_of(by_loss[:3])
    assert by_loss[:3] != [name for name, _ in NBest(n=3).plan(taste.pool)]


def test_by_the_log_no_score_is_asked_for():
    taste = Taste(4, facts={name: {"eval_loss": str(loss)} for name, loss in LOGGED.items()})
    assert NBest(n=2, by="log").plan(taste.pool) == mean_of(["m_1", "m_2"])
    assert not taste.asked
    with pytest.raises(RecipeError, match="nothing beside 'm_0' tells its validation loss; expected val_loss"):
        NBest(by="log").plan(Taste(2).pool)


@pytest.mark.parametrize(
    ("name", "is_it"),
    [
        ("val_loss", True), ("eval_loss", True), ("valid/loss", True), ("loss/val", True), ("cv_loss", True),
        ("validLoss", True), ("dev_total_loss", True), ("loss", False), ("train_loss", False), ("best_val_loss", False),
        ("test_loss", False), ("val_ctc_loss", False), ("val_accuracy", False), ("eval_loss (EMA)", False),
    ],
)  # fmt: skip
def test_a_validation_loss_is_known_by_its_name(name, is_it):
    assert (logged_loss({name: "0.25", "epoch": 3}) == (name, 0.25)) is is_it
    assert logged_loss({name: "nan"}) is None


# One window


def test_a_window_ends_at_the_last_checkpoint_up_to_a_step():
    pool = Taste(4, facts=RUN).pool  # by step: m_1, m_2, m_0, m_3
    assert Lawa(last=2, end=300).plan(pool) == mean_of(["m_2", "m_0"])
    assert Lawa(last=2, end=399).plan(pool) == mean_of(["m_2", "m_0"])
    assert Lawa(last=9, end=200).plan(pool) == mean_of(["m_1", "m_2"])
    with pytest.raises(RecipeError, match="no checkpoint up to step 50; the first is of 100"):
        Lawa(end=50).plan(pool)


def test_a_lawa_of_before_is_the_same_run_as_ever():
    assert "end" not in Lawa(last=3).model_dump()


# WSM


def test_equally_spaced_decays_by_hand():
    """Four checkpoints: x is 1/4, 1/2, 3/4, 1, and what is left of the learning rate falls by c from each to the next.

    Cosine: 1, (2 + sqrt 2) / 4, 1/2, (2 - sqrt 2) / 4, 0. 1-sqrt: 1, 1/2, 1 - sqrt(1/2), 1 - sqrt(3/4), 0.
    """
    times = at(100, 200, 300, 400)
    assert weights(decayed(times, "linear")) == pytest.approx([0.25] * 4)
    root = math.sqrt(2)
    assert weights(decayed(times, "cosine")) == pytest.approx([(2 - root) / 4, root / 4, root / 4, (2 - root) / 4])
    assert weights(decayed(times, "1-sqrt")) == pytest.approx(
        [0.5, math.sqrt(0.5) - 0.5, math.sqrt(0.75) - math.sqrt(0.5), 1 - math.sqrt(0.75)]
    )


def test_unequal_steps_count_by_how_long_they_are():
    """Over the last 400 of steps 100, 200 and 400, x is 1/4, 1/2 and 1."""
    times = at(100, 200, 400)
    assert weights(decayed(times, "linear", 400)) == pytest.approx([0.25, 0.25, 0.5])
    assert weights(decayed(times, "1-sqrt", 400)) == pytest.approx([0.5, math.sqrt(0.5) - 0.5, 1 - math.sqrt(0.5)])
    assert weights(decayed(times, "cosine", 400)) == pytest.approx([0.5 - math.sqrt(0.125), math.sqrt(0.125), 0.5])


def test_a_duration_takes_the_checkpoints_within_it():
    times = at(100, 200, 300, 400)
    assert decayed(times, "linear", 200) == (("c300", pytest.approx(0.5)), ("c400", pytest.approx(0.5)))
    assert decayed(times, "cosine", 100) == (("c400", 1.0),)
    assert decayed(times, "linear", 250) == (
        ("c200", pytest.approx(0.2)), ("c300", pytest.approx(0.4)), ("c400", pytest.approx(0.4)),
    )  # fmt: skip
    assert decayed(at(7), "1-sqrt") == (("c7", 1.0),)


@pytest.mark.parametrize("decay", DECAYS)
def test_the_mean_is_what_training_with_that_decay_would_have_been(decay):
    """A run of plain gradient steps whose gradients do not depend on where it is: the learning rate is all there is."""
    updates = np.random.default_rng(0).normal(size=(60, 3))
    path = np.cumsum(updates, axis=0)  # at a constant learning rate
    steps = [11, 20, 21, 35, 48, 60]
    found = decayed(at(*steps), decay, 60)
    soup = sum(weight * path[int(name[1:]) - 1] for name, weight in found)
    at_start = np.array([max([0, *(one for one in steps if one < step)]) / 60 for step in range(1, 61)])
    again = sum(DECAYS[decay](x) * update for x, update in zip(at_start, updates, strict=True))
    assert soup == pytest.approx(again)
    assert math.fsum(weights(found)) == pytest.approx(1.0) and min(weights(found)) > 0


@pytest.mark.parametrize("decay", DECAYS)
def test_many_checkpoints_come_to_the_decay_itself(decay):
    number = 4000
    falls = np.cumsum(weights(decayed(at(*range(1, number + 1)), decay)))
    x = np.arange(1, number + 1) / number
    assert 1 - falls == pytest.approx([DECAYS[decay](one) for one in x], abs=1e-12)


def test_wsm_takes_steps_from_names():
    taste = Taste(3, names=["step_10", "step_30", "step_20"])
    assert Wsm(decay="linear").plan(taste.pool) == tuple(
        (name, pytest.approx(1 / 3)) for name in ("step_10", "step_20", "step_30")
    )


# Running means


def test_a_difference_of_running_means_by_hand():
    """The mean of 28 epochs is a, that of 13 is b: the mean of epochs 14 to 28 is (28 a - 13 b) / 15."""
    counts = {f"epoch-{number}": float(number) for number in range(1, 29)}
    assert between(counts, list(counts), 15) == (("epoch-28", 28 / 15), ("epoch-13", -13 / 15))
    assert between(counts, list(counts)[:3], 3) == (("epoch-3", 1.0),)
    assert between(counts, list(counts), 1) == (("epoch-28", 28.0), ("epoch-27", -27.0))


def test_how_many_are_averaged_is_in_the_metadata():
    """icefall averages every 200 batches: 1,250 batches are 1,200 of them, 3,999 are 3,800."""
    facts = {
        "epoch-1": {"batch_idx_train": 1250, "average_period": 200},
        "epoch-2": {"batch_idx_train": 3999, "average_period": 200},
    }
    taste, parts = Taste(2, names=list(facts), facts=facts), []
    taste.pool.adopt = lambda formula: parts.append(formula) or (("made", 1.0),)
    assert RunningMeans(last=1).plan(taste.pool) == (("made", 1.0),)
    assert parts[0].parts == (("epoch-2", 3800 / 2600), ("epoch-1", -1200 / 2600))
    assert RunningMeans(last=2).plan(taste.pool) == (("epoch-2", 1.0),)
    same = {name: {"averaged": "7", "step": step} for step, name in enumerate("ab")}
    with pytest.raises(RecipeError, match="'b' is the mean of 7 models and 'a', before it, of 7; expected more"):
        RunningMeans().plan(Taste(2, names=["a", "b"], facts=same).pool)


def ingredient(name: str, *values: float, dtype=torch.float32) -> Ingredient:
    tensors = {"weight": torch.tensor(values, dtype=dtype), "count": torch.tensor(3)}
    return Ingredient(name, Path(f"{name}.pt"), tensors, fingerprint(tensors))


def test_coefficients_that_cancel_are_summed_in_float64():
    """28 a - 27 b of numbers near 1 loses digits in float32; the sum is rounded once, to the stored dtype."""
    generator = np.random.default_rng(1)
    values = [1 + generator.normal(scale=1e-3, size=2000).astype(np.float32) for _ in range(2)]
    items = {name: ingredient(name, *one.tolist()) for name, one in zip("ab", values, strict=True)}
    exact = (28 * values[0].astype(np.float64) - 27 * values[1].astype(np.float64)).astype(np.float32)
    formula = Formula(kind=PRECISE_SUM, parts=(("a", 28.0), ("b", -27.0)))
    found = made("soup", formula, items.__getitem__, {}).tensors
    assert (found["weight"].numpy() == exact).all() and found["count"] == 3
    plain = mix([(items["a"], 28.0), (items["b"], -27.0)])["weight"].numpy()
    assert (plain != exact).any(), "or float32 would do"
    half = {name: ingredient(name, 1.0, 2.0, dtype=torch.bfloat16) for name in "ab"}
    assert made("soup", formula, half.__getitem__, {}).tensors["weight"].dtype is torch.bfloat16


# A run of a small model, and its running means


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> dict[str, Path]:
    """Eight checkpoints of a walk around the base that comes nearer to it, and of each the mean of all so far."""
    folder = tmp_path_factory.mktemp("run")
    file = small_kitchen(folder, num_ingredients=1, num_examples=300, scale=0.3)
    base = build_model(MLP).state_dict()
    total = {key: torch.zeros_like(tensor, dtype=torch.float64) for key, tensor in base.items()}
    for number in range(1, 9):
        near = perturbed(base, 1.0 / number + 0.15, seed=number)
        total = {key: total[key] + near[key] for key in total}
        save(near, folder / f"epoch-{number}.safetensors")
        save({key: one / number for key, one in total.items()}, folder / "means" / f"epoch-{number}.pt")
    means = folder / "means.yaml"
    means.write_text(file.read_text())
    change_yaml(file, lambda keys: keys.update(ingredients=["epoch-*.safetensors"]))
    change_yaml(means, lambda keys: keys.update(ingredients=["means/epoch-*.pt"]))
    return {"checkpoints": file, "running_means": means}


def test_the_difference_of_running_means_is_the_mean_of_the_window(run):
    kitchen = sv.Kitchen.load(run["running_means"])
    soup = sv.cook(kitchen, {"method": "running_means", "last": 3, "end": 7})
    assert soup.coefficients == {name: {"epoch-7": 7 / 3, "epoch-4": -4 / 3}.get(name, 0.0) for name in kitchen.names}
    assert soup.made_of == "2 of 8 ingredients: epoch-4 -1.333, epoch-7 2.333"
    window = sv.cook(sv.Kitchen.load(run["checkpoints"]), {"method": "lawa", "last": 3, "end": 7})
    assert window.coefficients is not None
    for key, tensor in window.state_dict().items():
        torch.testing.assert_close(soup.state_dict()[key].float(), tensor, rtol=1e-6, atol=1e-6)
    assert soup.scores["held_out"].correct == window.scores["held_out"].correct


def test_a_soup_of_running_means_is_exported_rebuilt_and_loaded_back_bit_for_bit(run, tmp_path):
    kitchen = sv.Kitchen.load(run["running_means"])
    soup = sv.cook(kitchen, {"method": "running_means", "last": 2})
    file, again = tmp_path / "soup.safetensors", tmp_path / "again.safetensors"
    sv.export(soup, file)
    sv.bake(file, again)
    for key, tensor in load_file(file).items():
        assert torch.equal(load_file(again)[key], tensor)
        assert torch.equal(soup.state_dict()[key], tensor)
    assert "| epoch-8 | 4 |" in (tmp_path / "README.md").read_text()
    assert "weighted average of 2 of 8" in (tmp_path / "README.md").read_text()
    assert restore(kitchen, read_record(file), file).coefficients == soup.coefficients


@pytest.mark.parametrize("files", ["checkpoints", "running_means"])
def test_the_search_finds_the_best_of_all_windows(run, files):
    kitchen = sv.Kitchen.load(run[files])
    soup = sv.cook(kitchen, {"method": "windows", "files": files})
    told = soup.notes["windows"]
    assert len(told) == len(soup.trajectory) == 8 * 9 // 2
    one = {"checkpoints": "lawa", "running_means": "running_means"}[files]
    again = sv.Kitchen.load(run[files])
    known = [sv.cook(again, {"method": one, "last": length, "end": end}).scores["held_out"] for end, length in told]
    best = max(score.correct for score in known)
    assert soup.scores["held_out"].correct == best
    first = next(index for index, score in enumerate(known) if score.correct == best)
    assert soup.mix == soup.trajectory[first].mix
    for step, score in zip(soup.trajectory, known, strict=True):
        assert step.value in (None, pytest.approx(float(score.value)))
        assert step.bound >= float(score.value) - 1e-12
    assert any(step.value is None for step in soup.trajectory), "or nothing was given up early"
    whole = sv.cook(kitchen, {"method": "windows", "files": files}, complete=True)
    assert [step.accepted for step in whole.trajectory] == [step.accepted for step in soup.trajectory]
    assert whole.mix == soup.mix


def test_both_searches_try_the_same_windows(run):
    found = [
        sv.cook(sv.Kitchen.load(run[files]), {"method": "windows", "files": files, "endings": 3, "longest": 2})
        for files in run
    ]
    assert found[0].notes == found[1].notes
    assert [step.accepted for step in found[0].trajectory] == [step.accepted for step in found[1].trajectory]
    assert [one for one, _ in found[0].notes["windows"]] == [8, 8, 7, 7, 6, 6]


def test_a_search_scores_as_many_windows_as_it_says(run):
    for files in run:
        recipe = parse({"method": "windows", "files": files, "endings": 4, "longest": 3})
        soup = sv.cook(sv.Kitchen.load(run[files]), recipe)
        mixes = {step.mix for step in soup.trajectory if len(step.mix) > 1 or step.mix[0][0] not in soup.pool}
        assert len(mixes) == recipe.candidates(8)
        assert sum(recipe.candidates(number) for number in (1, 2)) <= 1


def test_windows_can_raise_another_metric(run):
    kitchen = sv.Kitchen.load(run["checkpoints"])
    by_loss = sv.cook(kitchen, {"method": "windows", "objective": "loss"})
    soups = [
        sv.cook(kitchen, {"method": "lawa", "last": n, "end": end}) for end in range(1, 9) for n in range(1, end + 1)
    ]
    assert by_loss.scores["held_out"].loss == min(soup.scores["held_out"].loss for soup in soups)
    assert Windows(objective="loss").title == "best window (20 endings, longest 20, for loss)"


def test_of_a_metric_where_lower_is_better_the_best_is_the_lowest(tmp_path):
    file = kitchen_from_outside("wer", tmp_path / "speech", num_units=20, steps=40)
    for index, path in enumerate(sorted((tmp_path / "speech").glob("m_*.safetensors"))):
        path.rename(path.with_name(f"epoch_{index + 1}.safetensors"))
    change_yaml(file, lambda keys: keys.update(ingredients=["epoch_*.safetensors"]))
    kitchen = sv.Kitchen.load(file)
    singles = kitchen.scores.of_ingredients()
    two = sorted(singles, key=lambda name: singles[name].value)[:2]
    soup = sv.cook(kitchen, {"method": "nbest", "n": 2})
    assert soup.mix == mean_of(two)
    best = sv.cook(kitchen, {"method": "windows"})
    values = [
        sv.cook(kitchen, {"method": "lawa", "last": length, "end": end}).scores["held_out"].value
        for end in range(1, 5)
        for length in range(1, end + 1)
    ]
    assert best.scores["held_out"].value == min(values)
    assert sv.cook(kitchen, {"method": "wsm", "decay": "cosine"}).scores["held_out"].metric == "wer"


def test_every_number_of_these_recipes_has_bounds():
    from soupviz.analysis.parameters import numeric_parameters

    for method in ("nbest", "lawa", "wsm", "running_means", "windows"):
        for one in numeric_parameters(MENU[method]):
            assert one.low is not None and one.takes(one.default), (method, one.name)


def test_icefalls_own_files_are_read_and_their_difference_is_the_mean_of_the_window(tmp_path):
    """`model_avg` in float64 beside the model, every 2 batches: epoch 1 is the mean of 2 of them, epoch 3 of 6."""
    file = small_kitchen(tmp_path, num_ingredients=1, num_examples=60)
    base = build_model(MLP).state_dict()
    walk = [perturbed(base, 0.3, seed=number) for number in range(6)]
    for epoch in (1, 2, 3):
        batch = 4 * epoch + 1  # one more than was averaged
        mean = {key: sum(one[key].double() for one in walk[: 2 * epoch]) / (2 * epoch) for key in base}
        state = {"model": walk[2 * epoch - 1], "model_avg": mean, "batch_idx_train": batch, "average_period": 2}
        torch.save(state, tmp_path / f"epoch-{epoch}.pt")
    change_yaml(file, lambda keys: keys.update(ingredients=["epoch-*.pt"], weights="ema"))
    kitchen = sv.Kitchen.load(file)
    soup = sv.cook(kitchen, {"method": "running_means", "last": 2})
    assert soup.coefficients == {"epoch-1": -4 / 8, "epoch-2": 0.0, "epoch-3": 12 / 8}
    for key, tensor in soup.state_dict().items():
        expected = sum(one[key].double() for one in walk[2:]) / 4
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-6, atol=1e-6)
