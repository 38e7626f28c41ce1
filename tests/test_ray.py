"""Workers as actors of a Ray cluster that is started for them on this machine."""

from collections.abc import Iterator
from typing import Any

import pytest
from kitchens import small_kitchen

import soupviz as sv

pytestmark = pytest.mark.extras
ray = pytest.importorskip("ray")


def decisions(soup: sv.Soup) -> Any:
    return soup.trajectory, soup.coefficients, {name: one.values for name, one in soup.scores.items()}


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[sv.Kitchen, sv.Soup]]:
    """A kitchen with two actors, and its greedy soup as this process finds it."""
    keys: dict[str, Any] = {"num_ingredients": 4, "num_examples": 120, "batch_size": 8}
    folder = tmp_path_factory.mktemp("ray")
    alone = sv.greedy(sv.Kitchen.load(small_kitchen(folder / "alone", **keys)))
    kitchen = sv.Kitchen.load(small_kitchen(folder / "k", **keys), executor="ray", workers=2)
    yield kitchen, alone
    kitchen.scores.executor.close()
    assert not ray.is_initialized()


def test_actors_find_what_one_process_finds(opened):
    kitchen, alone = opened
    soup = sv.greedy(kitchen)
    assert decisions(soup) == decisions(alone)
    assert sum(share.num_units for share in soup.usage.shares) >= 120 * len(kitchen.names)
    assert kitchen.scores.made_by == {"executor": {"name": "ray", "workers": 2}}


def test_the_cluster_answers_to_this_machine_alone_and_shows_no_dashboard(opened):
    kitchen, _ = opened
    kitchen.score()
    [node] = ray.nodes()
    assert node["NodeManagerAddress"] == "127.0.0.1"
    assert not ray._private.worker.global_worker.node.address_info.get("webui_url")


def test_an_actor_that_is_killed_is_started_anew(opened):
    kitchen, _ = opened
    sv.uniform(kitchen)
    crew = kitchen.scores.executor
    ray.kill(crew._workers._actors[0])
    mix = (("m_0", 0.25), ("m_2", 0.75))
    found = kitchen.scores.score(mix)
    assert found.num_units == 120
    assert crew.usage().shares[0].deaths == 1
