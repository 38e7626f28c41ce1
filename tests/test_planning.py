"""What a recipe will cost, told before it is cooked."""

import pytest
from kitchens import json_of, small_kitchen

import soupviz as sv
from soupviz.planning import measure_rate, plan
from soupviz.recipes import Greedy, Uniform


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
    found = plan(kitchen, Greedy(alpha=0.3))
    assert (found.evaluations, found.known, found.examples) == (4 + 3 + 1, 0, 8 * 200)
    kitchen.score(members=["m_0", "m_1"])
    found = plan(kitchen, Greedy(alpha=0.3))
    assert (found.evaluations, found.known, found.examples) == (6, 2, 6 * 200)


@pytest.mark.parametrize("complete", [False, True])
@pytest.mark.parametrize("recipe", [Greedy(alpha=0.3), Greedy(members=("m_0", "m_2")), Uniform()])
def test_cooking_takes_no_more_than_was_planned(kitchen, recipe, complete):
    bound = plan(kitchen, recipe)
    told = evaluated(kitchen)
    sv.cooking.cook(kitchen, recipe, complete=complete)
    assert len(told) <= bound.evaluations
    assert sum(told) <= bound.examples
    if complete or isinstance(recipe, Uniform):
        assert sum(told) == bound.examples


def test_a_soup_that_was_cooked_costs_nothing(kitchen):
    sv.greedy(kitchen, alpha=0.3)
    found = plan(kitchen, Greedy(alpha=0.3))
    assert (found.evaluations, found.examples, found.bytes_read, found.bytes_written) == (0, 0, 0, 0)


def test_bytes_are_those_of_the_checkpoints_tensors(kitchen):
    size = sum(tensor.nbytes for tensor in kitchen.resolve("m_0").tensors.values())
    found = plan(kitchen, Uniform(members=("m_0", "m_1")), writes=True)
    # For held_out, for test, and for the file.
    assert (found.bytes_read, found.bytes_written) == (3 * 2 * size, size)
    # Four singles, then candidates of two, three and four, then test.
    assert plan(kitchen, Greedy()).bytes_read == (4 + 2 + 3 + 4 + 4) * size


def test_seconds_are_told_once_the_speed_was_measured(kitchen):
    assert plan(kitchen, Uniform()).seconds is None
    measure_rate(kitchen)
    found = plan(kitchen, Uniform())
    assert found.evaluations == 2
    assert 0 < found.seconds < 60


def test_the_command_line_plans_without_cooking(tmp_path, capsys):
    file = small_kitchen(tmp_path)
    found = json_of(capsys, "soup", file, "--recipe", "greedy", "--plan", "--out", tmp_path / "x.pt")
    assert found["plan"]["evaluations"] == 8
    assert found["plan"]["bytes_written"] > 0
    assert sv.Kitchen.load(file).store.runs() == []
    assert not (tmp_path / "x.pt").exists()
