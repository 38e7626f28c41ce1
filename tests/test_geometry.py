"""Inner products, distances and angles of weights, against NumPy and SciPy; the map and the tree."""

from pathlib import Path

import numpy as np
import pytest
import torch
from kitchens import BATCHNORM, TIED, small_kitchen
from scipy.spatial.distance import cdist, pdist, squareform
from torch import Tensor

import soupviz as sv
from soupviz.analysis.geometry import (
    GeometryError,
    bytes_to_read,
    cluster,
    cosines_of,
    distances_of,
    flat_map,
    gram,
    inner_products,
    weight_keys,
)
from soupviz.errors import Cancelled
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mix


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Kitchen:
    return sv.Kitchen.load(small_kitchen(tmp_path_factory.mktemp("geometry")))


def nets(count: int, seed: int = 0) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "a.weight": torch.randn(5, 3, generator=generator),
            "a.running_mean": torch.randn(5, generator=generator),
            "a.num_batches_tracked": torch.tensor(index),
            "b.bias": torch.randn(4, generator=generator),
        }
        for index in range(count)
    ]


def flattened(tensors: dict[str, Tensor]) -> np.ndarray:
    return np.concatenate([tensors[key].double().numpy().ravel() for key in ("a.weight", "b.bias")])


def test_a_case_by_hand():
    items = [{"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 2.0])}]
    found = inner_products(items, {"w": torch.tensor([0.0, 0.0])})
    assert found.tolist() == [[1.0, 0.0], [0.0, 4.0]]
    assert distances_of(found).tolist() == [[0.0, 5**0.5], [5**0.5, 0.0]]
    assert cosines_of(found).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_weights_are_neither_running_statistics_nor_counters_nor_tied_twice():
    assert weight_keys(nets(1)[0]) == ["a.weight", "b.bias"]
    assert weight_keys(nets(1)[0], {"b.bias": "a.weight"}) == ["a.weight"]


@pytest.mark.parametrize("has_reference", [True, False])
def test_it_agrees_with_numpy_and_scipy(has_reference):
    *items, reference = nets(6)
    rows = np.stack([flattened(item) for item in items])
    start = flattened(reference) if has_reference else rows.mean(0)
    found = inner_products(items, reference if has_reference else None)
    assert found == pytest.approx((rows - start) @ (rows - start).T)
    assert distances_of(found) == pytest.approx(squareform(pdist(rows)))
    assert 1 - cosines_of(found) == pytest.approx(cdist(rows - start, rows - start, "cosine"), abs=1e-12)


def test_another_order_of_the_items_orders_the_result():
    items = nets(5)
    order = [3, 0, 4, 1, 2]
    again = inner_products([items[place] for place in order], items[0])
    assert again == pytest.approx(inner_products(items, items[0])[np.ix_(order, order)], abs=1e-12)


def test_tensors_larger_than_a_piece_are_read_whole(monkeypatch):
    items, reference = nets(3), nets(1, seed=9)[0]
    whole = inner_products(items, reference)
    monkeypatch.setattr("soupviz.analysis.geometry.PIECE", 4)
    assert inner_products(items, reference) == pytest.approx(whole)


def test_the_items_are_not_changed_and_half_precision_is_summed_in_float64():
    items = [{"w": torch.full((4096,), 0.1, dtype=torch.bfloat16)}, {"w": torch.zeros(4096, dtype=torch.bfloat16)}]
    before = items[0]["w"].clone()
    found = inner_products(items, items[1])
    assert torch.equal(items[0]["w"], before)
    assert found[0, 0] == pytest.approx(4096 * float(before[0]) ** 2, rel=1e-12)


def test_a_zero_update_has_no_angle_to_others():
    items = nets(2)
    assert cosines_of(inner_products(items, items[0])).tolist() == [[1.0, 0.0], [0.0, 1.0]]


def test_the_geometry_of_a_kitchen_is_that_of_its_files_and_is_kept(kitchen: Kitchen):
    found = gram(kitchen)
    base = kitchen.base
    assert base is not None and found.reference_name == "base" and found.names == tuple(kitchen.names)
    updates = np.stack(
        [
            np.concatenate(
                [(item.tensors[key].double() - base.tensors[key].double()).numpy().ravel() for key in base.tensors]
            )
            for item in kitchen.ingredients
        ]
    )
    assert found.gram == pytest.approx(updates @ updates.T)
    assert found.norms == pytest.approx(np.linalg.norm(updates, axis=1))
    assert found.distances == pytest.approx(squareform(pdist(updates)))
    assert cosines_of(found.matrices)[:-1, -1].min() > 0.5
    told: list[str] = []
    again = gram(kitchen, progress=lambda done, total, what: told.append(what))
    assert told == [] and again.gram.tolist() == found.gram.tolist()


def test_mixes_have_their_place_without_being_mixed(kitchen: Kitchen):
    names = kitchen.names
    mixes = [
        ((names[0], 1.0),),
        ((names[1], 0.25), (names[2], 0.75)),
        ((names[3], 1.5), ("base", -0.5)),
        (("base", 1.0),),
    ]
    base = kitchen.weights.resolve("base").tensors
    real = inner_products([mix(kitchen.scores.resolved(mixture)) for mixture in mixes], base)
    assert gram(kitchen).of_mixes(mixes) == pytest.approx(real, abs=1e-5)


def test_it_takes_whatever_the_kitchen_resolves_and_any_reference(kitchen: Kitchen):
    found = gram(kitchen, ["base", kitchen.names[1]], reference=kitchen.names[0])
    expected = inner_products(
        [kitchen.weights.resolve("base").tensors, kitchen.ingredients[1].tensors], kitchen.ingredients[0].tensors
    )
    assert found.reference_name == kitchen.names[0] and found.gram == pytest.approx(expected)


@pytest.mark.parametrize(
    ("mixture", "words"),
    [((("nobody", 1.0),), "no 'nobody'"), ((("m_0", 0.5),), "sum to 0.5; only mixes whose sum is 1")],
)
def test_what_has_no_place_is_refused(kitchen: Kitchen, mixture, words):
    with pytest.raises(GeometryError, match=words):
        gram(kitchen).of_mixes([mixture])


def test_without_a_base_the_reference_is_the_mean(tmp_path: Path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, base=None))
    found = gram(kitchen)
    assert found.reference_name == "mean"
    assert found.gram.sum() == pytest.approx(0.0, abs=1e-9)
    assert found.of_mixes([tuple((name, 0.25) for name in kitchen.names)])[0, 0] == pytest.approx(0.0, abs=1e-9)


def test_tied_weights_count_once(tmp_path: Path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path, source=TIED, num_ingredients=2))
    item, base = kitchen.ingredients[0].tensors, kitchen.weights.resolve("base").tensors
    once = sum(
        float((item[key] - base[key]).double().square().sum()) for key in item if key not in kitchen.architecture.ties
    )
    assert kitchen.architecture.ties and gram(kitchen).norms[0] ** 2 == pytest.approx(once)


def test_reading_it_takes_the_bytes_of_the_weights(tmp_path: Path):
    kitchen = sv.Kitchen.load(
        small_kitchen(tmp_path, source=BATCHNORM, shape=(3, 4, 4), num_ingredients=2, num_examples=8)
    )
    weights = 8 * 3 * 9 + 8 + 8 + 8 + 32 * 3 + 3
    assert bytes_to_read(kitchen) == 3 * 4 * weights


def test_it_can_be_cancelled_and_asked_for_again(tmp_path: Path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path))

    def stop(done: int, total: int, what: str) -> None:
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        gram(kitchen, progress=stop)
    assert gram(kitchen).norms.min() > 0


def test_a_map_of_points_in_the_plane_is_exact_and_the_same_each_time():
    points = np.random.default_rng(0).normal(size=(7, 2))
    distances = squareform(pdist(points))
    found = flat_map(distances)
    assert squareform(pdist(found.places)) == pytest.approx(distances)
    assert found.share == pytest.approx(1.0)
    assert found.places.mean(0) == pytest.approx([0, 0], abs=1e-12)
    assert flat_map(distances).places.tolist() == found.places.tolist()
    turned = flat_map(squareform(pdist(points @ np.array([[0.0, 1.0], [-1.0, 0.0]]))))
    assert turned.places == pytest.approx(found.places)


def test_a_map_tells_what_it_does_not_show():
    assert flat_map(squareform(pdist(np.eye(4)))).share == pytest.approx(2 / 3)


@pytest.mark.parametrize(("distances", "places"), [([[0.0]], [[0, 0]]), ([[0.0, 2.0], [2.0, 0.0]], [[1, 0], [-1, 0]])])
def test_one_point_and_two_have_a_map(distances, places):
    found = flat_map(np.array(distances))
    assert np.abs(found.places) == pytest.approx(np.abs(np.array(places)), abs=1e-9) and found.share == 1.0


def test_the_tree_joins_the_nearest_first_and_puts_them_side_by_side():
    distances = squareform(pdist(np.array([[0.0], [10.0], [1.0], [11.5]])))
    found = cluster(distances)
    assert found.linkage[:, 2].tolist() == pytest.approx([1.0, 1.5, 10.25])
    places = [found.order.index(leaf) for leaf in (0, 2, 1, 3)]
    assert abs(places[0] - places[1]) == 1 and abs(places[2] - places[3]) == 1


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_make_no_tree(count):
    found = cluster(np.zeros((count, count)))
    assert found.order == tuple(range(count)) and len(found.linkage) == 0
