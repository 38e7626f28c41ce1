"""The history of a kitchen: which runs still stand, finding them, two side by side; and what the store keeps of it."""

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from kitchens import change_yaml, small_kitchen
from safetensors.torch import load_file, save_file
from scores import a_step

import soupviz as sv
from soupviz.analysis import history
from soupviz.kitchen import Kitchen
from soupviz.pictures.history import searches
from soupviz.recipes.trajectory import Step
from soupviz.soups.soup import aggregation_in, mix_in
from soupviz.soups.standing import current
from soupviz.store import runs as runs_module
from soupviz.store.database import Store
from soupviz.store.runs import Run
from soupviz.tasks.classes.class_metrics import ACCURACY
from soupviz.tasks.significance import mcnemar
from soupviz.weights.ingredients import Ingredient

RECIPE = {"method": "uniform", "members": None, "batchnorm": "average"}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A kitchen with two soups: greedy at 0.1 (run 1), and at 0.5 in the order listed (run 2)."""
    file = small_kitchen(tmp_path_factory.mktemp("kitchen") / "small", num_examples=80)
    kitchen = Kitchen.load(file)
    sv.greedy(kitchen, alpha=0.1)
    sv.greedy(kitchen, alpha=0.5, order="listed")
    return file


@pytest.fixture
def kitchen(file: Path) -> Kitchen:
    kitchen = Kitchen.load(file)
    for split in kitchen.splits.reporting:
        kitchen.splits.load(split)
    return kitchen


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A kitchen that a test may change, with one soup of m_0 and m_1."""
    file = small_kitchen(tmp_path / "own", num_ingredients=3, num_examples=40)
    sv.uniform(Kitchen.load(file), ["m_0", "m_1"])
    return file


def test_the_best_is_a_soup_and_an_ensemble_only_where_there_is_none(own: Path) -> None:
    kitchen = Kitchen.load(own)
    [soup] = kitchen.store.runs()
    together = kitchen.store.run(sv.cook(kitchen, {"method": "ensemble"}).key)
    assert together is not None
    assert history.best_of(kitchen, [together, soup]) == soup
    assert history.best_of(kitchen, [together]) == together


def only_entry(file: Path) -> history.Entry:
    kitchen = Kitchen.load(file)
    kitchen.splits.load("held_out")
    (entry,) = history.entries(kitchen)
    return entry


def test_a_run_of_the_kitchen_as_it_is_is_a_soup_without_a_reason(own: Path) -> None:
    entry = only_entry(own)
    assert (entry.state, entry.reason, entry.is_soup) == ("finished", "", True)


def test_a_run_tells_where_it_was_cooked(own: Path) -> None:
    made_in = (only_entry(own).run.result or {})["made_in"]
    kitchen = Kitchen.load(own)
    assert (made_in["device"], made_in["precision"]) == ("cpu", "float32")
    assert made_in["ingredients"] == {name: kitchen.weights.resolve(name).fingerprint[:12] for name in ("m_0", "m_1")}
    assert made_in["held_out"] == kitchen.splits.load("held_out").fingerprint[:12]


def test_a_checkpoint_that_is_gone_is_named(own: Path) -> None:
    change_yaml(own, lambda document: document["ingredients"].remove("m_1.safetensors"))
    entry = only_entry(own)
    assert (entry.state, entry.is_soup) == (history.OUTDATED, False)
    assert entry.reason == "m_1 is no longer in this kitchen."


def test_a_checkpoint_that_was_trained_on_is_named(own: Path) -> None:
    path = own.parent / "m_0.safetensors"
    save_file({key: tensor + 0.5 for key, tensor in load_file(path).items()}, path)
    assert only_entry(own).reason == "m_0 changed since."


def test_another_precision_is_told(own: Path) -> None:
    change_yaml(own, lambda document: document.update(precision="bfloat16"))
    assert only_entry(own).reason == "It was evaluated in float32; this kitchen now says bfloat16."


def test_another_held_out_is_told(own: Path) -> None:
    def exchange(document: dict[str, dict[str, object]]) -> None:
        data = document["data"]
        data["held_out"], data["test"] = data["test"], data["held_out"]

    change_yaml(own, exchange)
    assert "selected on another held_out" in only_entry(own).reason


def test_a_run_of_an_earlier_version_without_a_place_still_has_a_reason(own: Path) -> None:
    store = Kitchen.load(own).store
    (run,) = store.runs()
    result = {name: value for name, value in (run.result or {}).items() if name != "made_in"}
    store.end_run(run.key, "finished", result)
    change_yaml(own, lambda document: document.update(precision="bfloat16"))
    assert "other data, or by another model" in only_entry(own).reason


def test_a_failed_run_tells_its_error_and_a_running_one_nothing(kitchen: Kitchen) -> None:
    run = Run(7, "k", "greedy", "failed", RECIPE, None, "no train", 0.0, 1.0, "greedy")
    assert history.entry_of(kitchen, run) == history.Entry(run, "failed", "no train")
    running = replace(run, status="running", error=None)
    assert history.entry_of(kitchen, running).reason == ""


def test_the_pinned_stand_first_then_the_newest(own: Path) -> None:
    kitchen = Kitchen.load(own)
    sv.uniform(kitchen), sv.uniform(kitchen, ["m_1", "m_2"])
    assert [entry.run.id for entry in history.entries(kitchen)] == [3, 2, 1]
    kitchen.store.pin_run(kitchen.store.runs()[0].key)
    assert [entry.run.id for entry in history.entries(kitchen)] == [1, 3, 2]


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("", [2, 1]), ("greedy", [2, 1]), ("GREEDY listed", [2]), ("#1", [1]), ("#2 order=listed", [2]),
        ("alpha=0.1", [1]), ("alpha=0", []), ("finished", [2, 1]), ("m_0 nothing", []),
    ],
)  # fmt: skip
def test_a_search_finds_the_runs_that_have_every_word(kitchen: Kitchen, text: str, ids: list[int]) -> None:
    assert [entry.run.id for entry in history.entries(kitchen) if history.found(entry, text)] == ids


def test_a_run_is_found_by_an_ingredient_and_by_its_own_name(own: Path) -> None:
    kitchen = Kitchen.load(own)
    kitchen.store.name_run(kitchen.store.runs()[0].key, "For the paper")
    (entry,) = history.entries(kitchen)
    assert history.found(entry, "m_1") and history.found(entry, "paper") and history.found(entry, "average")
    assert not history.found(entry, "m_2")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (None, "all"), (True, "yes"), (0.1, "0.1"), (3, "3"), ("mean", "mean"), (("a", "b"), "a, b"),
        ((("a", 0.5), ("b", 1.0)), "a 0.5, b 1"), ({"head": 0.25}, "head 0.25"),
    ],
)  # fmt: skip
def test_values_are_told_plainly(value: object, told: str) -> None:
    assert history.plain(value) == told


def test_recipes_are_compared_field_by_field_and_what_differs_stands_first(kitchen: Kitchen) -> None:
    a, b = kitchen.store.runs()
    fields = history.recipe_fields(a, b)
    assert [(field.name, field.a, field.b) for field in fields if field.differs] == [
        ("alpha", "0.1", "0.5"), ("order", "best", "listed"),
    ]  # fmt: skip
    assert [field.differs for field in fields[:3]] == [True, True, False]
    assert not any(field.differs for field in history.recipe_fields(a, a))


def test_a_field_that_only_one_recipe_has_differs(kitchen: Kitchen) -> None:
    run = kitchen.store.runs()[0]
    other = Run(3, "u", "average", "finished", RECIPE, None, None, 0.0, 0.0, "average")
    told = {field.name: (field.a, field.b) for field in history.recipe_fields(run, other)}
    assert told["method"] == ("greedy", "uniform")
    assert told["order"] == ("best", None)


def test_a_recipe_of_another_version_is_compared_as_it_was_kept() -> None:
    run = Run(1, "k", "old", "finished", {"method": "gone", "depth": 2}, None, None, 0.0, 0.0, "old")
    assert history.fields_of(run) == {"method": "gone", "depth": 2}


def test_the_paired_test_counts_what_only_one_soup_has_right(kitchen: Kitchen) -> None:
    a, b = kitchen.store.runs()
    pairs = history.pairs(kitchen, a, b)
    assert [pair.split for pair in pairs] == ["held_out", "test"]
    for pair in pairs:
        scores = [kitchen.scores.score(mix_in(run), pair.split, aggregation_in(run)) for run in (a, b)]
        right_a, right_b = (score.outcomes["right"].tolist() for score in scores if score.outcomes is not None)
        assert pair.better == sum(new and not old for old, new in zip(right_a, right_b, strict=True))
        assert pair.worse == sum(old and not new for old, new in zip(right_a, right_b, strict=True))
        assert pair.p_value == mcnemar(pair.better, pair.worse)
        assert pair.better - pair.worse == sum(right_b) - sum(right_a)


def test_a_pair_exchanged_has_fixed_and_broken_exchanged(kitchen: Kitchen) -> None:
    a, b = kitchen.store.runs()
    for there, back in zip(history.pairs(kitchen, a, b), history.pairs(kitchen, b, a), strict=True):
        assert (there.better, there.worse, there.p_value) == (back.worse, back.better, back.p_value)


def test_only_what_is_read_and_scored_is_compared(file: Path) -> None:
    kitchen = Kitchen.load(file)
    kitchen.splits.load("held_out")
    assert [pair.split for pair in history.pairs(kitchen, *kitchen.store.runs())] == ["held_out"]
    assert len(history.wanted(kitchen, kitchen.store.runs())) == 4


def run_of(coefficients: dict[str, float] | None, steps: list[Step]) -> Run:
    result = {"coefficients": coefficients, "trajectory": [step.as_dict() for step in steps]}
    return Run(1, "k", "n", "finished", RECIPE, result, None, 0.0, 0.0, "n")


def step(number: int, name: str, accepted: bool) -> Step:
    return a_step(number, name, 0.5, 0.6, accepted, num_scored=80, num_units=80)


def test_parts_join_coefficients_and_decisions_the_largest_first() -> None:
    a = run_of({"x": 0.2, "y": 0.8}, [step(0, "y", True), step(1, "x", True)])
    b = run_of({"x": 0.0, "z": 1.0}, [step(0, "z", True), step(1, "x", False)])
    assert history.parts(a, b) == [
        history.Part("z", None, "", 1.0, "start"),
        history.Part("y", 0.8, "start", None, ""),
        history.Part("x", 0.2, "accepted at 1", 0.0, "rejected at 1"),
    ]


def test_a_soup_that_is_no_weighted_sum_has_no_parts() -> None:
    assert history.parts(run_of(None, []), run_of(None, [])) == []


def test_the_picture_of_two_searches_has_every_decision_and_a_specification_that_stays() -> None:
    steps = [step(0, "y", True), step(1, "x", False)]
    data, spec = searches(steps, steps[:1], ("#1 a", "#2 b"), ACCURACY)
    assert data["search"].tolist() == ["#1 a", "#1 a", "#2 b"]
    assert data["best"].tolist() == [60.0] * 3
    assert json.dumps(spec) == json.dumps(searches([], [], ("#1 a", "#2 b"), ACCURACY)[1])


def test_a_run_has_its_own_name_until_it_is_emptied(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    store.begin_run("k", "average", RECIPE)
    store.name_run("k", "  mine ")
    run = store.run("k")
    assert run is not None and (run.name, run.title) == ("mine", "average")
    store.name_run("k", " ")
    run = store.run("k")
    assert run is not None and (run.name, run.title) == ("average", "average")


def test_name_and_pin_outlive_cooking_again(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    store.begin_run("k", "average", RECIPE)
    store.end_run("k", "failed", error="no")
    store.name_run("k", "mine"), store.pin_run("k")
    store.begin_run("k", "average", RECIPE)
    store.end_run("k", "finished", {"mix": []})
    run = store.run("k")
    assert run is not None and (run.name, run.pinned, run.status) == ("mine", True, "finished")
    store.pin_run("k", False)
    assert not store.runs()[0].pinned


def test_a_deleted_run_is_taken_back_as_it_was_under_its_number(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    for key in "ab":
        store.begin_run(key, "average", RECIPE)
        store.end_run(key, "finished", {"mix": [[key, 1.0]]})
    store.name_run("a", "mine"), store.pin_run("a")
    store.begin_run("search", "greedy", RECIPE)
    store.end_run("search", "finished", {"mix": [["a", 1.0]], "trajectory": [{"step": 0}]})
    before = store.runs()
    store.forget_run("a"), store.forget_run("search")
    assert [run.key for run in store.runs()] == ["b"] and store.num_runs() == 1
    store.take_back(before)
    assert store.runs() == before
    assert store.decisions(before[-1]) == [{"step": 0}]


def test_a_list_of_runs_has_no_decisions_and_nothing_of_each_class_and_one_run_has_all(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    result = {
        "mix": [["a", 1.0]],
        "trajectory": [{"step": 0, "value": 0.5}],
        "scores": {"held_out": {"value": 0.5, "exact": {"accuracy": [1, 2]}, "class_correct": [1, 0], "told": ["x"]}},
    }
    store.begin_run("a", "greedy", RECIPE)
    store.end_run("a", "finished", result)
    [listed] = store.runs()
    score = {"value": 0.5, "exact": {"accuracy": [1, 2]}, "told": ["x"]}
    assert listed.result == {"mix": [["a", 1.0]], "scores": {"held_out": score}}
    assert store.whole(listed) == store.run("a")
    assert store.whole(listed).result == result
    assert store.decisions(listed) == result["trajectory"]


def test_a_list_of_runs_is_what_other_processes_made_of_them_since(tmp_path: Path) -> None:
    store, other = Store(tmp_path / "store.sqlite"), Store(tmp_path / "store.sqlite")
    store.begin_run("a", "average", RECIPE)
    assert [run.status for run in store.runs()] == ["running"]
    other.end_run("a", "finished", {"mix": [["a", 1.0]]})
    assert [(run.status, run.result) for run in store.runs()] == [("finished", {"mix": [["a", 1.0]]})]
    other.name_run("a", "mine"), other.pin_run("a")
    assert [(run.name, run.pinned) for run in store.runs()] == [("mine", True)]
    other.forget_run("a")
    assert store.runs() == []


def test_runs_that_did_not_change_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store.sqlite")
    for key in "abc":
        store.begin_run(key, "average", RECIPE)
        store.end_run(key, "finished", {"mix": [[key, 1.0]]})
    first, made_of = store.runs(), runs_module.run_of
    read: list[object] = []
    monkeypatch.setattr(runs_module, "run_of", lambda row: read.append(row) or made_of(row))
    store.pin_run("b")
    second = store.runs()
    assert len(read) == 1
    assert [one is other for one, other in zip(first, second, strict=True)] == [True, False, True]


def test_no_file_is_looked_at_twice_to_tell_which_runs_are_soups(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    check = Ingredient.check_unchanged
    monkeypatch.setattr(Ingredient, "check_unchanged", lambda item: looked.append(item.name) or check(item))
    assert len(current(kitchen, kitchen.store.runs())) == 2
    assert sorted(looked) == sorted(set(looked))


def test_a_run_whose_checkpoint_was_written_to_is_a_soup_no_longer(own: Path) -> None:
    kitchen = Kitchen.load(own)
    assert len(current(kitchen, kitchen.store.runs())) == 1
    kitchen.ingredients[0].path.touch()
    assert current(kitchen, kitchen.store.runs()) == []


def test_a_run_that_was_cooked_again_since_is_not_replaced_by_what_is_taken_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "store.sqlite")
    store.begin_run("a", "average", RECIPE)
    old = store.runs()
    store.forget_run("a")
    store.begin_run("a", "average", RECIPE)
    store.end_run("a", "finished", {"mix": []})
    store.take_back(old)
    (run,) = store.runs()
    assert (run.id, run.status) == (2, "finished")


EARLIER = """
CREATE TABLE runs (id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE NOT NULL, name TEXT NOT NULL,
  status TEXT NOT NULL, recipe TEXT NOT NULL, result TEXT, error TEXT, created REAL NOT NULL, updated REAL NOT NULL);
INSERT INTO runs VALUES (5, 'k', 'average', 'finished', '{"method": "uniform"}', '{"mix": []}', NULL, 1.0, 2.0);
"""


def test_a_store_of_an_earlier_version_gets_names_and_pins(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(EARLIER)
    connection.close()
    for _ in range(2):  # the second time the columns are there
        (run,) = Store(path).runs()
        assert (run.id, run.name, run.title, run.pinned) == (5, "average", "average", False)
    Store(path).name_run("k", "mine")
    assert Store(path).runs()[0].name == "mine"
