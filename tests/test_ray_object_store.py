"""Workers of a Ray cluster that have the checkpoints from its object store, and find no file of them."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from adapters import adapters_kitchen
from kitchens import small_kitchen

import soupviz as sv
from soupviz.errors import ExecutorError
from soupviz.scoring.executors import object_store
from soupviz.scoring.executors.messages import MixOf
from soupviz.weights.ingredients import Ingredient

pytestmark = pytest.mark.extras
ray = pytest.importorskip("ray")

KEYS: dict[str, Any] = {"num_examples": 120, "batch_size": 8}
WIDE = """
from torch import nn

def build(width=2000, classes=3):
    return nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))
"""
MB = 2**20


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """One for all cases, as somebody else may have started it."""
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=300 * MB, log_to_driver=False)
    yield
    ray.shutdown()


def decisions(soup: sv.Soup) -> Any:
    return soup.trajectory, soup.coefficients, {name: one.values for name, one in soup.scores.items()}


def without_files(kitchen: sv.Kitchen, monkeypatch: pytest.MonkeyPatch) -> sv.Kitchen:
    """What was opened, whose checkpoints are gone by the time that workers start."""
    monkeypatch.setattr(Ingredient, "check_unchanged", lambda _item: None)
    base = [kitchen.weights.base] if kitchen.weights.base else []
    for item in (*kitchen.ingredients, *base):
        item.path.rename(item.path.with_suffix(".away"))
    return kitchen


def stored(file: Path, workers: int = 2) -> sv.Kitchen:
    return sv.Kitchen.load(file, executor="ray", workers=workers, ray_weights="object_store")


def wide_kitchen(folder: Path) -> Path:
    """Four checkpoints of 16 MB each, and a base."""
    return small_kitchen(folder, source=WIDE, shape=(2000,), num_examples=20, batch_size=8)


def a_node(num_bytes: float) -> dict[str, Any]:
    return {"Alive": True, "NodeManagerAddress": "here", "Resources": {"object_store_memory": num_bytes}}


def in_worker(kitchen: sv.Kitchen, look: Any) -> Any:
    """What a function finds in the first worker."""
    return ray.get(kitchen.scores.executor._workers._actors[0].__ray_call__.remote(look))  # type: ignore[union-attr]


@pytest.mark.parametrize("make", [small_kitchen, adapters_kitchen])
def test_workers_without_files_find_what_one_process_finds(make, tmp_path, monkeypatch):
    alone = sv.greedy(sv.Kitchen.load(make(tmp_path / "alone", **KEYS)))
    kitchen = without_files(stored(make(tmp_path / "k", **KEYS)), monkeypatch)
    soup = sv.greedy(kitchen)
    assert decisions(soup) == decisions(alone)
    assert sum(share.num_units for share in soup.usage.shares) >= 120 * len(kitchen.names)
    assert sum(share.deaths for share in soup.usage.shares) == 0
    kitchen.scores.executor.close()


@pytest.mark.slow
def test_an_actor_that_is_killed_has_the_weights_again(tmp_path, monkeypatch):
    kitchen = without_files(stored(small_kitchen(tmp_path, **KEYS)), monkeypatch)
    kitchen.score()
    crew = kitchen.scores.executor
    ray.kill(crew._workers._actors[0])
    assert kitchen.scores.score((("m_0", 0.25), ("m_2", 0.75))).num_units == 120
    assert crew.usage().shares[0].deaths == 1
    crew.close()


@pytest.mark.slow
def test_the_base_of_adapters_is_put_once(tmp_path, monkeypatch):
    put: list[Any] = []
    real = ray.put
    monkeypatch.setattr(ray, "put", lambda thing: [put.append(thing), real(thing)][1])
    kitchen = stored(adapters_kitchen(tmp_path, **KEYS))
    kitchen.scores.score((("a1", 0.5), ("a2", 0.5)))
    contents = [thing for thing in put if isinstance(thing, tuple)]
    assert len(contents) == 1 + len(kitchen.names)
    assert in_worker(kitchen, bases_of) == 1
    kitchen.scores.executor.close()


def bases_of(actor: Any) -> int:
    return len({id(item.adapter.base) for item in actor._worker._scores.weights.ingredients.values()})


def test_what_a_worker_holds_is_the_stores_own_memory(tmp_path):
    kitchen = stored(wide_kitchen(tmp_path), workers=1)
    kitchen.score()
    number, inside = in_worker(kitchen, places_of)
    assert number == inside == 5 * 4
    kitchen.scores.executor.close()


@pytest.mark.slow
def test_the_store_lets_go_of_weights_with_the_workers(tmp_path):
    """Ray keeps what somebody refers to."""
    before = references()
    kitchen = stored(small_kitchen(tmp_path, **KEYS), workers=1)
    kitchen.score()
    assert len(references() - before) >= len(kitchen.names) + 1
    kitchen.scores.executor.close()
    deadline = time.monotonic() + 10
    while references() - before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert references() <= before


def references() -> set[str]:
    return set(ray._private.worker.global_worker.core_worker.get_all_reference_counts())


def places_of(actor: Any) -> tuple[int, int]:
    """How many tensors there are, and how many lie within memory that is mapped from the store."""
    weights = actor._worker._scores.weights
    tensors = [one for item in (weights.base, *weights.ingredients.values()) for one in item.tensors.values()]
    ranges = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "plasma" in line:
            start, end = (int(number, 16) for number in line.split()[0].split("-"))
            ranges.append((start, end))
    inside = [
        any(start <= one.data_ptr() and one.data_ptr() + one.nbytes <= end for start, end in ranges) for one in tensors
    ]
    return len(tensors), sum(inside)


@pytest.mark.slow
def test_weights_that_were_trained_reach_workers_without_their_file(tmp_path):
    kitchen = stored(small_kitchen(tmp_path / "k", **KEYS))
    mean = {key: sum(item.tensors[key] for item in kitchen.ingredients) / 4 for key in kitchen.ingredients[0].tensors}
    trained = kitchen.weights.keep("made", mean, (("m_0", 1.0),))
    both = (*((name, 0.5) for name, _ in trained), ("m_1", 0.5))
    found = [kitchen.scores.score(mix).values for mix in (trained, both)]
    assert in_worker(kitchen, made_files) == []
    alone = sv.Kitchen.load(small_kitchen(tmp_path / "alone", **KEYS))
    assert alone.weights.keep("made", mean, (("m_0", 1.0),)) == trained
    assert found == [alone.scores.score(mix).values for mix in (trained, both)]
    kitchen.scores.executor.close()


def made_files(actor: Any) -> Sequence[str]:
    """Of trained weights, in a worker's store."""
    return [file.name for file in actor._worker._scores.scorer.store.folder.rglob("*.safetensors")]


@pytest.mark.slow
def test_a_checkpoint_that_is_named_by_its_path_reaches_workers(tmp_path, monkeypatch):
    kitchen = stored(small_kitchen(tmp_path / "k", **KEYS))
    other = kitchen.ingredients[3].path.rename(tmp_path / "other.safetensors")
    monkeypatch.setattr(Ingredient, "check_unchanged", lambda _item: None)
    mix = ((str(other), 0.5), ("m_0", 0.5))
    kitchen.weights.resolve(str(other))
    other.rename(tmp_path / "gone.safetensors")
    assert kitchen.scores.score(mix).num_units == 120
    assert not other.exists()
    kitchen.scores.executor.close()


def test_what_does_not_fit_into_the_store_is_refused_before_anything_is_put(tmp_path, monkeypatch):
    kitchen = stored(small_kitchen(tmp_path, **KEYS))
    monkeypatch.setattr(ray, "nodes", lambda: [a_node(1000.0)])
    monkeypatch.setattr(ray, "put", lambda _thing: pytest.fail("something was put"))
    with pytest.raises(ExecutorError, match="object store of here"):
        kitchen.score()


def test_weights_of_another_kitchen_take_room_too(tmp_path, monkeypatch):
    first = stored(wide_kitchen(tmp_path / "a"), workers=1)
    first.score()
    there = sum(shelf.num_bytes for shelf in object_store._shelves)
    assert there > 5 * 16e6
    monkeypatch.setattr(ray, "nodes", lambda: [a_node(1.5 * there)])
    second = stored(wide_kitchen(tmp_path / "b"), workers=1)
    with pytest.raises(ExecutorError, match=r"object store of here has .* of which weights of this process take"):
        second.score()
    first.scores.executor.close()
    assert len(second.score()) == 4  # now there is room
    second.scores.executor.close()


@pytest.mark.slow
def test_of_weights_that_were_trained_the_last_few_are_held(tmp_path, monkeypatch):
    monkeypatch.setattr(object_store, "OTHERS_HELD", 1)
    kitchen = stored(small_kitchen(tmp_path, **KEYS), workers=1)
    kitchen.score()
    mixes = []
    for step in range(6):
        trained = {key: tensor + step for key, tensor in kitchen.ingredients[0].tensors.items()}
        mixes.append(kitchen.weights.keep("made", trained, (("m_0", 1.0),)))
    for mix in mixes:
        kitchen.scores.score(mix)
    shelf = kitchen.scores.executor._workers._shelf  # type: ignore[union-attr]
    assert list(shelf._others) == [mixes[-1][0][0]]
    both = ((mixes[0][0][0], 0.5), (mixes[2][0][0], 0.5))  # what was let go of is put there again
    assert kitchen.scores.score(both).num_units == 120
    assert in_worker(kitchen, others_of) == [name for name, _ in both]
    kitchen.scores.executor.close()


def others_of(actor: Any) -> Sequence[str]:
    return [item.name for item in actor._held.others]


def test_too_little_memory_for_a_store_of_its_own_is_said_as_it_is(tmp_path, monkeypatch):
    """No cluster runs yet, and none is started."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_options: pytest.fail("a cluster was started"))
    monkeypatch.setattr(object_store, "_free_here", lambda: {"/dev/shm": 1000})
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    kitchen = stored(small_kitchen(tmp_path, **KEYS))
    with pytest.raises(ExecutorError, match=r"^ray: the checkpoints take .*--ray-weights files"):
        kitchen.score()


@pytest.mark.parametrize("room", ["its own", "of one"])
def test_the_oldest_trained_weights_make_room_before_new_ones_are_refused(tmp_path, monkeypatch, room):
    """In a store that has the room that soupviz asks for itself, of models larger than what outcomes take."""
    monkeypatch.setattr(object_store, "OBJECT_STORE_BYTES", 2**16)
    monkeypatch.setattr(object_store, "_free_here", dict)
    kitchen = sv.Kitchen.load(wide_kitchen(tmp_path))
    shelf = object_store.Shelf(kitchen.weights)
    needed, largest = shelf.needed(), max(shelf._sizes)
    size = object_store.own_size(needed, shelf.spare(1)) if room == "its own" else needed + largest + 2**16
    monkeypatch.setattr(ray, "nodes", lambda: [a_node(size)])
    monkeypatch.setattr(ray, "put", lambda _thing: object())
    shelf.stock(ray, lambda _what: None, is_own=True)
    held = []
    for step in range(6):
        trained = {key: tensor + step + 1 for key, tensor in kitchen.ingredients[0].tensors.items()}
        [(name, _)] = kitchen.weights.keep("made", trained, (("m_0", 1.0),))
        shelf.beside(ray, MixOf(((name, "", 1.0),), "average"), is_own=True)
        held.append(len(shelf._others))
    assert held == ([1, 2, 3, 4, 4, 4] if room == "its own" else [1] * 6)
