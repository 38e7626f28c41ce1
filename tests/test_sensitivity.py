"""What one layer group does alone: against swaps by hand, at the price of one evaluation for each that differs."""

import math
from typing import Any

import pytest
import torch
from kitchens import BATCHNORM, MLP, build_model, perturbed, small_kitchen
from scipy.stats import binomtest
from torch import Tensor, nn

import soupviz as sv
from soupviz.analysis.sensitivity import (
    Effect,
    Group,
    Probe,
    changes,
    distances,
    groups,
    half,
    sensitivity,
    wanted,
)
from soupviz.errors import Cancelled
from soupviz.mixing.averaging import combine
from soupviz.models.layers import keys_of
from soupviz.pictures import layers
from soupviz.soups.blending import groups_of
from soupviz.soups.planning import cost
from soupviz.spec import HELD_OUT
from soupviz.tasks.classes.class_metrics import ACCURACY, LOSS

A, B, BASE = (("m_0", 1.0),), (("m_1", 1.0),), (("base", 1.0),)
KINDS = {"mlp": {}, "batchnorm": {"source": BATCHNORM, "shape": (3, 8, 8), "train": 32}}


@pytest.fixture(scope="module", params=list(KINDS))
def kitchen(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> sv.Kitchen:
    """Two ingredients so far apart that a swapped layer breaks and mends a few examples."""
    folder = tmp_path_factory.mktemp(request.param) / "s"
    return sv.Kitchen.load(
        small_kitchen(folder, num_ingredients=3, num_examples=120, scale=0.3, **KINDS[request.param])
    )


def frozen(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The first layer as in the initialisation."""
    first = build_model(MLP).state_dict()
    return tensors | {key: first[key] for key in tensors if key.startswith("0.")}


@pytest.fixture
def half_frozen(tmp_path: Any) -> sv.Kitchen:
    return sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=3, num_examples=60, scale=0.3, change=frozen))


def by_hand(kitchen: sv.Kitchen, tensors: dict[str, Tensor]) -> tuple[Tensor, float]:
    """(whether each held-out example is right, mean loss) of a state dict, by plain torch."""
    source = (kitchen.folder / "model.py").read_text(encoding="utf-8")
    model = build_model(source)
    model.load_state_dict(tensors)
    split = kitchen.splits.load(HELD_OUT)
    with torch.no_grad():
        logits = model(split.take(torch.arange(len(split)), torch.device("cpu"))[""])
    return logits.argmax(1) == split.labels, float(nn.functional.cross_entropy(logits, split.labels))


def is_nothing(effect: Effect) -> bool:
    change = effect.change
    return (change.difference, change.better, change.worse, change.p_value, effect.changes["loss"]) == (0, 0, 0, 1, 0)


def test_a_swap_is_what_a_swapped_state_dict_does_in_plain_torch(kitchen):
    a, b = (kitchen.weights.resolve(name).tensors for name in ("m_0", "m_1"))
    whole, whole_loss = by_hand(kitchen, dict(a))
    for effect in sensitivity(kitchen, Probe(A, B)):
        keys = keys_of(groups_of(kitchen))[effect.group.name]
        right, loss = by_hand(kitchen, {key: (b if key in keys else a)[key] for key in a})
        fixed, broken = int((right & ~whole).sum()), int((~right & whole).sum())
        assert (effect.change.better, effect.change.worse) == (fixed, broken)
        assert effect.value == pytest.approx(right.float().mean().item())
        assert effect.change.difference == pytest.approx((fixed - broken) / len(right))
        assert effect.changes["loss"] == pytest.approx(loss - whole_loss, abs=1e-5)
        assert effect.change.p_value == pytest.approx(
            binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1.0
        )


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.5])
def test_scaling_an_update_is_what_it_is_in_plain_torch(kitchen, factor):
    a, base = (kitchen.weights.resolve(name).tensors for name in ("m_0", "base"))
    for effect in sensitivity(kitchen, Probe(A, BASE, alpha=1 - factor)):
        keys = keys_of(groups_of(kitchen))[effect.group.name]
        scaled = {
            key: base[key] + factor * (a[key] - base[key]) if key in keys and a[key].is_floating_point() else a[key]
            for key in a
        }
        right, loss = by_hand(kitchen, scaled | {k: v.clamp(min=0) for k, v in scaled.items() if "running_var" in k})
        assert effect.value == pytest.approx(right.float().mean().item(), abs=1.5 / len(right))
        whole = kitchen.scores.score(A)
        assert effect.changes["loss"] == pytest.approx(loss - whole.loss, abs=1e-4)


def test_all_groups_taken_are_b(kitchen):
    probe = Probe(A, B)
    assert probe.moved(kitchen, dict.fromkeys(keys_of(groups_of(kitchen)), 1.0)) == B
    assert probe.moved(kitchen, dict.fromkeys(keys_of(groups_of(kitchen)), 0.0)) == A


def test_the_base_scaled_by_one_changes_nothing(kitchen):
    effects = sensitivity(kitchen, Probe(A, BASE, alpha=0.0))
    assert all(is_nothing(effect) for effect in effects)


def test_it_takes_one_evaluation_for_each_group_that_differs(tmp_path, evaluations):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=2, num_examples=40))
    kitchen.scores.score(A)
    probe = Probe(A, B)
    told = cost(kitchen, wanted(kitchen, probe, groups(kitchen, A, B)))
    assert (told.evaluations, told.known) == (2, 1)
    evaluations.clear()
    effects = sensitivity(kitchen, probe)
    assert len(evaluations) == told.evaluations == len(effects)
    assert cost(kitchen, wanted(kitchen, probe, groups(kitchen, A, B))).evaluations == 0
    assert sensitivity(sv.Kitchen.load(kitchen.file), probe) == effects
    assert len(evaluations) == 2


def test_identical_groups_cost_nothing_and_change_nothing(half_frozen, evaluations):
    found = groups(half_frozen, A, B)
    assert found == [Group("0", 16 * 6 + 16, False), Group("2", 3 * 16 + 3, True)]
    half_frozen.scores.score(A)
    evaluations.clear()
    effects = sensitivity(half_frozen, Probe(A, B))
    assert len(evaluations) == 1
    assert is_nothing(effects[0])
    assert effects[0].distance == 0.0


def test_a_frozen_group_is_seen_in_soups_and_formulas_too(half_frozen):
    soup = sv.uniform(half_frozen)
    ties = sv.cook(half_frozen, {"method": "ties"})
    for mixture in (soup.mix, ties.mix):
        assert [group.differs for group in groups(half_frozen, A, mixture)] == [False, True]


def test_a_model_differs_from_itself_in_nothing(kitchen, evaluations):
    assert not any(group.differs for group in groups(kitchen, A, A))
    kitchen.scores.score(A)
    evaluations.clear()
    sensitivity(kitchen, Probe(A, A))
    assert evaluations == []


def test_a_counter_alone_is_no_difference(tmp_path):
    def same(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        state = perturbed(build_model(BATCHNORM).state_dict(), 0.1, seed=1)
        return state | {key: value for key, value in tensors.items() if key.endswith("num_batches_tracked")}

    file = small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 8, 8), num_ingredients=2, num_examples=20, change=same)
    assert not any(group.differs for group in groups(sv.Kitchen.load(file), A, B))


def test_statistics_alone_are_a_difference(tmp_path):
    def same(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        state = perturbed(build_model(BATCHNORM).state_dict(), 0.1, seed=1)
        return state | {key: value for key, value in tensors.items() if key.endswith("running_mean")}

    file = small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 8, 8), num_ingredients=2, num_examples=20, change=same)
    kitchen = sv.Kitchen.load(file)
    assert [group.name for group in groups(kitchen, A, B) if group.differs] == ["1"]
    assert distances(kitchen, A, B)["1"] == 0.0


def test_distances_are_relative_to_a(kitchen):
    a, b = (kitchen.weights.resolve(name).tensors for name in ("m_0", "m_1"))
    for name, found in distances(kitchen, A, B).items():
        keys = [k for k in keys_of(groups_of(kitchen))[name] if a[k].is_floating_point() and "running" not in k]
        apart = math.sqrt(sum(float((b[key] - a[key]).double().square().sum()) for key in keys))
        size = math.sqrt(sum(float(a[key].double().square().sum()) for key in keys))
        assert found == pytest.approx(apart / size, rel=1e-6)


def test_weights_that_are_all_zero_have_no_size(tmp_path):
    def zeroed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return tensors | {key: torch.zeros_like(value) for key, value in tensors.items() if key.startswith("2.")}

    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=2, num_examples=20, change=zeroed))
    assert distances(kitchen, A, B)["2"] is None


def test_effects_are_told_one_by_one_and_a_cancelled_probe_goes_on(tmp_path, evaluations):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, num_ingredients=2, num_examples=40))
    told = []

    def stop(_done: int, _total: int, _what: str) -> None:
        if told:
            raise Cancelled

    with pytest.raises(Cancelled):
        sensitivity(kitchen, Probe(A, B), on_effect=told.append, progress=stop)
    assert [effect.group.name for effect in told] == ["0"]
    done = len(evaluations)
    assert [effect.group.name for effect in sensitivity(kitchen, Probe(A, B))] == ["0", "2"]
    assert len(evaluations) <= done + 1


def test_progress_never_goes_back(kitchen):
    shares: list[float] = []
    probe = Probe(B, A)
    sensitivity(kitchen, probe, progress=lambda done, total, _what: shares.append(done / total))
    assert shares == sorted(shares)
    assert max(shares) <= 1


def test_every_aggregation_of_statistics_can_be_asked_for(tmp_path):
    file = small_kitchen(tmp_path, num_ingredients=2, num_examples=40, scale=0.3, **KINDS["batchnorm"])
    kitchen = sv.Kitchen.load(file)
    names = list(keys_of(groups_of(kitchen)))
    for aggregation in ("average", "first", "recalibrate"):
        effects = sensitivity(kitchen, Probe(A, B, aggregation=aggregation))
        assert [effect.group.name for effect in effects] == names


def test_the_key_is_of_the_content(kitchen):
    probe = Probe(A, B)
    assert probe.key(kitchen) == Probe(A, B).key(sv.Kitchen.load(kitchen.file))
    others = [Probe(B, A), Probe(A, B, 0.5), Probe(A, B, by="part"), Probe(A, B, aggregation="first")]
    assert len({probe.key(kitchen), *(other.key(kitchen) for other in others)}) == 5


def test_a_comparison_with_oneself_is_nothing(kitchen):
    score = kitchen.scores.score(A)
    assert set(changes(kitchen.task, score, score).values()) <= {0.0, None}
    assert half(Probe(A, B)) == combine(A, B, 0.5)


@pytest.fixture
def table(kitchen: sv.Kitchen) -> Any:
    return layers.rows(sensitivity(kitchen, Probe(A, B)), kitchen.task, kitchen.objective)


def test_the_picture_has_a_bar_for_each_group_whose_interval_holds_it(table):
    assert (table["low"] <= table["accuracy"]).all()
    assert (table["accuracy"] <= table["high"]).all()
    names = table["group"].tolist()
    data, spec = layers.bars(table, ACCURACY, names, chosen=[names[0]], has_interval=True)
    assert data["chosen"].tolist() == [True] + [False] * (len(names) - 1)
    assert data["change"].tolist() == table["accuracy"].tolist()
    assert spec["encoding"]["y"]["scale"]["domain"] == names
    assert layers.bars(table.head(1), ACCURACY, names)[1] == layers.bars(table, ACCURACY, names)[1]


def test_what_helps_most_is_on_top_and_the_unknown_below(table):
    names = table["group"].tolist()
    by_accuracy = layers.ordered(table, ACCURACY, names)
    points = dict(zip(names, table["accuracy"], strict=True))
    assert [points[name] for name in by_accuracy] == sorted(points.values(), reverse=True)
    by_loss = layers.ordered(table, LOSS, names)
    losses = dict(zip(names, table["loss"], strict=True))
    assert [losses[name] for name in by_loss] == sorted(losses.values())
    assert layers.ordered(table.head(1), LOSS, names) == names


def test_a_lower_loss_is_better(table):
    data, _ = layers.bars(table, LOSS, table["group"].tolist())
    assert [effect == "better" for effect in data["effect"]] == (table["loss"] <= 0).tolist()


def test_many_groups_have_narrow_rows(table):
    few, many = (layers.bars(table, LOSS, [f"stage.{n}" for n in range(count)])[1] for count in (5, 60))
    assert few["height"]["step"] > many["height"]["step"] > many["encoding"]["y"]["axis"]["labelFontSize"]


def test_the_profile_shows_weights_beyond_the_ends():
    _, spec = layers.profile({"a": -0.5, "b": 1.0})
    assert spec["encoding"]["y"]["scale"]["domain"] == [-0.5, 1.0]
