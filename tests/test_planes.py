"""The plane through three mixes: coordinates, projections, the grid, scores at its corners."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kitchens import small_kitchen

from soupviz import Kitchen, cook, export
from soupviz.analysis import planes
from soupviz.analysis.planes import Frame, PlaneError, Value, around, between, frame, locate, project, rows, scan
from soupviz.cli.run import main
from soupviz.recipes import parse
from soupviz.recipes.paths import in_plane
from soupviz.soups.soup import pool_of

RIGHT = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 4.0]])
"""A right triangle, A where the right angle is."""


def gram_of(vectors):
    return vectors @ vectors.T


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory) -> Kitchen:
    return Kitchen.load(small_kitchen(tmp_path_factory.mktemp("plane"), num_examples=120))


def whole(*names):
    return tuple(((name, 1.0),) for name in names)


# The frame


def test_a_right_triangle_keeps_its_sides():
    found = frame(gram_of(RIGHT))
    assert found == Frame(3.0, 0.0, 4.0)
    assert found.corners == ((0.0, 0.0), (3.0, 0.0), (0.0, 4.0))
    assert found.side == pytest.approx((3 + 4 + 5) / 3)


def test_the_origin_of_the_inner_products_does_not_matter():
    moved = frame(gram_of(RIGHT + np.array([7.0, -2.0])))
    assert (moved.width, moved.foot, moved.height) == pytest.approx((3.0, 0.0, 4.0))


@given(st.integers(0, 10**6))
def test_the_frame_keeps_every_distance_between_the_three(seed):
    vectors = np.random.default_rng(seed).normal(size=(3, 9))
    found = frame(gram_of(vectors)).corners
    for i, j in itertools.combinations(range(3), 2):
        assert math.dist(found[i], found[j]) == pytest.approx(np.linalg.norm(vectors[i] - vectors[j]))


@given(st.floats(-5, 5), st.floats(-5, 5))
def test_a_spot_and_its_place_say_the_same(beta, gamma):
    found = Frame(2.0, 0.5, 1.5)
    assert found.spot(*found.place((beta, gamma))) == pytest.approx((beta, gamma), abs=1e-9)


def test_the_middle_of_the_triangle_is_the_mean_of_its_corners():
    found = Frame(3.0, 1.0, 4.0)
    assert found.place((1 / 3, 1 / 3)) == pytest.approx(tuple(np.mean(found.corners, axis=0)))


def test_the_same_weights_twice_span_no_plane():
    with pytest.raises(PlaneError, match="the first two points are the same weights"):
        frame(gram_of(RIGHT[[0, 0, 2]]))


@pytest.mark.parametrize("third", [[1.5, 0.0], [0.0, 0.0], [9.0, 0.0]])
def test_three_points_on_one_line_span_no_plane(third):
    with pytest.raises(PlaneError, match="lie on one line"):
        frame(gram_of(np.array([[0.0, 0.0], [3.0, 0.0], third])))


# Projections


def test_a_point_above_the_plane_is_projected_straight_down():
    vectors = np.column_stack([np.vstack([RIGHT, [1.0, 2.0]]), [0, 0, 0, 5.0]])
    found = project(gram_of(vectors))[1][3]
    assert (found.x, found.y, found.distance) == pytest.approx((1.0, 2.0, 5.0))


@given(st.integers(0, 10**6))
def test_projections_are_those_of_least_squares(seed):
    vectors = np.random.default_rng(seed).normal(size=(6, 12))
    found, projections = project(gram_of(vectors))
    sides = np.stack([vectors[1] - vectors[0], vectors[2] - vectors[0]], axis=1)
    for vector, projection in zip(vectors, projections, strict=True):
        best, *_ = np.linalg.lstsq(sides, vector - vectors[0], rcond=None)
        assert found.spot(projection.x, projection.y) == pytest.approx(tuple(best), abs=1e-6)
        rest = np.linalg.norm(vector - vectors[0] - sides @ best)
        assert projection.distance == pytest.approx(rest, abs=1e-6)


def test_a_kitchen_is_placed_as_its_tensors_say(kitchen):
    mixes = [*whole("m_0", "m_1", "m_2"), *whole("m_3", "base"), (("m_0", 0.5), ("m_3", 0.5)), (("m_0", 2.0),)]
    found, projections = locate(kitchen, mixes)
    flat = [torch.cat([t.flatten() for _, t in kitchen.scores.mixed(mix)]).double().numpy() for mix in mixes]
    reference, expected = project(gram_of(np.stack(flat) - flat[0]))
    assert (found.width, found.foot, found.height) == pytest.approx(
        (reference.width, reference.foot, reference.height), rel=1e-5
    )
    for one, other in zip(projections, expected, strict=True):
        assert (one.x, one.y, one.distance) == pytest.approx((other.x, other.y, other.distance), rel=1e-4, abs=1e-5)


def test_places_are_kept_and_need_no_second_look(kitchen, monkeypatch):
    mixes = [*whole("m_0", "m_1", "base"), *whole("m_2")]
    first = locate(kitchen, mixes)
    monkeypatch.setattr(planes, "_gram", lambda *_: pytest.fail("computed again"))
    assert locate(kitchen, mixes) == first


# The grid


def test_a_grid_goes_a_sixth_beyond_the_triangle():
    found = Frame(6.0, 0.0, 3.0)
    grid = [[found.place(spot) for spot in row] for row in rows(found, 5)]
    assert grid[0][0] == pytest.approx((-1.0, -0.5), abs=1e-5)
    assert grid[-1][-1] == pytest.approx((7.0, 3.5), abs=1e-5)


@pytest.mark.parametrize("foot", [0.0, 0.7, 2.0, 3.5, -1.0])
def test_a_grid_is_rectangular_and_holds_the_triangle(foot):
    found = Frame(2.0, foot, 1.0)
    grid = [[found.place(spot) for spot in row] for row in rows(found, 9)]
    for row in grid:
        assert [x for x, _ in row] == pytest.approx([x for x, _ in grid[0]], abs=1e-5)
        assert [y for _, y in row] == pytest.approx([row[0][1]] * 9, abs=1e-5)
    for x, y in found.corners:
        assert grid[0][0][0] < x < grid[0][-1][0]
        assert grid[0][0][1] < y < grid[-1][0][1]


def test_from_nine_points_on_a_and_b_are_on_the_grid():
    grid = set(itertools.chain(*rows(Frame(2.0, 0.7, 1.0), 9)))
    assert {(0.0, 0.0), (1.0, 0.0)} <= grid


@pytest.mark.parametrize(("fineness", "count"), [(5, 25 + 3), (9, 81 + 1), (17, 289 + 1)])
def test_each_level_adds_only_what_the_coarser_ones_lack(fineness, count):
    found = Frame(2.0, 0.7, 1.0)
    spots = list(itertools.chain(*around(found, fineness)))
    assert len(spots) == len(set(spots)) == count
    assert set(itertools.chain(*rows(found, fineness))) <= set(spots)
    assert spots[:3] == [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]


def test_a_level_begins_in_the_middle_of_the_triangle():
    found = Frame(2.0, 0.7, 1.0)
    level = around(found, 9)[2]
    far = [math.dist(found.place(spot), found.place((1 / 3, 1 / 3))) for spot in level]
    assert far == sorted(far)


def test_another_fineness_is_refused():
    with pytest.raises(PlaneError, match="fineness is 6; expected one of 5, 9, 17, 33"):
        around(Frame(1.0, 0.0, 1.0), 6)


# Between spots


def test_a_linear_surface_is_interpolated_exactly():
    found = Frame(2.0, 0.5, 1.0)
    known = {spot: 1.0 + 2 * spot[0] - 3 * spot[1] for spot in itertools.chain(*rows(found, 5))}
    asked = list(itertools.chain(*rows(found, 17)))
    for (beta, gamma), number in zip(asked, between(found, known, asked), strict=True):
        assert number == pytest.approx(1.0 + 2 * beta - 3 * gamma, abs=1e-3)


def test_what_is_known_is_not_interpolated_and_nothing_is_said_outside():
    found = Frame(1.0, 0.0, 1.0)
    known = {(0.0, 0.0): 5.0, (1.0, 0.0): 6.0, (0.0, 1.0): 8.0}
    assert between(found, known, [(1.0, 0.0), (2.0, 2.0)]) == [6.0, None]
    assert between(found, known, [(1 / 3, 1 / 3)]) == [pytest.approx(19 / 3)]


@pytest.mark.parametrize("known", [{}, {(0.0, 0.0): 1.0}, {(0.0, 0.0): 1.0, (0.5, 0.0): 2.0, (1.0, 0.0): 3.0}])
def test_too_little_is_known_to_interpolate(known):
    found = between(Frame(1.0, 0.0, 1.0), known, [(0.2, 0.3), *known])
    assert found == [None, *known.values()]


# Scores


def test_the_corners_have_the_scores_of_what_stands_there(kitchen, evaluations):
    corners = whole("m_0", "m_1", "base")
    alone = [kitchen.scores.score(mix) for mix in corners]
    before = len(evaluations)
    told = []
    found = scan(kitchen, corners, planes.CORNERS, on_value=told.append)
    assert found == told == [Value.of(kitchen, spot, score) for spot, score in zip(planes.CORNERS, alone, strict=True)]
    assert len(evaluations) == before


def test_a_scan_evaluates_each_spot_once_and_nothing_again(kitchen, evaluations):
    corners = whole("m_0", "m_1", "m_2")
    spots = [(0.25, 0.25), (0.5, 0.25), (-0.25, 0.5)]
    before = len(evaluations)
    first = scan(kitchen, corners, spots)
    assert len(evaluations) == before + 3
    assert scan(kitchen, corners, spots) == first
    assert len(evaluations) == before + 3
    assert first[0].counts["correct"] == kitchen.scores.score((("m_0", 0.5), ("m_1", 0.25), ("m_2", 0.25))).correct


# The recipe


def test_coefficients_of_a_spot_by_hand():
    corners = (("a", 0.5), ("b", 0.5)), (("b", 1.0),), (("c", 1.0),)
    assert in_plane(corners, 0.25, 0.25) == (("a", 0.25), ("b", 0.5), ("c", 0.25))


def test_each_corner_is_given_as_it_is():
    corners = (("b", 0.3), ("a", 0.7)), (("a", 1.0),), (("c", 1.0),)
    assert [in_plane(corners, *spot) for spot in planes.CORNERS] == list(corners)


@given(st.floats(-2, 2), st.floats(-2, 2))
def test_every_spot_is_an_affine_mix(beta, gamma):
    corners = (("a", 0.5), ("b", 0.5)), (("b", 1.0),), (("c", 1.0),)
    assert sum(weight for _, weight in in_plane(corners, beta, gamma)) == pytest.approx(1.0)


ENDS = {"a": "m_0", "b": "m_1", "c": "base", "mix_a": [["m_0", 1]], "mix_b": [["m_1", 1]], "mix_c": [["base", 1]]}


def test_a_point_is_a_recipe_with_a_readable_title(kitchen):
    recipe = parse({"method": "point", "beta": 0.75, "gamma": -0.25} | ENDS)
    assert recipe.title == "0.5 m_0 + 0.75 m_1 - 0.25 base"
    assert parse(recipe.model_dump(mode="json")) == recipe
    assert pool_of(kitchen, recipe) == ["m_0", "m_1", "base"]


def test_a_kept_point_is_baked_again_bit_for_bit(kitchen, tmp_path):
    soup = cook(kitchen, {"method": "point", "beta": 0.25, "gamma": 0.5} | ENDS)
    assert soup.coefficients == {"m_0": 0.25, "m_1": 0.25, "base": 0.5}
    file = export(soup, tmp_path / "point.safetensors")[0]
    with pytest.raises(SystemExit) as left:
        main(["bake", str(file), "--out", str(tmp_path / "again.safetensors"), "--kitchen", str(kitchen.file)])
    assert left.value.code == 0
    again = Kitchen.load(kitchen.file).weights.resolve(str(tmp_path / "again.safetensors"))
    assert all(torch.equal(tensor, again.tensors[key]) for key, tensor in soup.state_dict().items())
