from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kitchens import BATCHNORM, save, small_kitchen

from soupviz import Kitchen, export, interpolate, uniform
from soupviz.errors import CompatibilityError, CurveError, KitchenError
from soupviz.recipes import parse
from soupviz.soups.cooking import cook
from soupviz.soups.curves import barrier, coarse_to_fine, end_mix, grid, trace


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Kitchen:
    return Kitchen.load(small_kitchen(tmp_path_factory.mktemp("curves")))


# The grid


def test_a_grid_holds_both_ends_and_round_numbers():
    assert grid(5) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert grid(11) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    assert grid(4, -0.5, 1.0) == [-0.5, 0.0, 0.5, 1.0]
    assert grid(2, 1.0, 0.0) == [1.0, 0.0]


@pytest.mark.parametrize("points", [1, 0, -3])
def test_a_curve_needs_two_points(points):
    with pytest.raises(CurveError, match=f"points is {points}; a curve needs at least 2"):
        grid(points)


@pytest.mark.parametrize("ends", [(0.5, 0.5), (0.0, float("nan")), (float("-inf"), 1.0)])
def test_a_curve_runs_between_two_different_finite_numbers(ends):
    with pytest.raises(CurveError, match="expected two different finite numbers"):
        grid(3, *ends)


@given(st.integers(2, 200))
def test_coarse_to_fine_is_a_permutation_that_begins_with_the_ends(points):
    alphas = grid(points)
    order = coarse_to_fine(alphas)
    assert sorted(order) == alphas
    assert order[:2] == [0.0, 1.0]


def test_coarse_to_fine_halves_the_widest_gap():
    assert coarse_to_fine([0, 1, 2, 3, 4, 5, 6, 7, 8]) == [0, 8, 4, 2, 6, 1, 3, 5, 7]
    assert coarse_to_fine([0.5]) == [0.5]


@given(st.integers(3, 100), st.data())
def test_coarse_to_fine_never_leaves_a_gap_that_is_more_than_twice_another(points, data):
    order = coarse_to_fine(list(range(points)))
    shown = sorted(order[: data.draw(st.integers(2, points))])
    gaps = [right - left for left, right in pairwise(shown)]
    assert max(gaps) <= 2 * min(gaps) + 2


# The barrier


def test_a_barrier_is_the_height_above_the_chord():
    """Chord from 1.0 to 2.0: at 0.25 it is 1.25, at 0.5 1.5, at 0.75 1.75."""
    assert barrier([0.0, 0.25, 0.5, 0.75, 1.0], [1.0, 1.5, 2.5, 1.8, 2.0]) == pytest.approx(1.0)


def test_a_curve_that_never_rises_above_its_chord_has_no_barrier():
    assert barrier([0.0, 0.5, 1.0], [1.0, 0.2, 2.0]) == 0.0
    assert barrier([0.0, 0.5, 1.0], [1.0, 1.5, 2.0]) == 0.0


@given(st.lists(st.floats(0, 10), min_size=3, max_size=9), st.floats(-5, 5), st.floats(-5, 5))
def test_a_barrier_does_not_change_when_a_straight_line_is_added(losses, offset, slope):
    alphas = grid(len(losses))
    tilted = [loss + offset + slope * alpha for alpha, loss in zip(alphas, losses, strict=True)]
    assert barrier(alphas, tilted) == pytest.approx(barrier(alphas, losses), abs=1e-9)


@pytest.mark.parametrize("alphas", [[0.0, 1.0], [0.1, 0.5, 1.0], [0.0, 0.5, 0.9], [-0.5, 0.0, 0.5, 1.0]])
def test_a_barrier_needs_a_curve_from_0_to_1(alphas):
    with pytest.raises(CurveError, match="the barrier needs at least 3 points from alpha 0 to 1"):
        barrier(alphas, [0.0] * len(alphas))


# Curves of a kitchen


def test_a_curve_is_a_table_by_alpha(kitchen):
    curve = interpolate(kitchen, "m_0", "m_1", points=5)
    assert list(curve.columns) == ["alpha", "value", "accuracy", "loss", "correct", "num_examples"]
    assert curve["value"].tolist() == curve["accuracy"].tolist()
    assert curve["alpha"].tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert curve["accuracy"].tolist() == (curve["correct"] / 200).tolist()


@pytest.mark.parametrize("split", ["held_out", "test"])
def test_the_ends_of_a_curve_are_the_ingredients_own_scores(kitchen, split):
    curve = interpolate(kitchen, "m_0", "m_2", points=3, split=split)
    scores = kitchen.scores.of_ingredients(split)
    for row, name in ((0, "m_0"), (2, "m_2")):
        assert curve["correct"][row] == scores[name].correct
        assert curve["loss"][row] == scores[name].loss


def test_a_curve_backwards_is_the_curve_reversed(kitchen):
    forth = interpolate(kitchen, "m_0", "m_2", points=5)
    back = interpolate(kitchen, "m_2", "m_0", points=5)
    assert back["correct"].tolist() == forth["correct"].tolist()[::-1]
    assert back["loss"].tolist() == pytest.approx(forth["loss"].tolist()[::-1], rel=1e-5)


def test_a_curve_goes_on_beyond_its_ends(kitchen):
    curve = interpolate(kitchen, "base", "m_1", points=4, start=-0.5, stop=1.0)
    assert curve["alpha"].tolist() == [-0.5, 0.0, 0.5, 1.0]
    beyond = kitchen.scores.score((("base", 1.5), ("m_1", -0.5)))
    assert curve["correct"][0] == beyond.correct
    assert curve["correct"][1] == kitchen.scores.score((("base", 1.0),)).correct


def test_a_soup_is_an_end_as_its_own_mix_and_as_its_exported_file(kitchen, tmp_path):
    soup = uniform(kitchen, members=["m_0", "m_1"])
    assert end_mix(soup) == (("m_0", 0.5), ("m_1", 0.5))
    [file, *_] = export(soup, tmp_path / "soup.safetensors")
    for end in (soup, str(file)):
        curve = interpolate(kitchen, end, "m_2", points=3)
        assert curve["correct"][0] == soup.scores["held_out"].correct
        assert curve["loss"][0] == pytest.approx(soup.scores["held_out"].loss, rel=1e-6)


def test_points_come_coarse_to_fine_each_as_soon_as_it_is_known(kitchen):
    told = []
    alphas = coarse_to_fine(grid(5))
    found = trace(kitchen, "m_0", "m_3", alphas, on_point=lambda point: told.append(point.alpha))
    assert told == [0.0, 1.0, 0.5, 0.25, 0.75] == [point.alpha for point in found]


def test_progress_of_a_curve_never_goes_back(kitchen):
    told = []
    interpolate(kitchen, "m_1", "m_3", points=4, progress=lambda done, total, what: told.append((done / total, what)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_batchnorm_first_keeps_the_statistics_of_the_first_end(tmp_path):
    kitchen = Kitchen.load(small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 8, 8), num_examples=60))
    recipe = {"method": "interpolation", "a": "m_0", "b": "m_1", "alpha": 0.5}
    ends = {"mix_a": (("m_0", 1.0),), "mix_b": (("m_1", 1.0),)}
    soup = cook(kitchen, parse(recipe | ends | {"batchnorm": "first"}))
    assert torch.equal(soup.state_dict()["1.running_mean"], kitchen.weights.resolve("m_0").tensors["1.running_mean"])
    curve = interpolate(kitchen, "m_0", "m_1", points=3, batchnorm="first")
    assert curve["loss"][1] == soup.scores["held_out"].loss
    assert curve["loss"][1] != interpolate(kitchen, "m_0", "m_1", points=3)["loss"][1]


def test_a_soup_as_an_end_keeps_the_aggregation_of_statistics_it_was_cooked_with(tmp_path):
    kitchen = Kitchen.load(small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 8, 8), num_examples=60))
    first = uniform(kitchen, members=["m_0", "m_1"], batchnorm="first")
    curve = interpolate(kitchen, "m_2", first, points=2)
    assert curve["loss"][1] == first.scores["held_out"].loss
    average = uniform(kitchen, members=["m_2", "m_3"])
    with pytest.raises(CurveError, match="'average of 2' with 'average'; a path has one of these"):
        interpolate(kitchen, first, average, points=2)
    assert (
        interpolate(kitchen, first, average, points=2, batchnorm="average")["loss"][1]
        == average.scores["held_out"].loss
    )


def test_a_float32_export_of_a_bfloat16_soup_is_an_end_without_loss(tmp_path):
    def bfloat16(tensors):
        return {key: tensor.to(torch.bfloat16) for key, tensor in tensors.items()}

    kitchen = Kitchen.load(small_kitchen(tmp_path, change=bfloat16))
    soup = uniform(kitchen)
    export(soup, tmp_path / "wide.safetensors", dtype="float32")
    curve = interpolate(kitchen, str(tmp_path / "wide.safetensors"), "m_0", points=2)
    assert curve["loss"][0] == soup.scores["held_out"].loss
    tensors = {key: tensor.to(torch.float32) + 1e-6 for key, tensor in soup.state_dict().items()}
    save(tensors, tmp_path / "other.safetensors")
    with pytest.raises(CompatibilityError, match=r"of type torch\.float32; 'm_0' .* has torch\.bfloat16"):
        kitchen.weights.resolve(str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("m_0", "m_9", "no ingredient 'm_9' in this kitchen; did you mean"),
        ("nothing", "m_0", "no ingredient 'nothing'"),
    ],
)
def test_an_unknown_end_is_refused(kitchen, a, b, message):
    with pytest.raises(KitchenError, match=message):
        interpolate(kitchen, a, b)


def test_an_unknown_split_is_refused(kitchen):
    with pytest.raises(KitchenError, match="no split 'validation'; this kitchen has held_out, test"):
        interpolate(kitchen, "m_0", "m_1", split="validation")
