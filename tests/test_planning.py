"""What a recipe will cost, told before it is cooked."""

import sqlite3
import sys
from dataclasses import replace

import pytest
from kitchens import change_yaml, json_of, small_kitchen
from scores import CLASSIFICATION

import soupviz as sv
from soupviz.analysis import grids, history, robustness
from soupviz.analysis.verdicts import by_merit
from soupviz.kitchen import Kitchen
from soupviz.mixing.averaging import mean_of
from soupviz.recipes import Greedy, Uniform
from soupviz.reports import contents
from soupviz.soups.planning import cooking_cost, ingredient_summaries, known, measure_rate, summaries
from soupviz.ui import tables
from soupviz.ui.compare import entries as compare
from soupviz.ui.compare import picture, table


@pytest.fixture
def kitchen(tmp_path) -> sv.Kitchen:
    return sv.Kitchen.load(small_kitchen(tmp_path, num_examples=200, batch_size=20))


def evaluated(kitchen: sv.Kitchen) -> list[int]:
    """How many examples each evaluation from now on scores."""
    told: list[int] = []
    evaluate = kitchen.evaluator.evaluate

    def spied(split, task, **options):
        before = task.found.num_scored
        result = evaluate(split, task, **options)
        told.append(task.found.num_scored - before)
        return result

    kitchen.evaluator.evaluate = spied
    return told


def test_a_search_is_planned_as_every_ingredient_every_candidate_and_the_report(kitchen):
    found = cooking_cost(kitchen, Greedy(alpha=0.3))
    assert (found.evaluations, found.known, found.examples) == (4 + 3 + 1, 0, 8 * 200)
    kitchen.score(members=["m_0", "m_1"])
    found = cooking_cost(kitchen, Greedy(alpha=0.3))
    assert (found.evaluations, found.known, found.examples) == (6, 2, 6 * 200)


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("recipe", [Greedy(alpha=0.3), Greedy(members=("m_0", "m_2")), Uniform()])
def test_cooking_takes_no_more_than_was_planned(kitchen, recipe, complete):
    bound = cooking_cost(kitchen, recipe)
    told = evaluated(kitchen)
    sv.cook(kitchen, recipe, complete=complete)
    assert len(told) <= bound.evaluations
    assert sum(told) <= bound.examples
    if complete or isinstance(recipe, Uniform):
        assert sum(told) == bound.examples


def test_a_soup_that_was_cooked_costs_nothing(kitchen):
    sv.greedy(kitchen, alpha=0.3)
    found = cooking_cost(kitchen, Greedy(alpha=0.3))
    assert (found.evaluations, found.examples, found.bytes_read, found.bytes_written) == (0, 0, 0, 0)


def test_bytes_are_those_of_the_checkpoints_tensors(kitchen):
    size = sum(tensor.nbytes for tensor in kitchen.weights.resolve("m_0").tensors.values())
    found = cooking_cost(kitchen, Uniform(members=("m_0", "m_1")), writes=True)
    # For held_out, for test, and for the file.
    assert (found.bytes_read, found.bytes_written) == (3 * 2 * size, size)
    # Four singles, then candidates of two, three and four, then test.
    assert cooking_cost(kitchen, Greedy()).bytes_read == (4 + 2 + 3 + 4 + 4) * size


def test_seconds_are_told_once_the_speed_was_measured(kitchen):
    assert cooking_cost(kitchen, Uniform()).seconds is None
    measure_rate(kitchen)
    found = cooking_cost(kitchen, Uniform())
    assert found.evaluations == 2
    assert 0 < found.seconds < 60


def test_the_command_line_plans_without_cooking(tmp_path, capsys):
    file = small_kitchen(tmp_path)
    found = json_of(capsys, "soup", file, "--recipe", "greedy", "--plan", "--out", tmp_path / "x.pt")
    assert found["plan"]["evaluations"] == 8
    assert found["plan"]["bytes_written"] > 0
    assert sv.Kitchen.load(file).store.runs() == []
    assert not (tmp_path / "x.pt").exists()


@pytest.fixture
def no_examples(monkeypatch):
    """Whoever unpacks what the store has of each example fails the test."""
    unpacked = "soupviz.store.database.unpack"
    return lambda: monkeypatch.setattr(unpacked, lambda _blob: pytest.fail("examples were unpacked"))


def test_summaries_are_the_known_scores_without_their_examples(tmp_path, no_examples):
    kitchen = Kitchen.load(small_kitchen(tmp_path, num_examples=30))
    for split in ("held_out", "test"):
        kitchen.scores.score((("m_0", 1.0),), split)
    mean = mean_of(kitchen.names)
    kitchen.scores.score(mean)
    wanted = [((("m_0", 1.0),), "held_out", "average"), ((("m_0", 1.0),), "test", "average")]
    wanted += [(mean, "held_out", "average"), (mean, "test", "average"), (mean, "shifts.none", "average")]
    full = {one: known(kitchen, *one) for one in wanted}
    no_examples()
    found = summaries(kitchen, [*wanted, *wanted])
    brief = {one: replace(score, facts=without_lists(score.facts)) for one, score in full.items() if score is not None}
    assert found == brief
    assert [score.outcomes for score in found.values()] == [None] * 3


def without_lists(facts):
    return {name: value for name, value in facts.items() if not isinstance(value, list)}


def test_a_brief_summary_that_is_completed_loses_nothing_of_what_the_score_tells(tmp_path, monkeypatch):
    """A metric that came to the task since is computed from the units."""
    kitchen = Kitchen.load(small_kitchen(tmp_path, num_examples=30))
    mix = (("m_0", 1.0),)
    whole = kitchen.scores.score(mix)
    key = kitchen.scores.key(mix, "held_out", "average")
    with sqlite3.connect(kitchen.store.path) as connection:
        query = "UPDATE results SET summary = json_remove(summary, '$.values.macro_f1') WHERE key = ?"
        connection.execute(query, (key,))
    connection.close()
    opened = Kitchen.load(kitchen.file)
    opened.splits.load("held_out")
    one = (mix, "held_out", "average")
    assert summaries(opened, [one])[one].values == whole.values
    assert opened.scores.known(mix, "held_out").facts == whole.facts


def test_scores_that_were_forgotten_are_known_no_longer(tmp_path):
    kitchen = Kitchen.load(small_kitchen(tmp_path, num_examples=30))
    one = ((("m_0", 1.0),), "held_out", "average")
    kitchen.scores.score(one[0])
    assert one in summaries(kitchen, [one])
    kitchen.store.clear()
    assert summaries(kitchen, [one]) == {}


def test_a_guests_summary_is_its_own_kitchens(tmp_path, no_examples):
    file = small_kitchen(tmp_path / "own", num_ingredients=2, num_examples=30)
    small_kitchen(tmp_path / "other", num_ingredients=1, num_examples=30)
    change_yaml(file, lambda yaml: yaml.update(other_models={"other": "../other"}))
    kitchen = Kitchen.load(file)
    score = kitchen.scores.score((("other/m_0", 1.0),))
    no_examples()
    assert ingredient_summaries(kitchen, "held_out", ["m_0", "other/m_0"]) == {"other/m_0": score}


def test_lists_of_ingredients_and_soups_unpack_no_example(tmp_path, no_examples):
    kitchen = Kitchen.load(small_kitchen(tmp_path, num_examples=30, shifts=["blur"]))
    for split in kitchen.splits.reporting:
        kitchen.scores.of_ingredients(split)
    sv.greedy(kitchen)
    no_examples()
    assert tables.ingredients(kitchen)["test"].notna().all()
    assert tables.headline(kitchen)["Best on held_out"][2] is not None
    assert by_merit(kitchen) == grids.ranked(kitchen, kitchen.names)
    assert [entry.is_soup for entry in history.entries(kitchen)] == [True]
    mixes = [mix for mix in robustness.mixes_of(kitchen, []) if mix.model.kind == "ingredient"]
    assert robustness.scores_of(kitchen, mixes).values.notna().all(axis=None)


def test_pairs_are_looked_at_once_and_then_unpack_no_example(tmp_path, no_examples):
    """Compare's table: the paired counts of every row against the best ingredient."""
    kitchen = Kitchen.load(small_kitchen(tmp_path, num_examples=30))
    for split in ("held_out", "test"):
        kitchen.scores.of_ingredients(split)
    sv.uniform(kitchen)
    runs = kitchen.store.runs()
    first = compare.entries(kitchen, runs, "test")
    best = next(row for row in first if row.kind == "best")
    rival = known(kitchen, best.mix, "test")
    for row in first:
        full = known(kitchen, row.mix, "test", row.aggregation)
        expected = CLASSIFICATION.better(full.outcomes, rival.outcomes) if full and row is not best else None
        assert (row.pair and row.pair[:2]) == expected
    assert sum(row.pair is not None for row in first) == len(kitchen.names)  # the other ingredients, and the soup
    no_examples()
    again = compare.entries(kitchen, runs, "test")
    assert again == first
    table.table(again, "test", kitchen.task, kitchen.objective)
    picture.picture(again, "test", "", kitchen.objective)


def test_scores_of_ingredients_that_are_known_unpack_no_example(tmp_path, no_examples):
    kitchen = Kitchen.load(small_kitchen(tmp_path, num_examples=30))
    shown, scores = kitchen.score(), kitchen.scores.of_ingredients("test")
    no_examples()
    assert kitchen.score().equals(shown)
    assert kitchen.scores.of_ingredients("test") == scores


def test_what_a_report_gathers_unpacks_no_example(tmp_path, no_examples):
    kitchen = Kitchen.load(small_kitchen(tmp_path, num_ingredients=3, num_examples=20))
    soup = sv.uniform(kitchen)
    found = contents.gather(soup)
    no_examples()
    assert contents.gather(soup) == found


def test_a_list_of_ingredients_takes_one_look_at_the_store_however_many_they_are(tmp_path, monkeypatch):
    def looks(number: int) -> int:
        kitchen = Kitchen.load(small_kitchen(tmp_path / str(number), num_ingredients=number, num_examples=20))
        for split in ("held_out", "test"):
            kitchen.scores.of_ingredients(split)
        seen: list[int] = []
        connect = sqlite3.connect
        with monkeypatch.context() as patch:
            patch.setattr(sqlite3, "connect", lambda *args, **more: seen.append(1) or connect(*args, **more))
            tables.ingredients(kitchen)
        return len(seen)

    assert looks(2) == looks(6) <= 2


def test_what_a_score_is_kept_under_is_remembered_without_the_mix(tmp_path):
    """Lists ask of thousands of mixes, each of up to a hundred ingredients."""
    kitchen = Kitchen.load(small_kitchen(tmp_path))
    mix = mean_of(["m_0", "m_1"])
    before = sys.getrefcount(mix)
    key = kitchen.scores.key(mix, "held_out", "average")
    assert sys.getrefcount(mix) == before
    assert kitchen.scores.key(mean_of(["m_0", "m_1"]), "held_out", "average") == key
    others = (mean_of(["m_1", "m_0"]), "held_out"), (mix, "test"), ((("m_0", 0.5), ("m_1", 0.25)), "held_out")
    assert len({key, *(kitchen.scores.key(*other, "average") for other in others)}) == 4
