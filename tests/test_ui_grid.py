"""The Grid page: two parameters, the cost, the cells, and the soup of one of them."""

from pathlib import Path

import pytest
from kitchens import small_kitchen
from streamlit.testing.v1 import AppTest
from test_pages import ROOT, as_read, errors, fresh_server, page, press, settle, trusted  # noqa: F401 - a fixture

import soupviz as sv
from soupviz.analysis import grids
from soupviz.recipes import Ties
from soupviz.soups.cooking import cook


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return trusted(small_kitchen(tmp_path / "small", num_examples=40))


def grid_page(file: Path, **address: str) -> AppTest:
    """The page with a choice in its address; by default TIES, two densities by two scales."""
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    at.query_params["kitchen"] = str(file)
    at.run()
    settle(at)
    at.switch_page("pages/grid.py")
    usual = {"grid_recipe": "TIES", "ties_density_values": "0.2, 0.6", "ties_scale_values": "0.5, 1"}
    for name, value in (usual | address).items():
        at.query_params[name] = value
    settle(at)
    assert not at.exception, at.exception[0].stack_trace
    return at


def captions(at: AppTest) -> str:
    return as_read(" ".join(caption.value for caption in at.caption))


def test_the_cost_is_told_before_and_is_what_cooking_takes(file: Path, evaluations: list[int]) -> None:
    at = grid_page(file)
    assert "8 evaluations of 320 examples in all" in captions(at)
    assert "0 of 4 cells are known" in captions(at)
    evaluations.clear()
    press(at, "Cook the grid: 4 soups")
    assert len(evaluations) == 8
    assert not any(button.label.startswith("Cook the grid") for button in at.button)
    assert "It is the best of 4, chosen on held_out" in captions(at)


def test_a_cell_is_a_run_of_its_own_and_the_one_in_the_address_is_open(file: Path) -> None:
    run = cook(sv.Kitchen.load(file), Ties(density=0.6, scale=0.5))
    at = grid_page(file, soup=run.key[:12])
    assert "1 of 4 cells are known" in captions(at)
    assert any(button.label == "Cook the grid: 3 soups" for button in at.button)
    assert run.title in [as_read(heading.value) for heading in at.header]


def test_a_grid_that_is_known_costs_nothing_and_needs_no_button(file: Path, evaluations: list[int]) -> None:
    kitchen = sv.Kitchen.load(file)
    grids.cook_grid(kitchen, grids.Grid("ties", "density", "scale", (0.2, 0.6), (0.5, 1.0), {}, tuple(kitchen.names)))
    evaluations.clear()
    at = grid_page(file)
    assert not any(button.label.startswith("Cook the grid") for button in at.button)
    assert "It is the best of 4" in captions(at)
    assert len(evaluations) <= 6, "the ingredients, base and mean that the first page scores"


def test_a_cells_soup_is_kept_when_the_user_says_so(file: Path) -> None:
    at = press(grid_page(file), "Cook the grid")
    kitchen = sv.Kitchen.load(file)
    key = sorted(grids.only_in_grids(kitchen))[0]
    at.query_params["soup"] = key[:12]
    settle(at)
    press(at, "Keep it among the soups")
    assert key not in grids.only_in_grids(kitchen)
    assert len(grids.only_in_grids(kitchen)) == 3


def test_empty_cells_say_why(file: Path) -> None:
    at = press(grid_page(file, ties_density_values="0.5, 1.5"), "Cook the grid: 2 soups")
    assert any(expander.label == "2 cells are empty" for expander in at.expander)
    shown = as_read(" ".join(element.value for element in at.markdown))
    assert "2: recipe: ties.density: Input should be less than or equal to 1" in shown


def test_values_that_cannot_be_read_are_refused_in_the_cores_words(file: Path) -> None:
    at = grid_page(file, ties_scale_values="one, two")
    assert errors(at) == ["scale: 'one, two' has 'one'; expected numbers such as 0.1, 0.2, 0.5, or 0.1 to 0.9 in 5."]


def test_by_default_greedy_is_cooked_for_alpha_by_how_many_ingredients(file: Path) -> None:
    at = page("grid.py", file)
    assert [box.value for box in at.selectbox if box.label in ("Recipe", "Across", "Upwards")] == [
        "greedy", "alpha", "number of ingredients",
    ]  # fmt: skip
    assert at.text_input(key="greedy_number_of_ingredients_values").value == "2, 3, 4"


def test_another_recipe_has_its_own_axes_and_an_axis_is_not_offered_twice(file: Path) -> None:
    at = grid_page(file)
    across = next(box for box in at.selectbox if box.label == "Across")
    upwards = next(box for box in at.selectbox if box.label == "Upwards")
    assert across.options == ["density", "scale", "number of ingredients"]
    assert upwards.options == ["scale", "number of ingredients"]
    across.select("scale").run()
    assert not at.exception
    assert next(box for box in at.selectbox if box.label == "Upwards").value == "density"


def test_what_an_axis_implies_stays_fixed_and_is_said(tmp_path: Path) -> None:
    file = trusted(small_kitchen(tmp_path / "small", num_examples=40, shifts=("blur",)))
    at = grid_page(file, grid_recipe="greedy", greedy_upwards="seed")
    assert "order is random: an axis needs it." in captions(at)


def test_without_a_base_what_needs_one_is_not_offered(tmp_path: Path) -> None:
    at = page("grid.py", trusted(small_kitchen(tmp_path / "small", num_examples=40, base=None)))
    options = next(box for box in at.selectbox if box.label == "Recipe").options
    assert "TIES" not in options and "greedy" in options
