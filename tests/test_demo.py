import pytest
import torch
from safetensors.torch import load_file

import soupviz as sv
from soupviz.checkpoints import read
from soupviz.demo import SIZES, TUNINGS, DigitsNet, demo_kitchen
from soupviz.errors import Cancelled
from soupviz.ingredients import fingerprint


@pytest.fixture(scope="module")
def kitchen(demo) -> sv.Kitchen:
    return sv.Kitchen.load(demo)


@pytest.fixture(scope="module")
def soups(kitchen) -> dict[str, sv.Soup]:
    return {"uniform": sv.uniform(kitchen), "mean": sv.greedy(kitchen), "0.1": sv.greedy(kitchen, alpha=0.1)}


def test_the_demo_has_what_a_kitchen_can_have(kitchen):
    assert kitchen.names == [f"digits_{index:02d}" for index in range(len(TUNINGS))]
    assert kitchen.base is not None
    assert kitchen.split_names == ["held_out", "test", "train", "shifts.rotated", "shifts.noisy"]
    assert [len(kitchen.split(name)) for name in kitchen.split_names] == [600, 697, 400, 697, 697]
    assert kitchen.spec.classes == tuple("0123456789")


def test_the_parts_of_the_demo_are_disjoint(demo):
    parts = [load_file(demo.parent / f"{name}.safetensors")["inputs"] for name in ("train", "held_out", "test")]
    everything = torch.cat(parts).flatten(1)
    assert len(torch.unique(everything, dim=0)) == len(everything) == sum(SIZES.values()) - SIZES["pretrain"]


def test_the_best_single_the_uniform_and_the_greedy_soup_differ(kitchen, soups):
    best = max(kitchen.score_ingredients().values(), key=lambda score: score.correct)
    correct = {name: soup.scores["held_out"].correct for name, soup in soups.items()}
    assert len({best.correct, correct["uniform"], correct["mean"]}) == 3
    assert correct["mean"] > best.correct
    assert correct["0.1"] > best.correct


@pytest.mark.parametrize("name", ["mean", "0.1"])
def test_greedy_accepts_some_and_rejects_some(soups, name):
    _, *candidates = soups[name].trajectory
    accepted = [step.accepted for step in candidates]
    assert 2 <= sum(accepted) <= len(accepted) - 2


def test_the_last_fine_tuning_was_hurt_by_its_learning_rate(kitchen):
    scores = kitchen.score_ingredients()
    hurt = scores.pop(kitchen.names[-1])
    assert hurt.correct < min(score.correct for score in scores.values())


def test_the_ingredients_gained_on_the_base(kitchen):
    base = kitchen.score_mix((("base", 1.0),))
    assert max(score.correct for score in kitchen.score_ingredients().values()) > base.correct


def test_learning_rates_stand_in_the_table(kitchen):
    assert kitchen.score()["lr"].tolist() == [tuning.lr for tuning in TUNINGS]


def test_the_demo_is_the_same_every_time(demo, tmp_path):
    torch.manual_seed(123)
    before = torch.random.get_rng_state()
    again = demo_kitchen(tmp_path / "again")
    assert torch.equal(torch.random.get_rng_state(), before)
    files = sorted(path.name for path in demo.parent.iterdir() if path.is_file())
    assert sorted(path.name for path in again.parent.iterdir()) == files
    assert again.read_text() == demo.read_text()
    for name in files:
        if name.endswith(".safetensors"):
            first, second = (read(file.parent / name) for file in (demo, again))
            assert fingerprint(first.candidates[0]) == fingerprint(second.candidates[0]), name
            assert first.metadata == second.metadata


def test_a_demo_that_is_there_is_not_built_again(demo, monkeypatch):
    monkeypatch.setattr("soupviz.demo._build", lambda *_: pytest.fail("built again"))
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
