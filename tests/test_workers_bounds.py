"""Workers are told the bound to beat, and stop where the driver would; what the driver wants after all is scored."""

from dataclasses import replace

import numpy as np
import pytest
from kitchens import small_kitchen
from workers import InThisProcess, without_processes

import soupviz as sv
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


def unbeatable(kitchen: sv.Kitchen) -> Limit:
    """Lost with the first unit that is wrong."""
    best = kitchen.scores.score((("m_0", 1.0),))
    metric = kitchen.objective
    perfect = replace(best, values={**best.values, metric.name: metric.value(best.outcomes) * 0 + 1})
    return Limit(goal_of(kitchen, metric.name).gives_up(perfect), np.arange(UNITS))


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


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_what_a_worker_gave_up_is_scored_once_less_is_to_be_beaten(file, monkeypatch, workers, seed):
    started = without_processes(monkeypatch, seed=seed)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=workers)
    lost = unbeatable(kitchen)
    before = scored_by(started[-1])
    kitchen.scores.ahead([(MIX, "held_out", "average", lost)])
    while any(started[-1]._blocks.values()):
        kitchen.scores.executor._collect()
    assert scored_by(started[-1]) - before < UNITS
    found = kitchen.scores.attempt(MIX, "held_out", "average", quiet, Limit(lambda _found: False, lost.order))
    alone = sv.Kitchen.load(small_kitchen(file.parent.parent / "alone", num_examples=UNITS, batch_size=BATCH))
    assert found.values == alone.scores.score(MIX).values
