from pathlib import Path

import pytest
import torch
from kitchens import json_of
from safetensors.torch import load_file

import soupviz as sv
from soupviz.analysis.preflight import inspect
from soupviz.analysis.verdicts import best_on_held_out
from soupviz.demo.digits import RECORDED_EVERY, RUN, SIZES, TUNINGS, DigitsNet, _build, demo_kitchen
from soupviz.errors import Cancelled
from soupviz.tasks.paired import Comparison, compare
from soupviz.tasks.significance import LEVEL
from soupviz.types import quiet
from soupviz.weights.checkpoints import read
from soupviz.weights.ingredients import fingerprint


@pytest.fixture(scope="module")
def kitchen(demo) -> sv.Kitchen:
    return sv.Kitchen.load(demo)


@pytest.fixture(scope="module")
def run(demo) -> sv.Kitchen:
    return sv.Kitchen.load(demo.parent / "run")


@pytest.fixture(scope="module")
def soups(kitchen) -> dict[str, sv.Soup]:
    return {"uniform": sv.uniform(kitchen), "mean": sv.greedy(kitchen), "0.1": sv.greedy(kitchen, alpha=0.1)}


def test_the_demo_has_what_a_kitchen_can_have(kitchen):
    assert kitchen.names == [f"digits_{index:02d}" for index in range(len(TUNINGS))]
    assert kitchen.base is not None
    assert kitchen.splits.names == ["held_out", "test", "train", "shifts.rotated", "shifts.noisy"]
    assert [len(kitchen.splits.load(name)) for name in kitchen.splits.names] == [400, 997, 320, 997, 997]
    assert kitchen.spec.classes == tuple("0123456789")


def test_the_parts_of_the_demo_are_disjoint(demo):
    parts = [load_file(demo.parent / f"{name}.safetensors")["inputs"] for name in ("train", "held_out", "test")]
    everything = torch.cat(parts).flatten(1)
    assert len(torch.unique(everything, dim=0)) == len(everything) == sum(SIZES.values()) - SIZES["pretrain"]


def test_the_best_single_the_uniform_and_the_greedy_soup_differ(kitchen, soups):
    best = max(kitchen.scores.of_ingredients().values(), key=lambda score: score.correct)
    correct = {name: soup.scores["held_out"].correct for name, soup in soups.items()}
    assert len({best.correct, correct["uniform"], correct["mean"]}) == 3
    assert correct["mean"] > best.correct
    assert correct["0.1"] > best.correct


# What the demo shows


def on_test(kitchen: sv.Kitchen, soup: sv.Soup) -> Comparison:
    """Of the soup to the best ingredient, which is chosen on held_out as the soup is."""
    best = kitchen.scores.score(((best_on_held_out(kitchen), 1.0),), "test")
    return compare(kitchen.task, kitchen.objective, soup.scores["test"], best)


def named_by_preflight(kitchen: sv.Kitchen) -> list[str]:
    return [verdict.name for verdict in inspect(kitchen).verdicts if verdict.verdict != "in_basin"]


def test_greedy_beats_the_best_ingredient_on_test_beyond_chance(kitchen, soups):
    found = on_test(kitchen, soups["mean"])
    assert found.better > found.worse
    assert found.p_value < LEVEL


def test_greedy_beats_every_single_ingredient_on_test(kitchen, soups):
    singles = kitchen.scores.of_ingredients("test").values()
    assert soups["mean"].scores["test"].correct > max(score.correct for score in singles)


def test_the_intruder_that_preflight_names_spoils_the_uniform_soup(kitchen, soups):
    intruder = kitchen.names[-1]
    assert named_by_preflight(kitchen) == [intruder]
    assert soups["mean"].coefficients[intruder] == 0
    assert on_test(kitchen, soups["uniform"]).better < on_test(kitchen, soups["uniform"]).worse
    others = sv.uniform(kitchen, members=[name for name in kitchen.names if name != intruder])
    assert on_test(kitchen, others).better > on_test(kitchen, others).worse


@pytest.mark.slow
def test_at_nine_of_ten_seeds_of_its_building_the_demo_shows_the_same(tmp_path: Path):
    """Seed 0, which ships, is the first of the ten."""
    beyond_chance = 0
    for seed in range(10):
        folder = tmp_path / str(seed)
        folder.mkdir()
        _build(folder, quiet, seed)
        kitchen = sv.Kitchen.load(folder)
        found = on_test(kitchen, sv.greedy(kitchen))
        beyond_chance += found.better > found.worse and found.p_value < LEVEL
        hurt = on_test(kitchen, sv.uniform(kitchen))
        assert hurt.better < hurt.worse
        assert named_by_preflight(kitchen) == [kitchen.names[-1]]
    assert beyond_chance >= 9


@pytest.mark.parametrize("name", ["mean", "0.1"])
def test_greedy_accepts_some_and_rejects_some(soups, name):
    _, *candidates = soups[name].trajectory
    accepted = [step.accepted for step in candidates]
    assert 2 <= sum(accepted) <= len(accepted) - 2


def test_the_last_fine_tuning_was_hurt_by_its_learning_rate(kitchen):
    scores = kitchen.scores.of_ingredients()
    hurt = scores.pop(kitchen.names[-1])
    assert hurt.correct < min(score.correct for score in scores.values())


def test_the_ingredients_gained_on_the_base(kitchen):
    base = kitchen.scores.score((("base", 1.0),))
    assert max(score.correct for score in kitchen.scores.of_ingredients().values()) > base.correct


def test_learning_rates_stand_in_the_table(kitchen):
    assert kitchen.score()["lr"].tolist() == [tuning.lr for tuning in TUNINGS]


def test_the_demo_is_the_same_every_time(demo, tmp_path):
    torch.manual_seed(123)
    before, num_threads = torch.random.get_rng_state(), torch.get_num_threads()
    again = demo_kitchen(tmp_path / "again")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.get_num_threads() == num_threads
    everything = [path.relative_to(demo.parent) for path in demo.parent.rglob("*") if path.is_file()]
    files = sorted(name for name in everything if ".soupviz" not in name.parts)
    assert sorted(path.relative_to(again.parent) for path in again.parent.rglob("*") if path.is_file()) == files
    for name in files:
        if name.name == "kitchen.yaml":
            assert (again.parent / name).read_text() == (demo.parent / name).read_text()
        else:
            first, second = (read(file.parent / name) for file in (demo, again))
            assert fingerprint(first.candidates[0].tensors) == fingerprint(second.candidates[0].tensors), name
            assert first.metadata == second.metadata


def test_a_demo_that_is_there_is_not_built_again(demo, monkeypatch):
    monkeypatch.setattr("soupviz.demo.digits._build", lambda *_: pytest.fail("built again"))
    assert demo_kitchen(demo.parent) == demo


def test_a_build_that_is_cancelled_leaves_nothing_behind(tmp_path):
    def stop(done: int, total: int, what: str) -> None:
        if done == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        demo_kitchen(tmp_path / "digits", stop)
    assert list(tmp_path.iterdir()) == []


def test_the_demo_network_loads_its_checkpoints_in_plain_pytorch(demo):
    model = DigitsNet()
    model.load_state_dict(load_file(demo.parent / "digits_00.safetensors"), strict=True)
    assert model(torch.zeros(2, 1, 8, 8)).shape == (2, 10)


# One run over time


def test_the_run_lies_below_the_demo_with_the_same_base_and_data(kitchen, run):
    assert run.name == "Demo: one run over time"
    assert run.base.fingerprint == kitchen.base.fingerprint
    assert run.splits.names == kitchen.splits.names
    assert all(run.splits.load(name).fingerprint == kitchen.splits.load(name).fingerprint for name in run.splits.names)


def test_the_runs_checkpoints_name_their_step_and_the_average_is_not_among_them(run):
    steps = [RECORDED_EVERY * (index + 1) for index in range(10)]
    assert run.names == [f"step_{step:06d}" for step in steps]
    assert run.score()["step"].tolist() == steps
    assert run.score()["lr"].tolist() == [RUN.lr] * len(steps)
    assert (run.folder / "swa.safetensors").is_file()


RECIPES = [("swa", "--start", 7 * RECORDED_EVERY), ("lawa", "--last", 4), ("ema", "--decay", 0.7)]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe[0])
def test_the_average_over_time_beats_the_last_checkpoint_on_held_out(run, capsys, recipe):
    """Of 30 seeds of its building the mean of the last five beat it in 28, by 14 of 400 on average; ema in 29."""
    found = json_of(capsys, "soup", run.folder, "--recipe", *recipe)
    last = run.scores.of_ingredients()[run.names[-1]]
    assert found["scores"]["held_out"]["correct"] > last.correct
    used = [name for name, weight in found["coefficients"].items() if weight]
    assert used == run.names[-len(used) :]
    assert len(used) == (10 if recipe[0] == "ema" else 4)


def test_swa_of_the_files_is_the_running_average_that_the_run_kept(run, capsys, tmp_path):
    json_of(capsys, "soup", run.folder, "--recipe", "swa", "--out", tmp_path / "soup.safetensors")
    mixed, running = load_file(tmp_path / "soup.safetensors"), load_file(run.folder / "swa.safetensors")
    assert mixed.keys() == running.keys()
    for key, tensor in mixed.items():
        torch.testing.assert_close(tensor, running[key])
