"""Workers find what one process finds, whatever becomes of them; only the driver keeps anything."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from elsewhere import serving
from kitchens import BATCHNORM, change_yaml, small_kitchen
from safetensors.torch import load_file, save_file
from workers import without_processes

import soupviz as sv
from soupviz import trust
from soupviz.analysis import crossfit
from soupviz.errors import Cancelled, DataError, ExecutorError, KitchenError
from soupviz.recipes import parse
from soupviz.scoring.executors.usage import Share, Usage
from soupviz.scoring.limits import Limit
from soupviz.scoring.scorer import AVERAGE
from soupviz.soups import planning
from soupviz.soups.cooking import cook
from soupviz.store.database import Store
from soupviz.types import quiet
from soupviz.weights.ingredients import Ingredient
from soupviz.yaml_file import read_kitchen_file


def kitchen_file(folder: Path, **keys: Any) -> Path:
    keys = {"source": BATCHNORM, "shape": (3, 8, 8), "train": 60, "shifts": ("far",), "batch_size": 16} | keys
    file = small_kitchen(folder, num_ingredients=5, num_examples=120, **keys)
    shutil.copy(folder / "m_3.safetensors", folder / "copy.safetensors")  # that counts only where it is named
    return change_yaml(file, lambda values: values["ingredients"].append("copy.safetensors"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return kitchen_file(tmp_path / "k")


def afresh(file: Path) -> None:
    """Forget all scores."""
    shutil.rmtree(file.parent / ".soupviz")


def steps(soup: sv.Soup) -> Any:
    """What of decisions does not depend on how large batches were."""
    return [(step.ingredient, step.accepted, step.value, step.num_scored) for step in soup.trajectory]


def decisions(soup: sv.Soup) -> Any:
    return soup.trajectory, soup.coefficients, soup.mix, {name: one.values for name, one in soup.scores.items()}


# Speculation


def test_more_than_one_candidate_is_under_way_at_a_time(file, monkeypatch):
    """Two workers with one batch left to score: the second begins what will probably be asked next."""
    started = without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=2)
    sv.greedy(kitchen)
    [workers] = started
    asked = sum(rows for _, rows in workers.scored)
    alone = sv.Kitchen.load(file)
    afresh(file)
    assert asked > 120 * len(alone.names)
    assert all(workers.answered)


# What becomes of workers


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("seed", range(4))
def test_a_worker_that_dies_is_started_anew_and_changes_nothing(file, monkeypatch, number, seed):
    alone = sv.greedy(sv.Kitchen.load(file))
    afresh(file)
    lives = dict.fromkeys(range(number), 2)

    def fate(worker: int, block: Any) -> bool:
        if block.number % (3 + seed) or not lives[worker]:
            return False
        lives[worker] -= 1
        return True

    without_processes(monkeypatch, seed=seed, fate=fate)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=number)
    assert decisions(sv.greedy(kitchen)) == decisions(alone)
    assert sum(share.deaths for share in kitchen.scores.usage().shares) == 2 * number - sum(lives.values())


def test_a_worker_that_dies_three_times_ends_the_run_and_nothing_is_lost(file, monkeypatch):
    whole = sv.Kitchen.load(file)
    alone = sv.greedy(whole)
    afresh(file)
    started = without_processes(monkeypatch, fate=lambda worker, block: worker == 1 and block.number > 30)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=2)
    with pytest.raises(ExecutorError, match=r"worker 2 of 2 ended 3 times, last with: it was told to\."):
        sv.greedy(kitchen)
    assert started[0].is_closed
    [run] = kitchen.store.runs()
    assert run.status == "failed"
    assert "ended 3 times" in str(run.error)
    known = kitchen.scores.summaries([(((name, 1.0),), "average") for name in kitchen.names], "held_out")
    assert any(known)
    without_processes(monkeypatch)
    again = sv.Kitchen.load(file, executor="processes", workers=2)
    assert decisions(sv.greedy(again)) == decisions(alone)


def test_units_that_every_worker_dies_of_end_the_run(file, monkeypatch):
    deadly = 100

    without_processes(monkeypatch, fate=lambda _worker, block: any(deadly in batch for batch in block.batches))
    kitchen = sv.Kitchen.load(file, executor="processes", workers=3)
    with pytest.raises(ExecutorError, match="ended 3 times"):
        kitchen.score()


def test_after_an_end_new_workers_are_started(file, monkeypatch):
    started = without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=2)
    kitchen.score()
    kitchen.scores.executor.close()
    sv.uniform(kitchen)
    assert [one.is_closed for one in started] == [True, False]


def test_a_worker_with_other_files_is_refused(file, monkeypatch):
    """The file changed after the driver opened it, and before its workers did."""
    without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=2)
    other = kitchen_file(file.parent.parent / "other", scale=0.2).with_name("m_0.safetensors")
    kitchen.splits.load("held_out")
    monkeypatch.setattr(Ingredient, "check_unchanged", lambda _self: None)  # as on another machine
    shutil.copy(other, file.parent / "m_0.safetensors")
    with pytest.raises(KitchenError, match=r"m_0 .* is not what it is where the run was begun"):
        kitchen.score()


def test_a_worker_with_other_data_is_refused(file, monkeypatch):
    without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=2)
    kitchen.splits.load("held_out")
    (file.parent / "held_out.safetensors").write_bytes((file.parent / "test.safetensors").read_bytes())
    with pytest.raises(KitchenError, match=r"held_out .* fingerprint"):
        kitchen.score()


PICKY = """
from torch import nn

class Picky(nn.Module):
    def __init__(self, features, classes):
        super().__init__()
        self.head = nn.Linear(features, classes)

    def forward(self, x):
        if (x == 7.0).any():
            raise KeyError("seven")
        return self.head(x)

def build(features=6, classes=3):
    return Picky(features, classes)
"""


def picky_kitchen(folder: Path, spoilt: int, **keys: Any) -> Path:
    """One whose model fails on an example."""
    file = small_kitchen(folder, source=PICKY, **keys)
    place = file.parent / "held_out.safetensors"
    tensors = load_file(place)
    tensors["inputs"][spoilt, 0] = 7.0
    save_file(tensors, place)
    return file


def test_a_model_that_fails_says_the_same_from_a_worker(tmp_path, monkeypatch):
    file = picky_kitchen(tmp_path / "k", 64, num_examples=120, batch_size=16)
    errors = []
    for executor in ("inline", "processes"):
        without_processes(monkeypatch)
        with pytest.raises(DataError, match="seven") as failed:
            sv.Kitchen.load(file, executor=executor).score()
        errors.append(str(failed.value))
    assert errors[0] == errors[1]


def test_an_error_beyond_where_a_search_gives_up_is_nobodys(tmp_path, monkeypatch):
    """Whichever worker looks there first: one process would not have looked."""
    file = picky_kitchen(tmp_path / "k", 120, num_examples=160, batch_size=8)
    mix = (("m_0", 0.5), ("m_1", 0.5))
    limit = Limit(lambda found: found.num_scored >= 16, np.arange(160))
    for seed in range(6):
        without_processes(monkeypatch, seed=seed)
        kitchen = sv.Kitchen.load(file, executor="processes", workers=3)
        plan = kitchen.scores.executor._plan
        plan.took(0.001, 1)
        plan.ended(20, given_up=False)
        found = kitchen.scores.attempt(mix, "held_out", "average", quiet, limit)
        assert (type(found).__name__, found.num_scored) == ("Bound", 16)
        with pytest.raises(DataError, match="seven"):
            kitchen.scores.score(mix)
        afresh(file)


def test_train_data_that_differs_is_refused(file, monkeypatch):
    without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=1)
    kitchen.splits.load("train")
    shutil.copy(file.parent / "held_out.safetensors", file.parent / "train.safetensors")
    with pytest.raises(KitchenError, match=r"train .* fingerprint"):
        kitchen.scores.score((("m_0", 0.5), ("m_1", 0.5)), aggregation="recalibrate:40")


def test_weights_that_were_kept_elsewhere_since_are_read_there(file, monkeypatch):
    """A cross-fit keeps what it trains in a folder of its own, which goes when it is done."""
    recipe = parse({"method": "rebasin", "members": ["m_0", "m_1"], "repair": "no"})
    without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=1)
    for seed in range(2):
        crossfit.crossfit(kitchen, recipe, seed=seed)
    assert cook(kitchen, recipe).scores


def test_checkpoints_that_came_since_are_none_of_the_workers(file, monkeypatch):
    without_processes(monkeypatch)
    change_yaml(file, lambda values: values.update(ingredients=["m_*.safetensors"]))
    kitchen = sv.Kitchen.load(file, executor="processes", workers=1)
    (file.parent / "m_9.safetensors").write_bytes(b"half")
    assert len(kitchen.score()) == 5


@pytest.fixture
def approved(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], sv.Kitchen]]:
    """Opens a kitchen with a worker as the dashboard does, which has asked; the worker is as in another process."""

    def opened() -> sv.Kitchen:
        asked = trust.request(file, read_kitchen_file(file), lambda path: path)
        trust.bind(asked, lambda path: path)
        kitchen = sv.Kitchen.load(file, executor="processes", workers=1)
        kitchen.splits.load("held_out")
        monkeypatch.setattr(trust.binding, "_bound", {})
        return kitchen

    without_processes(monkeypatch)
    yield opened
    monkeypatch.undo()
    trust.binding._bound.pop(file.parent.resolve(), None)


def test_workers_run_the_code_that_was_approved_and_no_other(file, approved):
    kitchen = approved()
    model = file.parent / "model.py"
    model.write_text(model.read_text() + "\nraise SystemExit\n")
    with pytest.raises(KitchenError, match="not what you said yes to"):
        kitchen.score()


@pytest.mark.extras
def test_workers_read_from_the_places_that_were_approved_and_no_other(file, approved):
    pytest.importorskip("aiohttp", reason="needs aiohttp")
    with serving() as web:
        web.files["held_out.safetensors"] = (file.parent / "held_out.safetensors").read_bytes()
        place = f"{web.address}/held_out.safetensors"
        change_yaml(file, lambda values: values["data"]["held_out"].update(path=place))
        kitchen = approved()
        assert len(kitchen.score()) == 6
        known = kitchen.reopening.approved
        elsewhere = replace(kitchen.reopening, approved=replace(known, places=frozenset()))
        with pytest.raises(KitchenError, match="you were not asked about"):
            elsewhere("cpu").splits.load("held_out")


def test_an_interrupt_leaves_no_block_behind(file, monkeypatch):
    without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=1)
    crew = kitchen.scores.executor
    kitchen.scores.ahead([(((name, 1.0),), "held_out", "average", None) for name in kitchen.names])
    answered = crew._answered

    def interrupted(*said: Any) -> None:
        monkeypatch.setattr(crew, "_answered", answered)
        raise KeyboardInterrupt

    monkeypatch.setattr(crew, "_answered", interrupted)
    with pytest.raises(KeyboardInterrupt):
        kitchen.score()
    assert len(kitchen.score()) == 6


def test_one_worker_may_run_out_of_memory(file, monkeypatch):
    """It goes on in smaller batches, and is counted in those of the others."""
    alone = sv.greedy(sv.Kitchen.load(file))
    afresh(file)
    started = without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=2)
    kitchen.scores.ahead([(((name, 1.0),), "held_out", "average", None) for name in kitchen.names])
    evaluator = started[0]._workers[1]._evaluator
    forward = evaluator._forward

    def tight(split: Any, rows: Any, is_shared: bool) -> Any:
        if len(rows) > 5:
            raise torch.OutOfMemoryError("no more of it")
        return forward(split, rows, is_shared)

    monkeypatch.setattr(evaluator, "_forward", tight)
    found = sv.greedy(kitchen)
    assert steps(found) == steps(alone)
    assert found.coefficients == alone.coefficients
    assert evaluator.batch_size == 4
    assert kitchen.evaluator.batch_size == 16
    assert {worker for worker, rows in started[0].scored if rows == 4} == {1}


def test_cancelling_ends_at_the_next_batch_and_keeps_what_was_scored(file, monkeypatch):
    without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=2)
    told = []

    def progress(done: int, total: int, what: str) -> None:
        told.append(done)
        if what.startswith("scoring") and len(told) > 40:
            raise Cancelled

    with pytest.raises(Cancelled):
        sv.greedy(kitchen, progress=progress)
    [run] = kitchen.store.runs()
    assert run.status == "cancelled"
    found = sv.greedy(kitchen)
    afresh(file)
    assert decisions(found) == decisions(sv.greedy(sv.Kitchen.load(file)))


def test_only_the_driver_keeps_scores(file, monkeypatch):
    """Workers have stores of their own, and leave none behind."""
    made: list[Path] = []
    keep = Store.keep_scores

    def noted(self: Store, scores: Any) -> None:
        made.append(self.path)
        keep(self, scores)

    monkeypatch.setattr(Store, "keep_scores", noted)
    started = without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=2)
    sv.greedy(kitchen)
    folders = [worker._scores.scorer.store.folder for worker in started[0]._workers.values()]
    assert set(made) == {kitchen.store.path}
    assert all(folder.is_dir() and folder != kitchen.store.folder for folder in folders)
    kitchen.scores.executor.close()
    assert not any(folder.exists() for folder in folders)


# What workers did


def test_what_workers_did_is_kept_with_the_run(file, monkeypatch):
    without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=2)
    soup = sv.greedy(kitchen)
    assert [share.place for share in soup.usage.shares] == ["place 0", "place 1"]
    assert sum(share.num_units for share in soup.usage.shares) >= 120 * len(kitchen.names)
    assert 0 < soup.usage.utilisation <= 1
    [run] = kitchen.store.runs()
    assert json.loads(json.dumps(run.result["usage"])) == json.loads(json.dumps(soup.usage.as_plain()))
    assert kitchen.scores.made_by == {"executor": {"name": "processes", "workers": 2}}


def test_one_process_has_no_workers_to_tell_of(file):
    kitchen = sv.Kitchen.load(file)
    soup = sv.greedy(kitchen)
    assert soup.usage == Usage(soup.usage.seconds)
    assert kitchen.scores.made_by == {"executor": {"name": "inline", "workers": 1}}


def test_utilisation_is_the_mean_share_of_the_time_in_which_workers_computed():
    used = Usage(10.0, (Share("a", busy=9.0), Share("b", busy=6.0))).since(
        Usage(2.0, (Share("a", busy=5.0), Share("b")))
    )
    assert [used.fraction(share) for share in used.shares] == [0.5, 0.75]
    assert math.isclose(used.utilisation, 0.625)
    assert Usage.from_plain(used.as_plain()) == used


def test_a_plan_predicts_how_busy_workers_will_be(file, monkeypatch):
    """120 units are 8 batches of 16: three workers take three turns, in the last of which one is idle."""
    without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=3)
    kitchen.splits.load("held_out")
    assert kitchen.scores.utilisation(120) == 8 / 9
    assert kitchen.scores.seconds_for(120) is None
    kitchen.evaluator.rate = 10.0
    assert math.isclose(kitchen.scores.seconds_for(120), 120 / (10.0 * 3 * 8 / 9))
    cost = planning.cooking_cost(kitchen, parse({"method": "uniform"}))
    assert (cost.workers, cost.utilisation) == (3, kitchen.scores.utilisation(cost.examples))
    assert sv.Kitchen.load(file).scores.utilisation(120) == 1.0


def test_a_worker_without_room_for_one_unit_is_asked_no_more(file, monkeypatch):
    alone = sv.greedy(sv.Kitchen.load(file))
    afresh(file)
    started = without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=3)
    kitchen.scores.ahead([(((name, 1.0),), "held_out", "average", None) for name in kitchen.names])
    without_room(started[0]._workers[1]._evaluator, monkeypatch)
    found = sv.greedy(kitchen)
    assert steps(found) == steps(alone)
    shares = kitchen.scores.usage().shares
    assert [share.num_units > 0 for share in shares] == [True, False, True]
    assert "out of memory" in shares[1].place
    assert started[0].answered[1] <= 2  # what it had been given by then


def test_where_no_worker_has_room_for_one_unit_that_is_what_the_run_ends_with(file, monkeypatch):
    started = without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=2)
    kitchen.scores.ahead([(((name, 1.0),), "held_out", "average", None) for name in kitchen.names])
    for worker in started[0]._workers.values():
        without_room(worker._evaluator, monkeypatch)
    with pytest.raises(DataError, match="one example alone needs too much memory"):
        kitchen.score()


def without_room(evaluator: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_given: Any) -> Any:
        raise torch.OutOfMemoryError("no more of it")

    monkeypatch.setattr(evaluator, "_forward", full)


def test_workers_let_go_of_splits_that_were_asked_for_longest_ago(file, monkeypatch):
    monkeypatch.setattr("soupviz.scoring.executors.telling.SPLITS_HELD", 1)
    started = without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=1)
    scorer, width = kitchen.scores.scorer, kitchen.scores.width(kitchen.splits.load("held_out"))
    held_out = kitchen.splits.load("held_out")
    parts = [held_out.part(torch.arange(start, start + 5), f"part {start}") for start in (0, 5, 0)]
    alone = sv.Kitchen.load(kitchen_file(file.parent.parent / "alone"))
    for part, name in zip(parts, kitchen.names, strict=False):
        one, other = (of.scores.resolved(((name, 1.0),)) for of in (kitchen, alone))
        found = scorer.score(one, part, width, AVERAGE, quiet)
        assert found.values == alone.scores.scorer.score(other, part, width, AVERAGE, quiet).values
    assert list(started[0]._workers[0]._splits) == ["part 0"]


@pytest.mark.parametrize(
    "given",
    [{"workers": 3}, {"ray_weights": "object_store", "executor": "processes"}, {"ray_address": "ray://there:10001"}],
)
def test_what_is_asked_of_workers_where_there_are_none_of_these_is_refused(file, given):
    with pytest.raises(ExecutorError, match=r"which has none; take executor: .*ray"):
        sv.Kitchen.load(file, **given)


def test_a_worker_with_another_version_of_soupviz_is_refused(file, monkeypatch):
    without_processes(monkeypatch)
    kitchen = sv.Kitchen.load(file, executor="processes", workers=2)
    monkeypatch.setattr("soupviz.scoring.executors.reopening.__version__", "0.0.1")
    with pytest.raises(ExecutorError, match=r"soupviz 0\.0\.1, and .* install the same version"):
        kitchen.score()
