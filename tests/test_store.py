import io
import json
import multiprocessing
import shutil
import sqlite3
import sys
import threading
import time
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kitchens import json_of, run_command, small_kitchen

import soupviz as sv
from soupviz.errors import Cancelled, DataError, KitchenError
from soupviz.recipes.trajectory import steps_from
from soupviz.scoring.evaluator import Evaluator
from soupviz.soups.soup import recall
from soupviz.soups.textbook import SWEEP_ALPHAS
from soupviz.store import database as stores
from soupviz.store import recording, runs
from soupviz.store.database import KeptScore, Store, open_store
from soupviz.store.packing import pack, unpack
from soupviz.store.parts import whole_run, whole_score
from soupviz.tasks.classes.classification import Classification
from soupviz.tasks.outcomes import records
from soupviz.tasks.score import Score

RECIPE = {"method": "uniform", "members": None, "batchnorm": "average"}


def examples(number: int) -> dict[str, np.ndarray]:
    """Columns of so many examples."""
    generator = np.random.default_rng(number)
    predictions = generator.integers(-1, 3, number).astype(np.int32)
    return {
        "scored": np.ones(number, dtype=bool),
        "finite": predictions >= 0,
        "right": generator.random(number) < 0.5,
        "prediction": predictions,
        "loss": np.where(generator.random(number) < 0.1, np.nan, generator.random(number)).astype(np.float32),
        "margin": generator.random(number).astype(np.float32),
        "top5": generator.random(number) < 0.9,
    }


def kept(number: int, correct: int = 7, **changed: Any) -> KeptScore:
    """A finished score of so many examples."""
    values = {"accuracy": Fraction(correct, number), "loss": 0.25, "macro_f1": 0.6, "ece": None}
    score = Score("held_out", number, values | changed, 1, 2, facts={"correct": correct, "class_count": [6, 1]})
    value = score.shown("accuracy")
    return KeptScore(
        "held_out", "accuracy", value, number, "float32", "cpu", "abc", score.as_plain(), examples(number)
    )  # fmt: skip


def comes_back(found, kept: KeptScore) -> bool:
    """Whether the store gives what was kept."""
    plain, columns = found
    return plain == kept.summary and same(columns, kept.columns)


def same(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(
        np.array_equal(values, other[name], equal_nan=values.dtype.kind == "f") and values.dtype == other[name].dtype
        for name, values in one.items()
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store.sqlite")


@pytest.fixture
def no_evaluation(monkeypatch: pytest.MonkeyPatch):
    """Call it to forbid every further forward pass over a split."""

    def forbid() -> None:
        def fail(*_args, **_options):
            raise AssertionError("something was scored again")

        monkeypatch.setattr(Evaluator, "evaluate", fail)

    return forbid


# Scores


@pytest.mark.parametrize("loss", [0.25, 1 / 3, None])
def test_a_score_comes_back_as_it_was_kept_to_another_process_too(store, loss):
    store.keep_scores({"key": kept(20, loss=loss)})
    for opened in (store, Store(store.path)):
        found = opened.score("key")
        assert comes_back(found, kept(20, loss=loss))
        values = Score.from_plain(found[0], "held_out").values
        assert (values["accuracy"], values["loss"]) == (Fraction(7, 20), loss)
        assert type(values["accuracy"]) is Fraction


def test_a_score_is_told_under_the_name_of_the_split_that_asks(tmp_path):
    """The same content under another name is one score: keys are of content."""
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path))
    shutil.copy(tmp_path / "held_out.safetensors", tmp_path / "test.safetensors")
    kitchen = sv.Kitchen.load(tmp_path)
    held_out = kitchen.scores.score((("m_0", 1.0),), "held_out")
    scores = open_store(kitchen.file).size()["scores"]
    assert kitchen.scores.score((("m_0", 1.0),), "test") == replace(held_out, split="test")
    assert open_store(kitchen.file).size()["scores"] == scores


def test_what_was_never_scored_is_none(store):
    store.keep_scores({"key": kept(20)})
    assert store.score("other") == (None, None)


def test_columns_of_arrays_of_varying_length_come_back(store):
    found = records([np.arange(6.0).reshape(3, 2), np.zeros((0, 2)), np.ones((1, 2))])
    wide = np.arange(6, dtype=np.int32).reshape(3, 2)
    store.keep_scores({"key": replace(kept(3, 1), columns={"found": found, "wide": wide})})
    columns = store.score("key")[1]
    assert [one.tolist() for one in columns["found"]] == [one.tolist() for one in found]
    assert [one.shape for one in columns["found"]] == [(3, 2), (0, 2), (1, 2)]
    assert np.array_equal(columns["wide"], wide) and columns["wide"].dtype == np.int32


def test_an_unfinished_evaluation_comes_back_as_far_as_it_went(store):
    store.keep_partial("key", examples(5))
    store.keep_partial("key", examples(9))
    found, partial = store.score("key")
    assert found is None
    assert same(partial, examples(9))


def test_a_finished_score_replaces_an_unfinished_one(store):
    store.keep_partial("key", examples(5))
    store.keep_scores({"key": kept(20)})
    assert comes_back(store.score("key"), kept(20))
    assert store.size()["scores"] == 1


def test_a_finished_score_is_not_replaced_by_an_unfinished_one(store):
    store.keep_scores({"key": kept(20)})
    store.keep_partial("key", examples(5))
    assert comes_back(store.score("key"), kept(20))


def test_a_fingerprint_or_a_refusal_of_a_file_is_kept(store):
    store.keep_file("good", "abc", None)
    store.keep_file("bad", "", "lacks head.bias")
    assert store.file("good") == ("abc", None)
    assert store.file("bad") == ("", "lacks head.bias")
    assert store.file("new") is None


# Runs


def test_a_run_comes_back_as_it_was_kept(store):
    store.begin_run("key", "average", RECIPE)
    [run] = store.runs()
    assert (run.key, run.name, run.status, run.recipe, run.result) == ("key", "average", "running", RECIPE, None)
    store.touch_run("key", {"trajectory": [1]})
    assert store.run("key").result == {"trajectory": [1]}
    store.end_run("key", "finished", {"scores": {}})
    [run] = Store(store.path).runs()
    assert (run.status, run.result, run.error) == ("finished", {"scores": {}}, None)
    assert run.updated >= run.created


def test_runs_are_listed_oldest_first_and_can_be_forgotten(store):
    for key in ("b", "a", "c"):
        store.begin_run(key, key, RECIPE)
    assert [run.key for run in store.runs()] == ["b", "a", "c"]
    store.forget_run("a")
    assert [run.key for run in store.runs()] == ["b", "c"]
    assert store.run("a") is None


def test_finished_runs_of_some_keys_are_those_of_the_list(store):
    for key, status in (("a", "finished"), ("b", "failed"), ("c", "finished"), ("d", "finished")):
        store.begin_run(key, f"soup {key}", {"method": "uniform"})
        store.end_run(key, status)
    store.begin_run("e", "one that runs", {"method": "uniform"})
    listed = {run.key: run for run in store.runs()}
    assert store.finished(["d", "a", "b", "e", "none"]) == {key: listed[key] for key in ("a", "d")}
    assert store.finished([]) == {}


def test_a_failed_or_cancelled_run_says_so_and_is_taken_up_again(store):
    store.begin_run("key", "average", RECIPE)
    store.end_run("key", "failed", error="no such file")
    assert (store.run("key").status, store.run("key").error) == ("failed", "no such file")
    store.begin_run("key", "average", RECIPE)
    assert (store.run("key").status, store.run("key").error) == ("running", None)
    assert len(store.runs()) == 1


def test_a_finished_run_stays_finished_however_its_repetition_ends(store):
    store.begin_run("key", "average", RECIPE)
    store.end_run("key", "finished", {"scores": {}})
    store.begin_run("key", "average", RECIPE)
    assert store.run("key").status == "finished"
    store.touch_run("key", {"half": 1})
    store.end_run("key", "cancelled")
    assert (store.run("key").status, store.run("key").result) == ("finished", {"scores": {}})


def test_a_running_run_without_a_sign_of_life_shows_as_interrupted(store, monkeypatch):
    store.begin_run("key", "average", RECIPE)
    assert store.run("key").status == "running"
    now = stores.time.time()
    monkeypatch.setattr(stores.time, "time", lambda: now + runs.HEARTBEAT + 1)
    assert store.run("key").status == "interrupted"
    store.touch_run("key")
    assert store.run("key").status == "running"


def test_a_finished_run_never_shows_as_interrupted(store, monkeypatch):
    store.begin_run("key", "average", RECIPE)
    store.end_run("key", "finished", {})
    now = stores.time.time()
    monkeypatch.setattr(stores.time, "time", lambda: now + 1e6)
    assert store.run("key").status == "finished"


# Two processes


def write_scores(path: Path, worker: int) -> None:
    store = Store(path)
    for number in range(25):
        store.keep_partial(f"{worker}-{number}", examples(4))
        store.keep_scores({f"{worker}-{number}": kept(20, correct=worker), f"shared-{number}": kept(20)})
        store.begin_run(f"run-{worker}-{number}", "average", RECIPE)
        store.end_run(f"run-{worker}-{number}", "finished", {"worker": worker})


def test_two_processes_write_at_once_and_lose_nothing(tmp_path):
    path = tmp_path / "store.sqlite"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=write_scores, args=(path, number)) for number in (1, 2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0]
    store = Store(path)
    assert store.size()["scores"] == 75
    for worker in (1, 2):
        assert comes_back(store.score(f"{worker}-24"), kept(20, correct=worker))
    runs = store.runs()
    assert len(runs) == 50
    assert {run.status for run in runs} == {"finished"}


def test_a_reader_is_not_held_up_by_a_writer(store):
    """Write-ahead logging: who reads sees the last finished transaction while another is open."""
    store.keep_scores({"key": kept(20)})
    writer = sqlite3.connect(store.path)
    writer.execute("BEGIN EXCLUSIVE")
    writer.execute("DELETE FROM results")
    assert comes_back(store.score("key"), kept(20))
    writer.rollback()
    writer.close()


def test_a_file_that_was_removed_is_made_anew_instead_of_being_written_for_nobody(store):
    store.keep_finding("a", 1)
    store.path.unlink()
    store.keep_finding("b", 2)
    assert Store(store.path).findings(["a", "b"]) == {"b": 2}


def test_a_file_that_takes_anothers_place_is_the_one_that_is_read(store, tmp_path):
    store.keep_finding("a", 1)
    (tmp_path / "other").mkdir()
    other = Store(tmp_path / "other" / "store.sqlite")
    other.keep_finding("a", 2)
    other.close()
    store.close()
    other.path.replace(store.path)
    assert store.finding("a") == 2


def test_connections_are_used_again_and_none_is_used_twice_at_once(store, monkeypatch):
    opened = []
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *given, **options: opened.append(1) or connect(*given, **options))
    for number in range(20):
        store.keep_finding(str(number), number)
    assert len(opened) <= 1
    with store._connection() as one, store._connection() as other:
        assert one is not other
    barrier = threading.Barrier(8)

    def write(number: int) -> None:
        barrier.wait(10)
        for each in range(20):
            store.keep_finding(f"{number}-{each}", each)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    assert len(store.findings(f"{number}-{each}" for number in range(8) for each in range(20))) == 160


def _keep_in_a_fork(store: Store) -> None:
    store.keep_finding("of the child", 1)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_writes_with_connections_of_its_own(store):
    store.keep_finding("of the parent", 1)
    child = multiprocessing.get_context("fork").Process(target=_keep_in_a_fork, args=(store,))
    child.start()
    child.join(30)
    assert child.exitcode == 0
    store.keep_finding("after", 1)
    with store._connection() as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert len(store.findings(["of the parent", "of the child", "after"])) == 3


def test_a_store_that_is_let_go_lies_in_one_file(tmp_path):
    store = Store(tmp_path / "store.sqlite")
    store.keep_finding("a", 1)
    del store
    assert [path.name for path in tmp_path.iterdir()] == ["store.sqlite"]


# Where it is


def test_the_store_lies_in_the_kitchens_folder(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path))
    assert kitchen.store.path == tmp_path / ".soupviz" / "store.sqlite"
    assert kitchen.store.path.is_file()


def test_a_kitchen_that_cannot_be_written_has_its_store_in_the_cache(tmp_path, empty_cache, monkeypatch, capsys):
    """Root may write where mode bits forbid it, so that the answer to the question is replaced."""
    one, other = small_kitchen(tmp_path / "one"), small_kitchen(tmp_path / "other")
    monkeypatch.setattr(stores, "is_writable", lambda folder: not folder.is_relative_to(tmp_path))
    paths = [sv.Kitchen.load(file).store.path for file in (one, other)]
    assert all(path.is_relative_to(empty_cache) for path in paths)
    assert len(set(paths)) == 2
    first = json_of(capsys, "score", one)
    assert open_store(one).size()["scores"] == 4
    assert json_of(capsys, "score", one) == first
    assert open_store(one).size()["scores"] == 4
    assert open_store(other).size()["scores"] == 0


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path, empty_cache):
    file = small_kitchen(tmp_path)
    (tmp_path / ".soupviz").write_text("a file in the way")
    assert open_store(file).path.is_relative_to(empty_cache)


def test_a_store_of_somebody_else_is_left_alone(tmp_path, empty_cache, monkeypatch):
    file = small_kitchen(tmp_path)
    first = open_store(file)
    monkeypatch.setattr(stores.os, "access", lambda _path, _mode: False)
    assert first.path.is_relative_to(tmp_path)
    assert open_store(file).path.is_relative_to(empty_cache)


def test_a_damaged_store_is_an_error_that_names_it(tmp_path):
    (tmp_path / "store.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(KitchenError, match=r"store\.sqlite: the store of scores cannot be used .*remove the file"):
        Store(tmp_path / "store.sqlite")


# Size


def test_size_counts_and_clear_empties_and_gives_the_space_back(store):
    empty = store.size()
    assert (empty["scores"], empty["runs"]) == (0, 0)
    for number in range(50):
        store.keep_scores({str(number): kept(3000)})
    store.begin_run("key", "average", RECIPE)
    store.keep_file("file", "abc", None)
    full = store.size()
    assert (full["scores"], full["runs"]) == (50, 1)
    assert full["bytes"] > 10 * empty["bytes"]
    store.clear()
    left = store.size()
    assert (left["scores"], left["runs"], left["logits"]) == (0, 0, 0)
    assert left["bytes"] <= empty["bytes"]
    assert store.score("1") == (None, None)
    assert store.runs() == []
    assert store.file("file") is None


# A kitchen's memory


def test_asking_again_from_a_new_process_computes_nothing(tmp_path, no_evaluation):
    file = small_kitchen(tmp_path)
    kitchen = sv.Kitchen.load(file)
    table = kitchen.score()
    first = [sv.greedy(kitchen, alpha=0.3), sv.greedy(kitchen), sv.uniform(kitchen)]
    curve = sv.interpolate(kitchen, "m_0", "base", points=5, split="test")
    no_evaluation()
    kitchen = sv.Kitchen.load(file)  # as another process would: nothing is shared but the files
    assert kitchen.score().equals(table)
    again = [sv.greedy(kitchen, alpha=0.3), sv.greedy(kitchen), sv.uniform(kitchen)]
    assert [soup.as_dict() for soup in again] == [soup.as_dict() for soup in first]
    assert sv.interpolate(kitchen, "m_0", "base", points=5, split="test").equals(curve)
    with pytest.raises(AssertionError, match="scored again"):
        sv.interpolate(kitchen, "m_0", "base", points=4)


def test_recipes_share_the_scores_they_have_in_common(tmp_path, evaluations):
    """Of a sweep over ten alphas the four ingredients are scored once, not ten times."""
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path))
    kitchen.score()
    assert len(evaluations) == 4
    sv.greedy(kitchen, alpha=0.3)
    assert (
        4 + 3 <= len(evaluations) <= 4 + 3 + 1
    )  # three candidates; test, unless the soup is one ingredient: then that too
    before = len(evaluations)
    sv.sweep(kitchen, [0.3, 0.3, 0.3])
    assert len(evaluations) == before
    sv.sweep(kitchen, SWEEP_ALPHAS)
    assert len(evaluations) <= before + 9 * (3 + 1)


def test_equal_ends_reached_by_other_ways_are_one_score(tmp_path, no_evaluation):
    """What counts is the weights: an end of a curve is the ingredient; a pool of one is its member."""
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path))
    kitchen.score()
    kitchen.score("test")
    no_evaluation()
    assert len(sv.interpolate(kitchen, "m_0", "m_1", points=2)) == 2
    assert sv.uniform(kitchen, ["m_2"]).coefficients == {"m_2": 1.0}
    assert sv.greedy(kitchen, members=["m_2"]).mix == (("m_2", 1.0),)


def test_changed_weights_are_scored_anew(tmp_path):
    file = small_kitchen(tmp_path)
    before = sv.Kitchen.load(file).score()["loss"].tolist()
    (tmp_path / "m_1.safetensors").write_bytes((tmp_path / "m_3.safetensors").read_bytes())
    after = sv.Kitchen.load(file).score()["loss"].tolist()
    assert after == [before[0], before[3], before[2], before[3]]


def test_changed_data_is_scored_anew(tmp_path):
    file = small_kitchen(tmp_path)
    before = sv.Kitchen.load(file).score()["loss"].tolist()
    (tmp_path / "held_out.safetensors").write_bytes((tmp_path / "test.safetensors").read_bytes())
    assert sv.Kitchen.load(file).score()["loss"].tolist() == sv.Kitchen.load(file).score("test")["loss"].tolist()
    assert sv.Kitchen.load(file).score()["loss"].tolist() != before


def test_a_renamed_ingredient_keeps_its_score(tmp_path, no_evaluation):
    file = small_kitchen(tmp_path, ingredients=["m_*.safetensors"])
    before = sv.Kitchen.load(file).score()["loss"].tolist()
    (tmp_path / "m_3.safetensors").rename(tmp_path / "m_9.safetensors")
    no_evaluation()
    kitchen = sv.Kitchen.load(file)
    assert kitchen.names[-1] == "m_9"
    assert kitchen.score()["loss"].tolist() == before


def test_fingerprints_are_computed_once(tmp_path, monkeypatch):
    file = small_kitchen(tmp_path)
    first = [item.fingerprint for item in sv.Kitchen.load(file).ingredients]

    def fail(*_args):
        raise AssertionError("a file was hashed again")

    monkeypatch.setattr("soupviz.weights.ingredients.fingerprint", fail)
    assert [item.fingerprint for item in sv.Kitchen.load(file).ingredients] == first
    (tmp_path / "m_0.safetensors").touch()
    with pytest.raises(AssertionError, match="hashed again"):
        sv.Kitchen.load(file)


# Runs of a kitchen


def test_a_cooked_soup_is_a_finished_run_and_can_be_recalled(tmp_path, no_evaluation):
    file = small_kitchen(tmp_path)
    cooked = sv.greedy(sv.Kitchen.load(file), alpha=0.3)
    kitchen = sv.Kitchen.load(file)
    [run] = kitchen.store.runs()
    assert (run.status, run.name, run.key) == ("finished", "greedy (alpha = 0.3)", cooked.key)
    no_evaluation()
    recalled = recall(kitchen, run)
    assert recalled.as_dict() == cooked.as_dict()
    assert recalled.trajectory == cooked.trajectory


def plain(soup: sv.Soup) -> dict[str, Any]:
    return json.loads(json.dumps(soup.as_dict()))


def stop_at(step: int):
    def on_step(decision):
        if decision.step == step:
            raise Cancelled

    return on_step


def test_a_cancelled_search_keeps_its_steps_and_goes_on_from_them(tmp_path, evaluations):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path))
    with pytest.raises(Cancelled):
        sv.greedy(kitchen, alpha=0.3, on_step=stop_at(2))
    [run] = kitchen.store.runs()
    assert run.status == "cancelled"
    assert [step["step"] for step in kitchen.store.decisions(run)] == [0, 1, 2]
    evaluations.clear()
    soup = sv.greedy(kitchen, alpha=0.3)
    assert len(evaluations) <= 2  # the last candidate, and test
    [run] = kitchen.store.runs()
    assert run.status == "finished"
    assert kitchen.store.whole(run).result == plain(soup)


def test_a_finished_soup_that_is_cooked_again_and_cancelled_stays_finished(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path))
    cooked = sv.greedy(kitchen)
    with pytest.raises(Cancelled):
        sv.greedy(kitchen, on_step=stop_at(1))
    [run] = kitchen.store.runs()
    assert (run.status, kitchen.store.whole(run).result) == ("finished", plain(cooked))


def test_a_run_that_fails_says_why(tmp_path, capsys, monkeypatch):
    file = small_kitchen(tmp_path)

    def refuse(*_arguments, **_options):
        raise DataError("data.held_out: the model does not take its examples.")

    monkeypatch.setattr(Evaluator, "evaluate", refuse)
    status, _, err = run_command(capsys, "soup", file, "--recipe", "uniform")
    assert status == 2
    [run] = open_store(file).runs()
    assert (run.status, run.error) == ("failed", "data.held_out: the model does not take its examples.")
    assert run.error in err


def test_a_damaged_test_split_is_told_before_anything_is_scored(tmp_path, capsys, no_evaluation):
    file = small_kitchen(tmp_path)
    (tmp_path / "test.safetensors").write_bytes(b"damaged")
    no_evaluation()
    status, _, err = run_command(capsys, "soup", file, "--recipe", "greedy")
    assert status == 2
    assert "data.test" in err


def test_a_run_that_is_silent_for_long_shows_as_running_while_its_process_lives(tmp_path, monkeypatch):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path))
    monkeypatch.setattr(runs, "HEARTBEAT", 0.4)
    monkeypatch.setattr(recording, "HEARTBEAT", 0.4)
    seen = []

    def slow(_step):
        if not seen:
            time.sleep(1.0)
            seen.extend(run.status for run in kitchen.store.runs())

    sv.greedy(kitchen, on_step=slow)
    assert seen == ["running"]


# Stores of versions before tasks

EARLIER = """
CREATE TABLE scores (key TEXT PRIMARY KEY, summary TEXT, examples BLOB NOT NULL, created REAL NOT NULL);
CREATE TABLE findings (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE formulas (name TEXT PRIMARY KEY, formula TEXT NOT NULL);
CREATE TABLE files (key TEXT PRIMARY KEY, fingerprint TEXT NOT NULL, problem TEXT);
CREATE TABLE runs (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE NOT NULL, name TEXT NOT NULL,
  status TEXT NOT NULL, recipe TEXT NOT NULL, result TEXT, error TEXT, created REAL NOT NULL, updated REAL NOT NULL,
  label TEXT, pinned INTEGER NOT NULL DEFAULT 0);
"""
ONCE = {"prediction": "predictions", "right": "correct", "loss": "losses", "margin": "margins"}
ONCE |= {"confidence": "confidences", "top5": "top5", "scored": "scored"}


def make_earlier(store: Path) -> None:
    """Rewrite a store of today as versions before tasks kept it."""
    today = sqlite3.connect(store)
    today.executescript(EARLIER.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS"))
    query = (
        "SELECT outcomes.key, summary, results.details, columns FROM outcomes "
        "LEFT JOIN results ON results.key = outcomes.key"
    )
    for key, summary, details, blob in today.execute(query).fetchall():
        columns = unpack(blob)
        columns.setdefault("top5", columns["finite"].copy())  # which was kept of few classes too
        buffer = io.BytesIO()
        np.savez(buffer, **{then: columns[now] for now, then in ONCE.items()})
        told = None
        if summary:
            score = Score.from_plain(whole_score(summary, details), "held_out").summary()
            told = json.dumps(
                {
                    name: value
                    for name, value in score.items()
                    if name not in ("metric", "value", "metrics", "exact", "num_units")
                }
            )
        today.execute("INSERT INTO scores VALUES (?, ?, ?, 0.0)", (key, told, zlib.compress(buffer.getvalue(), 1)))
    today.execute("DROP TABLE results")
    today.execute("DROP TABLE outcomes")
    for key, result, details in today.execute("SELECT key, result, details FROM runs").fetchall():
        today.execute("UPDATE runs SET result = ? WHERE key = ?", (json.dumps(whole_run(result, details)), key))
    for name in ("person", "details"):
        today.execute(f"ALTER TABLE runs DROP COLUMN {name}")
    today.execute("PRAGMA user_version = 0")
    today.commit()
    today.close()


def stopped_at(number: int):
    def progress(done: int, _total: int, _what: str) -> None:
        if done >= number:
            raise Cancelled

    return progress


def test_a_store_of_an_earlier_version_is_carried_over(tmp_path, no_evaluation):
    """Scores with their examples, runs with what the user called and pinned, and fingerprints of files."""
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path))
    soup = sv.greedy(kitchen)
    scores = {name: kitchen.scores.score(((name, 1.0),)) for name in kitchen.names}
    kitchen.store.name_run(soup.key, "mine")
    kitchen.store.pin_run(soup.key)
    examples = {name: kitchen.scores.score(((name, 1.0),)).outcomes for name in scores}
    before = kitchen.store.size()["scores"]
    make_earlier(kitchen.store.path)
    no_evaluation()
    opened = sv.Kitchen.load(kitchen.file)
    assert opened.store.size()["scores"] == before
    found = {name: opened.scores.score(((name, 1.0),)) for name in opened.names}
    assert found == scores
    for name, told in examples.items():
        kept = opened.scores.score(((name, 1.0),)).outcomes
        assert all(np.array_equal(kept[column], told[column], equal_nan=True) for column in told.columns)
    [run] = opened.store.runs()
    assert (run.key, run.name, run.pinned) == (soup.key, "mine", True)
    told = {split: score.summary() for split, score in soup.scores.items()}
    assert {split: score.summary() for split, score in recall(opened, run).scores.items()} == told
    assert sv.greedy(opened).mix == soup.mix
    assert Store(opened.store.path).size()["scores"] == before  # and once is enough


def test_scoring_goes_on_from_where_an_earlier_version_stopped(tmp_path, evaluations):
    mix = (("m_0", 0.25), ("m_1", 0.75))
    whole = sv.Kitchen.load(small_kitchen(tmp_path / "whole", batch_size=20)).scores.score(mix)
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path / "part", batch_size=20))
    with pytest.raises(Cancelled):
        kitchen.scores.score(mix, progress=stopped_at(60))
    make_earlier(kitchen.store.path)
    seen: list[int] = []
    score = sv.Kitchen.load(kitchen.file).scores.score(mix, progress=lambda done, _total, _what: seen.append(done))
    assert next(done for done in seen if done > 1) == 80
    assert score == whole


def test_decisions_of_an_earlier_version_are_told_as_they_were():
    kept = {
        "step": 1, "ingredient": "b", "accuracy": 0.7, "correct": 140, "best_accuracy": 0.7, "accepted": True,
        "num_examples_scored": 200, "accuracy_at_most": 0.7, "mix": [["a", 0.5], ["b", 0.5]],
    }  # fmt: skip
    early = kept | {"accuracy": None, "correct": None, "accepted": False, "accuracy_at_most": 0.65}
    step, early = steps_from([kept, early | {"num_examples_scored": 40}])
    told = Classification().step(step.as_dict())
    assert {name: told[name] for name in told.keys() & kept.keys()} == {
        name: kept[name] for name in told.keys() & kept.keys()
    }
    assert (step.value, step.best_value, step.num_units, step.mix) == (0.7, 0.7, 200, (("a", 0.5), ("b", 0.5)))
    assert (early.value, early.bound, early.outcome) == (None, 0.65, "rejected early")
    assert (early.num_scored, early.num_units) == (40, 200)


def test_a_score_of_an_earlier_version_has_no_best_five_of_five_classes_or_fewer(tmp_path):
    """Its outcomes had, as all of them were among the best five."""
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path))
    task = kitchen.task
    columns = {"right": np.ones(2, bool), "top5": np.ones(2, bool)}
    assert list(task.earlier_columns({"top5_correct": None}, columns)) == ["right"]
    assert list(task.earlier_columns({"top5_correct": 2}, columns)) == ["right", "top5"]
    assert list(task.earlier_columns({"values": {}}, columns)) == ["right", "top5"]
    mix = (("m_0", 1.0),)
    score = kitchen.scores.score(mix)
    make_earlier(kitchen.store.path)
    again = sv.Kitchen.load(kitchen.file).scores.score(mix)
    assert set(again.outcomes.columns) == set(score.outcomes.columns)
    assert "top5" not in again.outcomes


def test_a_soup_that_is_recalled_has_the_exact_scores_that_were_cooked(tmp_path):
    kitchen = sv.Kitchen.load(small_kitchen(tmp_path))
    soup = sv.greedy(kitchen)
    again = recall(kitchen, kitchen.store.run(soup.key))
    assert again.scores == soup.scores
    assert type(again.scores["test"].values["accuracy"]) is Fraction


@pytest.mark.parametrize(
    "values",
    [
        np.array([True, False]), np.array([[1, 2], [3, 4]], dtype=np.int16), np.array([0.5, np.nan], dtype=np.float32),
        np.zeros((0, 3), dtype=np.float64), np.arange(8.0)[::2], np.array(["a", "bcd"]), np.float16([1.5, -0.0]),
    ],
    ids=lambda values: f"{values.dtype} {values.shape}",
)  # fmt: skip
def test_columns_come_back_as_they_were_and_can_be_written(values):
    found = unpack(pack({"x": values, "y": np.arange(3)}))
    assert found["x"].dtype == values.dtype
    assert found["x"].tobytes() == values.tobytes()
    assert found["x"].shape == values.shape
    assert found["x"].flags.writeable


def test_columns_as_versions_before_wrote_them_are_read():
    buffer = io.BytesIO()
    np.savez(buffer, right=np.array([True, False]), loss=np.array([0.5, 1.5]))
    found = unpack(zlib.compress(buffer.getvalue(), 1))
    assert (found["right"].tolist(), found["loss"].tolist()) == ([True, False], [0.5, 1.5])
