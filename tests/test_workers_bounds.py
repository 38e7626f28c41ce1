"""Workers are told the bound to beat, and stop where the driver would; what the driver wants after all is scored."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from kitchens import small_kitchen
from workers import InThisProcess, without_processes

import soupviz as sv
from soupviz.errors import Cancelled
from soupviz.scoring.limits import Limit
from soupviz.soups.goals import goal_of
from soupviz.types import Coefficients, quiet

UNITS, BATCH = 160, 4
MIX: Coefficients = (("m_0", 0.25), ("m_1", 0.75))


@pytest.fixture
def file(tmp_path):
    return small_kitchen(tmp_path / "k", num_examples=UNITS, batch_size=BATCH)


def scored_by(workers: InThisProcess) -> int:
    return sum(number for _, number in workers.scored)


def hard_to_beat(kitchen: sv.Kitchen, order: np.ndarray | None = None) -> Limit:
    """Lost with the second unit that is wrong."""
    best = kitchen.scores.score((("m_0", 1.0),))
    name = kitchen.objective.name
    nearly_perfect = replace(best, values={**best.values, name: Fraction(UNITS - 1, UNITS)})
    return Limit(goal_of(kitchen, name).gives_up(nearly_perfect), np.arange(UNITS) if order is None else order)


@pytest.mark.parametrize("goal", ["accuracy", "loss", "macro_f1", "mean_class", "worst_class"])
@pytest.mark.parametrize("seconds", [0.001, 0.02])
def test_one_worker_scores_the_units_that_one_process_scores_and_no_others(file, monkeypatch, goal, seconds):
    """However many batches a block has."""
    started = without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=1)
    kitchen.score()
    kitchen.scores.executor._plan.took(seconds, 1)
    before = scored_by(started[-1])
    soup = sv.greedy(kitchen, alpha=0.5, objective=goal)
    asked = [step.num_scored for step in soup.trajectory[1:]]
    assert 0 < sum(asked) < UNITS * len(asked)
    assert scored_by(started[-1]) - before == sum(asked) + UNITS  # the soup on test


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_what_a_worker_gave_up_is_scored_once_less_is_to_be_beaten(file, monkeypatch, workers, seed):
    started = without_processes(monkeypatch, seed=seed)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=workers)
    limit = hard_to_beat(kitchen)
    before = scored_by(started[-1])
    kitchen.scores.ahead([(MIX, "held_out", "average", limit)])
    while any(started[-1]._blocks.values()):
        kitchen.scores.executor._collect()
        kitchen.scores.executor._share_out()
    assert 0 < scored_by(started[-1]) - before < UNITS
    found = kitchen.scores.attempt(MIX, "held_out", "average", quiet, Limit(lambda _found: False, limit.order))
    alone = sv.Kitchen.load(small_kitchen(file.parent.parent / "alone", num_examples=UNITS, batch_size=BATCH))
    assert found.values == alone.scores.score(MIX).values


def test_what_a_worker_saw_of_a_mix_when_it_was_looked_into_before_counts_no_more(file, monkeypatch):
    """In another order it would know what the driver does not know, and stop before it."""
    started = without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=1)
    orders = [np.random.default_rng(seed).permutation(UNITS) for seed in range(5)]
    limits = [hard_to_beat(kitchen, order) for order in orders]
    for limit in limits:
        kitchen.store.clear()
        before = scored_by(started[-1])
        found = kitchen.scores.attempt(MIX, "held_out", "average", quiet, limit)
        assert 0 < found.num_scored < UNITS
        assert scored_by(started[-1]) - before == found.num_scored


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mix_of_which_some_is_known_is_decided_as_by_one_process(file, monkeypatch, workers):
    """Of what was scored before the worker was not told: it may not judge by what it lacks."""
    found = []
    for executor, number in (("processes", workers), ("inline", 1)):
        without_processes(monkeypatch)
        folder = file.parent.parent / executor
        one = small_kitchen(folder, num_examples=UNITS, batch_size=BATCH)
        kitchen = sv.Kitchen.load(one, executor=executor, workers=number)
        limit = hard_to_beat(kitchen)

        def stop(done: int, *_said: object) -> None:
            if done >= 2 * BATCH:
                raise Cancelled

        with pytest.raises(Cancelled):
            kitchen.scores.attempt(MIX, "held_out", "average", stop, Limit(lambda _found: False, limit.order))
        found.append(kitchen.scores.attempt(MIX, "held_out", "average", quiet, limit).num_scored)
    assert found[0] == found[1]
