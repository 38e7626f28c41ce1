"""Two numeric parameters of one recipe against each other."""

import json

import altair
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kitchens import small_kitchen

import soupviz as sv
from soupviz.analysis import grids
from soupviz.analysis.grids import Grid
from soupviz.analysis.parameters import COUNT, as_text, default_values, numeric_parameters, parse_values
from soupviz.errors import Cancelled, RecipeError
from soupviz.pictures.grids import DONE, EMPTY, WAITING, heat
from soupviz.recipes import MENU, parse
from soupviz.soups.cooking import cook
from soupviz.soups.soup import pool_of, run_key
from soupviz.tasks.classes.class_metrics import ACCURACY


@pytest.fixture
def kitchen(tmp_path):
    return sv.Kitchen.load(small_kitchen(tmp_path, num_examples=60))


def grid_of(kitchen, method, x, y, xs, ys, **fixed):
    return Grid(method, x, y, tuple(xs), tuple(ys), fixed, tuple(kitchen.names))


def parameter(method, name):
    return next(one for one in numeric_parameters(MENU[method]) if one.name == name)


# parameters


def test_bounds_and_defaults_are_those_of_the_record():
    density = parameter("ties", "density")
    assert (density.low, density.high, density.default, density.is_open_low, density.is_open_high) == (
        0.0, 1.0, 0.2, True, False,
    )  # fmt: skip
    assert not density.takes(0.0) and density.takes(1.0)
    gamma = parameter("breadcrumbs", "gamma")
    assert gamma.takes(0.0) and not gamma.takes(1.0)
    assert parameter("beam", "width").kind is int
    assert parameter("greedy", "alpha").default is None, "its default is a word"


def test_a_parameter_that_needs_a_word_says_which():
    assert parameter("greedy", "shift_weight").implies == (("objective", "with_shifts"),)
    assert parameter("greedy", "seed").implies == (("order", "random"),)
    assert parameter("dare", "seed").implies == ()


@pytest.mark.parametrize("method", MENU)
def test_default_values_are_within_the_bounds_and_make_recipes(method):
    for one in numeric_parameters(MENU[method]):
        values = default_values(one)
        assert len(values) > 1 and values == sorted(set(values))
        for value in values:
            assert one.takes(value)
            parse({"method": method, one.name: value} | dict(one.implies))


def of_steps(folder, *steps):
    """A kitchen of one run's checkpoints, which say of which step they are."""
    file = small_kitchen(folder, num_examples=20, num_ingredients=len(steps))
    for index, step in enumerate(steps):
        (folder / f"m_{index}.json").write_text(json.dumps({"step": step}))
    return sv.Kitchen.load(file)


@pytest.mark.parametrize(
    ("method", "name", "expected"),
    [
        ("swa", "start", [100, 200, 300, 500, 600]),
        ("lawa", "end", [100, 200, 300, 500, 600]),
        ("wsm", "duration", [100, 200, 300, 400, 500]),
    ],
)
def test_what_counts_steps_is_tried_at_those_of_the_kitchens_own_checkpoints(method, name, expected, tmp_path):
    kitchen = of_steps(tmp_path, 300, 100, 200, 600, 400, 500)
    axes = {one.name: one for one in grids.axes_of(kitchen, MENU[method])}
    assert default_values(axes[name]) == expected


def test_of_checkpoints_that_are_of_no_run_no_steps_are_known(kitchen):
    axes = {one.name: one for one in grids.axes_of(kitchen, MENU["swa"])}
    assert axes["start"].usual == ()


@settings(max_examples=30)
@given(st.sampled_from(sorted(MENU)), st.data())
def test_values_survive_being_written_and_read(method, data):
    found = numeric_parameters(MENU[method])
    if found:
        one = data.draw(st.sampled_from(found))
        values = default_values(one)
        assert parse_values(as_text(values), one) == values


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1, 0.2,0.5", [0.1, 0.2, 0.5]),
        ("0.5 0.1", [0.1, 0.5]),
        ("0.1 to 0.5 in 3", [0.1, 0.3, 0.5]),
        ("1e-2", [0.01]),
    ],
)
def test_values_are_a_list_or_a_range(text, expected):
    assert parse_values(text, parameter("ties", "density")) == expected


def test_a_range_of_whole_numbers_is_rounded():
    assert parse_values("1 to 8 in 4", parameter("beam", "width")) == [1, 3, 6, 8]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has no value"),
        ("a, b", "has 'a'; expected numbers"),
        ("1 to 2 in 1", "is 1 value; expected at least 2"),
        ("1 to 2 in 1000000000", "expected at most 25 on an axis"),
        (", ".join(map(str, range(30))), "is 30 values"),
        ("1.5", "takes whole numbers"),
        ("inf", "has 'inf'"),
    ],
)
def test_values_that_are_none_are_refused(text, words):
    with pytest.raises(RecipeError, match=words):
        parse_values(text, parameter("beam", "width"))


# order


@settings(max_examples=40)
@given(st.integers(1, 25), st.integers(1, 25))
def test_coarse_to_fine_covers_every_cell_once_the_corners_first(columns, rows):
    order = grids.order(columns, rows)
    assert sorted(order) == [(column, row) for column in range(columns) for row in range(rows)]
    corners = {(column, row) for column in (0, columns - 1) for row in (0, rows - 1)}
    assert set(order[: len(corners)]) == corners


def test_the_order_of_five_by_one_halves_the_gaps():
    assert [column for column, _ in grids.order(5, 1)] == [0, 4, 2, 1, 3]


# which grids there are


def test_what_needs_a_base_is_offered_only_where_there_is_one(kitchen, tmp_path):
    without = sv.Kitchen.load(small_kitchen(tmp_path / "b", num_examples=20, base=None))
    assert {"ties", "dare", "wise_ft"} <= set(grids.offered(kitchen))
    assert not {"ties", "dare", "wise_ft"} & set(grids.offered(without))
    assert "greedy" in grids.offered(without)
    assert "uniform" not in grids.offered(kitchen), "it has one axis: how many ingredients"
    assert "distilled" not in grids.offered(kitchen), "there is no train data"


def test_every_pooled_recipe_can_vary_how_many_ingredients(kitchen):
    assert all(any(one.name == COUNT for one in axes) for axes in grids.offered(kitchen).values())


def test_one_ingredient_leaves_what_has_two_numbers_of_its_own(tmp_path):
    alone = sv.Kitchen.load(small_kitchen(tmp_path, num_examples=20, num_ingredients=1))
    assert "ties" in grids.offered(alone)
    assert not any(one.name == COUNT for one in grids.offered(alone)["ties"])


@pytest.mark.parametrize(
    ("x", "y", "xs", "words"),
    [
        ("alpha", "alpha", [0.1], "both axes are 'alpha'"),
        ("alpha", "scale", [0.1], "greedy has no numeric 'scale'"),
        ("alpha", COUNT, [number / 1000 for number in range(1, 300)], "598 cells; expected at most 400"),
    ],
)
def test_a_grid_that_is_none_is_refused(kitchen, x, y, xs, words):
    with pytest.raises(RecipeError, match=words):
        grids.cells(kitchen, grid_of(kitchen, "greedy", x, y, xs, [1, 2]))


# cells


def test_the_number_of_ingredients_takes_the_best_on_held_out(kitchen):
    scores = kitchen.scores.of_ingredients("held_out")
    best = sorted(kitchen.names, key=lambda name: -scores[name].correct)
    found = grids.cells(kitchen, grid_of(kitchen, "greedy", "alpha", COUNT, [0.5], [1, 2, 4]))
    pools = {cell.y: pool_of(kitchen, cell.recipe) for cell in found}
    assert set(pools[1]) == set(best[:1]) and set(pools[2]) == set(best[:2]) and pools[4] == kitchen.names
    assert next(cell for cell in found if cell.y == 4).recipe == parse({"method": "greedy", "alpha": 0.5})


def test_a_cell_that_cannot_be_says_why(kitchen):
    found = grids.cells(kitchen, grid_of(kitchen, "ties", "density", COUNT, [0.5, 1.5], [2, 9]))
    reasons = {(cell.x, cell.y): cell.reason for cell in found}
    assert reasons[0.5, 2] == ""
    assert "less than or equal to 1" in reasons[1.5, 2]
    assert reasons[0.5, 9] == "9 ingredients: the pool has 4"


# cooking


def test_cells_are_the_soups_that_cooking_each_alone_gives(kitchen, tmp_path):
    grid = grid_of(kitchen, "greedy", "alpha", COUNT, [0.2, 0.5], [2, 4])
    outcomes = grids.cook_grid(kitchen, grid)
    assert len(outcomes) == 4
    other = sv.Kitchen.load(small_kitchen(tmp_path / "again", num_examples=60))
    recipes = {(cell.column, cell.row): cell.recipe for cell in grids.cells(kitchen, grid)}
    for outcome in outcomes:
        alone = cook(other, recipes[outcome.column, outcome.row])
        assert outcome.values == {split: score.accuracy for split, score in alone.scores.items()}
        kept = kitchen.store.run(outcome.run)
        assert [tuple(item) for item in kept.result["mix"]] == list(alone.mix)


def test_a_grid_costs_no_more_than_was_told_and_nothing_the_second_time(kitchen, evaluations):
    grid = grid_of(kitchen, "ties", "density", "scale", [0.2, 0.6], [0.5, 1.0, 1.5])
    told = grids.cost_of(kitchen, grid, grids.cells(kitchen, grid))
    assert told.evaluations == 6 * 2, "each on held_out and on test"
    first = grids.cook_grid(kitchen, grid)
    assert len(evaluations) == told.evaluations
    evaluations.clear()
    assert grids.cook_grid(kitchen, grid) == first
    assert evaluations == []
    assert [grids.known(kitchen, cell) for cell in grids.cells(kitchen, grid)] == first


def test_scores_that_cells_share_are_told_once(kitchen, evaluations):
    grid = grid_of(kitchen, "greedy", "alpha", COUNT, [0.2, 0.5], [2, 3])
    told = grids.cost_of(kitchen, grid, grids.cells(kitchen, grid))
    # Four ingredients; one or two candidates in each cell; each cell's soup on test.
    assert told.evaluations == 4 + 2 * (1 + 2) + 4
    grids.cook_grid(kitchen, grid)
    assert len(evaluations) <= told.evaluations


def test_a_grid_that_was_stopped_goes_on_from_what_it_has(kitchen, evaluations):
    grid = grid_of(kitchen, "ties", "density", "scale", [0.2, 0.6], [0.5, 1.0])
    seen = []

    def stop_after_two(done, total, what):
        if len(seen) == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        grids.cook_grid(kitchen, grid, progress=stop_after_two, on_cell=seen.append)
    before = len(evaluations)
    waiting = [cell for cell in grids.cells(kitchen, grid) if grids.known(kitchen, cell) is None]
    assert [(cell.column, cell.row) for cell in waiting] == grids.order(2, 2)[2:]
    assert len(grids.cook_grid(kitchen, grid)) == 4
    assert before <= len(evaluations) <= 8 + 1, "only the evaluation that was stopped is begun again"


def test_a_cell_that_fails_leaves_the_others_and_says_why(kitchen, evaluations):
    grid = grid_of(kitchen, "slerp", "alpha", COUNT, [0.5], [1, 2])
    outcomes = {outcome.row: outcome for outcome in grids.cook_grid(kitchen, grid)}
    assert "needs two ingredients" in outcomes[0].reason and not outcomes[0].run
    assert outcomes[1].run
    evaluations.clear()
    again = {outcome.row: outcome for outcome in grids.cook_grid(kitchen, grid)}
    assert again == outcomes and evaluations == []


def test_runs_of_a_grid_are_marked_until_they_are_kept_and_earlier_ones_are_not(kitchen):
    mine = cook(kitchen, {"method": "ties", "density": 0.2, "scale": 1.0})
    outcomes = grids.cook_grid(kitchen, grid_of(kitchen, "ties", "density", "scale", [0.2, 0.6], [1.0]))
    marked = grids.only_in_grids(kitchen)
    assert marked == {outcome.run for outcome in outcomes} - {mine.key}
    (other,) = marked
    grids.unmark(kitchen, other)
    assert grids.only_in_grids(kitchen) == frozenset()


def test_a_kept_run_without_a_split_that_came_later_is_cooked_again(kitchen):
    grid = grid_of(kitchen, "ties", "density", "scale", [0.2], [1.0])
    (cell,) = grids.cells(kitchen, grid)
    key = run_key(kitchen, cell.recipe)
    grids.cook_grid(kitchen, grid)
    result = kitchen.store.run(key).result
    result["scores"].pop("test")
    kitchen.store.end_run(key, "finished", result)
    assert grids.known(kitchen, cell) is None
    assert set(grids.cook_grid(kitchen, grid)[0].values) == {"held_out", "test"}


# the picture


def row(column, row, value, state, frame=""):
    return {"column": column, "row": row, "value": value, "state": state, "reason": "", "frame": frame}


@pytest.mark.parametrize("columns", [2, 20])
def test_the_heat_map_is_vega_lite_and_stays_the_same_while_it_fills(columns):
    xs, ys = [f"{number:g}" for number in range(columns)], ["1", "2"]
    waiting = [row(x, y, None, WAITING) for x in xs for y in ys]
    full = [row(x, y, 90.0, DONE, "best open") for x in xs for y in ys[:1]] + [row(x, "2", None, EMPTY) for x in xs]
    pictures = [heat(rows, ("alpha", "width"), (xs, ys), ACCURACY, "held_out") for rows in (waiting, full)]
    assert pictures[0][1] == pictures[1][1]
    for data, spec in pictures:
        altair.Chart.from_dict(spec | {"data": {"values": data.to_dict("records")}})
    assert pictures[1][1]["encoding"]["y"]["scale"]["domain"] == ["2", "1"], "the larger stands higher"
