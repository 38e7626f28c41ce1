"""What nobody waits for any more is not computed: told by the driver, which judges, and heard by its workers."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kitchens import small_kitchen
from test_worker_processes import forwards, pausing_kitchen, until
from workers import InThisProcess, without_processes

import soupviz as sv
from soupviz.errors import Cancelled
from soupviz.scoring.executors import planning
from soupviz.scoring.executors.messages import Block, MixOf, SplitOf
from soupviz.scoring.limits import Limit
from soupviz.types import Coefficients, quiet

BATCH, NUM_BATCHES = 4, 40
MIX: Coefficients = (("m_0", 0.5), ("m_1", 0.5))
OTHER: Coefficients = (("m_0", 0.25), ("m_1", 0.75))


def over_after(num_units: int, num_examples: int = BATCH * NUM_BATCHES) -> Limit:
    return Limit(lambda found: found.num_scored >= num_units, np.arange(num_examples))


def kitchen_of(folder: Path, workers: int) -> sv.Kitchen:
    file = small_kitchen(folder, num_examples=BATCH * NUM_BATCHES, batch_size=BATCH)
    return sv.Kitchen.load(file, executor="processes", workers=workers)


def believed_to_stand(kitchen: sv.Kitchen, seconds: float) -> None:
    """Workers are given long blocks of a candidate, which so far stayed to the end."""
    plan = kitchen.scores.executor._plan  # type: ignore[union-attr]
    plan.took(seconds, 1)
    plan.ended(NUM_BATCHES, given_up=False)


class Counting:
    """How many batches of each mix were scored, by the time that a worker answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seed: int = 0):
        self.batches: Counter[Coefficients] = Counter()
        self.sent: Counter[Coefficients] = Counter()
        self.started = without_processes(monkeypatch, seed=seed)
        one = InThisProcess._one

        def counted(workers: InThisProcess, worker: int) -> list[tuple[int, Any]]:
            block = workers._blocks[worker][0]
            said = one(workers, worker)
            mix = tuple((name, weight) for name, _, weight in block.mix.parts)
            self.sent[mix] += len(block.batches)
            self.batches[mix] += len(said[0][1].batches)
            return said

        monkeypatch.setattr(InThisProcess, "_one", counted)

    @property
    def workers(self) -> InThisProcess:
        return self.started[-1]

    def rest(self, kitchen: sv.Kitchen) -> None:
        """Let workers do what they were given."""
        while any(self.workers._blocks.values()):
            kitchen.scores.executor._collect()  # type: ignore[union-attr]


# The worker's side


def test_a_worker_leaves_the_rest_of_a_block_as_soon_as_it_hears_that_it_was_dropped(tmp_path, monkeypatch):
    counting = Counting(monkeypatch)
    kitchen = kitchen_of(tmp_path, 1)
    kitchen.scores.score(MIX)
    split = kitchen.splits.load("held_out")
    rows = [np.arange(start, start + BATCH) for start in range(0, BATCH * NUM_BATCHES, BATCH)]
    parts = tuple((name, kitchen.weights.resolve(name).fingerprint, weight) for name, weight in OTHER)
    block = Block(99, 0, MixOf(parts, "average"), SplitOf(split.fingerprint, split.read), rows)
    worker = counting.workers._workers[0]
    asked: list[bool] = []

    def is_dropped() -> bool:
        asked.append(True)
        return len(asked) > 3

    answered = worker.answer(block, is_dropped)
    assert (len(answered.batches), answered.error) == (3, None)
    assert len(worker.answer(block).batches) == NUM_BATCHES


def test_a_real_worker_stops_within_a_batch_of_a_drop(tmp_path, monkeypatch):
    """A block of ten batches, of a candidate that is given up after its first: the driver knows when it is back."""
    monkeypatch.setattr(planning, "BLOCK_SECONDS", 60.0)
    file = pausing_kitchen(tmp_path / "k", seconds=0.1)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=1)

    def cancel(*_said: Any) -> None:
        if len(forwards(file)) >= 3:
            raise Cancelled

    believed_to_stand(kitchen, 0.001)
    with pytest.raises(Cancelled):
        kitchen.scores.attempt(MIX, "held_out", "average", cancel, over_after(400, 400))
    at_cancel = len(forwards(file))
    crew = kitchen.scores.executor
    sent = sum(len(one.batches) for one in crew._posts[0].under_way.values())  # type: ignore[union-attr]
    assert sent >= 20
    until(lambda: crew._collect() or not crew._posts[0].under_way)  # type: ignore[union-attr, func-returns-value]
    assert len(forwards(file)) <= at_cancel + 2
    crew.close()


# The driver's side


@pytest.mark.parametrize("seed", range(3))
def test_what_was_begun_of_a_candidate_that_is_given_up_is_left(tmp_path, monkeypatch, seed):
    counting = Counting(monkeypatch, seed)
    kitchen = kitchen_of(tmp_path, 2)
    kitchen.scores.score(MIX, "test")
    believed_to_stand(kitchen, 0.001)
    counting.batches.clear()
    found = kitchen.scores.attempt(OTHER, "held_out", "average", quiet, over_after(BATCH))
    assert found.num_units == BATCH * NUM_BATCHES
    at_end = counting.batches[OTHER]
    counting.rest(kitchen)
    assert counting.sent[OTHER] > at_end
    assert counting.batches[OTHER] == at_end


def test_what_was_begun_is_left_when_its_turn_is_cancelled(tmp_path, monkeypatch):
    counting = Counting(monkeypatch)
    kitchen = kitchen_of(tmp_path, 2)
    kitchen.scores.score(MIX, "test")

    def cancel(done: int, *_said: Any) -> None:
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        kitchen.scores.score(OTHER, progress=cancel)
    at_end = counting.batches[OTHER]
    counting.rest(kitchen)
    assert counting.sent[OTHER] > at_end
    assert counting.batches[OTHER] == at_end


def test_what_is_foreseen_no_more_is_left(tmp_path, monkeypatch):
    counting = Counting(monkeypatch)
    kitchen = kitchen_of(tmp_path, 2)
    kitchen.scores.score(MIX, "test")
    kitchen.scores.ahead([(OTHER, "held_out", "average", None)])
    kitchen.scores.ahead([])
    counting.rest(kitchen)
    assert counting.sent[OTHER] > 0
    assert counting.batches[OTHER] == 0


@pytest.mark.parametrize("seed", range(3))
def test_of_what_is_lost_before_its_turn_comes_nothing_more_is_handed_out(tmp_path, monkeypatch, seed):
    """It is over after one batch, seen when that is back: more is scored only of what was under way then."""
    counting = Counting(monkeypatch, seed)
    kitchen = kitchen_of(tmp_path, 2)
    kitchen.scores.score(MIX, "test")
    counting.batches.clear()
    limits = {mix: over_after(units) for mix, units in ((MIX, BATCH * NUM_BATCHES), (OTHER, BATCH))}
    kitchen.scores.ahead([(mix, "held_out", "average", limit) for mix, limit in limits.items()])
    kitchen.scores.attempt(MIX, "held_out", "average", quiet, limits[MIX])
    counting.rest(kitchen)
    assert counting.batches[MIX] == NUM_BATCHES
    assert 0 < counting.batches[OTHER] <= 4  # two blocks of one batch for each worker
